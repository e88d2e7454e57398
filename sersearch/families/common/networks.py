"""Building blocks of the ladder papers' networks: encoder paths, combinator functions, decoder.

B mini-batch, D feature dimension, T frames, H units of a layer. Level 0 is the encoder's input, level l its l-th hidden
layer; the output layer is level L. Noisy values carry `noisy` in their names, reconstructions `hat`.

Section III of Parthasarathy & Busso (TASLP 2020) builds on Rasmus et al., "Semi-supervised learning with ladder
networks" (NIPS 2015), and Pezeshki et al., "Deconstructing the ladder network architecture" (ICML 2016).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sersearch.errors import ConfigError
from sersearch.families.common.losses import reconstruction_loss
from sersearch.family import Noise

EPSILON = 1e-5  # batch norm's, as in PyTorch
MOMENTUM = 0.1  # of its running moments, as in PyTorch
HIDDEN = 4  # leaky ReLUs of a unit's combinator
SLOPE = 0.1  # of a leaky ReLU below 0


def batch_norm(x_BH: Tensor) -> Tensor:
    """Each unit to mean 0 and variance 1 over the mini-batch at hand, in training and on development data alike."""
    # What F.batch_norm calls, which refuses a single member; development data may leave one for the last batch.
    return torch.batch_norm(x_BH, None, None, None, None, True, MOMENTUM, EPSILON, torch.backends.cudnn.enabled)


# --- encoder ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Target:
    """A clean level that a reconstruction is compared with: its values and the moments that normalised them."""

    z: Tensor
    mean: Tensor | None = None
    """(H,); None: the level isn't normalised by the network, as the input, which is z-normed."""
    deviation: Tensor | None = None

    def cost(self, z_hat_BH: Tensor) -> Tensor:
        """C_d(l): z_hat normalised by the clean level's moments, against z (Rasmus et al., algorithm 1)."""
        if self.mean is not None and self.deviation is not None:
            z_hat_BH = (z_hat_BH - self.mean) / self.deviation
        return reconstruction_loss(z_hat_BH, self.z)


class Normalised(nn.Module):
    """A clean level: batch norm that has running moments for evaluation, and neither scale nor shift."""

    def __init__(self, units: int) -> None:
        super().__init__()
        self.register_buffer("running_mean", torch.zeros(units))
        self.register_buffer("running_var", torch.ones(units))

    running_mean: Tensor
    running_var: Tensor

    def normalise(self, a_BH: Tensor) -> Target:
        """By the mini-batch's moments in training, by the running ones in evaluation."""
        if self.training:
            var, mean = torch.var_mean(a_BH, dim=0, correction=0)
            self._follow(mean.detach(), var.detach(), a_BH.shape[0])
        else:
            mean, var = self.running_mean, self.running_var
        deviation = torch.sqrt(var + EPSILON)
        return Target((a_BH - mean) / deviation, mean, deviation)

    def _follow(self, mean: Tensor, var: Tensor, members: int) -> None:
        self.running_mean.add_(MOMENTUM * (mean - self.running_mean))
        unbiased = var * members / max(members - 1, 1)
        self.running_var.add_(MOMENTUM * (unbiased - self.running_var))


class Layer(Normalised):
    """A hidden layer of the encoder, run clean or noisy on the same weights: h = ReLU(batch norm(W h_below) + beta).

    Batch norm takes a bias of W away; a scale gamma of its own would, before ReLU, do what the next layer's weights do.
    """

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(units)
        self.linear = nn.Linear(inputs, units, bias=False)
        self.beta = nn.Parameter(torch.zeros(units))

    def clean(self, h_BH: Tensor) -> Target:
        """Normalised pre-activations."""
        return self.normalise(self.linear(h_BH))

    def noisy(self, h_noisy_BH: Tensor, deviation: Tensor, noise: Noise) -> Tensor:
        """z_noisy: pre-activations normalised by moments of the noisy path's own, and Gaussian noise."""
        z_BH = batch_norm(self.linear(h_noisy_BH))
        return torch.addcmul(z_BH, deviation, noise.normal(*z_BH.shape))

    def activate(self, z_BH: Tensor) -> Tensor:
        """Outputs h (B, H) of the layer."""
        return torch.relu(z_BH + self.beta)


