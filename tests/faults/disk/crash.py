"""`python -m tests.faults.disk.crash CORPUS FOLDER`: dies at each write of `prep`, before and after its renaming.

A process of its own, which forks: it must have no threads. Each run that dies is followed by one that doesn't, and
leaves FOLDER/NUMBER; FOLDER/whole is an undisturbed one. Prints the number of runs that died.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from itertools import count
from pathlib import Path

from data_prep import pipeline
from sersearch.data import atomic


def child(run: Callable[[], None]) -> int:
    """Run it in a process of its own; returns its exit code, or the signal that ended it, negative."""
    pid = os.fork()
    if pid == 0:
        run()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def prepare(corpus: Path, out: Path, dies_at: int = 0) -> None:
    """Prepare `corpus`, dying when a file or a folder is brought to the disk for the `dies_at`th time."""
    calls, sync = count(1), atomic._sync

    def dying(path: Path) -> None:
        sync(path)
        if next(calls) == dies_at:
            os.kill(os.getpid(), signal.SIGKILL)

    atomic._sync = dying
    pipeline.run_tasks = lambda tasks, *cluster: (task.write() for task in tasks)
    pipeline.prepare("csv", corpus, ["spectrogram", "mel"], out, shard_size=3)


def main(corpus: Path, folder: Path) -> None:
    """Die at each moment there is."""
    assert child(lambda: prepare(corpus, folder / "whole")) == 0
    for moment in count(1):
        out = folder / str(moment)
        code = child(lambda out=out, moment=moment: prepare(corpus, out, moment))  # type: ignore[misc]
        if code == 0:
            print(moment - 1)
            return
        assert code == -signal.SIGKILL
        assert child(lambda out=out: prepare(corpus, out)) == 0  # type: ignore[misc]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
