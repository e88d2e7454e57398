"""Memory of trial processes: the feature table's pages are shared, not copied. Linux only (/proc)."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.rows import ROOT, Row, demo_corpus, python, workplace

MIB = 2**20


def rows(quick: bool) -> Iterator[Row]:
    """Proportional set size of the mapped table over 1, 2 and 4 processes."""
    with workplace() as folder:
        size = grow(demo_corpus(folder), 4 if quick else 40)
        for processes in (1, 2, 4):
            mapped, private = measure(folder, processes)
            yield Row(
                f"table of {size / MIB:.0f} MiB read by {processes} process{'es' * (processes > 1)}",
                f"{mapped / MIB:.0f} MiB in all",
                "once, not once a process",
                f"{private / MIB:.0f} MiB a process beyond it (Python, torch)",
            )


def grow(folder: Path, times: int) -> int:
    """Make the table's map `times` as long, as if the corpus were larger; returns its size in bytes."""
    from sersearch.data.table import FeatureTable

    FeatureTable.open(folder, "spectrogram")
    (path,) = (folder / "spectrogram").glob("frames-*.npy")
    frames = np.load(path)
    np.save(path, np.tile(frames, (times, 1)))
    return path.stat().st_size


def measure(folder: Path, processes: int) -> tuple[int, int]:
    """Bytes of the map in all processes together, and of everything else in each (means of proportional sizes)."""
    children = [python("benchmarks.memory", str(folder)) for _ in range(processes)]
    for child in children:
        assert child.stdout is not None
        assert child.stdout.readline() == "read\n"
    maps, others = zip(*(proportional(child.pid) for child in children), strict=True)
    for child in children:
        child.kill()
        child.communicate()
    return sum(maps), sum(others) // processes


def proportional(pid: int) -> tuple[int, int]:
    """Proportional set size, bytes, of the map of the frames and of the rest of process `pid`."""
    mapped = rest = 0
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        first, *values = line.split()
        if first == "Pss:":
            size = int(values[0]) * 1024
            mapped, rest = (mapped + size, rest) if ours else (mapped, rest + size)
        elif not first.endswith(":"):
            ours = line.endswith(".npy")
    return mapped, rest


def read(folder: str) -> None:
    """A child: open the table as a trial does, touch every page, and wait to be measured."""
    import time

    import torch  # noqa: F401  # a trial has it

    from sersearch.data.table import FeatureTable

    table = FeatureTable.open(folder, "spectrogram")
    table.frames.sum()
    print("read", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    os.chdir(ROOT)
    read(sys.argv[1])
