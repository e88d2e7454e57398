"""The DeepEmoCluster family: K-means at each epoch's start, then an unlabelled and a labelled stage (section 4.2)."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor

from sersearch.data.batches import SegmentView, TrainingData
from sersearch.errors import ConfigError, DataError
from sersearch.families.common import steps
from sersearch.families.common.losses import task_loss
from sersearch.families.deepemocluster import analysis, losses
from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.families.deepemocluster.kmeans import kmeans
from sersearch.families.deepemocluster.networks import (
    MODELS,
    Autoencoder,
    DeepEmoCluster,
    Model,
    VariationalAutoencoder,
    image,
)
from sersearch.family import Also, Batch, Family, Losses, ModelSpec, Noise, Optimizer, Phase, Relabelled, Turn

SGD = Optimizer("sgd")
ADAM = Optimizer("adam", "regressor_rate")
HEAD = Optimizer("sgd", "head_rate")

POOL_SEED = 99
"""Of the order in which unlabelled sentences are taken: whatever a trial's seed, the smaller sets lie in the larger."""


# --- losses of the phases ---------------------------------------------------------------------------------------------


def unlabelled_clusters(model: DeepEmoCluster, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Stage 1, section 4.2: encoder and cluster classifier minimise CE; of development data there are no clusters."""
    if "cluster" not in batch:
        return {}
    h = noise.dropout(model.encoder(batch["x"]), hp.dropout)
    logits = model.top_unlabelled(model.hidden(h).relu())
    return {"unlabelled": losses.cluster_loss(logits, batch["cluster"])}


def labelled_clusters(model: DeepEmoCluster, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Stage 2, section 4.2: all minimise Eq. 3; `prediction` is its first term, `cluster` CE, without lambda."""
    h = noise.dropout(model.encoder(batch["x"]), hp.dropout)
    prediction = task_loss(model.regressor(h), batch)
    if "cluster" not in batch:
        return {"prediction": prediction}
    cluster = losses.cluster_loss(model.top(model.hidden(h).relu()), batch["cluster"])
    total = losses.joint_loss(prediction, hp.lambda_, cluster)
    return {"labelled": total, "prediction": prediction, "cluster": cluster}


def supervised(model: Model, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """CNN-regressor: the first term of Eq. 3 alone."""
    h = noise.dropout(model.encoder(batch["x"]), hp.dropout)
    return {"prediction": task_loss(model.regressor(h), batch)}


def reconstruction(model: Autoencoder, h_BH: Tensor, batch: Batch, noise: Noise) -> Losses:
    """`autoencoder`, what the CNN-AE or the CNN-VAE minimise beside the first term of Eq. 3, and its parts."""
    x = image(batch["x"])
    if not isinstance(model, VariationalAutoencoder):
        return {"autoencoder": losses.reconstruction_loss(x, model.decoder(h_BH))}
    mean, log_variance = model.moments(h_BH)
    z = losses.reparametrised(mean, log_variance, noise.normal(*mean.shape))
    found, kl = losses.reconstruction_loss(x, model.decoder(z)), losses.divergence(mean, log_variance)
    return {
        "autoencoder": losses.variational_loss(found, kl, x[0].numel()),
        "reconstruction": found,
        "divergence": kl,
    }


def unlabelled_reconstruction(model: Autoencoder, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Stage 1 of the baselines that reconstruct."""
    h = noise.dropout(model.encoder(batch["x"]), hp.dropout)
    return {"unlabelled": reconstruction(model, h, batch, noise)["autoencoder"]}


def labelled_reconstruction(model: Autoencoder, batch: Batch, hp: SimpleNamespace, noise: Noise) -> Losses:
    """Stage 2 of the baselines that reconstruct: Eq. 3 with their own loss in the place of CE."""
    h = noise.dropout(model.encoder(batch["x"]), hp.dropout)
    prediction, own = task_loss(model.regressor(h), batch), reconstruction(model, h, batch, noise)
    return {"labelled": losses.joint_loss(prediction, hp.lambda_, own["autoencoder"]), "prediction": prediction, **own}


# --- chunks and their clusters ----------------------------------------------------------------------------------------


def chunks_by_stage(config: DeepEmoClusterConfig, data: TrainingData) -> dict[str, np.ndarray]:
    """Numbers of the chunks that an epoch's stages, `unlabelled` and `labelled`, draw from.

    Raises :class:`ConfigError` for features that are no sequences, :class:`DataError` for too few chunks.
    """
    name, rate = data.features.get("features"), data.features["frame_rate"]
    if rate is None:
        raise ConfigError(
            f"family deepemocluster takes sequences of frames, but {name} features are one vector an utterance; use "
            "features such as mel"
        )
    labelled = np.flatnonzero(data.train.labelled_S)
    if len(labelled) < 2:
        raise DataError(
            f"{len(labelled)} labelled training chunks; expected at least 2, of which a CCC can be taken: train on "
            f"data labelled for {data.target}"
        )
    stages = {"unlabelled": _pool(config, data), "labelled": labelled}
    for kind, chunks in stages.items():
        if config.clustered and 0 < len(chunks) < config.clusters:
            raise DataError(
                f"params.clusters: {config.clusters} clusters of {len(chunks)} {kind} chunks; expected at most as many "
                "clusters as chunks: --set clusters=... lower, or more data"
            )
    return stages


def _pool(config: DeepEmoClusterConfig, data: TrainingData) -> np.ndarray:
    """Chunks of at most `unlabeled_size` unlabelled sentences; none for a model that has no use for them."""
    without = np.flatnonzero(~data.train.labelled_S)
    if config.model == "cnn_regressor" or not config.unlabeled_size:
        return without[:0]
    sentence = data.train.utterance_S[without]
    taken = np.zeros(data.train.utterances, bool)
    order = np.random.default_rng(POOL_SEED).permutation(np.unique(sentence))
    taken[order[: config.unlabeled_size]] = True
    pool = without[taken[sentence]]
    if len(pool) < 2:
        raise DataError(
            f"{len(pool)} unlabelled training chunks, but params.unlabeled_size is {config.unlabeled_size} "
            "sentences: choose data with an unlabelled pool, or --set unlabeled_size=0 to learn from labels alone"
        )
    return pool


def evenly(chunks: np.ndarray, codes: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Mini-batches of `size` of the `chunks`, in all about as many as these, as many of each code as of the others.

    A chunk of a rare code comes several times, one of a frequent code perhaps never. Without codes each comes once. A
    last, incomplete mini-batch is left out unless it is the only one: how many there are depends on no code.
    """
    found = np.unique(codes)
    share = -(-len(chunks) // len(found))
    drawn = []
    for code in found:
        members = chunks[codes == code]
        times, rest = divmod(share, len(members))
        drawn += [np.tile(members, times), rng.choice(members, rest, replace=False)]
    order = rng.permutation(np.concatenate(drawn))
    size = min(size, len(chunks))
    for batch in range(len(chunks) // size):
        yield order[batch * size : (batch + 1) * size]


def watched(
    data: TrainingData, stage: str, chunks: np.ndarray, codes: np.ndarray, before: np.ndarray | None
) -> dict[str, float]:
    """What is worth watching of the clusters `codes` (N,) of a stage's `chunks` (N,).

    - `train_nmi`: their normalised mutual information with those of the last epoch, `before`; absent in the first;
    - `train_smallest_cluster`: the smallest one's share of the chunks;
    - `train_cluster_emotion`, of labelled chunks: how far the clusters tell what is predicted (figure 3 in a number).
      The share of an attribute's variance that lies between them, of several attributes the mean; or the normalised
      mutual information with the classes.
    """
    found = {"train_smallest_cluster": float(np.bincount(codes).min() / len(codes))}
    if before is not None:
        found["train_nmi"] = analysis.mutual_information(before, codes)
    if stage != "labelled":
        return {f"{name}_{stage}": value for name, value in found.items()}
    labels = data.train.labels_U[data.labels.task][data.train.utterance_S[chunks]]
    if data.labels.task == "emotion":
        return {**found, "train_cluster_emotion": analysis.mutual_information(labels, codes)}
    shares = [analysis.explained(values, codes) for values in labels.T]
    return {**found, "train_cluster_emotion": float(np.mean(shares))}


def hidden(model: DeepEmoCluster, batch: Batch) -> Tensor:
    """What K-means sees of a mini-batch (B, H)."""
    return model.hidden(model.encoder(batch["x"]))


# --- the family -------------------------------------------------------------------------------------------------------


class DeepEmoClusterFamily(Family):
    """Registered as `deepemocluster`; see the folder's README.md."""

    name = "deepemocluster"
    paper = (
        'Lin, Sridhar, Busso: "DeepEmoCluster: A Semi-Supervised Framework for Latent Cluster Representation '
        'of Speech Emotions", ICASSP 2021'
    )
    config = DeepEmoClusterConfig
    features = ("mel",)

    def view(self, config: DeepEmoClusterConfig) -> SegmentView:
        """Chunks by Eq. 2; a sentence shorter than one is repeated."""
        return SegmentView(config.chunk_frames, config.chunk_frames, pad="wrap", chunks=config.chunks)

    def build(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> Model:
        """The proposed model, or a baseline."""
        return MODELS[config.model](config, spec)

    def phases(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        """Unlabelled, the regressor frozen, and labelled: two stages in an epoch (section 4.2)."""
        if config.model == "cnn_regressor":
            return (_labelled(supervised, "prediction", ("encoder", "regressor")),)
        if config.clustered:
            own: tuple[str, ...] = ("encoder", "cluster")
            top, top_unlabelled = Also(("top",), HEAD), Also(("top_unlabelled",), HEAD)
            first = Phase("unlabelled", unlabelled_clusters, "unlabelled", own, SGD, also=(top_unlabelled,))
            if config.model == "unsupervised":
                second = _labelled(labelled_clusters, "cluster", own, top)
            else:
                second = _labelled(labelled_clusters, "labelled", (*own, "regressor"), top)
        else:
            own = ("encoder", "decoder") if config.model == "cnn_ae" else ("encoder", "latent", "decoder")
            first = Phase("unlabelled", unlabelled_reconstruction, "unlabelled", own, SGD)
            second = _labelled(labelled_reconstruction, "labelled", (*own, "regressor"))
        return (first, second) if config.unlabeled_size else (second,)

    def plan(self, config: DeepEmoClusterConfig, data: TrainingData, rng: np.random.Generator) -> Iterator[Turn]:
        """First the unlabelled mini-batches, then the labelled ones, drawn evenly over the pseudo-classes."""
        codes_S = data.train.codes_S.get("cluster", np.zeros(len(data.train), np.int64))
        for stage, chunks in chunks_by_stage(config, data).items():
            if len(chunks):
                yield from (Turn(batch, (stage,)) for batch in evenly(chunks, codes_S[chunks], config.batch_size, rng))

    def relabel(
        self,
        config: DeepEmoClusterConfig,
        data: TrainingData,
        features: Callable[[Callable[[Any, Batch], Tensor], np.ndarray], Tensor],
        rngs: Sequence[np.random.Generator],
        before: Sequence[Mapping[str, np.ndarray]],
    ) -> Sequence[Relabelled] | None:
        """Pseudo-classes `cluster` by K-means, of labelled and unlabelled chunks apart; -1 for chunks out of use.

        With each part's metrics: see :func:`watched`.
        """
        if not config.clustered:
            return None
        codes_KS = np.full((len(rngs), len(data.train)), -1, np.int64)
        metrics: list[dict[str, float]] = [{} for _ in rngs]
        for stage, chunks in chunks_by_stage(config, data).items():
            if not len(chunks):
                continue
            h_KNH = features(hidden, chunks)
            # A lane that has diverged gets clusters of nothing, and a metric by which it fails alone.
            fine_K = h_KNH.isfinite().flatten(1).all(dim=1)
            h_KNH[~fine_K] = 0
            codes_KN = kmeans(h_KNH, config.clusters, rngs, config.kmeans_iterations).codes.cpu().numpy()
            codes_KS[:, chunks] = codes_KN
            for lane, (codes_N, fine) in enumerate(zip(codes_KN, fine_K.tolist(), strict=True)):
                old = before[lane].get("cluster")
                found = watched(data, stage, chunks, codes_N, None if old is None else old[chunks])
                metrics[lane] |= found if fine else dict.fromkeys(found, math.nan)
        return [Relabelled({"cluster": codes_S}, own) for codes_S, own in zip(codes_KS, metrics, strict=True)]

    def artifacts(
        self, data: TrainingData, codes: Mapping[str, np.ndarray], watched: Sequence[Mapping[str, float]]
    ) -> dict[str, bytes]:
        """What is predicted by cluster, as a table and a picture: figure 3; and how the clusters settle."""
        return analysis.cluster_artifacts(data, codes["cluster"]) | analysis.settling_artifacts(watched)

    def renewed(self, config: DeepEmoClusterConfig) -> tuple[str, ...]:
        """The cluster classifier's output layers, whose pseudo-classes are new."""
        if not config.clustered:
            return ()
        return ("top", "top_unlabelled") if config.unlabeled_size else ("top",)

    def predict(self, model: Model, batch: Batch) -> dict[str, Tensor]:
        """Posteriors (B, C), or z-normed attributes (B, A), of chunks; a sentence's are their mean (section 4.1)."""
        return steps.outputs(model.regressor(model.encoder(batch["x"])), model.task)


def _labelled(loss: Any, minimise: str, updates: tuple[str, ...], *also: Also) -> Phase:
    """Stage 2: "both" SGD and Adam step on all weights, as in the authors' code."""
    return Phase("labelled", loss, minimise, updates, SGD, also=(Also(updates, ADAM), *also))


FAMILY = DeepEmoClusterFamily()
