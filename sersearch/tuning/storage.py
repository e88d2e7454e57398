"""What of a study lies in the storage that all nodes reach, so that a driver on another machine can go on with it.

Beside the trials' checkpoints: the study's files, the journal, and `driver.json`, by which a second driver sees that
there is one. Clocks of machines differ, and are set: so who drives is told by a number that changes, and events are
numbered as they stand in the journal.

An event gets there first, then into the driver's own journal, and then its trial goes on. So whatever a kill or a
failed request leaves undone, the driver's machine has nothing that is not there, but ends that say `interrupted`: they
are written on it alone where it may not write there, or can't, and mean no more than that it doesn't run the trial.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sersearch.data.atomic import atomic
from sersearch.data.place import full_name, is_local, place
from sersearch.errors import ConfigError, StudyError
from sersearch.study import Study, parsed

FILES = ("space.yaml", "split.json", "context.json", "warm.jsonl", "trials.jsonl", "study.json")
"""Of a study's folder; the last vouches for the others."""
SIGN = "driver.json"
"""Who drives it."""
BEAT_S = 5.0
"""Seconds between two signs of life of a driver."""
MISSED = 4
"""Beats without one, after which a driver is taken for dead."""


class Storage:
    """A study's place in the storage. Used by the driver alone."""

    def __init__(self, study: Study) -> None:
        self._study, self._home = study, study.home
        self._sign, self._own = self._home / SIGN, ""
        self._on_lost: Callable[[str], None] = lambda why: None
        self.lost = threading.Event()
        """Set once another driver has taken the study over: from then on nothing of this one's gets there."""

    def catch_up(self) -> None:
        """Take over what another driver has brought there since this machine had the study.

        Raises :class:`StudyError` when each has events that the other lacks, or where what lies there is another
        study's, and OSError when the storage is away.
        """
        content = self._described()
        if content is None:
            return
        here, there = list(self._study.events()), _events(self._home)
        if here[: len(there)] == there:
            return
        while there[: len(here)] != here and (here[-1]["event"], here[-1].get("state")) == ("end", "interrupted"):
            here.pop()
        if there[: len(here)] != here:
            both = f"{self._study.journal} and {self._home}"
            raise StudyError(f"study {self._study.name}: {both} have gone different ways; move one of them away")
        _bring(self._home, self._study.folder, content, there)
        self._study.meta.update(Study.open(self._study.folder).meta)

    def _described(self) -> bytes | None:
        return described(self._home, self._study.meta.get("created"))

    def publish(self) -> None:
        """Bring the study's files there, the journal as a whole. Raises OSError when the storage is away."""
        self._look()
        if self.lost.is_set():
            return
        for name in FILES:
            if (self._study.folder / name).is_file():
                _write(self._home / name, (self._study.folder / name).read_bytes())
            else:
                _unlink(self._home / name)
        _unlink_all(_parts(self._home))

    def add(self, event: dict[str, Any], number: int) -> bool:
        """Bring an event there; `number` is the place, from 0, that it will have in the journal.

        Whether it is to be written down at all: not by a driver that has lost the study. Raises OSError.
        """
        if not self.lost.is_set():
            line = json.dumps(event, allow_nan=False).encode() + b"\n"
            _write(self._home / "journal" / f"{number:09d}.jsonl", line)
        return not self.lost.is_set()

    @contextmanager
    def driven(self, on_lost: Callable[[str], None], on_wait: Callable[[str], None]) -> Iterator[None]:
        """Be the study's driver in the block; `on_lost` is told when another has taken its place.

        Raises :class:`StudyError` when there is another that lives. That takes some seconds to see: `on_wait` is told.
        And where what lies there is another study's, of which nothing is overwritten or removed then.
        """
        self._described()
        other = _driver(self._sign)
        if other:
            who = f"process {other.get('pid')} on {other.get('host')}"
            on_wait(f"{who} ran this study: up to {MISSED * BEAT_S:.0f} s to see whether it still does")
        until = time.monotonic() + MISSED * BEAT_S
        while other and time.monotonic() < until:
            time.sleep(BEAT_S / 5)
            now = _driver(self._sign)
            if now is None:
                break
            if now and now != other:
                who = f"process {now.get('pid')} on {now.get('host')}"
                raise StudyError(f"study {self._study.name} is being run by {who}; wait for it or end it")
        self._own, self._on_lost = uuid.uuid4().hex, on_lost
        ended = threading.Event()
        beating = threading.Thread(target=self._beat, args=(ended,), name="driver", daemon=True)
        self._say(0)
        time.sleep(BEAT_S / 5)
        if not self._is_own(_driver(self._sign)):
            raise StudyError(f"study {self._study.name} is being run by another process that began at the same time")
        beating.start()
        try:
            yield
        finally:
            ended.set()
            beating.join()
            with suppress(OSError):  # what is left there is taken for dead after a while
                if self._is_own(_driver(self._sign)):
                    _unlink(self._sign)

    def _beat(self, ended: threading.Event) -> None:
        beats = 0
        while not ended.wait(BEAT_S):
            beats += 1
            with suppress(OSError):  # the storage is away: it may be back before anybody takes the study over
                self._look()
                if self.lost.is_set():
                    return
                self._say(beats)

    def _look(self) -> None:
        """See whether another driver has taken the study over; its sign is gone where it has ended since."""
        there = _driver(self._sign) if self._own and not self.lost.is_set() else {}
        if there == {} or self._is_own(there):
            return
        self.lost.set()
        who = "another process" if there is None else f"process {there.get('pid')} on {there.get('host')}"
        self._on_lost(f"{who} has taken it over")

    def _is_own(self, there: dict[str, Any] | None) -> bool:
        return there is not None and there.get("driver") == self._own

    def _say(self, beats: int) -> None:
        told = {"driver": self._own, "host": socket.gethostname(), "pid": os.getpid(), "beats": beats}
        _write(self._sign, json.dumps(told).encode())


