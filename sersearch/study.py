"""A study's folder: its description, its journal of trials, and the lock that keeps two drivers apart.

    study.json      what was asked for, and how far it is
    space.yaml      the search space as it was run
    split.json      who is in which part (`split_card`)
    context.json    what a prediction needs besides weights (`TrainingData.context`)
    trials.jsonl    the journal: one JSON object a line, only ever appended to
    ray/            Tune's experiment with the trials' checkpoints
    logs/           what happened: search.jsonl, and a file for each trial
    optuna.log      the Optuna study, for optuna-dashboard

With a storage, which all nodes of a cluster reach, checkpoints lie there (`Study.home`), and so does a copy of what
a driver elsewhere needs to go on.

Journal events: `start` (trial, params, searched), `epoch` (trial, epoch, metrics, value, best, done, seconds,
checkpoint), `again` (trial, epoch, checkpoint: a known epoch trained again, whose figures stand), `end` (trial, state,
reason); each with `time` (s since 1970). Their order is that of the file: clocks are set.
"""

from __future__ import annotations

import fcntl
import json
import math
import os
import re
import shlex
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from types import NoneType
from typing import Any

from sersearch.data.atomic import atomic, no_links, write_json
from sersearch.data.place import is_local, place
from sersearch.errors import StudyError, one_of

_FIELDS = {
    "start": {"trial", "params", "searched"},
    "epoch": {"trial", "epoch", "value", "metrics", "seconds"},
    "again": {"trial", "epoch", "checkpoint"},
    "end": {"trial", "state", "reason"},
}
SECONDS = "seconds"
"""Among several objectives, a trial's training time: the less, the better."""
STUDIES = Path("studies")
"""Where studies lie unless told otherwise."""

SETTLE = "settle"
"""Why a study is held by whoever ends what a killed driver left."""

OnEvent = Callable[[str, int, dict[str, Any]], None]
"""Called with what the journal gets: event (start, epoch, end), trial and fields; with log records, as `log`.

First with `begin`, the number of trials, the metric that is searched for, the split card's notes and `page`, which
gives the study's page of an MLflow server once there is one, and with `wait` before it where something else must end
first, `why`; last, where nothing interrupts it, with `finished` and the study, before Ray ends: Ray can take the
process with it.
"""


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
    """`epoch` events by epoch; `order` is their place among all events."""
    home: Path = Path()
    """What the checkpoints' names are relative to."""
    ended: float | None = None
    """When it ended by itself, was pruned or failed, in s since 1970."""

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

    def values(self, metrics: Sequence[str]) -> tuple[float, ...] | None:
        """Figures of the best epoch by several objectives; of `seconds`, the whole training's. None where one lacks."""
        if self._best is None:
            return None
        found = [self.seconds if name == SECONDS else self._best["metrics"].get(name) for name in metrics[1:]]
        if any(value is None or not math.isfinite(value) for value in found):
            return None
        return (float(self._best["value"]), *map(float, found))

    @property
    def checkpoint(self) -> Path | None:
        """Folder of the last checkpoint that is there; it holds the best epoch's weights."""
        return next(self.checkpoints(), None)

    def checkpoints(self) -> Iterator[Path]:
        """Folders of the checkpoints that are there, the last first."""
        for event in reversed(self.epochs):
            name = event.get("checkpoint")
            if isinstance(name, str) and _within(name, self.home) and (self.home / name).is_dir():
                yield self.home / name

    @property
    def seconds(self) -> float:
        """Training time over all epochs."""
        return float(sum(e["seconds"] for e in self.epochs))

    def take(self, event: Mapping[str, Any]) -> None:
        """Be what `event` of the journal makes of it."""
        if event["event"] == "end":
            self.state, self.reason = event["state"], event["reason"]
            self.ended = None if self.unfinished else event.get("time")
        elif event["event"] == "start":
            self.state, self.reason, self.ended = "running", "", None
        elif event["epoch"] == len(self.epochs) + 1:
            self.epochs.append(dict(event))
        elif 1 <= event["epoch"] <= len(self.epochs):
            known = self.epochs[event["epoch"] - 1]
            known["checkpoint"] = event.get("checkpoint")


