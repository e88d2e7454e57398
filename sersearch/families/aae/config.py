"""Hyperparameters of the multi-task adversarial autoencoder (MTL-AAE), Latif et al., TAFFC 2020."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sersearch.family import Config, lane, static


@dataclass(frozen=True, kw_only=True)
class AAEConfig(Config):
    """Defaults are the paper's values for categorical emotions on IEMOCAP (section 5.1)."""

    alpha: float = lane(0.4, "alpha of Eq. 1, weight of the reconstruction loss; stated, section 5.1", low=0.0)
    beta: float = lane(
        0.6, "beta of Eq. 2, weight of emotion against gender and speaker; stated, section 5.1", low=0.0, high=1.0
    )
    learning_rate: float = lane(1e-4, "SGD's learning rate; stated, section 4.3", low=0.0, low_open=True)
    momentum: float = lane(0.9, "SGD's momentum; not stated", low=0.0, high=1.0)
    dropout: float = lane(0.3, "dropout between the two dense layers of a classifier; stated, 4.3", low=0.0, high=0.99)

    model: Literal["aae", "ae", "cnn"] = static(
        "aae", "aae: the proposed model; ae: without the discriminator; cnn: supervised, two shared convolutions (5.2)"
    )
    tasks: Literal["mtl", "gender", "speaker", "stl"] = static(
        "mtl",
        "mtl: emotion, gender, speaker; gender, speaker: emotion and that one task (tables 5 and 6); stl: emotion "
        "alone, L_c = beta L_E",
    )
    generator_loss: Literal["non_saturating", "saturating"] = static(
        "non_saturating", "encoder's adversarial loss: -log D(E(x)), settled here, or log(1 - D(E(x))), as Eq. 5 prints"
    )
    channels: tuple[int, int, int] = static(
        (32, 32, 32), "channels of the three convolutions; the last gives the 16 x 16 x 32 latent code of section 4.3"
    )
    hidden: int = static(128, "units of a classifier's first dense layer, the d-vector's size; not stated", low=1)
    batch_size: int = static(32, "mini-batch size in segments; stated, section 4.3", low=2)
    segment_frames: int = static(256, "frames of a segment (10 ms each), the context window; stated, 4.2", low=16)
    segment_hop: int = static(256, "frames between starts of segments; not stated", low=1)
    pretrain_epochs: int = static(10, "epochs on the auxiliary corpus before the emotional data; not stated", low=1)
