"""Network of the decoupled ladder (Leem et al., Interspeech 2021): the last hidden layer is two layers side by side.

B mini-batch, D feature dimension, T frames, H units of an embedding.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import NamedTuple

from torch import Tensor, nn

from sersearch.families.common.networks import Decoder, Encoder, Layer, Target, costs, front
from sersearch.families.decoupled_ladder.config import DecoupledLadderConfig
from sersearch.family import ModelSpec, Noise


class Paths(NamedTuple):
    """What one run of the clean and the noisy path gives."""

    targets: list[Target]
    """Clean levels that have a reconstruction cost, z_r the last of them."""
    levels: list[Tensor]
    """Noisy levels below the embeddings."""
    emotion: Tensor
    """Noisy pre-activation (B, H) of h_e."""
    reconstruction: Tensor
    """Noisy z_r (B, H)."""


class DecoupledLadder(nn.Module):
    """Shared lower layers, then two embeddings: h_e (emotion) feeds the predictor, z_r (reconstruction) the decoder."""

    def __init__(self, config: DecoupledLadderConfig, spec: ModelSpec) -> None:
        super().__init__()
        below, inputs = front(spec.dims, spec.frames, config.encoder, config.channels, config.kernel, config.pool)
        sizes = (inputs, *config.hidden)
        self.lowest = 0 if config.encoder == "dense" else 1  # the CNN's costs are on fully connected layers alone
        self.task = spec.labels.task
        self.encoder = Encoder(below, sizes[:-1])
        self.emotion = Layer(*sizes[-2:])
        self.reconstruction = Layer(*sizes[-2:])
        self.decoder = Decoder(sizes[self.lowest :], config.combinator)
        self.predictor = nn.Linear(sizes[-1], spec.labels.outputs)

    def hidden(self, x_BDT: Tensor) -> Tensor:
        """The clean path's emotion embedding h_e (B, H)."""
        h, _ = self.encoder.clean(x_BDT)
        return self.emotion.activate(self.emotion.clean(h).z)

    def run(self, x_BDT: Tensor, hp: SimpleNamespace, noise: Noise) -> Paths:
        """Clean and noisy path up to the embeddings."""
        deviation = hp.noise_variance.sqrt()
        h, targets = self.encoder.clean(x_BDT)
        self.emotion.clean(h)  # for its running moments, by which predictions are made
        targets = [*targets, self.reconstruction.clean(h)]
        h_noisy, levels = self.encoder.noisy(x_BDT, deviation, hp.input_dropout, noise)
        emotion = self.emotion.noisy(h_noisy, deviation, noise)
        reconstruction = self.reconstruction.noisy(h_noisy, deviation, noise)
        return Paths(targets[self.lowest :], levels[self.lowest :], emotion, reconstruction)

    def predict(self, paths: Paths) -> Tensor:
        """Outputs (B, O) of the noisy path."""
        outputs: Tensor = self.predictor(self.emotion.activate(paths.emotion))
        return outputs

    def costs(self, paths: Paths) -> list[Tensor]:
        """C_r of each level, the decoder fed with z_r."""
        top = self.reconstruction.activate(paths.reconstruction)
        return costs(self.decoder(top, [*paths.levels, paths.reconstruction]), paths.targets)

    def costs_from_emotion(self, paths: Paths) -> list[Tensor]:
        """The same, the decoder's highest layer fed with the emotion embedding instead: the slides' analysis."""
        top = self.emotion.activate(paths.emotion)
        return costs(self.decoder(top, [*paths.levels, paths.emotion]), paths.targets)
