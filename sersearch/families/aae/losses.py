"""Losses of the MTL-AAE paper (Latif et al., TAFFC 2020), one function an equation.

x_BDT a batch of spectrogram segments, logits_BC a classifier's outputs, labels_B label codes (-1: no label).
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

REAL, FAKE = 1, 0


def reconstruction_loss(x_BDT: Tensor, x_hat_BDT: Tensor) -> Tensor:
    """Eq. 3: L_AE = ||x - x_hat||^2, here the mean over elements, so that alpha doesn't depend on the size."""
    return F.mse_loss(x_hat_BDT, x_BDT)


def autoencoder_loss(alpha: Tensor, l_ae: Tensor) -> Tensor:
    """First term of Eq. 1: alpha * L_AE (in Eq. 5 the text prints beta for it)."""
    return alpha * l_ae


def classification_loss(beta: Tensor, l_e: Tensor, *secondary: Tensor) -> Tensor:
    """Eq. 2: L_c = beta * L_E + (1 - beta) * (L_G + L_S), or with one of the `secondary` tasks (tables 5 and 6)."""
    return beta * l_e + (1 - beta) * sum(secondary[1:], start=secondary[0])


def single_task_loss(beta: Tensor, l_e: Tensor) -> Tensor:
    """Eq. 2 with the emotion classifier alone, section 5.1: L_c = beta * L_E."""
    return beta * l_e


def discriminator_loss(real_B2: Tensor, fake_B2: Tensor) -> Tensor:
    """Eq. 4, negated to be minimised: -(E log D(d) + E log(1 - D(E(x)))), D the softmax over real and fake."""
    log_real = F.log_softmax(real_B2, dim=1)[:, REAL].mean()
    log_fake = F.log_softmax(fake_B2, dim=1)[:, FAKE].mean()
    return -(log_real + log_fake)


def generator_loss(fake_B2: Tensor, *, saturating: bool) -> Tensor:
    """First term of Eq. 5: E log(1 - D(E(x))) when saturating, else its non-saturating form -E log D(E(x))."""
    log_D: Tensor = F.log_softmax(fake_B2, dim=1)
    return log_D[:, FAKE].mean() if saturating else -log_D[:, REAL].mean()


__all__ = [
    "autoencoder_loss", "classification_loss", "discriminator_loss", "generator_loss", "reconstruction_loss",
    "single_task_loss",
]  # fmt: skip
