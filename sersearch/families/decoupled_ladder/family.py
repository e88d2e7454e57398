"""The decoupled ladder family: an unlabelled and a labelled phase a step, and the analysis of its embeddings."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace

import numpy as np
from torch import Tensor

from sersearch.data.batches import SegmentView, TrainingData
from sersearch.families.common import losses, steps
from sersearch.families.decoupled_ladder.config import DecoupledLadderConfig
from sersearch.families.decoupled_ladder.losses import dln_loss
from sersearch.families.decoupled_ladder.networks import DecoupledLadder
from sersearch.family import Batch, Family, Losses, ModelSpec, Noise, Optimizer, Phase

NADAM = Optimizer("nadam")
CHILDREN = ("encoder", "emotion", "reconstruction", "decoder", "predictor")


def unlabelled(model: DecoupledLadder, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """An unlabelled mini-batch, of the noisy target condition in the paper: the reconstruction terms alone."""
    if noise.training:
        batch = steps.unlabelled_half(batch)
    c_r = model.costs(model.run(batch["x"], hp, noise))
    return {"unlabelled": losses.unsupervised_loss(hp.lambda_l, c_r)}


def labelled(model: DecoupledLadder, batch: Batch, hp: SimpleNamespace, noise: Noise, *, halved: bool) -> Losses:
    """A labelled mini-batch: C_DLN. `reconstruction` is the plain sum of the costs, whatever lambda is.

    On development data also `reconstruction_from_emotion`, the same sum with the emotion embedding in the decoder's
    highest layer.
    """
    if halved and noise.training:
        batch = steps.labelled_half(batch)
    paths = model.run(batch["x"], hp, noise)
    c_p, c_r = steps.prediction_loss(model.predict(paths), batch, hp), model.costs(paths)
    found = {"labelled": dln_loss(c_p, hp.lambda_l, c_r), "prediction": c_p, "reconstruction": losses.summed(c_r)}
    if not noise.training:
        found["reconstruction_from_emotion"] = losses.summed(model.costs_from_emotion(paths))
    return found


class DecoupledLadderFamily(Family):
    """Registered as `decoupled_ladder`; see the folder's README.md."""

    name = "decoupled_ladder"
    config = DecoupledLadderConfig
    features = ("functionals", "egemaps", "lld", "mfb")

    def view(self, config: DecoupledLadderConfig) -> SegmentView:
        """One vector an utterance, or 1000 frames of it."""
        return steps.view(config)

    def build(self, config: DecoupledLadderConfig, spec: ModelSpec) -> DecoupledLadder:
        """Raises :class:`ConfigError` for sequences that can't be pooled four times."""
        return DecoupledLadder(config, spec)

    def phases(self, config: DecoupledLadderConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Unlabelled, then labelled, which the ladder paper found better than mixing; with setting L labelled alone."""
        loss = partial(labelled, halved=config.setting == "UL")
        if config.setting == "L":
            return (Phase("labelled", loss, "labelled", CHILDREN, NADAM),)
        # One optimiser for both: emotion embedding and predictor are its parameters too, and have no gradient in the
        # unlabelled phase.
        return (
            Phase("unlabelled", unlabelled, "unlabelled", CHILDREN, NADAM),
            Phase("labelled", loss, "labelled", CHILDREN, NADAM, state_of="unlabelled"),
        )

    def plan(self, config: DecoupledLadderConfig, data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Labelled mini-batches, with UL behind as many unlabelled segments."""
        return steps.plan(config, data, rng, unlabelled=config.setting == "UL")

    def predict(self, model: DecoupledLadder, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C), or z-normed attributes (B, A), of the clean path's emotion embedding."""
        return steps.outputs(model.predictor(model.hidden(batch["x"])), model.task)


FAMILY = DecoupledLadderFamily()
