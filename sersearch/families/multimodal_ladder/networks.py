"""Network of the multimodal ladder paper (Goncalves & Busso, ICASSP 2023): figure 1, without and with its ladders.

B mini-batch, D features of a frame, T frames, W width of the transformers, H units of a layer, O outputs.
Streams of the backbone: `audio` X_A and `visual` X_V (unimodal), `a_to_v` and `v_to_a` (cross-modal). Ladders: `audio`
(A->V: encodes acoustics, decodes to visual levels), `visual` (V->A), `audiovisual`. Level 0 is X, then the hidden ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import pairwise
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sersearch.families.common.networks import Decoder, Layer, Normalised, Target, batch_norm, climb, climb_noisy, costs
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.families.multimodal_ladder.transformer import Drop, Transformer, keep
from sersearch.family import Batch, ModelSpec, Noise

STREAMS = ("audio", "visual", "a_to_v", "v_to_a")
LADDERS = ("audiovisual", "audio", "visual")
OTHER = {"audio": "visual", "visual": "audio"}
"""Whose clean levels a unimodal cross-layer ladder reconstructs."""
STAGES = 3


class Projections(nn.Module):
    """Frames of both modalities, each by a linear layer of its own, to the transformers' width."""

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        self.audio = nn.Linear(spec.dims, config.width)
        self.visual = nn.Linear(spec.companions["visual"][0], config.width)

    def forward(self, x_BDT: Tensor, visual_BDT: Tensor) -> tuple[Tensor, Tensor]:
        """Acoustic and visual frames (B, T, W)."""
        return self.audio(x_BDT.transpose(1, 2)), self.visual(visual_BDT.transpose(1, 2))


class Backbone(nn.Module):
    """The red dashed region of figure 1 (section 3.1)."""

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        size = (config.width, config.heads, config.layers)
        self.projections = Projections(config, spec)
        self.audio, self.visual = Transformer(*size), Transformer(*size)
        self.a_to_v, self.v_to_a = Transformer(*size, cross=1), Transformer(*size, cross=1)

    def forward(self, x_BDT: Tensor, visual_BDT: Tensor, drop: Drop) -> dict[str, Tensor]:
        """All four streams (B, T, W)."""
        a, v = self.projections(x_BDT, visual_BDT)
        return {"audio": self.audio(a, drop), "visual": self.visual(v, drop), **self._crossed(a, v, drop)}

    def crossed(self, x_BDT: Tensor, visual_BDT: Tensor) -> dict[str, Tensor]:
        """The two cross-modal streams, without dropout: all that the audiovisual head needs."""
        a, v = self.projections(x_BDT, visual_BDT)
        return self._crossed(a, v, keep)

    def _crossed(self, a_BTW: Tensor, v_BTW: Tensor, drop: Drop) -> dict[str, Tensor]:
        # Eq. 1: of z_aud->vid keys and values are acoustic, so that the queries are visual, and the other way round.
        return {"a_to_v": self.a_to_v(v_BTW, drop, a_BTW), "v_to_a": self.v_to_a(a_BTW, drop, v_BTW)}


