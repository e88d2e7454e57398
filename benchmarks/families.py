"""DeepEmoCluster and the multimodal ladder: epochs against a plain PyTorch loop, K-means against scikit-learn's."""

from __future__ import annotations

import statistics
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from benchmarks.plain import SEED, Plain
from benchmarks.random_data import random_data, random_table
from benchmarks.rows import Row, pairs_of
from sersearch.data.batches import TrainingData
from sersearch.families import get_family
from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.families.deepemocluster.kmeans import kmeans
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.family import Config, Family
from sersearch.training import Engine

PAIRS = 7
PAPER = DeepEmoClusterConfig()
SHORT = MultimodalLadderConfig(frames=50, visual_frames=24)
"""A fifth of the default's frames: of all of them a step takes 15 s on a core."""
VERY_SHORT = replace(SHORT, frames=8, visual_frames=4)
SAMPLES, UNITS = 440_000, 256
"""What DeepEmoCluster clusters at its paper's size: 11 chunks of each of 40,000 sentences, and its hidden layer."""
BLOBS = 40


def rows(quick: bool) -> Iterator[Row]:
    """On the CPU with one thread, and on a GPU where there is one."""
    torch.set_num_threads(1)
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        yield deepemocluster(quick, device)
        yield multimodal_ladder(quick, device)
        yield from clusterings(quick, device)


# --- epochs -----------------------------------------------------------------------------------------------------------


def deepemocluster(quick: bool, device: str) -> Row:
    """An epoch of both stages, K-means before them."""
    sentences = 3 if quick else 24 if device == "cpu" else 600
    data = sentences_of_mel(sentences)
    chunks = len(data.train)
    note = f"{chunks} chunks of 62 x 128, half of them labelled"
    return against_plain(get_family("deepemocluster"), PAPER, data, device, 1 if quick else PAIRS, note)


def sentences_of_mel(count: int) -> TrainingData:
    """So many labelled and unlabelled sentences of 3 to 11 s, and a quarter as many to develop."""
    frames_U = np.random.default_rng(0).integers(187, 687, 2 * count + max(count // 4, 2))
    view = get_family("deepemocluster").view(PAPER)
    return random_data(random_table(frames_U, 128, "mel", 62.5), count, count, view, "attributes")


def multimodal_ladder(quick: bool, device: str) -> Row:
    """An epoch of the labelled setting, at the default's widths."""
    config = VERY_SHORT if quick else SHORT if device == "cpu" else MultimodalLadderConfig()
    utterances = 16 if quick else 128 if device == "cpu" else 640
    data = utterances_with_faces(utterances, config)
    note = f"{utterances} utterances of {config.frames} x 130 and {config.visual_frames} x 4096, else the defaults"
    return against_plain(get_family("multimodal_ladder"), config, data, device, 1 if quick else PAIRS, note)


def utterances_with_faces(count: int, config: MultimodalLadderConfig) -> TrainingData:
    """So many labelled utterances, and a quarter as many to develop, of the frames that `config` takes."""
    every = np.ones(count + count // 4, np.int64)
    family = get_family("multimodal_ladder")
    audio = random_table(config.frames * every, 130, "lld", 100.0)
    visual = random_table(config.visual_frames * every, 4096, "visual", 30.0)
    further = {"visual": (visual, family.companion_views(config)["visual"])}
    return random_data(audio, count, 0, family.view(config), "emotion", further)


class Timed:
    """Runs `call` on 0, 1, 2, ...; keeps what it gives.

    Timed on the CPU is the time of this process, all of its threads together, which other people's load changes less
    than it does the wall's.
    """

    def __init__(self, call: Callable[[int], Any], device: str) -> None:
        self.call = call
        self.clock, self.unit = (time.process_time, "CPU seconds") if device == "cpu" else (wall, "s")
        self.results: list[Any] = []

    def __call__(self) -> float:
        """Run it once; returns its seconds."""
        started = self.clock()
        self.results.append(self.call(len(self.results)))
        return self.clock() - started


def wall() -> float:
    """Seconds on the clock, once the GPU has done its work."""
    torch.cuda.synchronize()
    return time.perf_counter()


def against_plain(family: Family, config: Config, data: TrainingData, device: str, pairs: int, note: str) -> Row:
    """The engine's epoch against the plain loop's."""
    engine, plain = Engine(family, data, device), Plain(family, config, data, device)
    lane = engine.join(config, SEED, epochs=1000)
    ours, theirs = Timed(lambda number: engine.epoch([lane]), device), Timed(plain.epoch, device)
    ours(), theirs()
    ratio, took = compared(ours, theirs, pairs)
    what = f"epoch of {family.name}, one lane against a plain PyTorch loop"
    return Row(what, f"x {ratio:.2f}", "<= 1.05", f"{took}; {note}, {device}")


def compared(ours: Timed, theirs: Timed, pairs: int) -> tuple[float, str]:
    """How many times as long ours takes, the median of pairs; and a note on both."""
    times = pairs_of(ours, theirs, pairs)
    alone, other = (statistics.median(each) for each in zip(*times, strict=True))
    ratios = sorted(first / second for first, second in times)
    note = f"{alone:.2f} against {other:.2f} {ours.unit}, single pairs x {ratios[0]:.2f} to {ratios[-1]:.2f}"
    return statistics.median(ratios), note


# --- K-means ----------------------------------------------------------------------------------------------------------


def clusterings(quick: bool, device: str) -> Iterator[Row]:
    """Of parts that are there, and of none."""
    samples, pairs = (5_000, 1) if quick else (SAMPLES, 3)
    for kind, x_SH in (("blobs", blobs(samples)), ("noise", torch.randn(samples, UNITS))):
        for clusters in (10, 30):
            yield against_scikit_learn(kind, x_SH, clusters, device, pairs)


def blobs(samples: int) -> Tensor:
    """Samples (S, H) about more centres than are asked for, as far from one another as two samples of one are."""
    centres_BH, of_S = torch.randn(BLOBS, UNITS), torch.randint(BLOBS, (samples,))
    return torch.randn(samples, UNITS).add_(centres_BH[of_S])


def against_scikit_learn(kind: str, x_SH: Tensor, clusters: int, device: str, pairs: int) -> Row:
    """As many iterations from one start each, of which neither ends before nothing changes."""
    x_KSH, iterations = x_SH.to(device)[None], PAPER.kmeans_iterations

    def own(seed: int) -> float:
        return kmeans(x_KSH, clusters, [np.random.default_rng(seed)], iterations).inertia.item()

    def scikit_learn(seed: int) -> float:
        with threadpool_limits(1), warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            return KMeans(clusters, n_init=1, max_iter=iterations, tol=0, random_state=seed).fit(x_SH.numpy()).inertia_

    ours, theirs = Timed(own, device), Timed(scikit_learn, device)
    ratio, took = compared(ours, theirs, pairs)
    inertia = statistics.mean(ours.results) / statistics.mean(theirs.results)
    return Row(
        f"K-means of {kind}, {clusters} clusters, against scikit-learn's on the CPU",
        f"x {ratio:.2f}, inertia x {inertia:.4f}",
        "< 1, inertia <= 1.01",
        f"{took}; {len(x_SH)} x {UNITS}, {device}",
    )
