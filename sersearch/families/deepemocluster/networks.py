"""Networks of DeepEmoCluster, section 4.2 and table 1, and of its baselines, section 5.1.

B mini-batch of chunks, D bands, T frames, K clusters, H units, O outputs (attributes or classes).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.family import ModelSpec

STRIDES = (1, 1, 2, 2, 2, 2, 2)
"""Of the seven convolutions: table 1."""
BOUND = 3.0
"""Standard deviations beyond which the input is cut off, as in the authors' code."""
TOP_DEVIATION = 0.01
"""Of the weights that a cluster classifier's output layer begins each epoch with, as in the authors' code."""

Size = tuple[int, int]


def image(x_BDT: Tensor) -> Tensor:
    """Input images (B, 1, T, D): z-normed features within three deviations, with 0 for what is no number."""
    x_BTD = torch.nan_to_num(x_BDT.transpose(1, 2)).clamp(-BOUND, BOUND)
    # The one channel's stride comes last: so all that follows runs channels-last, 1.2 to 1.5 times as fast on a CPU.
    return x_BTD.contiguous().unsqueeze(3).permute(0, 3, 1, 2)


def sizes(frames: int, bands: int) -> list[Size]:
    """Height and width of the input and behind each convolution: 62 x 128 becomes 2 x 4."""
    found = [(frames, bands)]
    for stride in STRIDES:
        height, width = found[-1]
        found.append((-(-height // stride), -(-width // stride)))
    return found


class Encoder(nn.Module):
    """f_enc, table 1: seven convolutions with batch norm and ReLU, flattened; a linear layer with ReLU.

    The convolutions have no bias, which batch norm takes away. (The authors' have one: see `importing.py`.) Dropout
    is the losses' part.
    """

    def __init__(self, channels: Sequence[int], units: int, spec: ModelSpec) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for (inputs, outputs), stride in zip(pairwise((1, *channels)), STRIDES, strict=True):
            conv = nn.Conv2d(inputs, outputs, kernel_size=3, stride=stride, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(outputs), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)
        height, width = sizes(spec.frames, spec.dims)[-1]
        self.linear = nn.Linear(channels[-1] * height * width, units)

    def forward(self, x_BDT: Tensor) -> Tensor:
        """Representations h_j (B, H) of chunks."""
        return torch.relu(self.linear(self.convolutions(image(x_BDT)).flatten(1)))


class Decoder(nn.Module):
    """The baselines' decoder: it "mirrors the layers of the encoder", with transposed convolutions (section 5.1)."""

    def __init__(self, channels: Sequence[int], units: int, spec: ModelSpec) -> None:
        super().__init__()
        self._sizes = sizes(spec.frames, spec.dims)
        self._channels = channels[-1]
        height, width = self._sizes[-1]
        self.linear = nn.Linear(units, channels[-1] * height * width)
        layers: list[nn.Module] = []
        ways = list(zip(pairwise((1, *channels)), STRIDES, pairwise(self._sizes), strict=True))
        for level, ((outputs, inputs), stride, ((height, width), (low, narrow))) in reversed(list(enumerate(ways))):
            # What a convolution of stride 2 makes of 61 rows it makes of 62, too: the padding tells which they were.
            rest = (height - (stride * (low - 1) + 1), width - (stride * (narrow - 1) + 1))
            first = level == 0
            layers.append(nn.ConvTranspose2d(inputs, outputs, 3, stride, padding=1, output_padding=rest, bias=first))
            if not first:  # the input is z-normed: any real number
                layers += [nn.BatchNorm2d(outputs), nn.ReLU()]
        self.convolutions = nn.Sequential(*layers)

    def forward(self, h_BH: Tensor) -> Tensor:
        """Reconstructed images (B, 1, T, D)."""
        flat = torch.relu(self.linear(h_BH))
        x_hat: Tensor = self.convolutions(flat.reshape(-1, self._channels, *self._sizes[-1]))
        return x_hat


class Model(nn.Module):
    """What all models have: the encoder and, of one hidden layer, the emotional regressor f_emo."""

    def __init__(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> None:
        super().__init__()
        units = config.units
        self.encoder = Encoder(config.channels, units, spec)
        self.regressor = nn.Sequential(nn.Linear(units, units), nn.ReLU(), nn.Linear(units, spec.labels.outputs))
        self.task = spec.labels.task


class DeepEmoCluster(Model):
    """The proposed model: its cluster classifier f_ctr is the child `cluster`, the hidden layer, and an output layer.

    Labelled and unlabelled chunks are clustered apart, so that cluster 3 of the ones has nothing to do with cluster 3
    of the others: each set has an output layer of its own, `top` and `top_unlabelled`.
    """

    def __init__(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        self.cluster = nn.Linear(config.units, config.units)
        self.top = _top(config)
        if config.unlabeled_size:
            self.top_unlabelled = _top(config)

    def hidden(self, h_BH: Tensor) -> Tensor:
        """The cluster classifier's hidden layer before its ReLU (B, H): what K-means sees."""
        hidden_BH: Tensor = self.cluster(h_BH)
        return hidden_BH


def _top(config: DeepEmoClusterConfig) -> nn.Linear:
    """Output layer of the cluster classifier: logits (B, K)."""
    top = nn.Linear(config.units, config.clusters)
    nn.init.normal_(top.weight, std=TOP_DEVIATION)
    nn.init.zeros_(top.bias)
    return top


class Autoencoder(Model):
    """CNN-AE: reconstructs the input from the encoder's output."""

    def __init__(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        self.decoder = Decoder(config.channels, config.units, spec)


class VariationalAutoencoder(Autoencoder):
    """CNN-VAE: reconstructs it from latent vectors whose means and variances come from the encoder's output."""

    def __init__(self, config: DeepEmoClusterConfig, spec: ModelSpec) -> None:
        super().__init__(config, spec)
        self.latent = nn.Linear(config.units, 2 * config.units)

    def moments(self, h_BH: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and logarithm of the variance of the latent vectors, (B, H) each."""
        mean_BH, log_variance_BH = self.latent(h_BH).chunk(2, dim=1)
        return mean_BH, log_variance_BH


MODELS: dict[str, type[Model]] = {
    "deepemocluster": DeepEmoCluster,
    "unsupervised": DeepEmoCluster,
    "cnn_regressor": Model,
    "cnn_ae": Autoencoder,
    "cnn_vae": VariationalAutoencoder,
}

__all__ = [
    "MODELS", "Autoencoder", "Decoder", "DeepEmoCluster", "Encoder", "Model", "VariationalAutoencoder", "image",
    "sizes",
]  # fmt: skip
