"""Scores of predictions with their uncertainty: of all utterances, and of groups of them."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sersearch.errors import DataError, one_of
from sersearch.predictions import Confusion, read_predictions

if TYPE_CHECKING:
    from torch import Tensor

RESAMPLES = 500


@dataclass(frozen=True, eq=False)
class Scored:
    """Utterances with what is true of them and what was predicted."""

    ids: np.ndarray
    """(U,)."""
    condition: np.ndarray
    """(U,), empty where the table has none."""
    truth: np.ndarray
    """Class codes (U,), or attributes (U, A)."""
    predicted: np.ndarray
    """As `truth`."""
    names: tuple[str, ...]
    """Classes, or attributes."""

    @classmethod
    def read(cls, path: Path) -> Scored:
        """The utterances of a table of predictions. Raises :class:`DataError` where it is none."""
        shown = read_predictions(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        ids = np.array([row["id"] for row in rows], object)
        condition = np.array([row.get("condition") or "" for row in rows], object)
        if not isinstance(shown, Confusion):
            return cls(ids, condition, shown.truth, shown.predicted, shown.attributes)
        code = {name: i for i, name in enumerate(shown.classes)}
        truth, predicted = (np.array([code[row[c]] for row in rows], np.int64) for c in ("label", "predicted"))
        return cls(ids, condition, truth, predicted, shown.classes)

    def of(self, chosen: np.ndarray) -> Scored:
        """The utterances that `chosen` (U,) bool is true for."""
        ids, condition = self.ids[chosen], self.condition[chosen]
        return Scored(ids, condition, self.truth[chosen], self.predicted[chosen], self.names)

    def __len__(self) -> int:
        """The number of utterances."""
        return len(self.ids)


def score(scored: Scored, metric: str) -> float:
    """`metric` (ua, wa, f1, precision; ccc, the mean over attributes, or ccc_NAME) of the utterances; NaN of none."""
    if not len(scored):
        return math.nan
    measure, predicted, truth = _judged(scored, metric)
    return float(measure(predicted, truth).mean())


def interval(scored: Scored, metric: str) -> tuple[float, float]:
    """The 95% percentile interval of :func:`score` over bootstrap resamples of the utterances; NaN where it has none.

    It holds for other utterances of these speakers: how much speakers differ it doesn't say.
    """
    from sersearch.bootstrap import bootstrap_interval

    try:
        found = bootstrap_interval(*_judged(scored, metric), method="percentile", resamples=RESAMPLES)
    except DataError:
        return math.nan, math.nan
    return found.low, found.high


def _judged(scored: Scored, metric: str) -> tuple[Callable[[Tensor, Tensor], Tensor], Tensor, Tensor]:
    """The measure of a metric, and predictions (..., U) and labels (..., U) for it."""
    import torch

    from sersearch.metrics import OF_CLASSES, ccc

    predicted, truth = torch.from_numpy(scored.predicted), torch.from_numpy(scored.truth)
    if truth.ndim == 1:
        if metric not in OF_CLASSES:
            raise DataError(f"{metric} of classes: {one_of(metric, OF_CLASSES)}")
        return partial(OF_CLASSES[metric], classes=len(scored.names)), predicted, truth
    known = ["ccc", *(f"ccc_{name}" for name in scored.names)]
    if metric not in known:
        raise DataError(f"{metric} of attributes: {one_of(metric, known)}")
    columns = [a for a, name in enumerate(scored.names) if metric in ("ccc", f"ccc_{name}")]
    return ccc, predicted[:, columns].T, truth[:, columns].T