class Records(dict[int, TrialRecord]):
    """Trials by number, as the journal's events tell them."""

    def __init__(self, home: Path, events: Iterable[Mapping[str, Any]] = ()) -> None:
        super().__init__()
        self._home = home
        self.taken = 0
        """Events that were taken in."""
        for event in events:
            self.take(event)

    def take(self, event: Mapping[str, Any]) -> None:
        """Take in the next event; what is said of a trial that never began is passed over."""
        number = event["trial"]
        if event["event"] == "start" and number not in self:
            self[number] = TrialRecord(number, event["params"], event["searched"], home=self._home)
        if number in self:
            self[number].take({**event, "order": self.taken})
        self.taken += 1

    def sorted(self) -> list[TrialRecord]:
        """All trials by number."""
        return [record for _, record in sorted(self.items())]


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
    def create(
        cls, name: str, meta: Mapping[str, Any], root: Path = STUDIES, files: Mapping[str, str] | None = None
    ) -> Study:
        """A new study with further `files`; study.json, which vouches for them, is written last.

        Raises :class:`StudyError` for a name that is taken or cannot be a folder's.
        """
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,100}", name):
            raise StudyError(f"study name {name!r}: expected letters, digits and _ . - only, a letter or digit first")
        folder = root / name
        study = cls(folder, _Meta(folder, {"name": name, **meta}))
        if (folder / "study.json").exists():
            again = f"`--resume {study.argument}` goes on with it"
            raise StudyError(f"study {name} exists in {root}; {again}, --name names another")
        begun = {".lock", *(files or {})}  # what a kill in the middle of this leaves
        if folder.is_dir() and any(path.name not in begun for path in folder.iterdir()):
            raise StudyError(f"{folder} has files and is no study; remove it, or give the study another --name")
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StudyError(f"{folder}: cannot be made ({error.strerror}); --studies names another place") from None
        for file, text in (files or {}).items():
            with atomic(folder / file) as temporary:
                temporary.write_text(text, "utf-8")
        study.write_meta()
        return study

    @classmethod
    def open(cls, name: Path | str, root: Path = STUDIES) -> Study:
        """The study called `name` in `root`, or in the folder `name`. Raises :class:`StudyError` when there is none."""
        for folder in (root / name, Path(name)):
            if (folder / "study.json").is_file():
                try:
                    meta = json.loads((folder / "study.json").read_text("utf-8"))
                except (OSError, ValueError, RecursionError) as error:
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

    @property
    def argument(self) -> str:
        """How a command names it, quoted for a shell: by its name, or by its folder where it isn't in `STUDIES`."""
        here = self.folder.parent.resolve() == STUDIES.resolve()
        return shlex.quote(self.folder.name if here else str(self.folder))

    def again(self, option: str = "--resume") -> str:
        """The command that goes on with it, with the options by which it was run last."""
        given = shlex.join(map(str, self.meta.get("given", ())))
        return f"sersearch tune {option} {self.argument} {given}".rstrip()

    def write_meta(self, **changes: Any) -> None:
        """Write study.json, with `changes` to its first level."""
        self.meta |= changes
        write_json(self.folder / "study.json", self.meta)

    @property
    def objectives(self) -> list[dict[str, str]]:
        """What is searched for, each by its `metric` and `mode`; the first says which epoch of a trial is best."""
        return self.meta.get("objectives") or [self.meta["objective"]]

    @property
    def home(self) -> Path:
        """Where the trials' checkpoints lie: the study's folder, or its place in the storage that nodes share."""
        storage = self.meta.get("storage")
        return self.folder if storage is None else place(storage) / self.folder.resolve().name

    @property
    def spool(self) -> Path:
        """The file of what MLflow hasn't got yet."""
        return self.folder / "mlflow_spool.jsonl"

    @property
    def journal(self) -> Path:
        """The file of events."""
        return self.folder / "trials.jsonl"

    def records(self) -> Records:
        """All trials by number, as the journal has them now."""
        return Records(self.home, self.events())

    def trials(self) -> list[TrialRecord]:
        """All trials, in the order of their numbers."""
        return self.records().sorted()

    def events(self) -> Iterator[dict[str, Any]]:
        """The journal's events, in order."""
        if self.journal.exists():
            with self.journal.open("rb") as file:
                yield from parsed(file)

    def trial(self, number: int) -> TrialRecord:
        """One trial. Raises :class:`StudyError` when the study has no such trial."""
        records = self.records()
        if number not in records:
            raise StudyError(f"study {self.name} has no trial {number}; it has {len(records)}, counted from 0")
        return records[number]

    def best(self, metric: str | None = None) -> TrialRecord:
        """The trial with the best development value, by the objective or by another development `metric`.

        Raises :class:`StudyError` before the first epoch's end, and for a metric that no epoch has.
        """
        trials = self.trials()
        done = [r for r in trials if r.value is not None and r.state != "failed"]
        if not done and self.meta.get("state") == "finished":
            reasons = "; ".join(sorted({r.reason for r in trials}))
            way = f"`{self.again('--retry-failed')}` runs them again, or begin a new study"
            raise StudyError(f"all trials of study {self.name} failed ({reasons}); mend that, then {way}")
        if not done:
            way = f"`{self.again()}` goes on with it"
            raise StudyError(f"study {self.name} has no trial that finished an epoch; {way}")
        if metric is None:
            return max(done, key=lambda r: (r.value, -r.number))
        scored = [(best[0], -r.number, r) for r in done if (best := r.best_of(metric)) is not None]
        if not scored:
            there = {name for r in done for event in r.epochs for name in event["metrics"] if _compares(name)}
            raise StudyError(f"study {self.name} has no metric {metric!r}; {one_of(metric, there)}")
        return max(scored)[2]

    def pareto(self) -> list[TrialRecord]:
        """The complete trials that no other one is at least as good as by all objectives, and better by one."""
        metrics = [objective["metric"] for objective in self.objectives]
        signs = [-1.0 if objective["mode"] == "min" else 1.0 for objective in self.objectives]
        found = [(r, values) for r in self.trials() if r.state == "complete" and (values := r.values(metrics))]
        scored = [(r, tuple(sign * value for sign, value in zip(signs, values, strict=True))) for r, values in found]
        return [r for r, own in scored if not any(_dominates(other, own) for _, other in scored)]

    def append(self, event: str, trial: int, **fields: Any) -> dict[str, Any]:
        """Add an event to the journal, and return it; ends reach the disk before this returns.

        Its `time` is now, unless `fields` have that of an event which a storage has got already.
        """
        whole = {"event": event, "trial": trial, "time": time.time(), **fields}
        line = json.dumps(whole, allow_nan=False).encode() + b"\n"
        with open(self.journal, "a+b", opener=no_links) as file:
            torn = file.tell() > 0 and not _ends_line(self.journal)
            file.write(b"\n" * torn + line)
            file.flush()
            if event == "end":
                os.fsync(file.fileno())
        return whole

    @contextmanager
    def hold(self, purpose: str = "run", patience: float = 0.0, wait: bool = False) -> Iterator[int]:
        """Keep other drivers out; yields the lock's open file.

        Raises :class:`StudyError`, with its host and pid, when another process holds the study, and where there are no
        locks. One whose `purpose` is to settle what a dead driver left is waited for `patience` seconds; with `wait`,
        any is, for ever.
        """
        with open(self.folder / ".lock", "a+", opener=no_links) as file:
            try:
                self._lock(file.fileno(), patience, wait)
            except OSError as error:
                why = f"this file system has no locks ({error.strerror}); --studies names another place"
                raise StudyError(f"{self.folder}: {why}") from None
            file.truncate(0)
            file.write(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "purpose": purpose}))
            file.flush()
            yield file.fileno()

    def _lock(self, file: int, patience: float, wait: bool) -> None:
        if wait:
            fcntl.flock(file, fcntl.LOCK_EX)
        began = time.monotonic()
        while not wait and not _locked(file):
            holder = self._holder()
            # A second, as whoever only looks whether the lock is free has it for a moment.
            if time.monotonic() - began > (patience if holder.get("purpose") == SETTLE else 1.0):
                who = f"process {holder.get('pid', 'unknown')} on {holder.get('host', 'an unknown host')}"
                raise StudyError(f"study {self.name} is being run by {who}; wait for it or end it")
            time.sleep(0.1)

    @property
    def driver(self) -> dict[str, Any] | None:
        """Pid and host of the process that runs the study now; None where none does."""
        # The second: where there are no locks, nobody holds one.
        with suppress(FileNotFoundError), open(self.folder / ".lock", opener=no_links) as file, suppress(OSError):
            return None if _locked(file.fileno(), shared=True) else self._holder()
        return None

    def _holder(self) -> dict[str, Any]:
        try:
            holder = json.loads((self.folder / ".lock").read_text("utf-8"))
        except (FileNotFoundError, ValueError):  # the study was set aside, or its holder has only just taken the lock
            return {}
        return holder if isinstance(holder, dict) else {}


