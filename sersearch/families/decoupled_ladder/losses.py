"""Loss of the decoupled ladder network (Leem et al., Interspeech 2021)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sersearch.families.common import losses


def dln_loss(c_p: Tensor, lambda_l: Tensor, c_r: Sequence[Tensor]) -> Tensor:
    """C_DLN = C_p(y, h_e) + sum_{l=0}^{L-2} lambda^l C_r^l(z_hat, z) + lambda^{L-1} C_r^{L-1}(z_hat, z_r).

    So it is Eq. 1 of the ladder, with one lambda for all layers; the last of `c_r` is the cost of z_r.
    """
    return losses.ladder_loss(c_p, lambda_l, c_r)


__all__ = ["dln_loss"]
