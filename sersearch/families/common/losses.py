"""Losses of the ladder papers (Parthasarathy & Busso, TASLP 2020), one function an equation, and what others share.

B mini-batch, H units of a layer, A attributes, C classes.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from sersearch import metrics
from sersearch.family import Batch


def ccc_loss(predicted_B: Tensor, truth_B: Tensor) -> Tensor:
    """C_s of Eq. 1: 1 - CCC over the mini-batch (section IV-D), of at least two members that differ."""
    return 1 - metrics.ccc(predicted_B, truth_B)


def reconstruction_loss(z_hat_BH: Tensor, z_BH: Tensor) -> Tensor:
    """C_d(l) of Eq. 1: the mean squared error (section IV-D) of a layer's normalised reconstruction."""
    return F.mse_loss(z_hat_BH, z_BH)


def ladder_loss(c_s: Tensor, lambda_l: Tensor, c_d: Sequence[Tensor]) -> Tensor:
    """Eq. 1: C = C_s + sum_l lambda_l * C_d(l), one lambda for all layers as in section IV-D."""
    return c_s + unsupervised_loss(lambda_l, c_d)


def unsupervised_loss(lambda_l: Tensor, c_d: Sequence[Tensor]) -> Tensor:
    """Second term of Eq. 1, all that an unlabelled mini-batch has (section IV-C): sum_l lambda_l * C_d(l)."""
    return lambda_l * summed(c_d)


def summed(c_d: Sequence[Tensor]) -> Tensor:
    """sum_l C_d(l): what is left of the second term of Eq. 1 without its weight."""
    return torch.stack(list(c_d)).sum(0)


def multitask_loss(alpha: Tensor, beta: Tensor, c_aro: Tensor, c_val: Tensor, c_dom: Tensor) -> Tensor:
    """Eq. 2: alpha * C_aro + beta * C_val + (1 - alpha - beta) * C_dom; as C_s of Eq. 1 it gives Eq. 3."""
    # Of 1 - 0.6 - 0.4 float32 leaves -3e-8, of which NAdam would make whole steps.
    of_dominance = torch.round(1e6 * (1 - alpha - beta)) / 1e6
    return alpha * c_aro + beta * c_val + of_dominance * c_dom


def cross_entropy(logits_BC: Tensor, labels_B: Tensor) -> Tensor:
    """Mean cross-entropy over the labelled members of the batch; 0 where there is none."""
    labelled = (labels_B >= 0).sum().clamp(min=1)
    return F.cross_entropy(logits_BC, labels_B, ignore_index=-1, reduction="sum") / labelled


def task_loss(outputs_BO: Tensor, batch: Batch) -> Tensor:
    """Of what is predicted: the cross-entropy of classes, or 1 - CCC of attributes, of several the mean."""
    if "attributes" not in batch:
        return cross_entropy(outputs_BO, batch["emotion"])
    return ccc_loss(outputs_BO.T, batch["attributes"].T).mean()


__all__ = [
    "ccc_loss", "cross_entropy", "ladder_loss", "multitask_loss", "reconstruction_loss",
    "summed", "task_loss", "unsupervised_loss",
]  # fmt: skip
