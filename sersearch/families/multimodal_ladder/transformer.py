"""Transformers of the multimodal ladder paper, section 3.1: self-attention and cross-modal layers.

B mini-batch, T frames, S frames of the other modality, W width.

Layers normalise before attention and feed-forward, positions are sinusoids, and cross-modal layers look at the other
modality's embedded input, as in Tsai et al., "Multimodal transformer for unaligned multimodal language sequences" (ACL
2019), on which the paper's backbone builds.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from sersearch.families.multimodal_ladder.losses import attention

LONGEST = 10_000  # of the sinusoids' wavelengths, in frames / (2 pi)
EXPANSION = 4  # of the feed-forward part

Drop = Callable[[Tensor], Tensor]
"""What is done to attention's outputs: dropout, or nothing."""


def keep(x: Tensor) -> Tensor:
    """No dropout."""
    return x


def positions(frames: int, width: int, like: Tensor) -> Tensor:
    """Sines and cosines (T, W) of the frames' numbers, with the device and dtype of `like`."""
    half = (width + 1) // 2
    exponent = torch.arange(half, device=like.device, dtype=like.dtype) / max(half - 1, 1)
    number = torch.arange(frames, device=like.device, dtype=like.dtype)
    angle = number[:, None] * torch.exp(-math.log(LONGEST) * exponent)
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width]


class Attention(nn.Module):
    """Multi-head attention. Keys have no bias: softmax takes it away, and its gradient would be rounding alone."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.query, self.key, self.value, self.output = (
            nn.Linear(width, width, bias=b) for b in (True, False, True, True)
        )

    def forward(self, x_BTW: Tensor, source_BSW: Tensor, divisor: float) -> Tensor:
        """Outputs (B, T, W) for queries of `x` and keys and values of `source`."""
        q, k, v = (self._split(h) for h in (self.query(x_BTW), self.key(source_BSW), self.value(source_BSW)))
        merged: Tensor = self.output(attention(q, k, v, divisor).transpose(1, 2).flatten(2))
        return merged

    def _split(self, h_BTW: Tensor) -> Tensor:
        members, frames, _ = h_BTW.shape
        return h_BTW.reshape(members, frames, self.heads, -1).transpose(1, 2)


class Layer(nn.Module):
    """Attention and a feed-forward part with ReLU, each of what is normalised, each added to what came in."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.attention = Attention(width, heads)
        self.forward_part = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, EXPANSION * width), nn.ReLU(), nn.Linear(EXPANSION * width, width)
        )
        self.norm = nn.LayerNorm(width)
        self.head_width = width // heads

    def forward(self, x_BTW: Tensor, drop: Drop, source_BSW: Tensor | None = None) -> Tensor:
        """Self-attention, divided by the root of a head's width; or, with a `source`, Eq. 1."""
        own = self.norm(x_BTW)
        if source_BSW is None:
            attended = self.attention(own, own, self.head_width)
        else:
            attended = self.attention(own, self.norm(source_BSW), source_BSW.shape[-2])
        x_BTW = x_BTW + drop(attended)
        out: Tensor = x_BTW + self.forward_part(x_BTW)
        return out


class Transformer(nn.Module):
    """`layers` layers, of which the first `cross` are cross-modal, and a last normalisation."""

    def __init__(self, width: int, heads: int, layers: int, cross: int = 0) -> None:
        super().__init__()
        self.cross = cross
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def forward(self, x_BTW: Tensor, drop: Drop, source_BSW: Tensor | None = None) -> Tensor:
        """Representation (B, T, W) of `x`, into which the first layers bring what they find in `source`."""
        h = _embed(x_BTW)
        source = None if source_BSW is None else _embed(source_BSW)
        for number, layer in enumerate(self.layers):
            h = layer(h, drop, source if number < self.cross else None)
        out: Tensor = self.norm(h)
        return out


def _embed(x_BTW: Tensor) -> Tensor:
    frames, width = x_BTW.shape[-2:]
    return x_BTW * math.sqrt(width) + positions(frames, width, x_BTW)


__all__ = ["Attention", "Drop", "Layer", "Transformer", "keep", "positions"]
