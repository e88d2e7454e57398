"""Hyperparameters that both ladder families have: Parthasarathy & Busso, TASLP 2020, section IV-D."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sersearch.errors import ConfigError
from sersearch.family import Config, lane, static


@dataclass(frozen=True, kw_only=True)
class LadderHyperparameters(Config):
    """Base of the ladder families' configs; sections and figures are those of the TASLP paper."""

    alpha: float = lane(
        0.7,
        "alpha of Eq. 2, weight of arousal among three attributes; figure 4's best for arousal: dominance gets none",
        low=0.0,
        high=1.0,
    )
    beta: float = lane(
        0.3, "beta of Eq. 2, weight of valence; alpha + beta <= 1; figure 4's best for arousal", low=0.0, high=1.0
    )
    lambda_l: float = lane(
        1.0, "lambda_l of Eq. 1, weight of each layer's reconstruction cost; stated, section IV-D", low=0.0
    )
    noise_variance: float = lane(
        0.3, "sigma^2 of the Gaussian noise on each level of the noisy encoder; stated, section IV-D", low=0.0
    )
    input_dropout: float = lane(
        0.1, "the ladder's dropout between input and first hidden layer; stated, section IV-D", low=0.0, high=0.99
    )
    learning_rate: float = lane(5e-5, "NAdam's learning rate; stated, section IV-D", low=0.0, low_open=True)

    setting: Literal["L", "UL"] = static(
        "UL", "L: labelled data only; UL: an unlabelled mini-batch before each labelled one (section IV-C)"
    )
    encoder: Literal["dense", "cnn"] = static(
        "dense", "dense: one vector an utterance (IV-D); cnn: convolutions over a sequence of frames (III-D)"
    )
    combinator: Literal["mlp", "gaussian"] = static(
        "mlp", "the decoder's g; mlp: Pezeshki et al. 2016; gaussian: Rasmus et al. 2015; not stated"
    )
    hidden: tuple[int, ...] = static((256, 256), "units of the hidden layers; stated, section IV-D")
    batch_size: int = static(256, "size of a labelled mini-batch, and of an unlabelled one; not stated", low=2)
    epoch_over: Literal["labelled", "unlabelled"] = static(
        "labelled", "the set that an epoch of UL passes once; labelled is stated for cnn (V-C), else not stated"
    )
    channels: int = static(64, "channels of cnn's four convolutions; in a figure that isn't at hand", low=1)
    kernel: int = static(5, "frames of their kernels, odd; in a figure that isn't at hand", low=1)
    pool: int = static(4, "frames of their max-pooling; in a figure that isn't at hand", low=1)
    frames: int = static(1000, "frames of cnn's input, T: longer ones are cut, shorter padded; stated, III-D", low=1)

    @property
    def learns_unlabelled(self) -> bool:
        """Whether there are unlabelled mini-batches."""
        return self.setting == "UL"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.alpha + self.beta > 1 + 1e-9:
            raise ConfigError(
                f"params.alpha, params.beta: {self.alpha:g} + {self.beta:g} = {self.alpha + self.beta:g}; expected a "
                "sum of at most 1, because dominance has the weight 1 - alpha - beta"
            )
