"""What of a study lies in the storage that all nodes reach, so that a driver on another machine can go on with it.

Beside the trials' checkpoints: the study's files, the journal, which each event reaches before its trial goes on, and
`driver.json`, by which a second driver sees that there is one. Clocks of machines differ, so who drives is told by a
number that changes, not by a time.
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
from sersearch.study import Study

FILES = ("space.yaml", "split.json", "context.json", "trials.jsonl", "study.json")
"""Of a study's folder; the last vouches for the others."""
BEAT_S = 5.0
"""Seconds between two signs of life of a driver."""
MISSED = 4
"""Beats without one, after which a driver is taken for dead."""


class Storage:
    """A study's place in the storage. Used by the driver alone."""

    def __init__(self, study: Study) -> None:
        self._study, self._home = study, study.home
        self._events = 0

    def publish(self) -> None:
        """Bring the study's files there, the journal as a whole."""
        for name in FILES:
            if (self._study.folder / name).is_file():
                _write(self._home / name, (self._study.folder / name).read_bytes())
            else:
                (self._home / name).unlink(missing_ok=True)
        for part in _parts(self._home):
            part.unlink(missing_ok=True)

    def add(self, event: dict[str, Any]) -> None:
        """Bring an event there that the journal has got."""
        self._events += 1
        name = f"{time.time_ns():020d}-{self._events:06d}.jsonl"
        _write(self._home / "journal" / name, json.dumps(event).encode() + b"\n")

    @contextmanager
    def driven(self, on_lost: Callable[[str], None]) -> Iterator[None]:
        """Be the study's driver in the block; `on_lost` is told when another has taken its place.

        Raises :class:`StudyError` when there is another that lives: it takes some seconds to see.
        """
        path, own = self._home / "driver.json", uuid.uuid4().hex
        other = _driver(path)
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
        beating = threading.Thread(target=_beat, args=(path, own, ended, on_lost), name="driver", daemon=True)
        _say(path, own, 0)
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
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
    parts = b"".join(part.read_bytes() for part in _parts(home))
    for file in FILES:
        if (home / file).is_file():
            content = (home / file).read_bytes()
            _write(folder / file, content + parts if file == "trials.jsonl" else content)
        elif file == "trials.jsonl":
            _write(folder / file, parts)
    return True


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
    """Files of this machine: `files`, or copies in `folder` of those in an object store."""
    copies = []
    for file in files:
        copy = file if is_local(file) else folder / file.name
        if copy != file:
            _write(copy, file.read_bytes())
        copies.append(copy)
    return copies


def remove(folder: Path) -> None:
    """Remove a folder, or do nothing: what isn't needed any more is no reason to end a search."""
    with suppress(OSError):
        if is_local(folder):
            shutil.rmtree(folder)
        else:
            cast("Any", folder).fs.rm(cast("Any", folder).path, recursive=True)


def _parts(home: Path) -> list[Path]:
    """The events' files, in order."""
    folder = home / "journal"
    return sorted(folder.glob("*.jsonl"), key=lambda part: part.name) if folder.is_dir() else []


def _beat(path: Path, own: str, ended: threading.Event, on_lost: Callable[[str], None]) -> None:
    beats = 0
    while not ended.wait(BEAT_S):
        beats += 1
        with suppress(OSError):  # the storage is away: nobody else can take the study, either
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
        told = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return told if isinstance(told, dict) else {}


def _write(path: Path, content: bytes) -> None:
    with atomic(path) as temporary:
        temporary.write_bytes(content)


__all__ = ["Storage", "fetch", "local_copies", "relative", "remove", "set_aside", "tune_storage"]
