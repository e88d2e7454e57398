"""What a benchmark yields, and how two things are timed against each other on a noisy machine."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sersearch.training.environment import CPU_ENVIRONMENT

ROOT = Path(__file__).parents[1]
SERSEARCH = (sys.executable, "-m", "sersearch")


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    what: str
    figure: str
    bound: str = ""
    note: str = ""


def pairs_of(first: Callable[[], float], second: Callable[[], float], pairs: int) -> list[tuple[float, float]]:
    """`pairs` runs each, taken in turns: a slow minute of the machine meets both."""
    return [(first(), second()) for _ in range(pairs)]


def paired(first: Callable[[], float], second: Callable[[], float], pairs: int) -> tuple[float, float]:
    """Medians of `pairs` runs each, taken in turns."""
    times = pairs_of(first, second, pairs)
    return statistics.median(t[0] for t in times), statistics.median(t[1] for t in times)


def seconds(call: Callable[[], object]) -> float:
    """Wall time of a call."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def python(module: str, *args: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """A child `python -m module args`, in the project's root, its output as text; `environment` in place of ours."""
    inherited = {name: value for name, value in os.environ.items() if name not in CPU_ENVIRONMENT}
    return subprocess.Popen(
        [sys.executable, "-m", module, *args],
        cwd=ROOT,
        env={**inherited, **(environment or {})},
        stdout=subprocess.PIPE,
        text=True,
    )


@contextmanager
def workplace() -> Iterator[Path]:
    """An empty folder that is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="sersearch-benchmark-") as folder:
        yield Path(folder)


def demo_corpus(folder: Path) -> Path:
    """The demo corpus with its features, prepared in `folder`."""
    subprocess.run([*SERSEARCH, "prep", "demo", "--out", str(folder)], check=True, capture_output=True)
    return folder
