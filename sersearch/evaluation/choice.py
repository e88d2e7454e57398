"""A test part is for one look: what was tested before, and the refusal to test another choice."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sersearch.errors import StudyError
from sersearch.evaluation.results import Results, label

if TYPE_CHECKING:
    from sersearch.study import Study

TEST, RESULTS = Path("evaluation", "test.json"), Path("evaluation", "results.json")
"""In a study's folder: of the search's own model, and of the models of further seeds."""


def check_choice(study: Study, trial: int, metric: str) -> None:
    """Raise :class:`StudyError` where another trial, or the best epoch by another metric, was already tested."""
    for tested, by, figure in _tested(study):
        if (tested, by) == (trial, metric):
            continue
        before, other = f"trial {tested}", f"trial {trial}"
        if by != metric:
            before, other = f"{before}, best by {by},", f"{other}, best by {metric},"
        raise StudyError(
            f"study {study.meta['name']}: {before} was already tested, {figure}; testing {other} too would let the "
            "test part choose the trial, and its result would be too good. If you must (say so where you report it), "
            "evaluate again with --again"
        )


def _tested(study: Study) -> Iterator[tuple[int, str, str]]:
    """Trial, metric and figure of what was tested."""
    if (one := previous_test(study)) is not None:
        name = "ccc" if "ccc" in one else "ua"
        yield one["trial"], one["metric"], f"{label(name)} {math.nan if one[name] is None else one[name]:.3f}"
    if (several := previous_results(study)) is not None:
        name = several.metrics[0]
        yield several.origin["trial"], several.origin["metric"], f"{label(name)} {several.spread(name).mean:.3f}"


def tested_before(study: Study, ours: Path, trial: int) -> list[int]:
    """The trials that were tested before `trial`, whose result will stand in `ours` (:data:`TEST` or :data:`RESULTS`).

    That the same trial is tested both ways isn't a choice.
    """
    one, several = previous_test(study), previous_results(study)
    told = {TEST: one, RESULTS: None if several is None else several.origin}
    trials = {path: [*found["tested_before"], found["trial"]] if found else [] for path, found in told.items()}
    own = trials.pop(ours)
    return [n for other in trials.values() for n in other if n != trial and n not in own] + own


def previous_test(study: Study) -> dict[str, Any] | None:
    """What `evaluate` wrote of the search's own model; None where it has not. :class:`StudyError` for damage."""
    path = study.folder / TEST
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


def previous_results(study: Study) -> Results | None:
    """What `evaluate --seeds` wrote; None where it has not. Raises :class:`StudyError` for damage."""
    path = study.folder / RESULTS
    if not path.exists():
        return None
    found = Results.load(path)
    if not found.origin.keys() >= {"trial", "metric", "tested_before"}:
        raise StudyError(f"{path}: doesn't say of which trial it is; remove it to evaluate the study again")
    return found
