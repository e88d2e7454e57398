"""Hyperparameters of the multimodal ladder network and its baselines, Goncalves & Busso, ICASSP 2023."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sersearch.errors import ConfigError
from sersearch.family import Config, lane, static


@dataclass(frozen=True, kw_only=True)
class MultimodalLadderConfig(Config):
    """Defaults are the paper's values (section 5), and where it states none, such that the size is the paper's."""

    lambda_0: float = lane(0.5, "lambda_0 of Eq. 4, weight of reconstructing the ladders' inputs X; stated", low=0.0)
    lambda_1: float = lane(0.5, "lambda_1 of Eq. 4, weight of reconstructing their first hidden layer; stated", low=0.0)
    lambda_2: float = lane(0.1, "lambda_2 of Eq. 4, weight of reconstructing their top layer; stated", low=0.0)
    noise_variance: float = lane(
        0.2, "sigma^2 of the Gaussian noise on inputs, on X and on each ladder's layers; stated", low=0.0
    )
    dropout: float = lane(0.25, "p of the dropout behind attention layers; stated", low=0.0, high=0.99)
    learning_rate: float = lane(7.25e-4, "Adam's initial learning rate; stated", low=0.0, low_open=True)

    model: Literal[
        "multimodal_ladder", "without_unimodal", "without_audiovisual", "auxformer", "mult", "parthasarathy"
    ] = static(
        "multimodal_ladder",
        "multimodal_ladder: the proposed model; without_unimodal: ablation 1, no unimodal cross-layer ladders; "
        "without_audiovisual: ablation 2, no audiovisual ladder; auxformer: baseline 1, no ladders at all; mult: "
        "baseline 2, Tsai et al. 2019; parthasarathy: baseline 3, Parthasarathy & Sundaram 2020 (section 5)",
    )
    setting: Literal["L", "UL"] = static(
        "L",
        "L: labelled data only; UL: an unlabelled mini-batch before each labelled one, which the paper has no "
        "experiment with and names as its extension (section 6); without reconstruction it is L",
    )
    product: Literal["clean", "noisy"] = static(
        "clean",
        "third input of the cross-layer ladders' g; clean: u * z of the modality to be reconstructed, as section 3.4 "
        "prints; noisy: u * z_noisy of the other one, as Pezeshki et al. 2016 have it in a ladder of one modality",
    )
    layers: int = static(5, "depth of each transformer; stated", low=1, high=100)
    heads: int = static(10, "attention heads; stated", low=1)
    width: int = static(50, "features of a frame within the transformers, a multiple of heads; not stated", low=1)
    channels: int = static(256, "channels of the CNNs' three convolutions; not stated", low=1)
    kernel: int = static(9, "frames of their kernels, odd; not stated", low=1)
    pool: int = static(4, "frames of their first two max-poolings; not stated", low=1)
    pooled: int = static(
        4, "frames that the last max-pooling leaves of every stream, whatever its length; not stated", low=1
    )
    hidden: tuple[int, int] = static((256, 64), "units of the ladders' layers 1 and 2; not stated")
    batch_size: int = static(64, "size of a labelled mini-batch, and of an unlabelled one; stated", low=2)
    epoch_over: Literal["labelled", "unlabelled"] = static(
        "labelled", "the set that an epoch of UL passes once; not stated"
    )
    frames: int = static(250, "N_a, acoustic frames: longer ones are cut, shorter padded; not stated", low=1)
    visual_frames: int = static(120, "N_v, visual frames, likewise; not stated", low=1)

    @property
    def reconstructs(self) -> bool:
        """Whether the model has ladders."""
        return self.model in ("multimodal_ladder", "without_unimodal", "without_audiovisual")

    @property
    def learns_unlabelled(self) -> bool:
        """Whether there are unlabelled mini-batches."""
        return self.setting == "UL" and self.reconstructs

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ConfigError(
                f"params.width: {self.width} features can't be shared among {self.heads} heads; expected a multiple of "
                f"params.heads, such as {self.heads * max(round(self.width / self.heads), 1)}"
            )
        if self.kernel % 2 == 0:
            raise ConfigError(
                f"params.kernel: {self.kernel} has no middle, so the length would change; expected an odd number"
            )
