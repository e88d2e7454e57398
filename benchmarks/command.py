"""How soon a user sees something: the help, and the first epoch of the demo's search."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import SERSEARCH, Row, seconds, workplace


def rows(quick: bool) -> Iterator[Row]:
    """Start-up of the command line and of a search."""
    best = min(
        seconds(lambda: subprocess.run([*SERSEARCH, "--help"], check=True, capture_output=True)) for _ in "12345"
    )
    yield Row("`sersearch --help`", f"{best:.2f} s", "< 1 s", "best of 5")
    with workplace() as folder:
        yield Row("demo: command to first epoch, nothing there", f"{first_epoch(folder):.1f} s", "", "corpus made, too")
        yield Row("demo: command to first epoch, corpus there", f"{first_epoch(folder):.1f} s", "<= 15 s")


def first_epoch(folder: Path) -> float:
    """Seconds from the command to the first epoch that it reports; the search is ended then."""
    started = time.perf_counter()
    search = subprocess.Popen(
        [*SERSEARCH, "tune", "--space", "aae_alpha_beta", "--name", f"run-{time.time_ns()}"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert search.stdout is not None
    try:
        for line in search.stdout:
            if " epoch 1 " in line:
                return time.perf_counter() - started
        raise RuntimeError("the search ended before its first epoch")
    finally:
        os.killpg(search.pid, signal.SIGKILL)
        search.communicate(timeout=120)
