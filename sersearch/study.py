"""A study's folder: its description, its journal of trials, and the lock that keeps two drivers apart.

    study.json      what was asked for, and how far it is
    space.yaml      the search space as it was run
    split.json      who is in which part (`split_card`)
    context.json    what a prediction needs besides weights (`TrainingData.context`)
    trials.jsonl    the journal: one JSON object a line, only ever appended to
    ray/            Tune's experiment with the trials' checkpoints
    optuna.log      the Optuna study, for optuna-dashboard

Journal events: `start` (trial, params, searched), `epoch` (trial, epoch, metrics, value, best, done, seconds,
checkpoint),
`end` (trial, state, reason); each with `time` (s since 1970). An epoch that stands twice, after a resume: last wins.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sersearch.data.atomic import write_json
from sersearch.errors import StudyError, one_of

_FIELDS = {
    "start": {"trial", "params", "searched"},
    "epoch": {"trial", "epoch", "value"},
    "end": {"trial", "state", "reason"},
}
STUDIES = Path("studies")
"""Where studies lie unless told otherwise."""


@dataclass
class TrialRecord:
    """One trial as the journal tells it."""

    number: int
    params: dict[str, Any]
    """The full configuration."""
    searched: dict[str, Any]
    """Of it, what the search chose."""
    state: str = "running"
    """running, complete, pruned, failed or interrupted."""
    reason: str = ""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """`epoch` events by epoch."""
    folder: Path = Path()

    @property
    def unfinished(self) -> bool:
        """Whether a resume has to go on with it."""
        return self.state in ("running", "interrupted")

    @property
    def _best(self) -> dict[str, Any] | None:
        done = [e for e in self.epochs if e["value"] is not None and math.isfinite(e["value"])]
        return max(done, key=lambda e: (e["value"], -e["epoch"]), default=None)

    @property
    def value(self) -> float | None:
        """The best epoch's objective; None before the first."""
        return None if self._best is None else float(self._best["value"])

    @property
    def best_epoch(self) -> int | None:
        """The epoch that :attr:`value` is of, counted from 1."""
        return None if self._best is None else int(self._best["epoch"])

    def best_of(self, metric: str) -> tuple[float, int] | None:
        """The best value of a development metric, such as dev_ccc_valence, and its epoch; None where none has it."""
        told = [(event["metrics"].get(metric), event["epoch"]) for event in self.epochs]
        done = [(float(value), int(epoch)) for value, epoch in told if value is not None and math.isfinite(value)]
        return max(done, key=lambda best: (best[0], -best[1]), default=None)

    @property
    def checkpoint(self) -> Path | None:
        """Folder of the last checkpoint that is there; it holds the best epoch's weights."""
        for event in reversed(self.epochs):
            if event.get("checkpoint") and (self.folder / event["checkpoint"]).is_dir():
                return self.folder / str(event["checkpoint"])
        return None

    @property
    def seconds(self) -> float:
        """Training time over all epochs."""
        return float(sum(e["seconds"] for e in self.epochs))


class _Meta(dict[str, Any]):
    """study.json's content; what is missing in it is damage, and said so."""

    def __init__(self, folder: Path, content: Mapping[str, Any]) -> None:
        super().__init__(content)
        self._folder = folder

    def __missing__(self, key: str) -> Any:
        raise StudyError(f"{self._folder / 'study.json'}: damaged: it has no {key!r}; begin a new study")


