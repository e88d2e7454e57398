"""Networks of the MTL-AAE paper, section 4.3: encoder, decoder, discriminator and classifiers.

B mini-batch, D bands, T frames, z_BCHW latent code (16 x 16 x 32 for segments of 128 x 256), C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sersearch.errors import ConfigError
from sersearch.family import Noise

Pool = tuple[int, int]

# Pools take 128 x 256 (bands x frames) to the 16 x 16 of section 4.3, in three steps or, in the CNN baseline, in two.
AUTOENCODER_POOLS: tuple[Pool, ...] = ((2, 2), (2, 2), (2, 4))
CNN_POOLS: tuple[Pool, ...] = ((4, 4), (2, 4))
REDUCTION = (8, 16)


def conv_block(inputs: int, outputs: int, pool: Pool) -> nn.Sequential:
    """Convolution, batch norm before the non-linearity (4.3), max-pooling, ReLU.

    ReLU commutes with max-pooling, and after it has 4 or 8 times less to do. Batch norm takes any bias away again; left
    in, its gradient is rounding alone, which Adam would turn into steps.
    """
    conv = nn.Conv2d(inputs, outputs, kernel_size=3, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(outputs), nn.MaxPool2d(pool), nn.ReLU())


class Encoder(nn.Module):
    """E_theta: segments (B, D, T) to latent codes z (B, channels[-1], D / 8, T / 16)."""

    def __init__(self, channels: Sequence[int], pools: Sequence[Pool]) -> None:
        super().__init__()
        sizes = (1, *channels)
        self.blocks = nn.Sequential(
            *(conv_block(a, b, pool) for a, b, pool in zip(sizes[:-1], sizes[1:], pools, strict=True))
        )

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Latent codes."""
        # The one channel's stride comes last: so all that follows runs channels-last, 1.6 times as fast on a CPU.
        z: Tensor = self.blocks(x_BDT.unsqueeze(3).permute(0, 3, 1, 2))
        return z


class Decoder(nn.Module):
    """D_delta: the encoder mirrored, each convolution and pooling replaced by a transposed convolution."""

    def __init__(self, channels: Sequence[int], pools: Sequence[Pool]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        sizes = (1, *channels)
        for level in (2, 1, 0):
            pool, last = pools[level], level == 0
            # kernel = stride + 2 with padding 1 multiplies bands and frames by exactly the stride
            kernel = (pool[0] + 2, pool[1] + 2)
            layers.append(nn.ConvTranspose2d(sizes[level + 1], sizes[level], kernel, pool, padding=1, bias=last))
            if not last:  # the last layer's outputs are z-normed decibels: any real number
                layers += [nn.BatchNorm2d(sizes[level]), nn.ReLU()]
        self.layers = nn.Sequential(*layers)

    def forward(self, z_BCHW: Tensor) -> Tensor:
        """Reconstructed segments (B, D, T)."""
        x_hat: Tensor = self.layers(z_BCHW)
        return x_hat.squeeze(1)


class Head(nn.Module):
    """A classifier C_phi, or the discriminator D_omega: convolution, max-pooling, two dense layers.

    The softmax is the losses' part: outputs are logits.
    """

    def __init__(self, channels: int, size: tuple[int, int], hidden: int, classes: int) -> None:
        super().__init__()
        self.conv = conv_block(channels, channels, (2, 2))
        self.hidden = nn.Linear(channels * (size[0] // 2) * (size[1] // 2), hidden)
        self.output = nn.Linear(hidden, classes)

    def embed(self, z_BCHW: Tensor) -> Tensor:
        """Outputs (B, hidden) of the last hidden layer: the speaker classifier's are the d-vector of section 5."""
        return torch.relu(self.hidden(self.conv(z_BCHW).flatten(1)))

    def forward(self, z_BCHW: Tensor) -> Tensor:
        """Logits (B, classes)."""
        logits: Tensor = self.output(self.embed(z_BCHW))
        return logits

    def classify(self, z_BCHW: Tensor, dropout: Tensor, noise: Noise) -> Tensor:
        """Logits (B, classes) of a classifier in training, with dropout between its two dense layers (4.3)."""
        logits: Tensor = self.output(noise.dropout(self.embed(z_BCHW), dropout))
        return logits


def latent_size(dims: int, frames: int) -> tuple[int, int]:
    """Height and width of the latent code. Raises :class:`ConfigError` for segments that the pools don't divide."""
    if dims % (2 * REDUCTION[0]) or frames % (2 * REDUCTION[1]):
        raise ConfigError(
            f"family aae: segments of {dims} bands x {frames} frames can't be pooled to a latent code; expected bands "
            f"a multiple of {2 * REDUCTION[0]} and segment_frames a multiple of {2 * REDUCTION[1]}"
        )
    return dims // REDUCTION[0], frames // REDUCTION[1]
