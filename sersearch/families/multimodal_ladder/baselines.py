"""Baselines 2 and 3 of the multimodal ladder paper (section 5): one output, no auxiliary loss, no noise.

B mini-batch, T frames, W width of the transformers, O outputs.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.families.multimodal_ladder.networks import Projections
from sersearch.families.multimodal_ladder.transformer import Drop, Transformer, keep
from sersearch.family import Batch, ModelSpec


class Baseline(nn.Module):
    """What both have: projections below, a linear output on top."""

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        self.task = spec.labels.task
        self.projections = Projections(config, spec)

    def supervise(self, batch: Batch, drop: Drop) -> Tensor:
        """Outputs (B, O) in training."""
        raise NotImplementedError

    def outputs(self, batch: Batch) -> Tensor:
        """Outputs (B, O)."""
        return self.supervise(batch, keep)


class MulT(Baseline):
    """Tsai et al. (ACL 2019) of two modalities: cross-modal transformers, then self-attention, of which the last frames
    go through a residual block of two linear layers.
    """

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        size = (config.width, config.heads, config.layers)
        self.a_to_v, self.v_to_a = (Transformer(*size, cross=config.layers) for _ in range(2))
        self.visual, self.audio = Transformer(*size), Transformer(*size)
        both = 2 * config.width
        self.block = nn.Sequential(nn.Linear(both, both), nn.ReLU(), nn.Linear(both, both))
        self.head = nn.Linear(both, spec.labels.outputs)

    def supervise(self, batch: Batch, drop: Drop) -> Tensor:
        """Outputs (B, O) in training."""
        a, v = self.projections(batch["x"], batch["visual"])
        visual = self.visual(self.a_to_v(v, drop, a), drop)
        audio = self.audio(self.v_to_a(a, drop, v), drop)
        h = torch.cat([visual[:, -1], audio[:, -1]], dim=1)
        y_BO: Tensor = self.head(h + self.block(h))
        return y_BO


class JointTransformer(Baseline):
    """Parthasarathy & Sundaram (ICMI 2020): self-attention over each modality, then over the frames of both, one after
    the other; their mean is what is classified.
    """

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        size = (config.width, config.heads)
        self.audio, self.visual = Transformer(*size, config.layers), Transformer(*size, config.layers)
        self.joint = Transformer(*size, 1)
        self.head = nn.Linear(config.width, spec.labels.outputs)

    def supervise(self, batch: Batch, drop: Drop) -> Tensor:
        """Outputs (B, O) in training."""
        a, v = self.projections(batch["x"], batch["visual"])
        frames = torch.cat([self.audio(a, drop), self.visual(v, drop)], dim=1)
        y_BO: Tensor = self.head(self.joint(frames, drop).mean(dim=1))
        return y_BO


__all__ = ["Baseline", "JointTransformer", "MulT"]
