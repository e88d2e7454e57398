"""The two-step baseline of the ladder paper: features of a trained ladder network, then support vector regression.

Parthasarathy & Busso, TASLP 2020, section V-A ("[43] Lad + L + STL + SVR"), after Huang et al., ACII Asia 2018.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from sersearch.errors import ConfigError
from sersearch.families.ladder.networks import Ladder
from sersearch.families.ladder.svr import two_step

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable
    from sersearch.export import Predictor


def check_two_step(predictor: Predictor) -> Ladder:
    """The network whose features the baseline takes; :class:`ConfigError` for any but a ladder of attributes."""
    if not isinstance(predictor.model, Ladder):
        raise ConfigError(
            f"--svr: the two-step baseline takes its features from a ladder network, not from "
            f"{type(predictor.model).__name__} of family {predictor.family.name}; leave it out, or give a study of "
            "family ladder"
        )
    if not predictor.labels.attributes:
        raise ConfigError(
            "--svr: the two-step baseline is a regressor, and this study tells classes apart; leave it out, or give a "
            "study with --target activation, valence, dominance or attributes"
        )
    return predictor.model


def two_step_outputs(
    predictor: Predictor, table: FeatureTable, train: np.ndarray, truth: Tensor, parts: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    """Attributes (U, A) on the corpus's scale for the rows of each part, by a regressor for each attribute.

    They are fitted on the rows `train` and their `truth` (N, A), z-normed. An utterance's features are the mean of the
    last hidden layer over its segments.
    """
    model = check_two_step(predictor)
    mean, std = (truth.new_tensor(moments).numpy() for moments in (predictor.labels.mean, predictor.labels.std))
    z_NA = (truth.numpy() - mean) / std

    def features(rows: np.ndarray) -> np.ndarray:
        vectors = [predictor.mean(lambda batch: model.hidden(batch["x"]), table[int(row)]) for row in rows]
        return torch.stack(vectors).numpy()

    train_NH, x_MH = features(train), features(np.concatenate(list(parts.values())))
    z_MA = np.stack([two_step(train_NH, z_N, x_MH) for z_N in z_NA.T], axis=1)
    values = predictor.labels.denormed(torch.from_numpy(z_MA))
    return dict(zip(parts, torch.split(values, [len(rows) for rows in parts.values()]), strict=True))
