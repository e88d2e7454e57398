"""Equations of the multimodal ladder paper (Goncalves & Busso, ICASSP 2023, section 3), one function an equation.

B mini-batch, T query frames, S key frames, W features of a head; leading dimensions may be more.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sersearch.families.common.losses import summed


def attention(q_TW: Tensor, k_SW: Tensor, v_SW: Tensor, divisor: float) -> Tensor:
    """Eq. 1: softmax(Q K^T / sqrt(divisor)) V, (..., T, W). In cross-modal layers N, the keys' frames, divides."""
    weights_TS = torch.matmul(q_TW / math.sqrt(divisor), k_SW.transpose(-1, -2)).softmax(dim=-1)
    return torch.matmul(weights_TS, v_SW)


def weighted(lambda_l: Sequence[Tensor], c_r: Sequence[Tensor]) -> Tensor:
    """Second term of Eq. 2: sum_l lambda_l * C_r(l)."""
    return summed([weight * cost for weight, cost in zip(lambda_l, c_r, strict=True)])


def supervised_loss(c_s_av: Tensor, c_s_a: Tensor, c_s_v: Tensor) -> Tensor:
    """Eq. 3: L_sup = (C_s_AV + C_s_A + C_s_V) / 3."""
    return (c_s_av + c_s_a + c_s_v) / 3


def unsupervised_loss(
    lambda_l: Sequence[Tensor], c_r_av: Sequence[Tensor], c_r_a_to_v: Sequence[Tensor], c_r_v_to_a: Sequence[Tensor]
) -> Tensor:
    """Eq. 4: L_uns = sum_l lambda_l * (C_r_AV(l) + (C_r_A->V(l) + C_r_V->A(l)) / 2).

    As in Eq. 2, each level has its own lambda. Ladders that an ablation removes have no costs: empty sequences.
    """
    cross = [(a + v) / 2 for a, v in zip(c_r_a_to_v, c_r_v_to_a, strict=True)]
    return summed([weighted(lambda_l, costs) for costs in (c_r_av, cross) if costs])


def total_loss(l_sup: Tensor, l_uns: Tensor) -> Tensor:
    """Eq. 5: L_total = L_sup + L_uns."""
    return l_sup + l_uns


__all__ = ["attention", "supervised_loss", "total_loss", "unsupervised_loss", "weighted"]
