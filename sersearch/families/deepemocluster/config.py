"""Hyperparameters of DeepEmoCluster and its baselines, Lin, Sridhar & Busso, ICASSP 2021."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sersearch.family import Config, lane, static


@dataclass(frozen=True, kw_only=True)
class DeepEmoClusterConfig(Config):
    """Defaults are the paper's values (section 5.1); what it leaves out is as in its authors' public code."""

    lambda_: float = lane(1.0, "lambda of Eq. 3, weight of the unsupervised loss; stated, section 5.1", low=0.0)
    learning_rate: float = lane(
        0.001, "SGD's learning rate; stated, of the feature encoder and the cluster classifier", low=0.0, low_open=True
    )
    regressor_rate: float = lane(
        0.0005, "Adam's learning rate; stated, of the emotional regressor", low=0.0, low_open=True
    )
    head_rate: float = lane(
        0.05,
        "SGD's learning rate of the cluster classifier's output layer; not stated, as in the authors' code",
        low=0.0,
        low_open=True,
    )
    dropout: float = lane(0.5, "p of table 1, behind the encoder's linear layer; stated", low=0.0, high=0.99)

    model: Literal["deepemocluster", "unsupervised", "cnn_regressor", "cnn_ae", "cnn_vae"] = static(
        "deepemocluster",
        "deepemocluster: the proposed model; unsupervised: its clusters without the regressor, which stays as it was "
        "drawn (5.4); the others: baselines (5.1) without clusters, of which cnn_regressor learns from labels alone, "
        "and cnn_ae and cnn_vae reconstruct their input, too",
    )
    clusters: int = static(
        10, "number of K-means clusters; 10 is stated for arousal and for tables 2 and 3 (5.2, 5.3)", low=2
    )
    unlabeled_size: int = static(
        40_000,
        "largest number of unlabelled sentences, the smaller sets within the larger; 0: fully supervised; table 3 has "
        "0, 15000 and 40000",
        low=0,
    )
    kmeans_iterations: int = static(20, "iterations of K-means in an epoch; not stated, as in the authors' code", low=1)
    chunks: int = static(11, "C of Eq. 1, chunks of a sentence, whatever its length; stated", low=1)
    chunk_frames: int = static(
        62, "w_c of Eq. 1, frames of a chunk (16 ms each); 1 s is stated, 62 as in the authors' code", low=1
    )
    batch_size: int = static(
        64,
        "chunks in a mini-batch, whichever sentences they are of; 64 is stated; the authors' code takes as many as 64 "
        "sentences have, 704",
        low=2,
    )
    channels: tuple[int, int, int, int, int, int, int] = static(
        (32, 32, 64, 64, 128, 128, 128), "channels of the encoder's seven convolutions; stated, table 1"
    )
    units: int = static(
        256, "nodes of the encoder's linear layer (stated, table 1) and of the hidden layers above it", low=1
    )

    @property
    def clustered(self) -> bool:
        """Whether the model has clusters."""
        return self.model in ("deepemocluster", "unsupervised")

    @property
    def learns_unlabelled(self) -> bool:
        """Not the CNN-regressor, nor a fully supervised model."""
        return self.unlabeled_size > 0 and self.model != "cnn_regressor"
