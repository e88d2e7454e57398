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

from sersearch.data.conditions import CLEAN, DEVIATION, by_noise
from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.study import Study, TrialRecord

_MOST_TICKS = 30


@dataclass(frozen=True)
class Axis:
    """One searched hyperparameter: its values in order, or None where there are too many to draw a cell for each."""

    name: str
    values: tuple[Any, ...] | None
    numeric: bool
    log: bool
    low: float = math.nan
    """Of a range, with what trials tried; as `high`."""
    high: float = math.nan

    def place(self, value: Any) -> int:
        """The position of `value` on an axis that has values."""
        for i, known in enumerate(self.values or ()):
            if same(known, value):
                return i
        raise ValueError(f"{value} is not on the axis of {self.name}")

    def holds(self, value: Any) -> bool:
        """Whether `value` is one of the values, or lies in the range, that were searched."""
        if self.values is not None:
            return any(same(known, value) for known in self.values)
        return isinstance(value, (int, float)) and self.low <= value <= self.high


@dataclass(frozen=True)
class Summary:
    """A study as a report needs it."""

    study: Study
    by: str | None = None
    """The development metric that trials are scored by; None: the study's objective."""

    @cached_property
    def trials(self) -> list[TrialRecord]:
        """All trials by number."""
        return self.study.trials()

    @cached_property
    def best(self) -> TrialRecord:
        """The trial with the best development value. Raises :class:`StudyError` with the reason when there is none."""
        if not self.scored:
            return self.study.best(self.by)  # which says why
        return max(self.scored, key=lambda trial: (self.score(trial), -trial.number))

    def value(self, trial: TrialRecord) -> float | None:
        """The best epoch's metric; None before the first."""
        if self.by is None:
            return trial.value
        best = trial.best_of(self.by)
        return None if best is None else best[0]

    def score(self, trial: TrialRecord) -> float:
        """:meth:`value` of one that has it; NaN before the first."""
        value = self.value(trial)
        return math.nan if value is None else value

    def at_best(self, trial: TrialRecord) -> dict[str, Any]:
        """All metrics of the epoch that :meth:`value` is of."""
        best = self.best_epoch(trial)
        return next((event.get("metrics") or {} for event in trial.epochs if event["epoch"] == best), {})

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
    def objectives(self) -> list[str]:
        """The metrics that the study searched for."""
        told = self.study.meta.get("objectives")
        return [str(own.get("metric")) for own in told] if isinstance(told, list) else [self.metric]

    @property
    def label(self) -> str:
        """The metric for people: dev_ua is "development UA"."""
        return pretty(self.metric)

    @cached_property
    def speakers(self) -> dict[str, str]:
        """The speaker of each utterance of the corpus. Raises :class:`DataError` where it can't be read any more."""
        from sersearch.data.joined import open_table

        data = self.study.meta.get("data") or {}
        if not data.get("path") or not data.get("features"):
            raise DataError("study.json doesn't name the prepared corpus, which knows the utterances' speakers")
        rows = open_table(data["path"], data["features"], data.get("cross")).utterances
        return dict(zip(rows["id"].tolist(), rows["speaker"].tolist(), strict=True))

    @cached_property
    def provenance(self) -> str:
        """What a figure's caption says of where it comes from."""
        corpus = (self.study.meta.get("data") or {}).get("corpus", "corpus unknown")
        protocol, seed = self.split.get("caption", "protocol unknown"), self.study.meta.get("seed", "unknown")
        return (
            f"Data: {corpus}, {protocol}; development figures, by which trials and their epochs were selected; "
            f"seed {seed}; n = {counts(self.trials)}."
        )

    @cached_property
    def paper(self) -> dict[str, Any]:
        """The paper's own values of what was searched: the family's defaults; {} where the family isn't known."""
        from sersearch.families import get_family

        try:
            defaults = get_family(str(self.study.meta.get("family"))).config().to_dict()
        except ConfigError:
            return {}
        return {axis.name: defaults[axis.name] for axis in self.axes if axis.name in defaults}

    @property
    def paper_trial(self) -> TrialRecord | None:
        """The best trial that was run with exactly these; None where none was."""
        names = {axis.name for axis in self.axes}
        own = [t for t in self.scored if names and t.searched.keys() == names == self.paper.keys()]
        own = [t for t in own if all(same(t.searched[name], self.paper[name]) for name in names)]
        return max(own, key=self.score, default=None)

    @cached_property
    def split(self) -> dict[str, Any]:
        """The split card; {} where there is none, or none that can be read: :attr:`no_split` says why."""
        return self._split[0]

    @property
    def no_split(self) -> str:
        """Why there is no split card; empty where there is one."""
        return self._split[1]

    @cached_property
    def _split(self) -> tuple[dict[str, Any], str]:
        path = self.study.folder / "split.json"
        try:
            card = read_json(path, "caption", "target", "parts")
            _check_card(path, card)
        except StudyError as error:
            return {}, str(error)
        return card, "" if card else f"{path}: there is no such file"

    @property
    def attributes(self) -> list[str]:
        """The attributes that are learnt; none where classes are."""
        return list(self.split.get("attributes") or ())

    @property
    def winners(self) -> list[Summary]:
        """The same study scored by each attribute: where several are learnt, one search gives a winner for each."""
        names = [f"dev_ccc_{name}" for name in self.attributes if len(self.attributes) > 1]
        return [self._scored_by(name) for name in names if name in self._metrics and name != self.metric]

    def _scored_by(self, metric: str) -> Summary:
        other = replace(self, by=metric)
        other.__dict__.update({name: self.__dict__[name] for name in ("trials", "_split") if name in self.__dict__})
        return other

    @property
    def conditions(self) -> dict[str, str]:
        """The metric by condition: in noise, where clean speech selects; else in each of the conditions that do."""
        owners = [f"{self.metric}_{name}" for name in self.attributes]
        found = {
            name.removeprefix(f"{self.metric}_"): name
            for name in self._metrics
            if name.startswith(f"{self.metric}_")
            and not name.startswith(tuple(owners))
            and not name.endswith(DEVIATION)
        }
        return {name: found[name] for name in by_noise(found)}

    @property
    def mixed(self) -> bool:
        """Whether the metric is over several conditions of the development set, of which :attr:`conditions` are all."""
        return CLEAN in self.conditions

    @cached_property
    def _metrics(self) -> set[str]:
        return {name for trial in self.trials for event in trial.epochs for name in event["metrics"]}

    @cached_property
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
        """Every two axes."""
        return combinations(self.axes, 2)

    def _setting(self, name: str, default: Any) -> Any:
        return self.study.meta.get(name) or (self.study.meta.get("space") or {}).get(name) or default


