"""Ending a search before its time without losing an epoch: running trials report the one that they are at first."""

from __future__ import annotations

import time
from typing import Any

from ray.tune import Stopper

from sersearch.redaction import redact


class Leaving(Stopper):  # type: ignore[misc]
    """Once asked, stops each trial after its next epoch, and all of them when the grace is over."""

    def __init__(self, grace: float) -> None:
        """`grace`: seconds to wait for epochs that are being trained."""
        self.reason: str | None = None
        """Why the search ends; None while it doesn't."""
        self.running: set[int] = set()
        """Trials that are being trained, kept by the journal."""
        self._grace, self._until = grace, 0.0
        self._waited_for: set[int] = set()

    def ask(self, reason: str) -> None:
        """End the search because of `reason`, the first that is given; trials that are being trained are waited for."""
        if self.reason is None:
            self.reason, self._until = redact(reason), time.monotonic() + self._grace
            self._waited_for = set(self.running)

    def ended(self, trial: int) -> None:
        """There is nothing to wait for in `trial` any more."""
        self.running.discard(trial)
        self._waited_for.discard(trial)

    @property
    def left(self) -> float:
        """Seconds of the grace that are left; all of it before anybody asks."""
        return self._grace if self.reason is None else max(0.0, self._until - time.monotonic())

    def __call__(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Whether Tune stops the trial, whose epoch has just been reported."""
        if self.reason is not None:
            self._waited_for.discard(result["trial"])
        return self.reason is not None

    def stop_all(self) -> bool:
        """Whether Tune ends the search."""
        return self.reason is not None and (not self._waited_for or time.monotonic() >= self._until)


__all__ = ["Leaving"]
