"""The test result, once `evaluate` has written one into the study's folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sersearch.errors import DataError, StudyError
from sersearch.predictions import read_predictions
from sersearch.report import tables
from sersearch.report.groups import metric_of
from sersearch.report.picture import Picture
from sersearch.report.scores import Scored, interval
from sersearch.report.summary import Summary, pretty, read_json, tables_of

_NEEDED = ("trial", "utterances")
_TABLES = ("speakers", "conditions", "winners", "svr")
_METRICS = ("ua", "wa", "precision", "f1", "ccc")


@dataclass(frozen=True)
class Evaluated:
    """What `evaluation/` of a study's folder holds."""

    summary: Summary

    @cached_property
    def _found(self) -> tuple[dict[str, Any], str]:
        path = self.summary.study.folder / "evaluation" / "test.json"
        try:
            result = read_json(path, *_NEEDED)
            if not all(tables_of(result.get(name) or {}, set()) for name in _TABLES):
                raise StudyError(f"{path}: cannot be read (expected objects of figures in {', '.join(_TABLES)})")
        except StudyError as error:
            return {}, f"{error}"
        name = self.summary.study.name
        return result, "" if result else f"the test set was not used; `sersearch evaluate {name}` does that, once"

    @property
    def result(self) -> dict[str, Any]:
        """test.json; {} where there is none."""
        return self._found[0]

    @property
    def missing(self) -> str:
        """Why there is no result; empty where there is one."""
        return self._found[1]

    @property
    def used(self) -> bool:
        """Whether the test set was used, be the result readable or not."""
        return (self.summary.study.folder / "evaluation" / "test.json").exists()

    @property
    def value(self) -> float | None:
        """The test part's figure of the study's objective; None where there is none."""
        return self.result.get(metric_of(self.summary))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of :attr:`value` over utterances; NaN without predictions."""
        path, condition = self.summary.study.folder / "evaluation" / "predictions.csv", self.result.get("condition")
        if self.value is None:
            return math.nan, math.nan
        try:
            scored = Scored.read(path)
            own = scored if condition is None else scored.of(scored.condition == condition)
            return interval(own, metric_of(self.summary))
        except DataError:
            return math.nan, math.nan

    @property
    def headline(self) -> str:
        """All figures in a sentence's part: UA 0.5000, WA 0.5100."""
        return ", ".join(f"{label} {tables.figure(self.result[name])}" for name, label in self._labels.items())

    @property
    def _labels(self) -> dict[str, str]:
        names = [name for name in self.result if name.startswith(_METRICS)]
        return {name: pretty(f"dev_{name}").removeprefix("development ") for name in names}

    def grids(self) -> list[tuple[list[str], list[list[str]]]]:
        """Headings and rows of tables by condition, winner and speaker."""
        result = self.result
        winners = {pretty(metric): figures for metric, figures in (result.get("winners") or {}).items()}
        groups: dict[str, dict[str, dict[str, Any]]] = {
            "condition": result.get("conditions") or {},
            "best by": winners,
            **{f"best by {label}, in condition": figures.get("conditions", {}) for label, figures in winners.items()},
            "two-step baseline on": result.get("svr") or {},
            "test speaker": result.get("speakers") or {},
        }
        columns = {"trial": "trial", "epoch": "epoch", "utterances": "utterances", **self._labels}
        return [_grid(title, rows, columns) for title, rows in groups.items() if rows]

    def picture(self) -> Picture:
        """What the trial predicts for the test set."""
        path, result = self.summary.study.folder / "evaluation" / "predictions.csv", self.result
        shown = read_predictions(path, result.get("condition"))
        caption = (
            f"Test set, trial {result['trial']}: {self.headline}. n = {shown.utterances} utterances; "
            f"{self.summary.split.get('caption', 'protocol unknown')}; seed {self.summary.study.meta.get('seed')}."
        )
        title = "Predictions for the test set"
        return Picture(f"test_{shown.name}", title, caption, shown.draw(), f"{title}: {self.headline}")


def _grid(title: str, rows: dict[str, dict[str, Any]], columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table of figures: those of `columns` that the first row has."""
    names = [name for name in columns if name in next(iter(rows.values()))]
    cells = [
        [row, *(tables.figure(f.get(n)) if n.startswith(_METRICS) else str(f.get(n, "")) for n in names)]
        for row, f in rows.items()
    ]
    return [title, *(columns[name] for name in names)], cells