def same(one: Any, other: Any) -> bool:
    """Whether two values of a hyperparameter are one: 0.1 + 0.2 is 0.3."""
    if isinstance(one, (int, float)) and isinstance(other, (int, float)):
        return math.isclose(one, other, rel_tol=1e-9)
    return bool(one == other)


def pretty(metric: str) -> str:
    """A metric's name for people: dev_ua -> development UA, train_loss_speaker -> training loss, speaker."""
    part, _, rest = metric.partition("_")
    side = {"dev": "development", "train": "training"}.get(part)
    if side is None or not rest:
        return metric.replace("_", " ")
    if rest.startswith("loss_"):
        return f"{side} loss, {rest.removeprefix('loss_').replace('_', ' ')}"
    return f"{side} " + " ".join(map(_word, rest.split("_")))


def condition_name(condition: str) -> str:
    """A condition for people: snr5 is 5 dB SNR; others are called as they are."""
    return _word(condition).removeprefix("at ") if condition.startswith("snr") else condition


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
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(needed):
            raise ValueError(f"expected an object with {', '.join(needed)}" if needed else "expected an object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise StudyError(f"{path}: cannot be read ({error})") from error
    return content


_PART = {"utterances", "hours", "speakers"}
_LEAK = {"kind", "between", "values", "count", "allowed"}


def _check_card(path: Path, card: dict[str, Any]) -> None:
    """Raise :class:`StudyError` for a split card that lacks what the page shows of it."""
    parts, leaks = card.get("parts", {}), card.get("leaks") or []
    if not tables_of(parts, _PART):
        raise StudyError(f"{path}: cannot be read (expected parts with {', '.join(sorted(_PART))})")
    if not isinstance(leaks, list) or not tables_of(dict(enumerate(leaks)), _LEAK):
        raise StudyError(f"{path}: cannot be read (expected leaks with {', '.join(sorted(_LEAK))})")


def tables_of(content: Any, needed: set[str]) -> bool:
    """Whether `content` is an object of objects that hold `needed`."""
    return isinstance(content, dict) and all(isinstance(o, dict) and o.keys() >= needed for o in content.values())


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
        if not any(same(value, v) for v in values):
            values.append(value)
    if numeric:
        values.sort()
    few = len(values) <= _MOST_TICKS
    continuous = "low" in dimension and dimension.get("low") is not None and not dimension.get("step")
    fits = few and not (numeric and continuous)
    ends = [v for v in (dimension.get("low"), dimension.get("high"), *values) if v is not None] if numeric else []
    low, high = (min(ends), max(ends)) if ends else (math.nan, math.nan)
    shown = tuple(values) if fits or not numeric else None
    return Axis(name, shown, numeric, bool(dimension.get("log")), low, high)
