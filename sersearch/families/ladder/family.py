"""The ladder family: an unlabelled and a labelled phase a step (section IV-C), and the paper's dense baselines."""

from __future__ import annotations

from types import SimpleNamespace

from torch import Tensor

from sersearch.families.common import losses, steps
from sersearch.families.common.alternating import NADAM, Alternating, alternating_phases
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.networks import ClassLadder, Dense, Ladder
from sersearch.family import Batch, Losses, ModelSpec, Noise, Phase


def unlabelled(model: Ladder, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """An unlabelled mini-batch: all minimise the second term of Eq. 1."""
    if noise.training:
        batch = steps.unlabelled_half(batch)
    _, c_d = model.denoise(batch["x"], hp, noise)
    return {"unlabelled": losses.unsupervised_loss(hp.lambda_l, c_d)}


def labelled(model: Ladder, batch: Batch, hp: SimpleNamespace, noise: Noise, *, halved: bool) -> Losses:
    """A labelled mini-batch: all minimise Eq. 1 (one attribute) or Eq. 3 (three).

    `prediction` is C_s of the noisy path, `reconstruction` the plain sum of C_d(l), whatever lambda is.
    """
    if halved and noise.training:
        batch = steps.labelled_half(batch)
    y_noisy, c_d = model.denoise(batch["x"], hp, noise)
    c_s = steps.prediction_loss(y_noisy, batch, hp)
    total = losses.ladder_loss(c_s, hp.lambda_l, c_d)
    return {"labelled": total, "prediction": c_s, "reconstruction": losses.summed(c_d)}


def supervised(model: Dense, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """The baselines' step: C_s alone (STL), or Eq. 2 (MTL)."""
    h = model.encoder.regularised(batch["x"], hp.dropout, noise)
    return {"prediction": steps.prediction_loss(model.predictor(h), batch, hp)}


class LadderFamily(Alternating):
    """Registered as `ladder`; see the folder's README.md."""

    name = "ladder"
    paper = (
        'Parthasarathy, Busso: "Semi-Supervised Speech Emotion Recognition With Ladder Networks", IEEE/ACM '
        "Transactions on Audio, Speech, and Language Processing, 2020"
    )
    config = LadderConfig

    def build(self, config: LadderConfig, spec: ModelSpec) -> Ladder | Dense:
        """Raises :class:`ConfigError` for sequences that can't be pooled four times."""
        if config.model == "dense":
            return Dense(config, spec)
        hidden = bool(spec.labels.attributes) or config.top == "hidden"
        return Ladder(config, spec) if hidden else ClassLadder(config, spec)

    def phases(self, config: LadderConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Unlabelled, then labelled; with setting L, or for a baseline, labelled alone."""
        if config.model == "dense":
            return (Phase("labelled", supervised, "prediction", ("encoder", "predictor"), NADAM),)
        return alternating_phases(config, ("encoder", "decoder", "predictor"), unlabelled, labelled)

    def predict(self, model: Ladder | Dense, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C), or z-normed attributes (B, A), of the clean path."""
        return steps.outputs(model.outputs(batch["x"]), model.task)


FAMILY = LadderFamily()
