"""What a search costs beyond its training: `tune` against a plain PyTorch loop in one process a core."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import SERSEARCH, Row, demo_corpus, paired, python, seconds, workplace
from sersearch.study import Study
from sersearch.training import CPU_ENVIRONMENT

SPACE = """
name: equal
doc: equal trials
family: aae
features: spectrogram
search:
  alpha: {choices: [0.4]}
fixed: {channels: [8, 16, 32], learning_rate: 0.002, batch_size: 16, generator_loss: saturating}
objective: {metric: dev_ua}
method: random
pruning: {kind: none}
"""


def rows(quick: bool) -> Iterator[Row]:
    """Total wall time of both, and of `tune` without its start-up."""
    cores = os.cpu_count() or 1
    each, epochs, pairs = (1, 2, 1) if quick else (2, 24, 2)
    with workplace() as folder:
        demo_corpus(folder / "demo")
        (folder / "equal.yaml").write_text(SPACE + f"trials: {cores * each}\nepochs: {epochs}\ntime: minutes\n")
        plain, tune = paired(lambda: loops(folder, cores, each, epochs), lambda: search(folder), pairs)
        training, trial = without_start(folder)
    yield Row(
        f"`tune`, {cores * each} trials of {trial:.0f} s, against a plain loop",
        f"x {tune / plain:.3f}",
        "<= 1.05 for trials of 60 s",
        f"{tune:.0f} s against {plain:.0f} s, everything included, {pairs} pairs",
    )
    yield Row(
        "the same from the first trial's start", f"x {training / plain:.3f}", "", f"start-up {tune - training:.0f} s"
    )


def loops(folder: Path, cores: int, each: int, epochs: int) -> float:
    """Seconds that one process a core takes for its `each` trials."""

    def run() -> None:
        children = [
            python("benchmarks.plain_loop", str(folder / "demo"), str(each), str(epochs), environment=CPU_ENVIRONMENT)
            for _ in range(cores)
        ]
        for child in children:
            child.communicate()
            assert child.returncode == 0

    return seconds(run)


def search(folder: Path) -> float:
    """Seconds of the same trials under `tune`."""
    name = f"equal-{len(list(folder.glob('studies/*')))}"
    command = [*SERSEARCH, "tune", "--space", "equal.yaml", "--data", "demo", "--protocol", "official", "--name", name]
    return seconds(lambda: subprocess.run(command, cwd=folder, check=True, capture_output=True))


def without_start(folder: Path) -> tuple[float, float]:
    """Seconds from the first trial's start to the last one's end in the latest search, and the mean trial's."""
    study = Study.open(max((folder / "studies").iterdir(), key=lambda p: p.stat().st_mtime))
    trials = study.trials()
    started = min(t.epochs[0]["time"] - t.epochs[0]["seconds"] for t in trials)
    return max(t.epochs[-1]["time"] for t in trials) - started, sum(t.seconds for t in trials) / len(trials)