class Output(Layer):
    """A ladder's output layer for classes: logits y = gamma * (batch norm(W h) + beta) (Rasmus et al., algorithm 1)."""

    def __init__(self, inputs: int, units: int) -> None:
        super().__init__(inputs, units)
        self.gamma = nn.Parameter(torch.ones(units))

    def activate(self, z_BO: Tensor) -> Tensor:
        """Outputs y (B, O)."""
        return self.gamma * (z_BO + self.beta)


class Convolutions(nn.Module):
    """The CNN of section III-D (figure 3) below its fully connected layers: four 1-D convolutions over time, each with
    ReLU and max-pooling; flattened.
    """

    blocks = 4

    def __init__(self, dims: int, channels: int, kernel: int, pool: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for block in range(self.blocks):
            # ReLU commutes with max-pooling, and after it has `pool` times less to do.
            conv = nn.Conv1d(channels if block else dims, channels, kernel, padding=kernel // 2)
            layers += [conv, nn.MaxPool1d(pool), nn.ReLU()]
        self.layers = nn.Sequential(*layers, nn.Flatten())

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Flattened outputs of the last block (B, H)."""
        h: Tensor = self.layers(x_BDT)
        return h


def front(
    dims: int, frames: int, encoder: Literal["dense", "cnn"], channels: int, kernel: int, pool: int
) -> tuple[nn.Module, int]:
    """What stands below the fully connected layers, and the size of its output: convolutions, or nothing.

    Raises :class:`ConfigError` for segments too short to be pooled four times, and for an even kernel.
    """
    if encoder == "dense":
        return nn.Flatten(), dims * frames
    if kernel % 2 == 0:
        raise ConfigError(f"params.kernel: {kernel} has no middle, so the length would change; expected an odd number")
    size = frames
    for _ in range(Convolutions.blocks):
        size //= pool
    if size == 0:
        shortest = pool**Convolutions.blocks
        raise ConfigError(
            f"params.frames: {frames} frames can't be pooled by {pool} four times; expected at least {shortest}, or a "
            "smaller params.pool"
        )
    return Convolutions(dims, channels, kernel, pool), size * channels


def climb(layers: nn.ModuleList, h_BH: Tensor) -> tuple[Tensor, list[Target]]:
    """Outputs (B, H) of the last of an encoder's `layers`, clean, and all levels, the input `h_BH` being level 0."""
    h, levels = h_BH, [Target(h_BH)]
    for layer in layers:
        assert isinstance(layer, Layer)
        levels.append(layer.clean(h))
        h = layer.activate(levels[-1].z)
    return h, levels


def climb_noisy(layers: nn.ModuleList, h_BH: Tensor, deviation: Tensor, noise: Noise) -> tuple[Tensor, list[Tensor]]:
    """The same with Gaussian noise of `deviation` on every normalised pre-activation; the levels above `h_BH` alone."""
    h, levels = h_BH, []
    for layer in layers:
        assert isinstance(layer, Layer)
        levels.append(layer.noisy(h, deviation, noise))
        h = layer.activate(levels[-1])
    return h, levels


class Encoder(nn.Module):
    """Hidden layers above a front (figures 1 and 3), run clean and noisy on the same weights."""

    def __init__(self, below: nn.Module, sizes: Sequence[int]) -> None:
        super().__init__()
        self.below = below
        self.layers = nn.ModuleList(Layer(a, b) for a, b in pairwise(sizes))

    def clean(self, x_BDT: Tensor) -> tuple[Tensor, list[Target]]:
        """Outputs h (B, H) of the last layer, and all levels from 0 on.

        The gradient flows through the targets too, as in Rasmus et al.; the ladder paper says nothing else.
        """
        return climb(self.layers, self.below(x_BDT))

    def noisy(self, x_BDT: Tensor, deviation: Tensor, dropout: Tensor, noise: Noise) -> tuple[Tensor, list[Tensor]]:
        """The same with Gaussian noise of `deviation` on the input and on every normalised pre-activation.

        Dropout is "between the input layer and the first hidden layer" (section IV-D): level 0 itself is without it.
        """
        z = self.below(torch.addcmul(x_BDT, deviation, noise.normal(*x_BDT.shape)))
        h, levels = climb_noisy(self.layers, noise.dropout(z, dropout), deviation, noise)
        return h, [z, *levels]


# --- decoder ----------------------------------------------------------------------------------------------------------


class MLPCombinator(nn.Module):
    """g of Pezeshki et al. (2016): z_hat = MLP([u, z_noisy, u * z_noisy]), an MLP of its own for each unit.

    One hidden layer of four leaky ReLUs; weights are drawn as PyTorch draws a linear layer's.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        first, second = 3**-0.5, HIDDEN**-0.5
        self.weight = nn.Parameter(torch.empty(HIDDEN, 3, units).uniform_(-first, first))
        self.bias = nn.Parameter(torch.empty(HIDDEN, units).uniform_(-first, first))
        self.output_weight = nn.Parameter(torch.empty(HIDDEN, units).uniform_(-second, second))
        self.output_bias = nn.Parameter(torch.empty(units).uniform_(-second, second))

    def forward(self, u_BH: Tensor, z_noisy_BH: Tensor, factor_BH: Tensor | None = None) -> Tensor:
        """Reconstruction z_hat (B, H); the third input is u * `factor` where that is given, in place of u * z_noisy."""
        of_u, of_z, of_uz = self.weight.unsqueeze(2).unbind(1)  # (hidden, 1, H) each
        bias, output = self.bias.unsqueeze(1), self.output_weight.unsqueeze(1)
        a = torch.addcmul(bias, of_u, u_BH)
        if factor_BH is None:  # of_u * u + of_z * z + of_uz * u * z + bias, in three passes
            a = torch.addcmul(a, torch.addcmul(of_z, of_uz, u_BH), z_noisy_BH)
        else:
            a = torch.addcmul(torch.addcmul(a, of_z, z_noisy_BH), of_uz, u_BH * factor_BH)
        z_hat: Tensor = (F.leaky_relu(a, SLOPE, inplace=True) * output).sum(0) + self.output_bias
        return z_hat


class GaussianCombinator(nn.Module):
    """g of Rasmus et al. (2015): z_hat = (z_noisy - mu(u)) * v(u) + mu(u), with ten parameters a unit.

    mu(u) = a1 * sigmoid(a2 * u + a3) + a4 * u + a5, v(u) the same with a6 to a10. First values are theirs: all 0 but
    a2 = a7 = 1.
    """

    def __init__(self, units: int) -> None:
        super().__init__()
        a = torch.zeros(10, units)
        a[1], a[6] = 1, 1
        self.a = nn.Parameter(a)

    def forward(self, u_BH: Tensor, z_noisy_BH: Tensor) -> Tensor:
        """Reconstruction z_hat (B, H)."""
        a1, a2, a3, a4, a5, a6, a7, a8, a9, a10 = self.a
        mu_BH = a1 * torch.sigmoid(torch.addcmul(a3, a2, u_BH)) + torch.addcmul(a5, a4, u_BH)
        v_BH = a6 * torch.sigmoid(torch.addcmul(a8, a7, u_BH)) + torch.addcmul(a10, a9, u_BH)
        return torch.addcmul(mu_BH, z_noisy_BH - mu_BH, v_BH)


COMBINATORS = {"mlp": MLPCombinator, "gaussian": GaussianCombinator}


class Decoder(nn.Module):
    """From the encoder's top, where it is given one, down to the lowest level that has a reconstruction cost."""

    def __init__(self, sizes: Sequence[int], combinator: Literal["mlp", "gaussian"]) -> None:
        super().__init__()
        # batch norm takes a bias of V away
        self.projections = nn.ModuleList(nn.Linear(above, below, bias=False) for below, above in pairwise(sizes))
        self.combinators = nn.ModuleList(COMBINATORS[combinator](units) for units in sizes)

    def forward(
        self, top_BH: Tensor, levels_noisy: Sequence[Tensor], factors: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Reconstructions z_hat of the levels, lowest first; `top_BH` is the noisy output of the highest.

        u = batch norm(top) for the highest, batch norm(V z_hat) of the level above for the others. Where `factors` are
        given, `mlp` multiplies u by them, in place of the noisy levels.
        """
        u = batch_norm(top_BH)
        z_hats: list[Tensor] = []
        for level in reversed(range(len(self.combinators))):
            factor = () if factors is None else (factors[level],)
            z_hats.insert(0, self.combinators[level](u, levels_noisy[level], *factor))
            if level:
                u = batch_norm(self.projections[level - 1](z_hats[0]))
        return z_hats


def costs(z_hats: Sequence[Tensor], targets: Sequence[Target]) -> list[Tensor]:
    """C_d(l) of each level."""
    return [target.cost(z_hat) for z_hat, target in zip(z_hats, targets, strict=True)]


__all__ = [
    "Convolutions", "Decoder", "Encoder", "GaussianCombinator", "Layer", "MLPCombinator", "Normalised", "Target",
    "batch_norm", "climb", "climb_noisy", "costs", "front",
]  # fmt: skip
