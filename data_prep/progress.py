"""The progress bar of `sersearch prep`: segments, rejected ones, segments/s, hours of audio, time left."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from data_prep.pipeline import Progress as OnStep
from data_prep.pipeline import Step


@contextmanager
def bar(corpus: str) -> Iterator[OnStep]:
    """A live bar on stderr for `prepare`; yields what it calls."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[state]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as live:
        task = live.add_task(corpus, total=None, state="")
        first: list[tuple[float, int]] = []

        def show(step: Step) -> None:
            first.append((time.monotonic(), step.done))
            live.update(task, completed=step.done, total=step.total, state=_state(step, *first[0]))

        yield show


def _state(step: Step, began: float, there: int) -> str:
    """`12 rejected, 85.3 segments/s, 1.4 h of audio`."""
    rate = (step.done - there) / max(time.monotonic() - began, 1e-9)
    return f"{step.rejected} rejected, {rate:.1f} segments/s, {step.seconds / 3600:.1f} h of audio"
