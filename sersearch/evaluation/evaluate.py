"""The chosen trial on the test part, once."""

from __future__ import annotations

import csv
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.atomic import atomic, write_json
from sersearch.data.batches import LabelSpace
from sersearch.data.heldout import test_rows
from sersearch.data.place import full_name, place
from sersearch.data.protocols import Protocol, Split
from sersearch.data.table import FeatureTable
from sersearch.data.targets import attributes_of, target_codes, target_values
from sersearch.errors import StudyError
from sersearch.evaluation.two_step import check_two_step, two_step_outputs
from sersearch.evaluation.verification import verification
from sersearch.export import Predictor, chosen, winning_metrics
from sersearch.metrics import confusion, f1, target_metrics
from sersearch.predictions import by_noise, prediction_rows

if TYPE_CHECKING:
    from sersearch.study import Study

CLEAN = "clean"
"""The condition of speech without added noise."""


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
    outputs (the mean over an utterance's segments): for classes UA, WA, macro F1 and the confusion matrix, for
    attributes their CCCs (`ccc` is the mean over them); and these by speaker. A test part of several conditions gives
    them by condition, and all other figures are of its clean utterances. Where several attributes were learnt at once,
    `winners` holds the figures of the trial and epoch that are best by each. `svr` adds the two-step baseline of the
    ladder paper (:func:`~sersearch.evaluation.two_step.two_step_outputs`). Where the test speakers did not train,
    there is speaker verification (see :func:`~sersearch.evaluation.verification.verification`; `impostors` is the
    folder of a prepared corpus of other speakers). Written to `evaluation/test.json` and `evaluation/predictions.csv`
    of the study.

    A test part is for one look. A result that is there for this trial is read back; for another trial or metric this
    raises :class:`StudyError`, as a choice by test results would flatter the winner. `again` evaluates regardless, and
    the result then lists the trials that were tested before.
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
        _check_same(study.meta["name"], before, asked, svr)
        return before
    result, rows = _evaluate(study, asked, impostors, svr)
    result["tested_before"] = [] if before is None else [*before["tested_before"], before["trial"]]
    with atomic(folder / "predictions.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    write_json(folder / "test.json", result)
    return result


def _check_same(study: str, before: dict[str, Any], asked: dict[str, Any], svr: bool) -> None:
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
    if svr and before["svr"] is None:
        raise StudyError(
            f"study {study} was already tested, without the two-step baseline; to have it, evaluate again with "
            "--svr --again"
        )


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
            found["f1"] = f1(self.outputs.argmax(dim=-1), self.truth, len(labels))
        values = {name: float(value) for name, value in found.items()}
        finite = {name: value if math.isfinite(value) else None for name, value in values.items()}
        return {"utterances": len(self.rows), **finite}

    def by(self, group: np.ndarray) -> dict[str, dict[str, Any]]:
        """The figures of each group, from the names (U,) of their groups."""
        return {name: self.of(group == name).figures() for name in sorted(set(group))}


def _evaluate(
    study: Study, asked: dict[str, Any], impostors: Path | str | None, svr: bool
) -> tuple[dict[str, Any], list[list[Any]]]:
    """The result, and the rows of predictions.csv."""
    predictor, data = Predictor.from_study(study, asked["trial"], asked["metric"]), study.meta["data"]
    if svr:
        check_two_step(predictor)
    table = FeatureTable.open(data["path"], data["features"])
    if table.card["hash"] != predictor.card["features"]["hash"]:
        raise StudyError(
            f"{table.root}: its features were changed after study {study.meta['name']}; run the study again"
        )
    protocol, target = Protocol.from_dict(data["protocol"]), data["target"]
    split, test = protocol.split(table, target), test_rows(protocol, table, target)
    truth, space = _truth(table, target, split), predictor.labels
    every = _Tested(space, test, truth[test], _outputs(predictor, table, test))
    condition = table.utterances["condition"].fillna("").to_numpy(object)[test]
    conditions = by_noise(sorted(set(condition) - {""}))
    noisy = len(conditions) > 1
    clean = every.of(condition == CLEAN) if noisy and CLEAN in conditions else every
    result = {
        "study": study.meta["name"],
        **asked,
        "epoch": predictor.card["epoch"],
        "protocol": str(split.protocol),
        "target": target,
        "synthetic": data["synthetic"],
        "condition": CLEAN if clean is not every else None,
        **clean.figures(),
        **_confusion(clean),
        "speakers": clean.by(table.utterances["speaker"].to_numpy(object)[clean.rows]),
        "conditions": {name: every.of(condition == name).figures() for name in conditions} if noisy else {},
        "winners": _winners(study, asked, table, clean),
        "svr": _two_step(predictor, table, split, truth, clean) if svr else None,
        "speaker_verification": verification(predictor, table, clean.rows, split.dev, impostors),
    }
    ids = table.utterances["id"].iloc[test].tolist()
    rows = list(prediction_rows(ids, every.truth, every.outputs, space))
    if noisy:
        for row, name in zip(rows, ["condition", *condition], strict=True):
            row.insert(1, name)
    return result, rows


def _truth(table: FeatureTable, target: str, split: Split) -> Tensor:
    """What each utterance of the table is labelled with: codes (N,), or attributes (N, A)."""
    if attributes_of(target):
        return torch.from_numpy(target_values(table, target))
    return torch.from_numpy(target_codes(table, target, split.train)[0])


def _outputs(predictor: Predictor, table: FeatureTable, rows: np.ndarray) -> Tensor:
    return torch.stack([predictor.outputs(table[int(row)]) for row in rows]).double()


def _confusion(tested: _Tested) -> dict[str, Any]:
    """Classes and their confusion matrix; the attributes, where there are no classes."""
    classes = tested.space.emotion
    if not classes:
        return {"attributes": list(tested.space.attributes)}
    counts = confusion(tested.outputs.argmax(dim=-1), tested.truth, len(classes))
    return {"classes": list(classes), "confusion": counts.tolist()}


def _winners(study: Study, asked: dict[str, Any], table: FeatureTable, clean: _Tested) -> dict[str, dict[str, Any]]:
    """The figures of what is best by each further metric of the study, beside those of its best trial."""
    objective, *others = winning_metrics(study)
    if asked["metric"] != objective or asked["trial"] != study.best().number:
        return {}
    found = {}
    for metric in others:
        winner = Predictor.from_study(study, None, metric)
        figures = replace(clean, outputs=_outputs(winner, table, clean.rows)).figures()
        found[metric] = {"trial": winner.card["trial"], "epoch": winner.card["epoch"], **figures}
    return found


def _two_step(
    predictor: Predictor, table: FeatureTable, split: Split, truth: Tensor, clean: _Tested
) -> dict[str, dict[str, Any]]:
    """The figures of the two-step baseline on development and test utterances."""
    parts = {"dev": split.dev, "test": clean.rows}
    outputs = two_step_outputs(predictor, table, split.train, truth[split.train], parts)
    return {name: _Tested(predictor.labels, rows, truth[rows], outputs[name]).figures() for name, rows in parts.items()}


def _previous(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    needed = {"trial", "metric", "impostors", "svr", "tested_before"}
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(result, dict) or not result.keys() >= needed or not result.keys() & {"ua", "ccc"}:
            raise ValueError("it is not a test result")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); remove it to evaluate the study again") from error
    return result
