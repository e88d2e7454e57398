"""A queue of JSON events that survives the process: in memory, and line by line in a file until it is empty again."""

from __future__ import annotations

import io
import json
import os
import threading
from collections import deque
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any

Event = dict[str, Any]

_COMPACT = 1000
"""Lines of events that were removed, from which on the file is written anew without them."""


class Spool:
    """Events in order. What is not removed before the process dies is found by the next one's :meth:`load`.

    Each event is handed to the operating system when it is added, so that it survives the process; :meth:`sync` makes
    the file survive the machine. The file has at most twice the lines that wait, and 1,000. While it cannot be
    written, `disk_error` says why and events are kept in memory; it catches up as soon as it can. Safe for many
    threads, none of which waits for a disk longer than a write into its cache takes.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk_error: OSError | None = None
        self._lines: deque[bytes] = deque()
        self._written = 0  # of these, the first ones, which stand in the file
        self._removed = 0  # what stands in the file before them
        self._file: io.FileIO | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lines)

    def load(self) -> list[Event]:
        """The events that an earlier process left; a line torn by its death or by a full disk is ignored."""
        events = []
        try:
            lines = self.path.read_bytes().splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict) and "event" in event:
                events.append(event)
        return events

    def start(self, events: list[Event]) -> None:
        """Begin anew with `events`: memory and file hold exactly these; on a full disk, the file holds no less."""
        with self._lock:
            self._close()
            self._lines = deque(map(_line, events))
            self._written = self._removed = 0
            self._rewrite()
            self._catch_up()
        self.sync()

    def add(self, event: Event) -> None:
        """Append `event`. A disk that cannot take it is noted in `disk_error`, not raised."""
        line = _line(event)
        with self._lock:
            self._lines.append(line)
            self._catch_up()

    def first(self, count: int) -> list[Event]:
        """Up to `count` of the oldest events, which stay."""
        with self._lock:
            lines = list(islice(self._lines, count))
        return [json.loads(line) for line in lines]

    def remove(self, count: int) -> None:
        """Forget the `count` oldest events. The file goes when nothing is left."""
        with self._lock:
            for _ in range(count):
                self._lines.popleft()
            gone = min(count, self._written)
            self._written -= gone
            self._removed += gone
            if not self._lines:
                self._close()
                self._removed = 0
                try:
                    self.path.unlink(missing_ok=True)
                except OSError as error:
                    self.disk_error = error
            elif self._removed >= max(_COMPACT, len(self._lines)):
                self._rewrite()

    def sync(self) -> None:
        """Force what was added onto the disk."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY)
        except OSError:  # there is nothing
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            self.disk_error = error
        finally:
            os.close(descriptor)

    def close(self) -> None:
        """Force what is left onto the disk and let go of the file."""
        self.sync()
        with self._lock:
            self._close()

    def _rewrite(self) -> None:
        """Put a file of what waits in the old one's place; where the disk has no room for both, the old one stays."""
        temporary = self.path.with_name(self.path.name + ".tmp")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.writelines(self._lines)
            self._close()
            temporary.replace(self.path)
        except OSError as error:
            self.disk_error = error
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            return
        self._written, self._removed, self.disk_error = len(self._lines), 0, None

    def _catch_up(self) -> None:
        """Write what the file lacks. Where that ends within a line, the line is written again, whole, by the next."""
        try:
            if self._file is None and self._written < len(self._lines):
                self._file = io.FileIO(self.path, "a")
            while self._file is not None and self._written < len(self._lines):
                line = self._lines[self._written]
                if self._file.write(line) != len(line):
                    continue  # the disk is full: what is left of the line does not fit, and raises
                self._written += 1
                self.disk_error = None
        except OSError as error:
            self.disk_error = error

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self.disk_error = error


def _line(event: Event) -> bytes:
    """An event as it stands in the file. The line break comes first: so nothing clings to a line that was torn."""
    return b"\n" + json.dumps(event, default=str).encode()
