"""What of a study lies in the storage that all nodes reach, so that a driver on another machine can go on with it.

Beside the trials' checkpoints: the study's files, the journal, which each event reaches before its trial goes on, and
`driver.json`, by which a second driver sees that there is one. Clocks of machines differ, and are set: so who drives is
told by a number that changes, and events are numbered as they stand in the journal.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sersearch.data.atomic import atomic
from sersearch.data.place import is_local, place
from sersearch.errors import StudyError
from sersearch.study import Study, parsed

FILES = ("space.yaml", "split.json", "context.json", "warm.jsonl", "trials.jsonl", "study.json")
"""Of a study's folder; the last vouches for the others."""
BEAT_S = 5.0
"""Seconds between two signs of life of a driver."""
MISSED = 4
"""Beats without one, after which a driver is taken for dead."""


class Storage:
    """A study's place in the storage. Used by the driver alone."""

    def __init__(self, study: Study) -> None:
        self._study, self._home = study, study.home
        self.lost = threading.Event()
        """Set once another driver has taken the study over: from then on nothing of this one's gets there."""

    def catch_up(self) -> None:
        """Take over what another driver has brought there since this machine had the study.

        Raises :class:`StudyError` when each has events that the other lacks.
        """
        if not (self._home / "study.json").is_file():
            return
        here, there = list(self._study.events()), _events(self._home)
        if here[: len(there)] == there:
            return
        if there[: len(here)] != here:
            both = f"{self._study.journal} and {self._home}"
            raise StudyError(f"study {self._study.name}: {both} have gone different ways; move one of them away")
        _bring(self._home, self._study.folder, there)
        self._study.meta.update(Study.open(self._study.folder).meta)

    def publish(self) -> None:
        """Bring the study's files there, the journal as a whole."""
        if self.lost.is_set():
            return
        for name in FILES:
            if (self._study.folder / name).is_file():
                _write(self._home / name, (self._study.folder / name).read_bytes())
            else:
                (self._home / name).unlink(missing_ok=True)
        for part in _parts(self._home):
            part.unlink(missing_ok=True)

    def add(self, event: dict[str, Any], number: int) -> None:
        """Bring an event there that the journal has got; `number` is its place in it, from 0."""
        if not self.lost.is_set():
            _write(self._home / "journal" / f"{number:09d}.jsonl", json.dumps(event).encode() + b"\n")

    @contextmanager
    def driven(self, on_lost: Callable[[str], None], on_wait: Callable[[str], None]) -> Iterator[None]:
        """Be the study's driver in the block; `on_lost` is told when another has taken its place.

        Raises :class:`StudyError` when there is another that lives. That takes some seconds to see: `on_wait` is told.
        """
        path, own = self._home / "driver.json", uuid.uuid4().hex
        other = _driver(path)
        if other:
            who = f"process {other.get('pid')} on {other.get('host')}"
            on_wait(f"{who} ran this study: up to {MISSED * BEAT_S:.0f} s to see whether it still does")
        until = time.monotonic() + MISSED * BEAT_S
        while other and time.monotonic() < until:
            time.sleep(BEAT_S / 5)
            now = _driver(path)
            if not now:
                break
            if now != other:
                who = f"process {now.get('pid')} on {now.get('host')}"
                raise StudyError(f"study {self._study.name} is being run by {who}; wait for it or end it")
        ended = threading.Event()

        def lose(why: str) -> None:
            self.lost.set()
            on_lost(why)

        beating = threading.Thread(target=_beat, args=(path, own, ended, lose), name="driver", daemon=True)
        _say(path, own, 0)
        time.sleep(BEAT_S / 5)
        if _driver(path).get("driver") != own:
            raise StudyError(f"study {self._study.name} is being run by another process that began at the same time")
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            with suppress(OSError):  # what is left there is taken for dead after a while
                if _driver(path).get("driver") == own:
                    path.unlink(missing_ok=True)


def fetch(name: str, storage: str, root: Path) -> bool:
    """Bring a study from the storage into `root`, where it isn't there; whether it is there then."""
    home, folder = place(storage) / name, root / name
    if (folder / "study.json").is_file():
        return True
    if not (home / "study.json").is_file():
        return False
    folder.mkdir(parents=True, exist_ok=True)
    _bring(home, folder, _events(home))
    return True


