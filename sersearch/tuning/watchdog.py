"""Ends a process whose epoch never ends: it is started again from its last checkpoint, as after any other death.

So it does where data never open, or an epoch of pre-training never ends.
"""

from __future__ import annotations

import faulthandler
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

FACTOR, LEAST_S = 20.0, 600.0
"""Without a limit of its own, an epoch may take so many times the slowest so far, and so many seconds at least."""
FIRST_S = 6 * 3600.0
"""What the first may take, of which nobody knows how long it takes: it ends what hangs, if late."""


class Watchdog:
    """Watches the epochs of one process. A thread below Python does, so that it also ends what holds Python's lock."""

    def __init__(self, limit: float | None) -> None:
        """`limit`: seconds that an epoch may take. None: by the slowest so far."""
        self._limit = limit
        self._slowest: float | None = None

    @property
    def seconds(self) -> float:
        """What the next epoch may take."""
        if self._limit is not None:
            return self._limit
        return FIRST_S if self._slowest is None else max(LEAST_S, FACTOR * self._slowest)

    @contextmanager
    def epoch(self, stack: Path | None) -> Iterator[None]:
        """An epoch, in the block: the process exits when it takes too long. A process watches one block at a time.

        `stack`: file for what it was doing then; None: its standard error.
        """
        began = time.monotonic()
        with ExitStack() as ending:
            if stack is not None:
                ending.callback(stack.unlink, missing_ok=True)
            file = sys.stderr if stack is None else ending.enter_context(_opened(stack))
            ending.callback(faulthandler.cancel_dump_traceback_later)
            faulthandler.dump_traceback_later(self.seconds, exit=True, file=file)
            yield
        self._slowest = max(self._slowest or 0.0, time.monotonic() - began)


def _opened(stack: Path) -> TextIO:
    stack.unlink(missing_ok=True)  # not what a link leads to
    return stack.open("x")


__all__ = ["Watchdog"]
