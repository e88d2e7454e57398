"""What the studies of a piece gave: figures by seed and fold, from development data and the test part."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.data.conditions import CLEAN
from sersearch.data.heldout import test_rows
from sersearch.data.joined import open_table
from sersearch.data.protocols import Protocol
from sersearch.errors import DataError, StudyError
from sersearch.evaluation import evaluate
from sersearch.evaluation.repeated import evaluate_folds
from sersearch.evaluation.results import Results, Spread
from sersearch.papers.declaration import Cell, Part
from sersearch.papers.planning import Job
from sersearch.study import Study

if TYPE_CHECKING:
    from sersearch.families.deepemocluster.analysis import AttributeClusters

SUBSETS = 4
"""DeepEmoCluster, section 5.1."""


@dataclass(frozen=True)
class Sample:
    """A cell's values."""

    values: Mapping[tuple[int, str], float]
    """By seed and what is tested."""
    utterances: int
    """Of one of them."""

    @cached_property
    def spread(self) -> Spread:
        """Mean and deviation of them."""
        return Spread.of(self.values.values())


class Collected:
    """The finished studies of a sheet."""

    def __init__(self, jobs: Sequence[Job], workers: int | None = None) -> None:
        self._jobs, self._workers = jobs, workers

    def studies(self, part: Part) -> list[Study]:
        """Of a part, in the order of its folds or runs."""
        return [_study(job) for job in self._of(part)]

    def sample(self, cell: Cell, over: str = "runs") -> Sample:
        """The values of a cell; the first call looks at the test part, once for each study."""
        jobs, developed = self._of(cell.part), cell.figure.startswith("dev_")
        if jobs[0].seeds and not developed:
            return self._repeated(jobs, cell.figure, over)
        values: dict[tuple[int, str], float] = {}
        utterances = 0
        for job in jobs:
            found = _developed(job, cell.figure) if developed else _tested(job, cell, over)
            values |= found.values
            utterances = found.utterances
        return Sample(values, utterances)

    def by_aux(self, part: Part, figure: str) -> dict[int, list[float]]:
        """Values over folds by the number of auxiliary speakers."""
        found: dict[int, list[float]] = {}
        for job in self._of(part):
            value = next(iter(_tested(job, Cell(part, figure), "runs").values.values()))
            if math.isfinite(value):
                found.setdefault(job.speakers or 0, []).append(value)
        return found

    def clusters(self, part: Part, attribute: str) -> AttributeClusters:
        """The labelled training chunks by their clusters in the last epoch."""
        from sersearch.families.deepemocluster.analysis import AttributeClusters, cluster_distributions
        from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
        from sersearch.training import LaneState
        from sersearch.tuning.data import load_data

        study = self.studies(part)[0]
        record = study.best()
        if record.checkpoint is None:
            raise StudyError(f"study {study.name}: the checkpoint of trial {record.number} is gone; run it again")
        config = DeepEmoClusterConfig.from_dict(record.params)
        codes = LaneState.load(record.checkpoint).codes["cluster"].numpy()
        shown = cluster_distributions(load_data(study.meta["data"], config, "deepemocluster"), codes)[attribute]
        assert isinstance(shown, AttributeClusters)
        return shown

    def _of(self, part: Part) -> list[Job]:
        return [job for job in self._jobs if job.part.name == part.name]

    def _repeated(self, jobs: Sequence[Job], figure: str, over: str) -> Sample:
        """Figures of fresh seeds on the test parts of all folds."""
        name, _, condition = figure.removeprefix("test_").partition("@")
        studies, seeds = [_study(job) for job in jobs], jobs[0].seeds
        results: Results = evaluate_folds(studies, jobs[0].part.name, seeds=seeds, workers=self._workers)
        results = _in_condition(results, results.further, condition)
        if over == "subsets":
            results = results.in_subsets(SUBSETS)
        values = results.runs(name)
        if over == "repetitions":
            values = {(seed, ""): spread.mean for seed, spread in results.by_seed(name).items()}
        return Sample(values, len(next(iter(results.parts.values())).ids))


def _study(job: Job) -> Study:
    assert job.request.name is not None
    return Study.open(job.request.name, job.request.root)


def _developed(job: Job, figure: str) -> Sample:
    """The best epoch's development figure, of the trial that is best by it."""
    study = _study(job)
    best = study.best(figure).best_of(figure)
    card = json.loads((study.folder / "split.json").read_text("utf-8"))
    return Sample({job.run: math.nan if best is None else best[0]}, card["parts"]["dev"]["utterances"])


def _tested(job: Job, cell: Cell, over: str) -> Sample:
    """Figures of the search's own model on the test part."""
    study = _study(job)
    result = evaluate(study, svr=cell.part.svr)
    name, _, condition = cell.figure.removeprefix("svr_").removeprefix("dev_").removeprefix("test_").partition("@")
    if cell.figure.startswith("svr_"):
        source = result["svr"][cell.figure.split("_")[1]]
    else:
        source = result["winners"].get(f"dev_{name}", result)
        source = _in_condition(source, source["conditions"], condition)
    if over == "speakers":
        return Sample({(job.run[0], who): _value(own[name]) for who, own in source["speakers"].items()}, 0)
    if name == "eer":
        return Sample({job.run: _value(result["speaker_verification"]["eer"])}, 0)
    if name.endswith("_accuracy"):
        return Sample({job.run: _accuracy(study, name.removesuffix("_accuracy"))}, 0)
    return Sample({job.run: _value(source[name])}, source["utterances"])


def _in_condition(clean: Any, noisy: Mapping[str, Any], condition: str) -> Any:
    """Figures of a condition; those of `clean` speech where none is named."""
    if condition in ("", CLEAN):
        return clean
    if condition not in noisy:
        raise DataError(
            f"the test part has no utterances in condition {condition}, for which there is a column; prepare the "
            "corpus with --snr 10 5 0"
        )
    return noisy[condition]


def _value(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _accuracy(study: Study, task: str) -> float:
    """How many test utterances an auxiliary classifier of the MTL-AAE gets right; NaN where it knows none of them."""
    from sersearch.export import Predictor

    data: dict[str, Any] = study.meta["data"]
    table = open_table(data["path"], data["features"], data.get("cross"))
    predictor = Predictor.from_study(study)
    model: Any = predictor.model
    classes = getattr(predictor.labels, task)
    names = table.speakers if task == "speaker" else table.utterances[task].to_numpy(object)
    rows = [r for r in test_rows(Protocol.from_dict(data["protocol"]), table, data["target"]) if names[r] in classes]
    right = [
        classes[
            int(predictor.mean(lambda b: model.head(task)(model.encoder(b["x"])).softmax(1), table[int(r)]).argmax())
        ]
        == names[r]
        for r in rows
    ]
    return float(np.mean(right)) if right else math.nan


__all__ = ["Collected", "Sample"]
