"""The chosen trial on the test part, once."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.atomic import atomic, write_json
from sersearch.data.batches import LabelSpace
from sersearch.data.companions import Companion, check_left, complete, without_missing
from sersearch.data.conditions import CLEAN, by_noise
from sersearch.data.heldout import test_rows
from sersearch.data.joined import open_table
from sersearch.data.leaks import check_leaks
from sersearch.data.place import full_name, place
from sersearch.data.protocols import Protocol, Split
from sersearch.data.table import FeatureTable
from sersearch.data.targets import attributes_of, target_codes, target_values
from sersearch.errors import StudyError
from sersearch.evaluation.two_step import check_two_step, two_step_outputs
from sersearch.evaluation.verification import verification
from sersearch.export import Predictor, chosen, winning_metrics
from sersearch.metrics import confusion, f1, precision, target_metrics
from sersearch.predictions import prediction_rows

if TYPE_CHECKING:
    from sersearch.study import Study


def evaluate(
    study: Study,
    trial: int | None = None,
    *,
    metric: str | None = None,
    again: bool = False,
    impostors: Path | str | None = None,
    svr: bool = False,
) -> dict[str, Any]:
    """The best epoch of `trial` (None: the study's best trial, chosen on development data) on the test utterances.

    Best by `metric`, one of :func:`~sersearch.export.winning_metrics` (None: the study's objective). From utterance
    outputs (the mean over an utterance's segments): for classes UA, WA, macro precision and F1 and the confusion
    matrix, for attributes their CCCs (`ccc` is the mean over them); and these by speaker. A test part of several
    conditions gives them by condition, and all other figures are of its clean utterances. Where several attributes were
    learnt at once, `winners` holds the same of the trial and epoch that are best by each. `svr` adds the two-step
    baseline of the ladder paper (:func:`~sersearch.evaluation.two_step.two_step_outputs`). Where the test speakers did
    not train, there is speaker verification (see :func:`~sersearch.evaluation.verification.verification`; `impostors`
    is the folder of a prepared corpus of other speakers). Written to `evaluation/test.json` and
    `evaluation/predictions.csv` of the study.

    A test part is for one look. A result that is there for this trial is read back, and `svr` adds the baseline to it;
    for another trial or metric this raises :class:`StudyError`, as a choice by test results would flatter the winner.
    `again` evaluates regardless, and the result then lists the trials that were tested before. Raises
    :class:`ConfigError`, before the test part is touched, where there can be no two-step baseline.
    """
    record, metric = chosen(study, trial, metric)
    asked = {
        "trial": record.number,
        "metric": metric,
        "impostors": None if impostors is None else full_name(place(impostors)),
    }
    folder = study.folder / "evaluation"
    before = _previous(folder / "test.json")
    if before is not None and not again:
        _check_same(study.meta["name"], before, asked)
        if svr and before["svr"] is None:
            before["svr"] = _svr_later(study, before)
            write_json(folder / "test.json", before)
        return before
    result, rows = _evaluate(_Look.of(study, asked, svr), asked, impostors, svr)
    result["tested_before"] = [] if before is None else [*before["tested_before"], before["trial"]]
    with atomic(folder / "predictions.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    write_json(folder / "test.json", result)
    return result


def _check_same(study: str, before: dict[str, Any], asked: dict[str, Any]) -> None:
    """Raise :class:`StudyError` unless the result `before` is of what is asked now."""
    trial, metric = asked["trial"], asked["metric"]
    if (before["trial"], before["metric"]) != (trial, metric):
        name = "ccc" if "ccc" in before else "ua"
        figure = f"{name.upper()} {math.nan if before[name] is None else before[name]:.3f}"
        tested, other = f"trial {before['trial']}", f"trial {trial}"
        if before["metric"] != metric:
            tested, other = f"{tested}, best by {before['metric']},", f"{other}, best by {metric},"
        raise StudyError(
            f"study {study}: {tested} was already tested, {figure}; testing {other} too would let the test part "
            "choose the trial, and its result would be too good. If you must (say so where you report it), evaluate "
            "again with --again"
        )
    if before["impostors"] != asked["impostors"]:
        raise StudyError(
            f"study {study} was already tested, with {before['impostors'] or 'no'} impostors; to have the EER with "
            "others, evaluate again with --again"
        )


def _svr_later(study: Study, before: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The two-step baseline of the model that the result `before` is of."""
    look = _Look.of(study, before, svr=True)
    epoch = look.predictor.card["epoch"]
    if epoch != before["epoch"]:
        raise StudyError(
            f"study {study.meta['name']}: trial {before['trial']} was tested as of epoch {before['epoch']}, and has "
            f"trained on since: its best epoch is {epoch}; to have the two-step baseline, evaluate again with --again"
        )
    return _two_step(look)


@dataclass(frozen=True, eq=False)
class _Tested:
    """Utterances, their truth and what a model says of them."""

    space: LabelSpace
    rows: np.ndarray
    """Of the table (U,), sorted."""
    truth: Tensor
    """Class codes (U,), or attributes (U, A) on the corpus's scale."""
    outputs: Tensor
    """Posteriors (U, C), or attributes (U, A) on the corpus's scale."""

    def of(self, chosen: np.ndarray) -> _Tested:
        """The utterances that `chosen` (U,) bool is true for."""
        mask = torch.from_numpy(chosen)
        return _Tested(self.space, self.rows[chosen], self.truth[mask], self.outputs[mask])

    def figures(self) -> dict[str, Any]:
        """How many they are, and the metrics; None for one that they do not give: JSON knows no NaN."""
        task, labels = self.space.task, self.space.emotion
        found = target_metrics({task: self.outputs}, {task: self.truth}, self.space.attributes)
        if labels:
            predicted = self.outputs.argmax(dim=-1)
            found |= {m.__name__: m(predicted, self.truth, len(labels)) for m in (precision, f1)}
        values = {name: float(value) for name, value in found.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        return {"utterances": len(self.rows), **finite}

    def by(self, group: np.ndarray) -> dict[str, dict[str, Any]]:
        """The figures of each group, from the names (U,) of their groups."""
        return {name: self.of(group == name).figures() for name in sorted(set(group))}


@dataclass(frozen=True, eq=False)
class _Look:
    """A trial's model, and the corpus as its study's protocol divides it."""

    study: Study
    predictor: Predictor
    table: FeatureTable
    split: Split
    rows: np.ndarray
    """The test part (U,), in all its conditions, sorted."""
    truth: Tensor
    """Of each utterance of the table: class codes (N,), or attributes (N, A) on the corpus's scale."""
    companions: Mapping[str, Companion]
    """Further inputs."""

    @classmethod
    def of(cls, study: Study, asked: Mapping[str, Any], svr: bool) -> _Look:
        """At the trial that is `asked` for. Raises what is wrong with it, or with its features."""
        predictor, data = Predictor.from_study(study, asked["trial"], asked["metric"]), study.meta["data"]
        if svr:
            check_two_step(predictor)
        table = open_table(data["path"], data["features"], data.get("cross"))
        inputs = predictor.companions.items()
        companions = {name: Companion.open(table, own.features["features"]) for name, own in inputs}
        cards = [(table.card, predictor.card["features"]), *((companions[n].table.card, c.features) for n, c in inputs)]
        if any(card["hash"] != known["hash"] for card, known in cards):
            raise StudyError(
                f"{table.root}: its features were changed after study {study.meta['name']}; run the study again"
            )
        protocol, target = Protocol.from_dict(data["protocol"]), data["target"]
        there = complete(companions) if data.get("missing") == "skip" else None
        check_leaks(protocol, table, target, there)
        split, rows = protocol.split(table, target), test_rows(protocol, table, target)
        if there is not None:
            split, rows = without_missing(split, companions), rows[there[rows]]
            check_left(rows, "test", companions)
        return cls(study, predictor, table, split, rows, _truth(table, target, split), companions)

    @cached_property
    def condition(self) -> np.ndarray:
        """The condition of each test utterance (U,), empty where it has none."""
        names: np.ndarray = self.table.utterances["condition"].fillna("").to_numpy(object)[self.rows]
        return names

    @property
    def conditions(self) -> list[str]:
        """The conditions of the test part, in order; none where there are not several."""
        found = sorted(set(self.condition) - {""})
        return by_noise(found) if len(found) > 1 else []

    @property
    def clean(self) -> np.ndarray:
        """Which test utterances (U,) bool the figures are of: the clean ones, where there are noisy copies."""
        every = np.ones(len(self.rows), bool)
        return self.condition == CLEAN if CLEAN in self.conditions else every

    def tested(self, predictor: Predictor) -> _Tested:
        """What a model says of the test part."""
        outputs = [
            predictor.outputs(self.table[int(row)], {name: c.of(int(row)) for name, c in self.companions.items()})
            for row in self.rows
        ]
        return _Tested(predictor.labels, self.rows, self.truth[self.rows], torch.stack(outputs).double())

    def by_condition(self, tested: _Tested) -> dict[str, dict[str, Any]]:
        """The figures of the whole test part in each condition."""
        return {name: tested.of(self.condition == name).figures() for name in self.conditions}


def _evaluate(
    look: _Look, asked: dict[str, Any], impostors: Path | str | None, svr: bool
) -> tuple[dict[str, Any], list[list[Any]]]:
    """The result, and the rows of predictions.csv."""
    study, predictor, table, data = look.study, look.predictor, look.table, look.study.meta["data"]
    every = look.tested(predictor)
    clean = every.of(look.clean)
    result = {
        "study": study.meta["name"],
        **asked,
        "epoch": predictor.card["epoch"],
        "protocol": str(look.split.protocol),
        "target": data["target"],
        "synthetic": data["synthetic"],
        "condition": CLEAN if CLEAN in look.conditions else None,
        **clean.figures(),
        **_confusion(clean),
        "speakers": clean.by(table.utterances["speaker"].to_numpy(object)[clean.rows]),
        "conditions": look.by_condition(every),
        "winners": _winners(look, asked),
        "svr": _two_step(look) if svr else None,
        "speaker_verification": verification(predictor, table, clean.rows, look.split.dev, impostors),
    }
    ids = table.utterances["id"].iloc[look.rows].tolist()
    rows = list(prediction_rows(ids, every.truth, every.outputs, every.space))
    if look.conditions:
        for row, name in zip(rows, ["condition", *look.condition], strict=True):
            row.insert(1, name)
    return result, rows


def _truth(table: FeatureTable, target: str, split: Split) -> Tensor:
    """What each utterance of the table is labelled with: codes (N,), or attributes (N, A)."""
    if attributes_of(target):
        return torch.from_numpy(target_values(table, target))
    return torch.from_numpy(target_codes(table, target, split.train)[0])


def _confusion(tested: _Tested) -> dict[str, Any]:
    """Classes and their confusion matrix; the attributes, where there are no classes."""
    classes = tested.space.emotion
    if not classes:
        return {"attributes": list(tested.space.attributes)}
    counts = confusion(tested.outputs.argmax(dim=-1), tested.truth, len(classes))
    return {"classes": list(classes), "confusion": counts.tolist()}


def _winners(look: _Look, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of what is best by each further metric of the study, beside those of its best trial."""
    objective, *others = winning_metrics(look.study)
    if asked["metric"] != objective or asked["trial"] != look.study.best().number:
        return {}
    found = {}
    for metric in others:
        winner = Predictor.from_study(look.study, None, metric)
        every = look.tested(winner)
        found[metric] = {
            "trial": winner.card["trial"],
            "epoch": winner.card["epoch"],
            **every.of(look.clean).figures(),
            "conditions": look.by_condition(every),
        }
    return found


def _two_step(look: _Look) -> dict[str, dict[str, Any]]:
    """The figures of the two-step baseline on development and test utterances."""
    predictor, truth, train = look.predictor, look.truth, look.split.train
    parts = {"dev": look.split.dev, "test": look.rows[look.clean]}
    outputs = two_step_outputs(predictor, look.table, train, truth[train], parts)
    return {name: _Tested(predictor.labels, rows, truth[rows], outputs[name]).figures() for name, rows in parts.items()}


def _previous(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    needed = {"trial", "metric", "epoch", "impostors", "svr", "tested_before"}
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(result, dict) or not result.keys() >= needed or not result.keys() & {"ua", "ccc"}:
            raise ValueError("it is not a test result")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); remove it to evaluate the study again") from error
    return result
