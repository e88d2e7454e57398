"""The multimodal ladder family: a labelled phase a step, before it an unlabelled one where asked; its baselines."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import LabelSpace, SegmentView, TrainingData
from sersearch.families.common import steps
from sersearch.families.common.losses import summed, task_loss
from sersearch.families.multimodal_ladder import losses
from sersearch.families.multimodal_ladder.baselines import Baseline, JointTransformer, MulT
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.families.multimodal_ladder.networks import Costs, MultimodalLadder, Supervised
from sersearch.family import Batch, Family, HalveOnPlateau, Losses, ModelSpec, Noise, Optimizer, Phase
from sersearch.metrics import f1, precision, target_metrics

ADAM = Optimizer("adam")
CLIP = 0.8  # of the gradient's norm; stated, section 5
CHILDREN = {
    "ladder": ("backbone", "convolutions", "encoders", "heads", "decoders"),
    "auxformer": ("backbone", "convolutions", "encoders", "heads"),
    "mult": ("projections", "a_to_v", "v_to_a", "visual", "audio", "block", "head"),
    "parthasarathy": ("projections", "audio", "visual", "joint", "head"),
}


def unlabelled(model: MultimodalLadder, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """An unlabelled mini-batch: all minimise Eq. 4 (section 6, "a semi-supervised setting")."""
    if noise.training:
        batch = steps.unlabelled_half(batch)
    _, costs = model.denoise(batch, hp, noise)
    return {"unlabelled": _unsupervised(hp, costs)}


def labelled(model: MultimodalLadder, batch: Batch, hp: SimpleNamespace, noise: Noise, *, halved: bool) -> Losses:
    """A labelled mini-batch: all minimise Eq. 5.

    `prediction` is Eq. 3, `reconstruction` the plain sum of all C_r(l), whatever the lambdas are.
    """
    if halved and noise.training:
        batch = steps.labelled_half(batch)
    outputs, costs = model.denoise(batch, hp, noise)
    l_sup = _supervised(outputs, batch)
    total = losses.total_loss(l_sup, _unsupervised(hp, costs))
    return {"labelled": total, "prediction": l_sup, "reconstruction": summed([c for each in costs for c in each])}


def auxiliary(model: Supervised, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """AuxFormer's step: Eq. 3."""
    return {"prediction": _supervised(model.supervise(batch, partial(noise.dropout, p=hp.dropout)), batch)}


def single(model: Baseline, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """The other baselines' step: C_s of their one output."""
    return {"prediction": task_loss(model.supervise(batch, partial(noise.dropout, p=hp.dropout)), batch)}


def _supervised(outputs: Mapping[str, Tensor], batch: Batch) -> Tensor:
    """Eq. 3. C_s is the cross-entropy of classes (section 5), or 1 - CCC of attributes, which the paper hasn't."""
    c_s = {name: task_loss(y, batch) for name, y in outputs.items()}
    return losses.supervised_loss(c_s["audiovisual"], c_s["audio"], c_s["visual"])


def _unsupervised(hp: SimpleNamespace, costs: Costs) -> Tensor:
    return losses.unsupervised_loss((hp.lambda_0, hp.lambda_1, hp.lambda_2), *costs)


class MultimodalLadderFamily(Family):
    """Registered as `multimodal_ladder`; see the folder's README.md."""

    name = "multimodal_ladder"
    paper = (
        'Goncalves, Busso: "Learning Cross-Modal Audiovisual Representations with Ladder Networks for Emotion '
        'Recognition", ICASSP 2023'
    )
    config = MultimodalLadderConfig
    features = ("lld_32_16", "lld")
    companions = {"visual": ("visual", "openface")}  # noqa: RUF012

    def objective(self, labels: LabelSpace) -> str:
        """Macro F1, the paper's measure; it saves by development loss, which is `dev_log_likelihood`."""
        return "dev_ccc" if labels.attributes else "dev_f1"

    def view(self, config: MultimodalLadderConfig) -> SegmentView:
        """The utterance's first N_a frames, padded with zeros after z-norm."""
        return SegmentView(config.frames, config.frames, pad="mean", first_only=True)

    def companion_views(self, config: MultimodalLadderConfig) -> Mapping[str, SegmentView]:
        """Its first N_v visual frames, likewise; a vector is a sequence of length 1."""
        return {"visual": SegmentView(config.visual_frames, config.visual_frames, pad="mean", first_only=True)}

    def build(self, config: MultimodalLadderConfig, spec: ModelSpec) -> Supervised | Baseline:
        """The chosen model."""
        if config.reconstructs:
            return MultimodalLadder(config, spec)
        if config.model == "auxformer":
            return Supervised(config, spec)
        return MulT(config, spec) if config.model == "mult" else JointTransformer(config, spec)

    def phases(self, config: MultimodalLadderConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """One labelled phase; with setting UL an unlabelled one before it."""
        if not config.reconstructs:
            loss = auxiliary if config.model == "auxformer" else single
            return (Phase("labelled", loss, "prediction", CHILDREN[config.model], ADAM, clip=CLIP),)
        every, semi = CHILDREN["ladder"], config.learns_unlabelled
        one = Phase("labelled", partial(labelled, halved=semi), "labelled", every, ADAM, clip=CLIP)
        if not semi:
            return (one,)
        # one optimiser for both
        return (
            Phase("unlabelled", unlabelled, "unlabelled", every, ADAM, clip=CLIP),
            replace(one, state_of="unlabelled"),
        )

    def plan(
        self, config: MultimodalLadderConfig, data: TrainingData, rng: np.random.Generator
    ) -> Iterator[np.ndarray]:
        """Labelled mini-batches, with UL behind as many unlabelled segments."""
        semi = config.learns_unlabelled
        return steps.mini_batches(config.batch_size, config.epoch_over, data, rng, unlabelled=semi)

    def predict(self, model: Supervised | Baseline, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C), or z-normed attributes (B, A): the audiovisual head's, on the clean path."""
        return steps.outputs(model.outputs(batch), model.task)

    def metrics(
        self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], space: LabelSpace
    ) -> dict[str, Tensor]:
        """Of classes UA, which is the macro recall, WA, which is all three micro averages, macro precision and F1.

        `log_likelihood` is the mean log posterior of the true class.
        """
        found = target_metrics(outputs, labels, space.attributes)
        if "attributes" in outputs:
            return found
        posteriors, truth = outputs["emotion"], labels["emotion"]
        predicted, classes = posteriors.argmax(dim=-1), posteriors.shape[-1]
        found |= {m.__name__: m(predicted, truth, classes) for m in (precision, f1)}
        return found | {"log_likelihood": _log_likelihood(posteriors, truth)}

    def schedule(self, config: MultimodalLadderConfig) -> HalveOnPlateau:
        """A tenth of the rate after six epochs without a better value: the "learning decay" of section 5."""
        return HalveOnPlateau(patience=6, factor=0.1, minimum=0.0, restore=False)


def _log_likelihood(posteriors_KUC: Tensor, labels_U: Tensor) -> Tensor:
    """Mean over the labelled utterances, (K,); a posterior of 0 counts as the smallest number there is."""
    labels = labels_U.expand(posteriors_KUC.shape[:-1])
    true = posteriors_KUC.gather(-1, labels.clamp(min=0)[..., None]).squeeze(-1)
    log = true.clamp(min=torch.finfo(true.dtype).tiny).log()
    return torch.where(labels >= 0, log, torch.nan).nanmean(-1)


FAMILY = MultimodalLadderFamily()
