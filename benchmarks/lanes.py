"""How far trials that are lanes of one model are from the same trials alone: float32's rounding, amplified."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.rows import SERSEARCH, Row, workplace
from sersearch.study import Study

LANES, EPOCHS = 33, 5


def rows(quick: bool) -> Iterator[Row]:
    """The largest difference of a development CCC, over all epochs that both have."""
    with workplace() as folder:
        alone, fused = (searched(folder, lanes, 2 if quick else EPOCHS) for lanes in (1, LANES))
    shared = alone.keys() & fused.keys()
    trials = {trial for trial, _, _ in shared}
    yield Row(
        f"{len(trials)} trials of {EPOCHS} epochs, ladder, demo: `--lanes {LANES}` against one by one",
        f"{max(abs(alone[key] - fused[key]) for key in shared):.3f}",
        "",
        f"largest difference of a development CCC, of {len(shared)}",
    )


def searched(folder: Path, lanes: int, epochs: int) -> dict[tuple[int, int, str], float]:
    """CCCs of the ladder paper's grid on the demo corpus, by trial, epoch and metric."""
    options = [
        "--space",
        "ladder_alpha_beta",
        "--epochs",
        str(epochs),
        "--lanes",
        str(lanes),
        "--name",
        f"lanes-{lanes}",
    ]
    subprocess.run([*SERSEARCH, "tune", *options], cwd=folder, check=True, capture_output=True)
    trials = Study.open(f"lanes-{lanes}", folder / "studies").trials()
    return {
        (trial.number, event["epoch"], name): value
        for trial in trials
        for event in trial.epochs
        for name, value in event["metrics"].items()
        if name.startswith("dev_ccc") and value is not None
    }
