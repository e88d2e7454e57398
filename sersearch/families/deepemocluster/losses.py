"""Losses of DeepEmoCluster (Lin et al., ICASSP 2021) and of its baselines, one function an equation.

The first term of Eq. 3 is in `common/losses.py`. B mini-batch of chunks, K clusters, D bands, T frames, H units.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def joint_loss(supervised: Tensor, lambda_: Tensor, unsupervised: Tensor) -> Tensor:
    """Eq. 3: (1 - CCC) + lambda * CE; in the baselines' place of CE stands what they reconstruct."""
    return supervised + lambda_ * unsupervised


def cluster_loss(logits_BK: Tensor, codes_B: Tensor) -> Tensor:
    """CE of Eq. 3: cross-entropy of the cluster classifier's softmax with the pseudo-classes."""
    return F.cross_entropy(logits_BK, codes_B)


def reconstruction_loss(x_BTD: Tensor, x_hat_BTD: Tensor) -> Tensor:
    """CNN-AE, section 5.1: the mean squared error of the reconstructed input, over its elements."""
    return F.mse_loss(x_hat_BTD, x_BTD)


def divergence(mean_BH: Tensor, log_variance_BH: Tensor) -> Tensor:
    """CNN-VAE: KL(N(mean, variance) || N(0, I)), the sum over latent dimensions, the mean over the mini-batch.

    Kingma & Welling, "Auto-encoding variational Bayes" (ICLR 2014), appendix B.
    """
    each_BH = mean_BH.square() + log_variance_BH.exp() - 1 - log_variance_BH
    return each_BH.sum(dim=1).mean() / 2


def variational_loss(reconstruction: Tensor, kl: Tensor, elements: int) -> Tensor:
    """CNN-VAE: the negative evidence bound of an input of `elements` numbers, divided by that number.

    With a decoder of variance 1/2, so that its first term is the CNN-AE's loss: E ||x - x_hat||^2 + KL.
    """
    return reconstruction + kl / elements


def reparametrised(mean_BH: Tensor, log_variance_BH: Tensor, normal_BH: Tensor) -> Tensor:
    """CNN-VAE: z = mean + deviation * epsilon, the "reparametrized latent vectors" of section 5.1."""
    return torch.addcmul(mean_BH, (log_variance_BH / 2).exp(), normal_BH)


__all__ = ["cluster_loss", "divergence", "joint_loss", "reconstruction_loss", "reparametrised", "variational_loss"]
