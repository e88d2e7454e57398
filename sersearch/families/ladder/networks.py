"""Networks of the ladder paper (Parthasarathy & Busso, TASLP 2020): the ladder (figure 1) and its dense baselines.

B mini-batch, D feature dimension, T frames, H units of the last hidden layer, O outputs (attributes or classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace

import torch
from torch import Tensor, nn

from sersearch.families.common.networks import Decoder, Encoder, Layer, Output, Target, costs, front
from sersearch.families.ladder.config import LadderConfig
from sersearch.family import ModelSpec, Noise


class Ladder(nn.Module):
    """Encoder, decoder and predictor; the last hidden layer feeds both of the latter (settled here)."""

    def __init__(self, config: LadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        below, inputs = _front(config, spec)
        sizes = (inputs, *config.hidden)
        # Section V-C: "the reconstruction costs are implemented only on the two fully connected layers" of the CNN.
        self.lowest = 0 if config.encoder == "dense" else 1
        self.task = spec.labels.task
        self.encoder = Encoder(below, sizes)
        self.decoder = Decoder(sizes[self.lowest :], config.combinator)
        self.predictor: nn.Module = nn.Linear(sizes[-1], spec.labels.outputs)

    def hidden(self, x_BDT: Tensor) -> Tensor:
        """Outputs h (B, H) of the clean path's last hidden layer."""
        h_BH: Tensor = self.encoder.clean(x_BDT)[0]
        return h_BH

    def outputs(self, x_BDT: Tensor) -> Tensor:
        """Outputs y (B, O) of the clean path."""
        y_BO: Tensor = self.predictor(self.hidden(x_BDT))
        return y_BO

    def denoise(self, x_BDT: Tensor, hp: SimpleNamespace, noise: Noise) -> tuple[Tensor, list[Tensor]]:
        """Outputs y_noisy (B, O) of the noisy path, and C_d(l) of each level that has one."""
        targets: list[Target] = self.encoder.clean(x_BDT)[1]
        h_noisy, levels = self.encoder.noisy(x_BDT, hp.noise_variance.sqrt(), hp.input_dropout, noise)
        z_hats = self.decoder(h_noisy, levels[self.lowest :])
        return self.predictor(h_noisy), costs(z_hats, targets[self.lowest :])


class ClassLadder(Ladder):
    """For classes, which the paper doesn't predict: the output layer is the ladder's top, as in Rasmus et al. (2015).

    It is batch-normalised, noisy and reconstructed too, and the decoder starts from its softmax. Denoising posteriors
    draws utterances to a class; of attributes it would make two heaps of a scale.
    """

    def __init__(self, config: LadderConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        lowest, outputs = self.encoder.layers[0], spec.labels.outputs
        assert isinstance(lowest, Layer)
        self.predictor: Output = Output(config.hidden[-1], outputs)
        sizes = (lowest.linear.in_features, *config.hidden, outputs)
        self.decoder = Decoder(sizes[self.lowest :], config.combinator)

    def outputs(self, x_BDT: Tensor) -> Tensor:
        """Logits y (B, C) of the clean path."""
        return self.predictor.activate(self.predictor.clean(self.hidden(x_BDT)).z)

    def denoise(self, x_BDT: Tensor, hp: SimpleNamespace, noise: Noise) -> tuple[Tensor, list[Tensor]]:
        """Logits y_noisy (B, C) of the noisy path, and C_d(l) of each level that has one, the output's last."""
        deviation = hp.noise_variance.sqrt()
        h, targets = self.encoder.clean(x_BDT)
        targets = [*targets, self.predictor.clean(h)]
        h_noisy, levels = self.encoder.noisy(x_BDT, deviation, hp.input_dropout, noise)
        levels = [*levels, self.predictor.noisy(h_noisy, deviation, noise)]
        y_noisy = self.predictor.activate(levels[-1])
        z_hats = self.decoder(y_noisy.softmax(dim=1), levels[self.lowest :])
        return y_noisy, costs(z_hats, targets[self.lowest :])


class DenseEncoder(nn.Module):
    """Hidden layers with ReLU above a front, without batch norm; dropout before the first and the second (IV-D)."""

    def __init__(self, below: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.below = below
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Outputs h (B, H) of the last hidden layer."""
        h: Tensor = self.below(x_BDT)
        for layer in self.layers:
            h = torch.relu(layer(h))
        return h

    def regularised(self, x_BDT: Tensor, dropout: Tensor, noise: Noise) -> Tensor:
        """The same in training, with dropout."""
        h: Tensor = self.below(x_BDT)
        for number, layer in enumerate(self.layers):
            h = torch.relu(layer(noise.dropout(h, dropout) if number < 2 else h))
        return h


class Dense(nn.Module):
    """The STL and MTL baselines (section IV-C): no noise, no decoder."""

    def __init__(self, config: LadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        below, inputs = _front(config, spec)
        self.task = spec.labels.task
        self.encoder = DenseEncoder(below, (inputs, *config.hidden))
        self.predictor = nn.Linear(config.hidden[-1], spec.labels.outputs)

    def hidden(self, x_BDT: Tensor) -> Tensor:
        """Outputs h (B, H) of the last hidden layer."""
        h_BH: Tensor = self.encoder(x_BDT)
        return h_BH

    def outputs(self, x_BDT: Tensor) -> Tensor:
        """Outputs y (B, O)."""
        y_BO: Tensor = self.predictor(self.hidden(x_BDT))
        return y_BO


def _front(config: LadderConfig, spec: ModelSpec) -> tuple[nn.Module, int]:
    return front(spec.dims, spec.frames, config.encoder, config.channels, config.kernel, config.pool)
