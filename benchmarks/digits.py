"""The ladder on data that its readers know: handwritten digits, 100 of them labelled, as Rasmus et al. (2015) test it.

    python -m benchmarks digits

The same network is trained with the unlabelled digits (setting UL) and without them (setting L), with the same seeds
for weights, mini-batches and which digits are labelled, and tested on digits that neither has seen.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.stats import ttest_rel

from benchmarks.rows import Row
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol, Split
from sersearch.data.table import FeatureTable
from sersearch.families import get_family
from sersearch.families.ladder.config import LadderConfig
from sersearch.training import fit

LABELLED, TESTED = 100, 500
CONFIG = LadderConfig(learning_rate=5e-3, noise_variance=0.1, batch_size=100, hidden=(128, 64), epoch_over="unlabelled")
"""Beside the ladder paper's network this one is small, its rate high and its noise low: 64 pixels, a hundred labels."""
EPOCHS = 20
SEEDS = range(100, 110)
"""Not those by which the above was chosen."""


def rows(quick: bool) -> Iterator[Row]:
    """Test accuracies with and without unlabelled digits, and the paired test over seeds."""
    torch.set_num_threads(1)
    seeds = SEEDS[:2] if quick else SEEDS
    with_pool, without = accuracies(CONFIG, seeds), accuracies(replace(CONFIG, setting="L"), seeds)
    gain = np.subtract(with_pool, without)
    p = ttest_rel(with_pool, without, alternative="greater").pvalue
    yield Row(
        f"digits, {LABELLED} labels: ladder with the unlabelled rest against the same network without",
        f"{np.mean(with_pool):.3f} against {np.mean(without):.3f}",
        "clearly more",
        f"test accuracy, means of {len(seeds)} seeds; gain {gain.mean():.3f} ± {gain.std(ddof=1):.3f}, better in "
        f"{int((gain > 0).sum())}; one-tailed paired t-test p = {p:.1e}",
    )


def accuracies(config: LadderConfig, seeds: Sequence[int]) -> list[float]:
    """Accuracy on the tested digits after the last epoch, by seed: nothing is selected."""
    return [accuracy(config, seed) for seed in seeds]


def accuracy(config: LadderConfig, seed: int) -> float:
    """Train on the digits labelled under `seed`; setting L makes as many steps as UL, which makes two a mini-batch."""
    data = digits(seed)
    passes = 1 if config.setting == "UL" else 2 * ((len(data.train) - LABELLED) // config.batch_size)
    for result, _ in fit(get_family("ladder"), config, data, seed, epochs=EPOCHS * passes):
        last = result.metrics["dev_wa"]
    return last


def digits(seed: int) -> TrainingData:
    """Scikit-learn's 1797 digits: ten of each labelled, 500 in the development part, which here tests."""
    from sklearn.datasets import load_digits

    pixels, classes = load_digits(return_X_y=True)
    order = np.random.default_rng(seed).permutation(len(pixels))
    tested, rest = order[:TESTED], order[TESTED:]
    labelled = np.concatenate([rest[classes[rest] == c][: LABELLED // 10] for c in range(10)])
    split = Split(Protocol("speaker"), np.sort(labelled), np.setdiff1d(rest, labelled), np.sort(tested))
    return training_data(table(pixels, classes), split, SegmentView(1, 1))


def table(pixels: np.ndarray, classes: np.ndarray) -> FeatureTable:
    """The pixels (N, 64) as a feature table of vectors, every digit an utterance."""
    names = [f"digit{number:04d}" for number in range(len(pixels))]
    columns: dict[str, Any] = dict.fromkeys(("start", "end", "gender", "condition", "sentence"))
    columns |= {"id": names, "path": names, "audio_sha256": names, "emotion": [str(c) for c in classes]}
    columns |= {"speaker": "nobody", "corpus": "digits", "split": None, "duration": 1.0}
    return FeatureTable(
        root=Path("digits"),
        card={"features": "functionals", "dims": pixels.shape[1], "frame_rate": None, "hash": "0"},
        corpus={"corpus": "digits", "synthetic": False, "attribute_scale": None},
        utterances=pd.DataFrame(columns),
        frames=pixels.astype(np.float32),
        offsets=np.arange(len(pixels) + 1),
    )
