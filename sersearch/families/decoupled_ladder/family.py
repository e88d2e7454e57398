"""The decoupled ladder family: an unlabelled and a labelled phase a step, and the analysis of its embeddings."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from sersearch.families.common import losses, steps
from sersearch.families.common.alternating import Alternating, alternating_phases
from sersearch.families.decoupled_ladder.config import DecoupledLadderConfig
from sersearch.families.decoupled_ladder.losses import dln_loss
from sersearch.families.decoupled_ladder.networks import DecoupledLadder
from sersearch.family import Batch, Losses, ModelSpec, Noise, Phase

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


class DecoupledLadderFamily(Alternating):
    """Registered as `decoupled_ladder`; see the folder's README.md."""

    name = "decoupled_ladder"
    paper = (
        'Leem, Fulford, Onnela, Gard, Busso: "Separation of Emotional and Reconstruction Embeddings on Ladder '
        'Network to Improve Speech Emotion Recognition Robustness in Noisy Conditions", Interspeech 2021'
    )
    config = DecoupledLadderConfig

    def build(self, config: DecoupledLadderConfig, spec: ModelSpec) -> DecoupledLadder:
        """Raises :class:`ConfigError` for sequences that can't be pooled four times."""
        return DecoupledLadder(config, spec)

    def phases(self, config: DecoupledLadderConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Unlabelled, then labelled, as of the ladder."""
        return alternating_phases(config, CHILDREN, unlabelled, labelled)

    def predict(self, model: DecoupledLadder, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C), or z-normed attributes (B, A), of the clean path's emotion embedding."""
        return steps.outputs(model.predictor(model.hidden(batch["x"])), model.task)


FAMILY = DecoupledLadderFamily()
