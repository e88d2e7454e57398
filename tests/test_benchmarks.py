"""The plain loop that engines are timed against must do the engine's work."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch

from benchmarks import families
from benchmarks.plain import SEED, Plain
from benchmarks.random_data import random_data, random_table
from sersearch.data.batches import SegmentView, TrainingData
from sersearch.families import get_family
from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.family import Config
from sersearch.training import Engine

LADDER = LadderConfig(hidden=(8, 8), batch_size=16, noise_variance=0, input_dropout=0)
MULTIMODAL = MultimodalLadderConfig(
    layers=1, heads=2, width=4, channels=3, kernel=3, hidden=(5, 4), batch_size=16, frames=8, visual_frames=4,
    noise_variance=0, dropout=0,
)  # fmt: skip
CLUSTERS = DeepEmoClusterConfig(
    channels=(2, 2, 2, 2, 2, 2, 2), units=8, chunks=2, chunk_frames=8, batch_size=16, clusters=3, dropout=0
)


def vectors() -> TrainingData:
    table = random_table(np.ones(80, np.int64), 6, "functionals")
    return random_data(table, 32, 32, SegmentView(1, 1), "attributes")


def sentences(config: DeepEmoClusterConfig) -> TrainingData:
    table = random_table(np.full(50, 20), 16, "mel", 62.5)
    return random_data(table, 20, 20, get_family("deepemocluster").view(config), "attributes")


AUTOENCODER = replace(CLUSTERS, model="cnn_ae")
CASES: dict[str, tuple[Config, Callable[[], TrainingData]]] = {
    "ladder": (LADDER, vectors),
    "multimodal_ladder": (MULTIMODAL, partial(families.utterances_with_faces, 32, MULTIMODAL)),
    "deepemocluster": (AUTOENCODER, partial(sentences, AUTOENCODER)),
}


@pytest.mark.parametrize("name", CASES)
def test_without_noise_the_plain_loop_s_epochs_are_the_engine_s(name: str) -> None:
    config, made = CASES[name]
    data = made()
    family = get_family(name)
    engine, plain = Engine(family, data), Plain(family, config, data, "cpu")
    lane = engine.join(config, SEED, epochs=3)
    for number in range(3):
        (ours,) = engine.epoch([lane])
        _, metrics = plain.epoch(number)
        for metric, value in metrics.items():
            assert value.item() == pytest.approx(ours.metrics[f"dev_{metric}"], abs=1e-4), metric
    weights = engine.state(lane).weights
    for weight, tensor in plain.model.state_dict().items():
        torch.testing.assert_close(tensor, weights[weight], rtol=1e-3, atol=1e-4, msg=weight)


def test_the_plain_loop_clusters_too() -> None:
    data = sentences(CLUSTERS)
    sums, metrics = Plain(get_family("deepemocluster"), CLUSTERS, data, "cpu").epoch(0)
    assert sums.keys() == {"unlabelled", "labelled", "prediction", "cluster", "dev_prediction"}
    assert all(torch.isfinite(value).all() for value in (*sums.values(), *metrics.values()))
