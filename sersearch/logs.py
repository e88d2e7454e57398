"""What happens, as plain records: gathered where it happens, written by the driver, a file for each trial.

A record is a JSON object a line: `time` (s since 1970), `level`, `logger`, `message`, `host`, `pid`, and `traceback`
where there is one. `logs/search.jsonl` in a study's folder is the driver's, `logs/trial-0004.jsonl` trial 4's.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import traceback
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sersearch.data.atomic import no_links
from sersearch.redaction import redact

Record = dict[str, Any]

MOST = 1000
"""Records that wait to be fetched, at most: the first ones are kept."""


class Gathered(logging.Handler):
    """Keeps what is logged until it is fetched."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self._records: list[Record] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep `record`."""
        if len(self._records) < MOST:
            self._records.append(plain(record))

    def fetch(self) -> list[Record]:
        """What was logged since the last call."""
        records, self._records = self._records, []
        return records


def plain(record: logging.LogRecord) -> Record:
    """A record as JSON takes it, without secrets."""
    told: Record = {
        "time": record.created,
        "level": record.levelname,
        "logger": record.name,
        "message": redact(record.getMessage().strip()),
        "host": socket.gethostname(),
        "pid": os.getpid(),
    }
    if record.exc_info:
        told["traceback"] = redact("".join(traceback.format_exception(*record.exc_info)))
    return told


@contextmanager
def handled(handler: logging.Handler, *names: str) -> Iterator[None]:
    """What the loggers of these names log from INFO on goes to `handler` in the block."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)


@contextmanager
def gathered() -> Iterator[Gathered]:
    """What sersearch logs, and Python warns of, in the block."""
    handler = Gathered()
    logging.captureWarnings(True)
    try:
        with handled(handler, "sersearch", "py.warnings"):
            yield handler
    finally:
        logging.captureWarnings(False)


def write(folder: Path, trial: int | None, records: Iterable[Record]) -> None:
    """Add records to a trial's file in the study's `folder`, or to the search's."""
    lines = [json.dumps(record, default=str) + "\n" for record in records]
    if not lines:
        return
    path = log_file(folder, trial)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8", opener=no_links) as file:
        file.writelines(lines)


def log_file(folder: Path, trial: int | None) -> Path:
    """Where a trial's records stand, or the search's."""
    return folder / "logs" / ("search.jsonl" if trial is None else f"trial-{trial:04d}.jsonl")


def stack_file(home: Path, trial: int) -> Path:
    """Where a process that takes too long for a trial's epoch says what it did, below the study's `home`."""
    return home / "logs" / f"trial-{trial:04d}.stack"


__all__ = ["Gathered", "Record", "gathered", "handled", "log_file", "plain", "stack_file", "write"]
