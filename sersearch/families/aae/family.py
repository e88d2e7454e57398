"""The MTL-AAE family: three phases a step (section 3), metrics by utterance, and the paper's baselines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import cast

import numpy as np
from torch import Tensor, nn

from sersearch.data.batches import SegmentView, TrainingData
from sersearch.errors import ConfigError
from sersearch.families.aae import losses
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.networks import AUTOENCODER_POOLS, CNN_POOLS, Decoder, Encoder, Head, latent_size
from sersearch.families.common.losses import cross_entropy
from sersearch.family import Batch, Family, HalveOnPlateau, Losses, ModelSpec, Noise, Optimizer, Phase

TASKS = ("emotion", "gender", "speaker")
SGD = Optimizer("sgd", momentum="momentum")


class AAE(nn.Module):
    """Encoder, decoder, discriminator and classifiers of one configuration; a baseline lacks the parts it has not."""

    def __init__(self, config: AAEConfig, spec: ModelSpec) -> None:
        super().__init__()
        size = latent_size(spec.dims, spec.frames)
        channels = config.channels
        if config.model == "cnn":
            self.encoder = Encoder((channels[0], channels[-1]), CNN_POOLS)
        else:
            self.encoder = Encoder(channels, AUTOENCODER_POOLS)
            self.decoder = Decoder(channels, AUTOENCODER_POOLS)
        if config.model == "aae":
            self.discriminator = Head(channels[-1], size, config.hidden, 2)
        for task in _tasks(config):
            self.add_module(task, Head(channels[-1], size, config.hidden, len(getattr(spec.labels, task))))

    def head(self, task: str) -> Head:
        """The classifier of `task`."""
        return cast(Head, self.get_submodule(task))


def _tasks(config: AAEConfig) -> tuple[str, ...]:
    return {"mtl": TASKS, "stl": TASKS[:1]}.get(config.tasks, (TASKS[0], config.tasks))


def reconstruction(model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Phase 1: encoder and decoder minimise alpha * L_AE (Eqs. 1, 3)."""
    l_ae = losses.reconstruction_loss(batch["x"], model.decoder(model.encoder(batch["x"])))
    return {"reconstruction": l_ae, "autoencoder": losses.autoencoder_loss(hp.alpha, l_ae)}


