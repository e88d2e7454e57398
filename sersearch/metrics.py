"""The field's measures on tensors, by lane: predictions (..., N) against labels (N,) or (..., N) give (...,).

Leading dimensions are lanes: models trained side by side and judged on the same N utterances. Nothing here leaves the
device or loops over lanes. Label -1 means unlabelled; such utterances are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def ccc(predicted: Tensor, truth: Tensor) -> Tensor:
    """Concordance correlation coefficient of (..., N) predictions with (N,) or (..., N) values; (...,), in [-1, 1].

    ``2 cov(x, y) / (var(x) + var(y) + (mean(x) - mean(y))^2)`` with moments over N (population moments), Eq. 1 of
    L. Lin, "A concordance correlation coefficient to evaluate reproducibility", Biometrics 45 (1989).
    NaN where both are one and the same constant. Differentiable, so `1 - ccc` is a loss.
    """
    truth = truth.to(predicted.dtype)
    mean_x, mean_y = predicted.mean(-1), truth.mean(-1)
    x, y = predicted - mean_x[..., None], truth - mean_y[..., None]
    return 2 * (x * y).mean(-1) / (x.square().mean(-1) + y.square().mean(-1) + (mean_x - mean_y).square())


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts (..., C, C) of utterances by label (row) and prediction (column), from class codes (..., N)."""
    labels = labels.expand_as(predicted)
    cell = labels.clamp(min=0) * classes + predicted
    counts = torch.zeros(*predicted.shape[:-1], classes * classes, dtype=torch.int64, device=predicted.device)
    return counts.scatter_add(-1, cell, (labels >= 0).long()).reshape(*predicted.shape[:-1], classes, classes)


def ua(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Unweighted accuracy: the mean recall over the classes that occur in the labels; NaN without any label."""
    counts = confusion(predicted, labels, classes).double()
    # A class without a label has recall 0/0 = NaN and drops out of the mean.
    return (counts.diagonal(dim1=-2, dim2=-1) / counts.sum(-1)).nanmean(-1)


def wa(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Weighted accuracy: the share of labelled utterances that are right; NaN without any label."""
    counts = confusion(predicted, labels, classes).double()
    return counts.diagonal(dim1=-2, dim2=-1).sum(-1) / counts.sum((-2, -1))


def f1(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Macro F1: the mean of ``2 TP / (2 TP + FP + FN)`` over the classes that occur in labels or predictions."""
    counts = confusion(predicted, labels, classes).double()
    return (2 * counts.diagonal(dim1=-2, dim2=-1) / (counts.sum(-1) + counts.sum(-2))).nanmean(-1)


def precision(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Macro precision: the mean of ``TP / (TP + FP)`` over the classes that occur in labels or predictions.

    A class that is never predicted has precision 0.
    """
    counts = confusion(predicted, labels, classes).double()
    chosen = counts.sum(-2)
    each = counts.diagonal(dim1=-2, dim2=-1) / chosen.clamp(min=1)
    return torch.where(chosen + counts.sum(-1) > 0, each, torch.nan).nanmean(-1)


OF_CLASSES = {measure.__name__: measure for measure in (ua, wa, precision, f1)}
"""Those of class codes, by name."""


def target_metrics(
    outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], attributes: Sequence[str]
) -> dict[str, Tensor]:
    """What a model is judged by, each by lane (K,): UA and WA of posteriors (K, U, C), or CCCs of values (K, U, A).

    `outputs` and `labels` hold `emotion` (codes (U,)) or `attributes` ((U, A)); `ccc` is the mean over the
    `attributes`, `ccc_<attribute>` each one's.
    """
    if "attributes" not in outputs:
        posteriors = outputs["emotion"]
        predicted, classes = posteriors.argmax(dim=-1), posteriors.shape[-1]
        return {m.__name__: m(predicted, labels["emotion"], classes) for m in (ua, wa)}
    each = ccc(outputs["attributes"].transpose(-1, -2), labels["attributes"].transpose(-1, -2))  # (K, A)
    return {"ccc": each.mean(-1)} | {f"ccc_{name}": each[..., a] for a, name in enumerate(attributes)}


def eer(scores: Tensor, same: Tensor) -> Tensor:
    """Equal error rate of verification scores (..., N), higher meaning "same"; `same` (N,) or (..., N) is the truth.

    The rate at which false alarms equal misses, with straight lines between the ROC curve's points (one point a
    distinct score). NaN where all trials are of one kind or a score is NaN.
    """
    order = scores.double().argsort(dim=-1, descending=True)
    ranked = scores.double().gather(-1, order)
    hit = same.bool().expand_as(scores).gather(-1, order).double()
    miss = 1 - hit.cumsum(-1) / hit.sum(-1, keepdim=True)
    alarm = (1 - hit).cumsum(-1) / (1 - hit).sum(-1, keepdim=True)
    # Trials that share a score are accepted together: each takes the rates behind the last one of its group.
    position = torch.arange(scores.shape[-1], device=scores.device).expand_as(scores)
    ends_group = torch.cat([ranked[..., :-1] != ranked[..., 1:], torch.ones_like(ranked[..., :1]).bool()], -1)
    last = torch.where(ends_group, position, scores.shape[-1]).flip(-1).cummin(-1).values.flip(-1)
    # Before the first trial is accepted, everything is missed.
    miss = torch.cat([torch.ones_like(miss[..., :1]), miss.gather(-1, last)], -1)
    alarm = torch.cat([torch.zeros_like(alarm[..., :1]), alarm.gather(-1, last)], -1)
    gap = miss - alarm
    after = (gap > 0).sum(-1, keepdim=True).clamp(1, scores.shape[-1])
    gap_before, gap_after = gap.gather(-1, after - 1), gap.gather(-1, after)
    low, high = alarm.gather(-1, after - 1), alarm.gather(-1, after)
    rate = (low + (high - low) * gap_before / (gap_before - gap_after)).squeeze(-1)
    return torch.where(ranked.isnan().any(-1), torch.nan, rate)


__all__ = ["OF_CLASSES", "ccc", "confusion", "eer", "f1", "precision", "target_metrics", "ua", "wa"]
