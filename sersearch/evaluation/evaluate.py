"""The chosen trial on the test part, once."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from sersearch.data.atomic import atomic, write_json
from sersearch.data.heldout import test_rows
from sersearch.data.place import full_name, place
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.data.targets import target_codes
from sersearch.errors import StudyError
from sersearch.evaluation.verification import verification
from sersearch.export import Predictor
from sersearch.metrics import confusion, f1, ua, wa

if TYPE_CHECKING:
    from sersearch.study import Study


def evaluate(
    study: Study, trial: int | None = None, *, again: bool = False, impostors: Path | str | None = None
) -> dict[str, Any]:
    """The best epoch of `trial` (None: the study's best trial, chosen on development data) on the test utterances.

    UA, WA, macro F1, the confusion matrix and the figures by speaker, from utterance posteriors (the mean over an
    utterance's segments); and, where the test speakers did not train, speaker verification (see
    :func:`~sersearch.evaluation.verification.verification`; `impostors` is the folder of a prepared corpus of other
    speakers). Written to `evaluation/test.json` and `evaluation/predictions.csv` of the study.

    A test part is for one look. A result that is there for this trial is read back; for another trial this raises
    :class:`StudyError`, as a choice between trials by their test results would flatter the winner. `again` evaluates
    regardless, and the result then lists the trials that were tested before.
    """
    number = study.best().number if trial is None else study.trial(trial).number
    folder = study.folder / "evaluation"
    before = _previous(folder / "test.json")
    asked = None if impostors is None else full_name(place(impostors))
    if before is not None and not again:
        if before["trial"] == number and before["impostors"] == asked:
            return before
        if before["trial"] == number:
            raise StudyError(
                f"study {study.meta['name']} was already tested, with {before['impostors'] or 'no'} impostors; to have "
                "the EER with others, evaluate again with --again"
            )
        raise StudyError(
            f"study {study.meta['name']}: trial {before['trial']} was already tested, UA {before['ua']:.3f}; testing "
            f"trial {number} too would let the test part choose the trial, and its result would be too good. If you "
            "must (say so where you report it), evaluate again with --again"
        )
    result, rows = _evaluate(study, number, impostors)
    result["tested_before"] = [] if before is None else [*before["tested_before"], before["trial"]]
    with atomic(folder / "predictions.csv") as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    write_json(folder / "test.json", result)
    return result


def _evaluate(study: Study, number: int, impostors: Path | str | None) -> tuple[dict[str, Any], list[list[Any]]]:
    """The result, and the rows of predictions.csv."""
    predictor, data = Predictor.from_study(study, number), study.meta["data"]
    table = FeatureTable.open(data["path"], data["features"])
    if table.card["hash"] != predictor.card["features"]["hash"]:
        raise StudyError(
            f"{table.root}: its features were changed after study {study.meta['name']}; run the study again"
        )
    protocol, target = Protocol.from_dict(data["protocol"]), data["target"]
    split, test = protocol.split(table, target), test_rows(protocol, table, target)
    codes, classes = target_codes(table, target, split.train)
    posteriors = torch.stack([predictor.posteriors(table[int(row)]) for row in test])
    predicted, labels = posteriors.argmax(dim=-1), torch.from_numpy(codes[test])
    speaker = table.utterances["speaker"].to_numpy(object)[test]
    result = {
        "study": study.meta["name"],
        "trial": number,
        "impostors": None if impostors is None else full_name(place(impostors)),
        "protocol": str(split.protocol),
        "target": target,
        "synthetic": data["synthetic"],
        **_figures(predicted, labels, len(classes)),
        "classes": list(classes),
        "confusion": confusion(predicted, labels, len(classes)).tolist(),
        "speakers": {
            name: _figures(predicted[speaker == name], labels[speaker == name], len(classes))
            for name in sorted(set(speaker))
        },
        "speaker_verification": verification(predictor, table, test, split.dev, impostors),
    }
    ids = table.utterances["id"].to_numpy(object)[test]
    rows = [["id", "label", "predicted", *classes]]
    for name, label, guess, values in zip(ids, labels, predicted, posteriors.tolist(), strict=True):
        rows.append([name, classes[label], classes[guess], *values])
    return result, rows


def _figures(predicted: Tensor, labels: Tensor, classes: int) -> dict[str, Any]:
    figures = {name: float(metric(predicted, labels, classes)) for name, metric in (("ua", ua), ("wa", wa), ("f1", f1))}
    return {"utterances": len(labels), **figures}


def _previous(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        result: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(result, dict) or not result.keys() >= {"trial", "ua", "impostors", "tested_before"}:
            raise ValueError("it is not a test result")
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); remove it to evaluate the study again") from error
    return result