def discrimination(model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Phase 2, first half: the discriminator tells draws from p(d) = N(0, I) from latent codes (Eq. 4)."""
    z = model.encoder(batch["x"])
    real = model.discriminator(noise.normal(*z.shape))
    fake = model.discriminator(z)
    return {"discriminator": losses.discriminator_loss(real, fake)}


def generation(model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise, *, saturating: bool) -> Losses:
    """Phase 2, second half: the encoder, as generator, fools the discriminator (first term of Eq. 5)."""
    fake = model.discriminator(model.encoder(batch["x"]))
    return {"generator": losses.generator_loss(fake, saturating=saturating)}


def classification(model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise, *, tasks: tuple[str, ...]) -> Losses:
    """Phase 3: classifiers and encoder minimise L_c over emotion, gender and speaker (Eq. 2), or two of them."""
    z = model.encoder(batch["x"])
    each = {t: cross_entropy(model.head(t).classify(z, hp.dropout, noise), batch[t]) for t in tasks}
    return {"classification": losses.classification_loss(hp.beta, *each.values()), **each}


def auxiliary_classification(
    model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise, *, tasks: tuple[str, ...]
) -> Losses:
    """Pre-training, section 4.3: "speaker and gender classification only", L_G + L_S of Eq. 2."""
    z = model.encoder(batch["x"])
    each = {t: cross_entropy(model.head(t).classify(z, hp.dropout, noise), batch[t]) for t in tasks}
    first, *others = each.values()
    return {"auxiliary": sum(others, start=first), **each}


def single_task_classification(model: AAE, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Phase 3 of the single-task models: classifier and encoder minimise beta * L_E (section 5.1)."""
    logits = model.head("emotion").classify(model.encoder(batch["x"]), hp.dropout, noise)
    l_e = cross_entropy(logits, batch["emotion"])
    return {"classification": losses.single_task_loss(hp.beta, l_e), "emotion": l_e}


class AAEFamily(Family):
    """Registered as `aae`; see the folder's README.md."""

    name = "aae"
    paper = (
        'Latif, Rana, Khalifa, Jurdak, Epps, Schuller: "Multi-Task Semi-Supervised Adversarial Autoencoding '
        'for Speech Emotion Recognition", IEEE Transactions on Affective Computing, 2020'
    )
    config = AAEConfig
    features = ("spectrogram",)

    def view(self, config: AAEConfig) -> SegmentView:
        """Context windows of 256 frames (section 4.2)."""
        return SegmentView(frames=config.segment_frames, hop=config.segment_hop)

    def build(self, config: AAEConfig, spec: ModelSpec) -> AAE:
        """Raises :class:`ConfigError` for segments that the pools don't divide, and for targets without classes."""
        if not spec.labels.emotion:
            names = ", ".join(spec.labels.attributes)
            raise ConfigError(f"family aae tells classes apart, it doesn't predict {names}; choose another --target")
        return AAE(config, spec)

    def phases(self, config: AAEConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Reconstruction, regularisation (discriminator, then generator), classification: in this order (section 3)."""
        phases = []
        if config.model != "cnn":
            phases.append(Phase("reconstruction", reconstruction, "autoencoder", ("encoder", "decoder"), SGD))
        if config.model == "aae":
            generate = partial(generation, saturating=config.generator_loss == "saturating")
            phases.append(Phase("discrimination", discrimination, "discriminator", ("discriminator",), SGD))
            phases.append(Phase("generation", generate, "generator", ("encoder",), SGD))
        tasks = _tasks(config)
        loss = single_task_classification if len(tasks) == 1 else partial(classification, tasks=tasks)
        needs_label = {"encoder": tasks, **{task: (task,) for task in tasks}}
        updates = ("encoder", *tasks)
        phases.append(Phase("classification", loss, "classification", updates, SGD, needs_label=needs_label))
        return tuple(phases)

    def pretraining(self, config: AAEConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Speaker and gender classification only (section 4.3). A single-task model has neither, and no such step."""
        auxiliary = _tasks(config)[1:]
        if not auxiliary:
            return ()
        needs_label = {"encoder": auxiliary, **{task: (task,) for task in auxiliary}}
        updates = ("encoder", *auxiliary)
        loss = partial(auxiliary_classification, tasks=auxiliary)
        return (Phase("pretraining", loss, "auxiliary", updates, SGD, needs_label=needs_label),)

    def plan(self, config: AAEConfig, data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Every training segment once, labelled and unlabelled mixed, in batches; a last single one is left out."""
        order = rng.permutation(len(data.train))
        for first in range(0, len(order), config.batch_size):
            batch = order[first : first + config.batch_size]
            if len(batch) > 1:  # batch norm has no deviation of one segment's code
                yield batch

    def predict(self, model: AAE, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C) of the emotion classifier, without dropout."""
        logits: Tensor = model.head("emotion")(model.encoder(batch["x"]))
        return {"emotion": logits.softmax(dim=1)}

    def embed(self, model: AAE, batch: Batch) -> Tensor | None:
        """d-vectors (B, hidden) of the speaker classifier (section 5); None for a single-task model."""
        if not hasattr(model, "speaker"):
            return None
        return model.head("speaker").embed(model.encoder(batch["x"]))

    def schedule(self, config: AAEConfig) -> HalveOnPlateau:
        """The halving rule of section 4.3."""
        return HalveOnPlateau(patience=5, factor=0.5, minimum=1e-5)


FAMILY = AAEFamily()
