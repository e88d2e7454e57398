"""What the figures and tables of a report share: a study's trials, and what was searched on which axes."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import combinations
from pathlib import Path
from typing import Any

from sersearch.data.conditions import CLEAN, by_noise
from sersearch.errors import StudyError
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
    by: str | None = None
    """The development metric that trials are scored by; None: the study's objective."""

    @cached_property
    def trials(self) -> list[TrialRecord]:
        """All trials by number."""
        return self.study.trials()

    @cached_property
    def best(self) -> TrialRecord:
        """The trial with the best development value."""
        return self.study.best(self.by)

    def value(self, trial: TrialRecord) -> float | None:
        """The best epoch's metric; None before the first."""
        if self.by is None:
            return trial.value
        best = trial.best_of(self.by)
        return None if best is None else best[0]

    def best_epoch(self, trial: TrialRecord) -> int | None:
        """The epoch that :meth:`value` is of, counted from 1."""
        if self.by is None:
            return trial.best_epoch
        best = trial.best_of(self.by)
        return None if best is None else best[1]

    @property
    def metric(self) -> str:
        """The metric's name, as in the trials' metrics."""
        return self.by or str(self._setting("objective", {}).get("metric", "objective"))

    @property
    def label(self) -> str:
        """The metric for people: dev_ua is "development UA"."""
        return pretty(self.metric)

    @cached_property
    def split(self) -> dict[str, Any]:
        """The split card; {} without one."""
        return read_json(self.study.folder / "split.json")

    @property
    def attributes(self) -> list[str]:
        """The attributes that are learnt; none where classes are."""
        return list(self.split.get("attributes") or ())

    @property
    def winners(self) -> list[Summary]:
        """The same study scored by each attribute: where several are learnt, one search gives a winner for each."""
        names = [f"dev_ccc_{name}" for name in self.attributes if len(self.attributes) > 1]
        return [replace(self, by=name) for name in names if name in self._metrics and name != self.metric]

    @property
    def conditions(self) -> dict[str, str]:
        """The metric by condition: in noise, where clean speech selects; else in each of the conditions that do."""
        owners = [f"{self.metric}_{name}" for name in self.attributes]
        found = {
            name.removeprefix(f"{self.metric}_"): name
            for name in self._metrics
            if name.startswith(f"{self.metric}_") and not name.startswith(tuple(owners))
        }
        return {name: found[name] for name in by_noise(found)}

    @property
    def mixed(self) -> bool:
        """Whether the metric is over several conditions of the development set, of which :attr:`conditions` are all."""
        return CLEAN in self.conditions

    @cached_property
    def _metrics(self) -> set[str]:
        return {name for trial in self.trials for event in trial.epochs for name in event["metrics"]}

    @property
    def scored(self) -> list[TrialRecord]:
        """Trials that finished an epoch and did not fail."""
        return [trial for trial in self.trials if self.value(trial) is not None and trial.state != "failed"]

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
    return f"{side} " + " ".join(map(_word, rest.split("_")))


def _word(word: str) -> str:
    """A word of a metric's name for people: ua is UA, snr5 is "at 5 dB SNR", clean is "on clean speech"."""
    noise = re.fullmatch(r"snr(-?\d+(?:\.\d+)?)", word)
    if noise:
        return f"at {noise[1]} dB SNR"
    if word == CLEAN:
        return "on clean speech"
    return word.upper() if word in ("ua", "wa", "f1", "eer", "ccc") else word


def read_json(path: Path, *needed: str) -> dict[str, Any]:
    """The object in a file, {} where there is none; :class:`StudyError` when it is damaged or lacks `needed`."""
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(needed):
            raise ValueError(f"expected an object with {', '.join(needed)}" if needed else "expected an object")
    except ValueError as error:
        raise StudyError(f"{path}: cannot be read ({error})") from error
    return content


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