def _bring(home: Path, folder: Path, events: list[dict[str, Any]]) -> None:
    """Bring a study's files from the storage into its `folder`, its journal with `events`."""
    for name in FILES:
        if name == "trials.jsonl":
            _write(folder / name, b"".join(json.dumps(event).encode() + b"\n" for event in events))
        elif (home / name).is_file():
            _write(folder / name, (home / name).read_bytes())


def set_aside(home: Path, name: str) -> None:
    """Call a study's place in the storage `name` from now on."""
    if is_local(home):
        if home.is_dir():
            home.rename(home.with_name(name))
    elif home.is_dir():
        store = cast("Any", home)
        store.fs.mv(store.path, cast("Any", home.parent / name).path, recursive=True)


def tune_storage(home: Path) -> dict[str, Any]:
    """Where Tune keeps its experiment, as arguments of its RunConfig."""
    if is_local(home):
        return {"storage_path": str((home / "ray").resolve())}
    from pyarrow.fs import FSSpecHandler, PyFileSystem

    ray = cast("Any", home / "ray")
    return {"storage_path": str(ray.path), "storage_filesystem": PyFileSystem(FSSpecHandler(ray.fs))}


def relative(home: Path, path: str) -> str:
    """The name below `home` of what Tune calls `path`."""
    root = str(home.resolve()) if is_local(home) else str(cast("Any", home).path)
    return path.removeprefix(root.rstrip("/") + "/")


def local_copies(files: list[Path], folder: Path) -> list[Path]:
    """Files in a study: `files`, or copies in its `folder` of those that lie elsewhere, such as in an object store."""
    copies, study = [], folder.parent.parent.resolve()
    for file in files:
        copy = file if is_local(file) and file.resolve().is_relative_to(study) else folder / file.name
        if copy != file:
            _write(copy, file.read_bytes())
        copies.append(copy)
    return copies


def remove(folder: Path) -> None:
    """Remove a folder, or do nothing: what isn't needed any more is no reason to end a search."""
    with suppress(OSError), _as_os_errors(folder):
        if is_local(folder):
            shutil.rmtree(folder)
        else:
            cast("Any", folder).fs.rm(cast("Any", folder).path, recursive=True)


def _events(home: Path) -> list[dict[str, Any]]:
    """The events that lie there: the journal as it was published last, and those that came one by one."""
    journal = home / "trials.jsonl"
    events = list(parsed(journal.read_bytes().splitlines())) if journal.is_file() else []
    for part in _parts(home):
        if int(part.name.partition(".")[0]) >= len(events):
            events += parsed(part.read_bytes().splitlines())
    return events


def _parts(home: Path) -> list[Path]:
    """The events' files, in order."""
    folder = home / "journal"
    return sorted(folder.glob("*.jsonl"), key=lambda part: part.name) if folder.is_dir() else []


def _beat(path: Path, own: str, ended: threading.Event, on_lost: Callable[[str], None]) -> None:
    beats = 0
    while not ended.wait(BEAT_S):
        beats += 1
        with suppress(OSError):  # the storage is away: it may be back before anybody takes the study over
            there = _driver(path)
            if there and there.get("driver") != own:
                on_lost(f"process {there.get('pid')} on {there.get('host')} has taken it over")
                return
            _say(path, own, beats)


def _say(path: Path, own: str, beats: int) -> None:
    told = {"driver": own, "host": socket.gethostname(), "pid": os.getpid(), "beats": beats}
    _write(path, json.dumps(told).encode())


def _driver(path: Path) -> dict[str, Any]:
    try:
        with _as_os_errors(path):
            told = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(path: Path, content: bytes) -> None:
    with _as_os_errors(path), atomic(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def _as_os_errors(path: Path) -> Iterator[None]:
    """What an object store's own package raises, as the OSError that it is."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


__all__ = ["Storage", "fetch", "local_copies", "relative", "remove", "set_aside", "tune_storage"]
