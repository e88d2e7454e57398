"""The AAE in a plain PyTorch loop, without sersearch's engine: what `tune` is measured against.

    python -m benchmarks.plain_loop DATA TRIALS EPOCHS

Same networks, losses, mini-batches and development evaluation; torch.optim.SGD; one thread.
"""

from __future__ import annotations

import sys
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import Segments, TrainingData, training_data
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.families.aae import losses
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import AAE, FAMILY, TASKS
from sersearch.families.common.losses import cross_entropy
from sersearch.family import ModelSpec
from sersearch.tuning.space import load_space

CPU = torch.device("cpu")


class Dropout:
    """`torch.nn.functional.dropout` under the name that the classifiers call."""

    def dropout(self, x: Tensor, rate: Tensor) -> Tensor:
        """Inverted dropout."""
        return torch.nn.functional.dropout(x, float(rate))


def step(model: AAE, batch: dict[str, Tensor], hp: SimpleNamespace, optimizers: dict[str, Any]) -> None:
    """The three phases of a mini-batch."""
    x = batch["x"]
    reconstruction = losses.reconstruction_loss(x, model.decoder(model.encoder(x)))
    update(optimizers["reconstruction"], losses.autoencoder_loss(hp.alpha, reconstruction))
    with torch.no_grad():
        z = model.encoder(x)
    real, fake = model.discriminator(torch.randn_like(z)), model.discriminator(z)
    update(optimizers["discrimination"], losses.discriminator_loss(real, fake))
    update(optimizers["generation"], losses.generator_loss(model.discriminator(model.encoder(x)), saturating=True))
    z = model.encoder(x)
    each = (cross_entropy(model.head(t).classify(z, hp.dropout, Dropout()), batch[t]) for t in TASKS)
    update(optimizers["classification"], losses.classification_loss(hp.beta, *each))


def update(optimizer: Any, loss: Tensor) -> None:
    """One step of one optimiser."""
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()


@torch.no_grad()
def evaluate(model: AAE, dev: Segments, hp: SimpleNamespace) -> None:
    """Every development loss and the posteriors, as the engine computes them."""
    for first in range(0, len(dev), 64):
        batch = dev.batch(np.arange(first, min(first + 64, len(dev))), CPU, torch.float32)
        x = batch["x"]
        losses.reconstruction_loss(x, model.decoder(model.encoder(x)))
        z = model.encoder(x)
        losses.discriminator_loss(model.discriminator(torch.randn_like(z)), model.discriminator(z))
        losses.generator_loss(model.discriminator(model.encoder(x)), saturating=True)
        z = model.encoder(x)
        [cross_entropy(model.head(t)(z), batch[t]) for t in TASKS]
        model.head("emotion")(model.encoder(x)).softmax(dim=1)


def trial(data: TrainingData, config: AAEConfig, epochs: int) -> None:
    """One configuration, trained for `epochs` epochs."""
    torch.manual_seed(0)
    model = AAE(config, ModelSpec(dims=data.dims, frames=data.train.view.frames, labels=data.labels))
    hp = SimpleNamespace(**{n: torch.tensor(v) for n, v in config.lanes().items()})
    groups = {
        "reconstruction": [model.encoder, model.decoder],
        "discrimination": [model.discriminator],
        "generation": [model.encoder],
        "classification": [model.encoder, *(model.head(t) for t in TASKS)],
    }
    optimizers = {
        name: torch.optim.SGD(
            [p for m in parts for p in m.parameters()], config.learning_rate, config.momentum, fused=True
        )
        for name, parts in groups.items()
    }
    for epoch in range(epochs):
        model.train()
        for indices in FAMILY.plan(config, data, np.random.default_rng(epoch)):
            step(model, data.train.batch(indices, CPU, torch.float32), hp, optimizers)
        model.eval()
        evaluate(model, data.dev, hp)


def main(folder: str, trials: int, epochs: int) -> None:
    """Train `trials` equal configurations one after the other; prints the seconds of each."""
    torch.set_num_threads(1)
    config = load_space("aae_alpha_beta").for_demo().config({"alpha": 0.4, "beta": 0.6})
    assert isinstance(config, AAEConfig)
    table = FeatureTable.open(folder, "spectrogram")
    data = training_data(table, Protocol("official").split(table), FAMILY.view(config))
    for _ in range(trials):
        started = time.perf_counter()
        trial(data, config, epochs)
        print(time.perf_counter() - started, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