class Study:
    """A search in its folder. :meth:`create` begins one, :meth:`open` reads one."""

    def __init__(self, folder: Path, meta: dict[str, Any]) -> None:
        self.folder, self.meta = folder, meta

    @classmethod
    def create(cls, name: str, meta: Mapping[str, Any], root: Path = STUDIES) -> Study:
        """A new study. Raises :class:`StudyError` for a name that is taken or cannot be a folder's."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", name):
            raise StudyError(f"study name {name!r}: expected letters, digits and _ . - only, a letter or digit first")
        folder = root / name
        if (folder / "study.json").exists():
            raise StudyError(f"study {name} exists in {root}; `--resume {name}` goes on with it, --name names another")
        if folder.is_dir() and any(folder.iterdir()):
            raise StudyError(f"{folder} has files and is no study; remove it, or give the study another --name")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be made ({error.strerror}); --studies names another place") from None
        study = cls(folder, _Meta(folder, {"name": name, **meta}))
        study.write_meta()
        return study

    @classmethod
    def open(cls, name: Path | str, root: Path = STUDIES) -> Study:
        """The study called `name` in `root`, or in the folder `name`. Raises :class:`StudyError` when there is none."""
        for folder in (root / name, Path(name)):
            if (folder / "study.json").is_file():
                try:
                    meta = json.loads((folder / "study.json").read_text("utf-8"))
                except (OSError, ValueError) as error:
                    raise StudyError(f"{folder / 'study.json'}: cannot be read ({error})") from error
                if not isinstance(meta, dict) or "name" not in meta:
                    raise StudyError(f"{folder / 'study.json'}: cannot be read (it is not a study's)")
                return cls(folder, _Meta(folder, meta))
        there = [path.parent.name for path in root.glob("*/study.json")]
        raise StudyError(f"{name}: isn't a study (it has no study.json); {one_of(name, there)} in {root}")

    @property
    def name(self) -> str:
        """The study's name."""
        return str(self.meta["name"])

    def write_meta(self, **changes: Any) -> None:
        """Write study.json, with `changes` to its first level."""
        self.meta |= changes
        write_json(self.folder / "study.json", self.meta)

    def trials(self) -> list[TrialRecord]:
        """All trials by number, as the journal has them."""
        records: dict[int, TrialRecord] = {}
        epochs: dict[int, dict[int, dict[str, Any]]] = {}
        for event in self._events():
            number = event["trial"]
            if event["event"] == "start":
                if number not in records:
                    records[number] = TrialRecord(number, event["params"], event["searched"], folder=self.folder)
                records[number].state, records[number].reason = "running", ""
            elif number in records and event["event"] == "epoch":
                epochs.setdefault(number, {})[event["epoch"]] = event
            elif number in records:
                records[number].state, records[number].reason = event["state"], event["reason"]
        for number, record in records.items():
            record.epochs = [event for _, event in sorted(epochs.get(number, {}).items())]
        return [record for _, record in sorted(records.items())]

    def _events(self) -> Iterator[dict[str, Any]]:
        path = self.folder / "trials.jsonl"
        if not path.exists():
            return
        for line in path.read_text("utf-8", errors="replace").splitlines():
            try:
                event = json.loads(line)
            except ValueError:
                continue  # the line that a kill tore; what it would have said happens again
            if isinstance(event, dict) and event.keys() >= _FIELDS.get(str(event.get("event")), {""}):
                yield event

    def trial(self, number: int) -> TrialRecord:
        """One trial. Raises :class:`StudyError` when the study has no such trial."""
        for record in self.trials():
            if record.number == number:
                return record
        raise StudyError(f"study {self.name} has no trial {number}; it has {len(self.trials())}, counted from 0")

    def best(self, metric: str | None = None) -> TrialRecord:
        """The trial with the best development value, by the objective or by another development `metric`.

        Raises :class:`StudyError` before the first epoch's end, and for a metric that no epoch has.
        """
        trials = self.trials()
        done = [r for r in trials if r.value is not None and r.state != "failed"]
        if not done and self.meta.get("state") == "finished":
            reasons = "; ".join(sorted({r.reason for r in trials}))
            raise StudyError(f"all trials of study {self.name} failed ({reasons}); mend that and begin a new study")
        if not done:
            way = f"`sersearch tune --resume {self.name}` goes on with it"
            raise StudyError(f"study {self.name} has no trial that finished an epoch; {way}")
        if metric is None:
            return max(done, key=lambda r: (r.value, -r.number))
        scored = [(best[0], -r.number, r) for r in done if (best := r.best_of(metric)) is not None]
        if not scored:
            there = {name for r in done for event in r.epochs for name in event["metrics"] if _compares(name)}
            raise StudyError(f"study {self.name} has no metric {metric!r}; {one_of(metric, there)}")
        return max(scored)[2]

    def append(self, event: str, trial: int, **fields: Any) -> None:
        """Add an event to the journal; ends reach the disk before this returns."""
        line = json.dumps({"event": event, "trial": trial, **fields, "time": time.time()}, allow_nan=False)
        path = self.folder / "trials.jsonl"
        with path.open("a+b") as file:
            torn = file.tell() > 0 and not _ends_line(path)
            file.write(b"\n" * torn + line.encode() + b"\n")
            file.flush()
            if event == "end":
                os.fsync(file.fileno())

    @contextmanager
    def hold(self) -> Iterator[None]:
        """Keep other drivers out. Raises :class:`StudyError`, with its pid, when another process holds the study."""
        path = self.folder / ".lock"
        with path.open("a+") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                file.seek(0)
                holder = file.read().strip() or "unknown"
                raise StudyError(f"study {self.name} is being run by process {holder}; wait for it or end it") from None
            file.truncate(0)
            file.write(str(os.getpid()))
            file.flush()
            yield


def _compares(metric: str) -> bool:
    """Whether more of a metric is better: so are all of development, but its losses."""
    return metric.startswith("dev_") and not metric.startswith("dev_loss_")


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
