"""The chosen trial on the test part, once."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sersearch.data.atomic import atomic, write_json
from sersearch.data.conditions import CLEAN
from sersearch.data.place import full_name, place
from sersearch.errors import StudyError
from sersearch.evaluation.choice import TEST, check_choice, previous_test, tested_before
from sersearch.evaluation.look import Look, Outputs, intervals, turns_of
from sersearch.evaluation.nested import Tested, mean, over_folds
from sersearch.evaluation.two_step import check_two_step, two_step_outputs
from sersearch.evaluation.verification import verification
from sersearch.export import Predictor, chosen, winning_metrics
from sersearch.metrics import confusion
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
    matrix, for attributes their CCCs (`ccc` is the mean over them); and these by speaker. `intervals` are
    those of :meth:`~sersearch.evaluation.results.Results.limits`. A test part of several conditions gives figures by
    condition, and all others are of its clean utterances. Where several attributes were learnt at once, `winners` holds
    the same of the trial and epoch that are best by each. `svr` adds the two-step
    baseline of the ladder paper (:func:`~sersearch.evaluation.two_step.two_step_outputs`). Where the test speakers did
    not train, there is speaker verification (see :func:`~sersearch.evaluation.verification.verification`; `impostors`
    is the folder of a prepared corpus of other speakers). Written to `evaluation/test.json` and
    `evaluation/predictions.csv` of the study.

    A test part is for one look. A result that is there for this trial is read back, and `svr` adds the baseline to it;
    for another trial or metric this raises :class:`StudyError`, as a choice by test results would flatter the winner.
    `again` evaluates regardless, and the result then lists the trials that were tested before. Raises
    :class:`ConfigError`, before the test part is touched, where there can be no two-step baseline.

    Of a study with several seeds a trial, the first one's model is tested. Of a nested one, in which each fold develops
    in turn, each fold's is, and figures are their means (:func:`~sersearch.evaluation.nested.over_folds`).
    """
    record, metric = chosen(study, trial, metric)
    asked = {
        "trial": record.number,
        "metric": metric,
        "impostors": None if impostors is None else full_name(place(impostors)),
    }
    before = previous_test(study)
    if not again:
        check_choice(study, record.number, metric)
        if before is not None:
            return _read_back(study, before, asked, svr)
    predictors = [Predictor.from_study(study, record.number, metric, turn) for turn in turns_of(study)]
    if svr:
        check_two_step(predictors[0])
    looks = [Look.of(study, turn) for turn in turns_of(study)]
    parts = [_evaluate(look, own, asked, impostors, svr) for look, own in zip(looks, predictors, strict=True)]
    result, rows, _ = parts[0] if len(parts) == 1 else over_folds(looks[0], parts)
    result["tested_before"] = tested_before(study, TEST, record.number)
    with (
        atomic(study.folder / TEST.with_name("predictions.csv")) as temporary,
        temporary.open("w", newline="", encoding="utf-8") as file,
    ):
        csv.writer(file).writerows(rows)
    write_json(study.folder / TEST, result)
    return result


def _read_back(study: Study, before: dict[str, Any], asked: dict[str, Any], svr: bool) -> dict[str, Any]:
    """The result `before`, with the two-step baseline where it is asked for now."""
    if before["impostors"] != asked["impostors"]:
        raise StudyError(
            f"study {study.meta['name']} was already tested, with {before['impostors'] or 'no'} impostors; to have the "
            "EER with others, evaluate again with --again"
        )
    if svr and before["svr"] is None:
        before["svr"] = _svr_later(study, before)
        write_json(study.folder / TEST, before)
    return before


def _svr_later(study: Study, before: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The two-step baseline of the model that the result `before` is of."""
    predictors = [Predictor.from_study(study, before["trial"], before["metric"], turn) for turn in turns_of(study)]
    check_two_step(predictors[0])
    epoch = predictors[0].card["epoch"]
    if epoch != before["epoch"]:
        raise StudyError(
            f"study {study.meta['name']}: trial {before['trial']} was tested as of epoch {before['epoch']}, and has "
            f"trained on since: its best epoch is {epoch}; to have the two-step baseline, evaluate again with --again"
        )
    found: dict[str, dict[str, Any]] = mean([_two_step(Look.of(study, n), own) for n, own in enumerate(predictors)])
    return found


def _evaluate(
    look: Look, predictor: Predictor, asked: dict[str, Any], impostors: Path | str | None, svr: bool
) -> Tested:
    """The result, the rows of predictions.csv, and what is said of the utterances that the figures are of."""
    study, data = look.study, look.study.meta["data"]
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
        "intervals": intervals(look, {0: clean}, asked["metric"]),
        "speakers": clean.by(look.column("speaker", clean)),
        "conditions": look.by_condition(every),
        "winners": _winners(look, asked),
        "svr": _two_step(look, predictor) if svr else None,
        "speaker_verification": verification(predictor, look.table, clean.rows, look.split.dev, impostors),
    }
    rows = list(prediction_rows(look.column("id", every).tolist(), every.truth, every.outputs, every.space))
    if look.conditions:
        for row, name in zip(rows, ["condition", *look.condition], strict=True):
            row.insert(1, name)
    return result, rows, clean


def _confusion(tested: Outputs) -> dict[str, Any]:
    """Classes and their confusion matrix; the attributes, where there are no classes."""
    classes = tested.space.emotion
    if not classes:
        return {"attributes": list(tested.space.attributes)}
    counts = confusion(tested.outputs.argmax(dim=-1), tested.truth, len(classes))
    return {"classes": list(classes), "confusion": counts.tolist()}


def _winners(look: Look, asked: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of what is best by each further metric of the study, beside those of its best trial."""
    objective, *others = winning_metrics(look.study)
    if asked["metric"] != objective or asked["trial"] != look.study.best().number:
        return {}
    found = {}
    for metric in others:
        winner = Predictor.from_study(look.study, None, metric, look.rotation)
        every = look.tested(winner)
        clean = every.of(look.clean)
        found[metric] = {
            "trial": winner.card["trial"],
            "epoch": winner.card["epoch"],
            **clean.figures(),
            "speakers": clean.by(look.column("speaker", clean)),
            "conditions": look.by_condition(every),
        }
    return found


def _two_step(look: Look, predictor: Predictor) -> dict[str, dict[str, Any]]:
    """The figures of the two-step baseline on development and test utterances."""
    truth, train = look.truth, look.split.train
    parts = {"dev": look.split.dev, "test": look.rows[look.clean]}
    outputs = two_step_outputs(predictor, look.table, train, truth[train], parts)
    return {name: Outputs(predictor.labels, rows, truth[rows], outputs[name]).figures() for name, rows in parts.items()}