def parsed(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    """The events among a journal's lines."""
    for line in lines:
        try:
            event = json.loads(line)
        except (ValueError, RecursionError):
            continue  # the line that a kill tore; what it would have said happens again
        if isinstance(event, dict) and _is_event(event):
            yield event


def _dominates(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether `one`'s figures, of which more is better, are nowhere worse than the `other`'s and somewhere better."""
    return one != other and all(a >= b for a, b in zip(one, other, strict=True))


def _locked(file: int, shared: bool = False) -> bool:
    """Whether the lock on the open `file` could be taken. Raises OSError where there are none."""
    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_KINDS: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("trial", "epoch"), int),
    **dict.fromkeys(("value", "seconds"), (int, float, NoneType)),
    **dict.fromkeys(("metrics", "params", "searched"), dict),
    **dict.fromkeys(("state", "reason"), str),
}


def _is_event(event: dict[str, Any]) -> bool:
    """Whether a line of the journal says what an event says; others are passed over."""
    whole = event.keys() >= _FIELDS.get(str(event.get("event")), {""})
    return whole and all(isinstance(event[name], kind) for name, kind in _KINDS.items() if name in event)


def _within(name: str, home: Path) -> bool:
    """Whether a checkpoint's name, and links on the way, lead nowhere else: journals are handed on, too."""
    path = PurePosixPath(name)
    if not path.parts or path.is_absolute() or ".." in path.parts:
        return False
    return not is_local(home) or (home / name).resolve().is_relative_to(home.resolve())


def _compares(metric: str) -> bool:
    """Whether more of a metric is better: so are all of development, but its losses."""
    return metric.startswith("dev_") and not metric.startswith("dev_loss_")


def _ends_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
