"""A queue of JSON events that survives the process: in memory, and line by line in a file until it is empty again."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

Event = dict[str, Any]


class Spool:
    """Events in order. What is not removed before the process dies is found by the next one's :meth:`load`.

    Each event is handed to the operating system when it is added, so that it survives the process; :meth:`sync` makes
    the file survive the machine. When the disk is full, events are still kept in memory. Safe for many threads.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.disk_error: OSError | None = None
        self._events: deque[Event] = deque()
        self._file: TextIO | None = None
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._events)

    def load(self) -> list[Event]:
        """The events that an earlier process left; a line torn by its death is ignored."""
        events = []
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except OSError:
            return []
        for line in lines:
            try:
                event = json.loads(line)
            except ValueError:
                continue
            if isinstance(event, dict):
                events.append(event)
        return events

    def start(self, events: list[Event]) -> None:
        """Begin anew with `events`: memory and file hold exactly these."""
        with self._lock:
            self._close()
            self._events = deque(events)
            try:
                self.path.parent.mkdir(parents=True, exist_ok=True)
                temporary = self.path.with_name(self.path.name + ".tmp")
                with temporary.open("w", encoding="utf-8") as file:
                    file.writelines(_line(event) for event in events)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(self.path)
            except OSError as error:
                self.disk_error = error

    def add(self, event: Event) -> None:
        """Append `event`. A disk that cannot take it is noted in `disk_error`, not raised."""
        with self._lock:
            self._events.append(event)
            try:
                if self._file is None:
                    self._file = self.path.open("a", encoding="utf-8")
                self._file.write(_line(event))
                self._file.flush()
            except OSError as error:
                self.disk_error = error

    def first(self, count: int) -> list[Event]:
        """Up to `count` of the oldest events, which stay."""
        with self._lock:
            return list(islice(self._events, count))

    def remove(self, count: int) -> None:
        """Forget the `count` oldest events. The file is emptied when nothing is left."""
        with self._lock:
            for _ in range(count):
                self._events.popleft()
            if not self._events:
                self._close()
                try:
                    self.path.unlink(missing_ok=True)
                except OSError as error:
                    self.disk_error = error

    def sync(self) -> None:
        """Force what was added onto the disk."""
        with self._lock:
            try:
                if self._file is not None:
                    os.fsync(self._file.fileno())
            except OSError as error:
                self.disk_error = error

    def close(self) -> None:
        """Force what is left onto the disk and let go of the file."""
        self.sync()
        with self._lock:
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:  # a full disk: what was buffered stays in memory only
                self.disk_error = error


def _line(event: Event) -> str:
    return json.dumps(event, default=str) + "\n"
