"""What the figures and tables of a report share: a study's trials, and what was searched on which axes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

from sersearch.study import Study, TrialRecord

_MOST_TICKS = 30


@dataclass(frozen=True)
class Axis:
    """One searched hyperparameter: its values in order, or None where there are too many to draw a cell for each."""

    name: str
    values: tuple[Any, ...] | None
    numeric: bool
    log: bool

    def place(self, value: Any) -> int:
        """The position of `value` on an axis that has values."""
        for i, known in enumerate(self.values or ()):
            if known == value or (self.numeric and math.isclose(known, value, rel_tol=1e-9)):
                return i
        raise ValueError(f"{value} is not on the axis of {self.name}")


@dataclass(frozen=True)
class Summary:
    """A study as a report needs it. Raises :class:`StudyError`, from `best`, before any epoch has finished."""

    study: Study

    @cached_property
    def trials(self) -> list[TrialRecord]:
        """All trials by number."""
        return self.study.trials()

    @cached_property
    def best(self) -> TrialRecord:
        """The trial with the best development value."""
        return self.study.best()

    @property
    def metric(self) -> str:
        """The objective's name, as in the trials' metrics."""
        return str(self._setting("objective", {}).get("metric", "objective"))

    @property
    def label(self) -> str:
        """The objective for people: dev_ua is "development UA"."""
        return pretty(self.metric)

    @property
    def scored(self) -> list[TrialRecord]:
        """Trials that finished an epoch and did not fail."""
        return [trial for trial in self.trials if trial.value is not None and trial.state != "failed"]

    @property
    def complete(self) -> list[TrialRecord]:
        """Trials that ran to their own end."""
        return [trial for trial in self.scored if trial.state == "complete"]

    @property
    def failed(self) -> list[TrialRecord]:
        """Trials that failed."""
        return [trial for trial in self.trials if trial.state == "failed"]

    @cached_property
    def axes(self) -> list[Axis]:
        """What was searched, in the search space's order."""
        space = self._setting("search", {})
        names = dict.fromkeys([*space, *(name for trial in self.trials for name in trial.searched)])
        seen = {name: [trial.searched[name] for trial in self.trials if name in trial.searched] for name in names}
        return [_axis(name, space.get(name) or {}, seen[name]) for name in names if seen[name]]

    @property
    def pairs(self) -> Iterator[tuple[Axis, Axis]]:
        """Every two numeric axes."""
        return combinations([axis for axis in self.axes if axis.numeric], 2)

    def _setting(self, name: str, default: Any) -> Any:
        return self.study.meta.get(name) or (self.study.meta.get("space") or {}).get(name) or default


def pretty(metric: str) -> str:
    """A metric's name for people: dev_ua -> development UA, train_loss_speaker -> training loss, speaker."""
    part, _, rest = metric.partition("_")
    side = {"dev": "development", "train": "training"}.get(part)
    if side is None or not rest:
        return metric.replace("_", " ")
    if rest.startswith("loss_"):
        return f"{side} loss, {rest.removeprefix('loss_').replace('_', ' ')}"
    return f"{side} " + " ".join(
        word.upper() if word in ("ua", "wa", "eer", "ccc") else word for word in rest.split("_")
    )


def counts(trials: list[TrialRecord]) -> str:
    """How many trials ended how: "12 trials (7 complete, 4 pruned, 1 failed)"."""
    states = [trial.state for trial in trials]
    parts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(sorted(states)))
    return f"{len(trials)} trial{'s' * (len(trials) != 1)}" + (f" ({parts})" if parts else "")


def _axis(name: str, dimension: dict[str, Any], seen: list[Any]) -> Axis:
    """The axis of a dimension of the space; what trials tried stands in for what the space doesn't say."""
    values: list[Any] = list(dimension.get("choices") or ())
    if dimension.get("step"):
        low, high, step = dimension["low"], dimension["high"], dimension["step"]
        values = [round(low + k * step, 10) for k in range(math.floor((high - low) / step + 1e-9) + 1)]
    numeric = all(isinstance(value, (int, float)) and not isinstance(value, bool) for value in [*values, *seen])
    for value in seen:
        if not any(value == v or (numeric and math.isclose(value, v, rel_tol=1e-9)) for v in values):
            values.append(value)
    if numeric:
        values.sort()
    few = len(values) <= _MOST_TICKS
    continuous = "low" in dimension and dimension.get("low") is not None and not dimension.get("step")
    fits = few and not (numeric and continuous)
    return Axis(name, tuple(values) if fits or not numeric else None, numeric, bool(dimension.get("log")))
