"""The test result, once `evaluate` has written one into the study's folder."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sersearch.errors import StudyError
from sersearch.predictions import read_predictions
from sersearch.report import tables
from sersearch.report.groups import metric_of
from sersearch.report.picture import Picture
from sersearch.report.summary import Summary, pretty, read_json, tables_of

_NEEDED = ("trial", "utterances")
_TABLES = ("speakers", "conditions", "winners", "svr", "intervals")
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

    @cached_property
    def seeds(self) -> tuple[str, list[str], list[list[str]]] | None:
        """Of models trained anew with further seeds: a sentence, and heading and rows of a table; None without them."""
        path = self.summary.study.folder / "evaluation" / "results.json"
        try:
            result = read_json(path, "summary", "origin", "protocol", "further")
            return _repeated(result) if result else None
        except StudyError as error:
            return f"{error}", [], []
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            return f"{path}: cannot be read (not the results of a study: {error!r})", [], []

    @property
    def mean(self) -> str:
        """The figure of the study's objective over those seeds, mean ± deviation; empty where there is none."""
        _, head, rows = self.seeds or ("", [], [])
        label = pretty(f"dev_{metric_of(self.summary)}").removeprefix("development ")
        return rows[0][head.index(label)].partition(" [")[0] if rows and label in head else ""

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
        folder = self.summary.study.folder / "evaluation"
        return any((folder / name).exists() for name in ("test.json", "results.json"))

    @property
    def value(self) -> float | None:
        """The test part's figure of the study's objective; None where there is none."""
        return self.result.get(metric_of(self.summary))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95% bootstrap interval of :attr:`value` that `evaluate` wrote; NaN where there is none."""
        found = (self.result.get("intervals") or {}).get(metric_of(self.summary)) or {}
        ends = [found.get(end) for end in ("low", "high")]
        low, high = (float(end) if isinstance(end, (int, float)) else math.nan for end in ends)
        return low, high

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


def _repeated(result: dict[str, Any]) -> tuple[str, list[str], list[list[str]]]:
    """The sentence and table of results.json."""
    origin, summary = result["origin"], result["summary"]
    numbers = [str(run["seed"]) for run in origin["runs"]]
    first: dict[str, Any] = next(iter(summary.values()))
    said = (
        f"Trial {origin['trial']}, trained anew with {len(numbers)} seed{'s' * (len(numbers) != 1)} "
        f"({', '.join(numbers)}): mean ± sample standard deviation over {first['runs']} runs; {result['protocol']}"
    )
    said += f"; 95% bootstrap interval by {first['by']}, of {first['units']}" if first["by"] else ""
    said += f" ({first['note']})" if first["note"] else ""
    if origin["tested_before"]:
        said += f". The test set was used before, for trial {', '.join(map(str, origin['tested_before']))}"
    labels = [pretty(f"dev_{name}").removeprefix("development ") for name in summary]
    further = {name if "condition" in own["origin"] else pretty(name): own for name, own in result["further"].items()}
    rows = {"all": summary, **{name: own["summary"] for name, own in further.items()}}
    return f"{said}.", ["test set", *labels], [[name, *map(_spread, row.values())] for name, row in rows.items()]


def _spread(found: dict[str, Any]) -> str:
    """Mean, deviation and interval of a metric."""
    if found["mean"] is None:
        return ""
    deviation = "" if found["deviation"] is None else f" ± {found['deviation']:.4f}"
    ends = "" if found["low"] is None else f" [{found['low']:.4f}, {found['high']:.4f}]"
    return f"{found['mean']:.4f}{deviation}{ends}"


def _grid(title: str, rows: dict[str, dict[str, Any]], columns: dict[str, str]) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table of figures: those of `columns` that the first row has."""
    names = [name for name in columns if name in next(iter(rows.values()))]
    cells = [
        [row, *(tables.figure(f.get(n)) if n.startswith(_METRICS) else str(f.get(n, "")) for n in names)]
        for row, f in rows.items()
    ]
    return [title, *(columns[name] for name in names)], cells