def described(home: Path, created: object) -> bytes | None:
    """study.json as it lies in a storage, of the study that was `created` then; None where nothing of one does yet.

    Studies are handed on, with whatever place in their study.json, and others choose the same names. Raises
    :class:`StudyError` where the place is another's, and OSError when the storage is away.
    """
    content = _content(home / "study.json")
    if content is None:
        known = not [name for name in _listed(home) if not name.lstrip(".").startswith((SIGN, *FILES))]
    else:
        told = _told(content)
        known = told is not None and told.get("created") == created
    if not known:
        raise StudyError(f"{home} is another study's place, or no study's; --name or --storage names another")
    return content


def fetch(name: str, storage: str, root: Path) -> bool:
    """Bring a study from the storage into `root`, where it isn't there; whether it is there then.

    Raises :class:`ConfigError` where it was begun with the storage under another name, and OSError when that is away.
    """
    home, folder = place(storage) / name, root / name
    if (folder / "study.json").is_file():
        return True
    content = _content(home / "study.json")
    if content is None:
        return False
    check_storage(name, _told(content) or {}, storage)
    folder.mkdir(parents=True, exist_ok=True)
    _bring(home, folder, content, _events(home))
    return True


def check_storage(name: str, meta: Mapping[str, Any], storage: str) -> None:
    """Raise :class:`ConfigError` where the study of `meta` was begun with another storage: that is where it goes on."""
    known = meta.get("storage")
    if known is None:
        raise ConfigError(f"--storage {storage}: study {name} was begun without one, and goes on so; leave it out")
    if full_name(place(known)) != full_name(place(storage)):
        why = "its checkpoints are found by that name alone, on every machine"
        raise ConfigError(f"--storage {storage}: study {name} was begun with {known}; {why}")


def _bring(home: Path, folder: Path, described: bytes, events: list[dict[str, Any]]) -> None:
    """Bring a study's files from the storage into its `folder`, with what was read already: study.json and the journal.

    In this order, as they are written there in the other one: the journal is never older than what vouches for it.
    """
    known = {"trials.jsonl": b"".join(json.dumps(event).encode() + b"\n" for event in events), "study.json": described}
    for name in FILES:
        content = known[name] if name in known else _content(home / name)
        if content is not None:
            _write(folder / name, content)


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
    with suppress(OSError), as_os_errors(folder):
        if is_local(folder):
            shutil.rmtree(folder)
        else:
            cast("Any", folder).fs.rm(cast("Any", folder).path, recursive=True)


def _events(home: Path) -> list[dict[str, Any]]:
    """The events that lie there: the journal as it was published last, and those that came one by one."""
    events = list(parsed((_content(home / "trials.jsonl") or b"").splitlines()))
    for part in _parts(home):
        if int(part.name.partition(".")[0]) == len(events):  # none twice, and none after one that lacks
            events += parsed((_content(part) or b"").splitlines())
    return events


def _parts(home: Path) -> list[Path]:
    """The events' files, in order."""
    return [home / "journal" / name for name in sorted(_listed(home / "journal")) if name.endswith(".jsonl")]


def _listed(folder: Path) -> list[str]:
    """The names in a folder; none where there is no such folder. Raises OSError."""
    with suppress(FileNotFoundError), as_os_errors(folder):
        if is_local(folder):
            return [path.name for path in folder.iterdir()]
        _forget(folder)
        store = cast("Any", folder)  # not iterdir, which takes a request that failed for a folder that isn't there
        names = [path.rpartition("/")[2] for path in store.fs.ls(store.path, detail=False)]
        return [name for name in names if name]  # an object may stand for the folder itself
    return []


def _driver(path: Path) -> dict[str, Any] | None:
    """Who drives the study, as is told there; None where nothing is, nothing where it can't be read."""
    content = _content(path)
    return None if content is None else _told(content) or {}


def _told(content: bytes) -> dict[str, Any] | None:
    """What a JSON file tells; None where it is damaged."""
    with suppress(ValueError, RecursionError):
        told = json.loads(content)
        return told if isinstance(told, dict) else None
    return None


def _content(path: Path) -> bytes | None:
    """A file's content; None where there is none, and only then: who can't ask doesn't know. Raises OSError."""
    with suppress(FileNotFoundError), as_os_errors(path):
        _forget(path)
        return path.read_bytes()
    return None


def _forget(path: Path) -> None:
    """Know nothing of what an object store has at `path`, where others write, too."""
    if not is_local(path):
        cast("Any", path).fs.invalidate_cache(cast("Any", path).path)


def _write(path: Path, content: bytes) -> None:
    with as_os_errors(path), atomic(path) as temporary:
        temporary.write_bytes(content)


def _unlink(path: Path) -> None:
    with as_os_errors(path):
        path.unlink(missing_ok=True)


def _unlink_all(paths: list[Path]) -> None:
    """Remove files of one folder, of an object store's many at a time."""
    if not paths or is_local(paths[0]):
        for path in paths:
            _unlink(path)
        return
    with as_os_errors(paths[0]):
        cast("Any", paths[0]).fs.rm([cast("Any", path).path for path in paths])


@contextmanager
def as_os_errors(path: Path) -> Iterator[None]:
    """What an object store's own package raises, as the OSError that it is."""
    try:
        yield
    except (OSError, ValueError):
        raise
    except Exception as error:
        raise OSError(f"{path}: {type(error).__name__}: {error}") from error


__all__ = [
    "Storage",
    "as_os_errors",
    "check_storage",
    "described",
    "fetch",
    "local_copies",
    "relative",
    "remove",
    "set_aside",
    "tune_storage",
]
