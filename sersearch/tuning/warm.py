"""Warm starts: what earlier studies found, told to a sampler before it suggests anything.

What is taken is copied into the new study's folder, so that a resume tells the same, whatever became of the others.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sersearch.data.joined import open_table
from sersearch.data.leaks import check_unseen
from sersearch.data.place import place
from sersearch.data.protocols import Protocol, rotations
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.study import Study, TrialRecord
from sersearch.tuning.space import Dimension, SearchSpace

WARM = "warm.jsonl"
"""In a study's folder, a line for each trial that was taken from another."""


@dataclass(frozen=True)
class WarmTrial:
    """A finished trial of an earlier study, as a point of the new one's space."""

    study: str
    trial: int
    searched: dict[str, Any]
    state: str
    """complete or pruned."""
    values: tuple[float, ...]
    """Its figures by the objectives."""
    epochs: dict[int, float]
    """The first one's by epoch."""


@dataclass(frozen=True)
class WarmStart:
    """What was taken from one study."""

    name: str
    created: str
    trials: tuple[WarmTrial, ...]
    skipped: int
    """Finished trials whose points aren't in the space."""

    def told(self) -> dict[str, Any]:
        """What study.json says of it."""
        return {"name": self.name, "created": self.created, "trials": len(self.trials), "skipped": self.skipped}

    def note(self) -> str:
        """The same for a reader."""
        rest = f"; {self.skipped} lie outside the space, and are passed over" if self.skipped else ""
        return f"The search is told of {len(self.trials)} finished trials of study {self.name}{rest}."


def taken(
    names: Sequence[str], root: Path, space: SearchSpace, objectives: Sequence[Mapping[str, str]]
) -> list[WarmStart]:
    """What the studies called so have for a search of `space`.

    Raises :class:`StudyError` where there is no such study, and :class:`ConfigError` for one of another family or
    objective, for one that has nothing for it, and where no sampler could use it.
    """
    if names and space.method == "grid":
        raise ConfigError("--warm-start: a grid runs all of its points, whatever is known; choose --method tpe")
    starts = []
    for study in (Study.open(name, root) for name in dict.fromkeys(names)):
        where = f"--warm-start {study.name}"
        if study.meta["family"] != space.family:
            raise ConfigError(f"{where}: it is of family {study.meta['family']}, not {space.family}; leave it out")
        theirs, ours = (", ".join(o["metric"] for o in some) for some in (study.objectives, objectives))
        if theirs != ours:
            raise ConfigError(f"{where}: its objective is {theirs}, not {ours}; leave it out, or add --objective")
        over = [record for record in study.trials() if record.state in ("complete", "pruned")]
        found = [trial for record in over if (trial := _point(study, record, space)) is not None]
        if not found:
            raise ConfigError(f"{where}: of its {len(over)} finished trials none lies in the space; leave it out")
        starts.append(WarmStart(study.name, study.meta["created"], tuple(found), len(over) - len(found)))
    return starts


def check_apart(names: Sequence[str], root: Path, protocol: Protocol, table: FeatureTable, target: str) -> None:
    """Raise :class:`ConfigError` for an earlier study of another target, or one that knows what `protocol` tests.

    What it found would choose by the test part.
    """
    for study in (Study.open(name, root) for name in dict.fromkeys(names)):
        where, data = f"--warm-start {study.name}", study.meta["data"]
        if data["target"] != target:
            raise ConfigError(f"{where}: its target is {data['target']}, not {target}; leave it out")
        try:
            theirs = open_table(place(data["path"]), data["features"], data["cross"] and place(data["cross"]))
            rule = rotations(Protocol.from_dict(data["protocol"]))[0]  # all of them train or develop on the same
            check_unseen(rotations(protocol)[0], table, target, (rule, theirs, target))
        except DataError as error:
            raise ConfigError(f"{where}: {error}; leave it out") from None


def _point(study: Study, record: TrialRecord, space: SearchSpace) -> WarmTrial | None:
    """A trial as a point of `space`, by its whole configuration: what one study fixed another may search."""
    values = record.values([objective["metric"] for objective in study.objectives])
    searched = {name: _held(dimension, record.params.get(name)) for name, dimension in space.search.items()}
    if values is None or any(value is None for value in searched.values()) or not space.allows(searched):
        return None
    by_epoch = {event["epoch"]: float(event["value"]) for event in record.epochs if event["value"] is not None}
    return WarmTrial(study.name, record.number, searched, record.state, values, by_epoch)


def _held(dimension: Dimension, value: Any) -> Any:
    """A value as the dimension has it; None where it hasn't."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    for own in dimension.values() or ():
        if own == value or (number and isinstance(own, float) and math.isclose(own, value)):
            return own
    if dimension.values() is not None or not number or value not in dimension:
        return None
    return value


def warm_text(starts: Sequence[WarmStart]) -> str:
    """What was taken, as it stands in the new study's folder."""
    lines = [json.dumps(asdict(trial), allow_nan=False) for start in starts for trial in start.trials]
    return "".join(f"{line}\n" for line in lines)


def read_warm(folder: Path) -> list[WarmTrial]:
    """What was taken as a study began, none where nothing was. Raises :class:`StudyError` where it can't be read."""
    path = folder / WARM
    if not path.is_file():
        return []
    try:
        told = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        fields = [
            {**line, "values": tuple(line["values"]), "epochs": {int(e): v for e, v in line["epochs"].items()}}
            for line in told
        ]
        return [WarmTrial(**own) for own in fields]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise StudyError(f"{path}: cannot be read ({error}); restore it, or begin a new study") from error


def best_points(trials: Sequence[WarmTrial]) -> list[dict[str, Any]]:
    """The best point of each study by the first objective, each once."""
    best: dict[str, WarmTrial] = {}
    for trial in trials:
        if trial.study not in best or trial.values[0] > best[trial.study].values[0]:
            best[trial.study] = trial
    points = [trial.searched for trial in best.values()]
    return [point for n, point in enumerate(points) if point not in points[:n]]


__all__ = ["WARM", "WarmStart", "WarmTrial", "best_points", "check_apart", "read_warm", "taken", "warm_text"]