class Convolutions(nn.Module):
    """Three 1-D convolutions over time, each with ReLU and max-pooling; flattened (section 3.2).

    The last pooling leaves as many frames of a stream of any length, one frame included, so that levels of one modality
    stand beside those of the other, unit by unit.
    """

    def __init__(self, config: MultimodalLadderConfig) -> None:
        super().__init__()
        sizes = (config.width, *[config.channels] * STAGES)
        self.layers = nn.ModuleList(
            # A batch norm stands above: it takes a bias away wherever ReLU lets all members through.
            nn.Conv1d(a, b, config.kernel, padding=config.kernel // 2, bias=False)
            for a, b in pairwise(sizes)
        )
        self.pool = nn.MaxPool1d(config.pool, ceil_mode=True)
        self.pooled = config.pooled

    def forward(self, x_BTW: Tensor) -> Tensor:
        """Sentence-level representation (B, channels * pooled)."""
        h = x_BTW.transpose(1, 2)
        for number, layer in enumerate(self.layers, start=1):
            h = layer(h)
            # ReLU commutes with max-pooling, and after it has less to do.
            h = torch.relu(self.pool(h) if number < STAGES else pool_to(h, self.pooled))
        return h.flatten(1)


def pool_to(h_BHT: Tensor, frames: int) -> Tensor:
    """The largest values (B, H, frames) of as many windows, of equal length where T allows, that cover all T."""
    length = h_BHT.shape[-1]
    bounds = [(i * length // frames, -(-(i + 1) * length // frames)) for i in range(frames)]
    return torch.stack([h_BHT[..., first:last].amax(-1) for first, last in bounds], dim=-1)


class Encoder(Normalised):
    """A ladder's encoder, run clean and noisy on the same weights. Level 0 is its input X, batch-normalised.

    So the cost of level 0 can't be lowered by making X small, and X is compared with its reconstruction as it is.
    """

    def __init__(self, inputs: int, hidden: Sequence[int]) -> None:
        super().__init__(inputs)
        sizes = (inputs, *hidden)
        self.layers = nn.ModuleList(Layer(a, b) for a, b in pairwise(sizes))

    def clean(self, x_BH: Tensor) -> tuple[Tensor, list[Target]]:
        """Outputs h (B, H) of the top layer, and all levels from 0 on; the gradient flows through the targets too."""
        return climb(self.layers, self.normalise(x_BH).z)

    def noisy(self, x_noisy_BH: Tensor, deviation: Tensor, noise: Noise) -> tuple[Tensor, list[Tensor]]:
        """The same of a noisy X, with Gaussian noise of `deviation` on every normalised pre-activation."""
        z = batch_norm(x_noisy_BH)
        h, levels = climb_noisy(self.layers, z, deviation, noise)
        return h, [z, *levels]


class Costs(NamedTuple):
    """C_r(l) of each ladder's levels; empty for a ladder that the model hasn't got."""

    audiovisual: list[Tensor]
    a_to_v: list[Tensor]
    v_to_a: list[Tensor]


class Supervised(nn.Module):
    """Backbone, CNNs, the ladders' encoders and the heads: AuxFormer, baseline 1, as far as the paper describes it."""

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        units = config.channels * config.pooled
        self.task = spec.labels.task
        self.backbone = Backbone(config, spec)
        self.convolutions = nn.ModuleDict({stream: Convolutions(config) for stream in STREAMS})
        self.inputs = {"audiovisual": 2 * units, "audio": units, "visual": units}
        self.encoders = nn.ModuleDict({name: Encoder(self.inputs[name], config.hidden) for name in LADDERS})
        self.heads = nn.ModuleDict({name: nn.Linear(config.hidden[-1], spec.labels.outputs) for name in LADDERS})

    def flattened(self, streams: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """X of each ladder that the `streams` (B, T, W) have: (B, H)."""
        flat = {name: self.convolutions[name](x) for name, x in streams.items()}
        crossed = torch.cat([flat.pop("a_to_v"), flat.pop("v_to_a")], dim=1)
        return {"audiovisual": crossed, **flat}

    def outputs(self, batch: Batch) -> Tensor:
        """Outputs (B, O) of the audiovisual head on the clean path."""
        x = self.flattened(self.backbone.crossed(batch["x"], batch["visual"]))["audiovisual"]
        y_BO: Tensor = self.heads["audiovisual"](self.encoder("audiovisual").clean(x)[0])
        return y_BO

    def encoder(self, name: str) -> Encoder:
        """The encoder of a ladder."""
        encoder = self.encoders[name]
        assert isinstance(encoder, Encoder)
        return encoder

    def supervise(self, batch: Batch, drop: Drop) -> dict[str, Tensor]:
        """Outputs (B, O) of the three heads, without noise."""
        x = self.flattened(self.backbone(batch["x"], batch["visual"], drop))
        return {name: self.heads[name](self.encoder(name).clean(x[name])[0]) for name in LADDERS}


class MultimodalLadder(Supervised):
    """The proposed model: decoders too. `without_unimodal` and `without_audiovisual` lack those that they are named by.

    Encoders and heads stay: Eq. 3 is whole in the ablations.
    """

    def __init__(self, config: MultimodalLadderConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        self.clean_factors = config.product == "clean"
        removed = {"without_unimodal": ("audio", "visual"), "without_audiovisual": ("audiovisual",)}
        kept = [name for name in LADDERS if name not in removed.get(config.model, ())]
        # By what they encode; what they decode has as many units.
        self.decoders = nn.ModuleDict({n: Decoder((self.inputs[n], *config.hidden), "mlp") for n in kept})

    def denoise(self, batch: Batch, hp: SimpleNamespace, noise: Noise) -> tuple[dict[str, Tensor], Costs]:
        """Outputs (B, O) of the three heads on the noisy path, and the costs of all levels."""
        deviation = hp.noise_variance.sqrt()
        clean = self.flattened(self.backbone(batch["x"], batch["visual"], keep))
        targets = {name: self.encoder(name).clean(clean[name])[1] for name in LADDERS}
        noisy = self.flattened(self._noisy_streams(batch, deviation, hp.dropout, noise))
        encoded = {name: self.encoder(name).noisy(noisy[name], deviation, noise) for name in LADDERS}
        found = {name: self._costs(name, *encoded[name], targets) for name in LADDERS}
        outputs = {name: self.heads[name](h) for name, (h, _) in encoded.items()}
        return outputs, Costs(found["audiovisual"], a_to_v=found["audio"], v_to_a=found["visual"])

    def _noisy_streams(self, batch: Batch, deviation: Tensor, dropout: Tensor, noise: Noise) -> dict[str, Tensor]:
        """Noise on both inputs (section 3.1) and on the backbone's streams (3.2); dropout on the way."""

        def noised(x: Tensor) -> Tensor:
            return torch.addcmul(x, deviation, noise.normal(*x.shape))

        streams = self.backbone(noised(batch["x"]), noised(batch["visual"]), partial(noise.dropout, p=dropout))
        return {name: noised(x) for name, x in streams.items()}

    def _costs(
        self, name: str, h_noisy: Tensor, levels: list[Tensor], targets: Mapping[str, list[Target]]
    ) -> list[Tensor]:
        """C_r(l) of a ladder: from its noisy levels to its own clean ones, or to the other modality's (section 3.4)."""
        if name not in self.decoders:
            return []
        goal = targets[OTHER.get(name, name)]
        crossed = name in OTHER and self.clean_factors
        z_hats = self.decoders[name](h_noisy, levels, [target.z for target in goal] if crossed else None)
        return costs(z_hats, goal)


__all__ = ["Backbone", "Convolutions", "Costs", "Encoder", "MultimodalLadder", "Projections", "Supervised", "pool_to"]
