"""Scores of predictions with their uncertainty: of all utterances, and of groups of them."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sersearch.errors import DataError
from sersearch.predictions import Confusion, read_predictions, recalls

RESAMPLES = 500
_RNG = 0


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
        """The labelled utterances of a table of predictions. Raises :class:`DataError` where it is none."""
        shown = read_predictions(path)
        with path.open(newline="", encoding="utf-8") as file:
            rows = [row for row in csv.DictReader(file) if row.get("label") != ""]
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
    if scored.truth.ndim == 2:
        return float(_ccc(scored.truth, scored.predicted, _columns(scored, metric)))
    return float(_of_counts(_counts(scored)[None], metric)[0])


def interval(scored: Scored, metric: str) -> tuple[float, float]:
    """The 95% percentile interval of :func:`score` over bootstrap resamples of the utterances; NaN for fewer than two.

    It holds for other utterances of these speakers: how much speakers differ it doesn't say.
    """
    if len(scored) < 2:
        return math.nan, math.nan
    rng = np.random.default_rng(_RNG)
    if scored.truth.ndim == 2:
        draws = (rng.integers(0, len(scored), len(scored)) for _ in range(RESAMPLES))
        columns = _columns(scored, metric)
        found = np.array([_ccc(scored.truth[rows], scored.predicted[rows], columns) for rows in draws])
    else:
        counts = _counts(scored)
        drawn = rng.multinomial(len(scored), counts.ravel() / counts.sum(), RESAMPLES)
        found = _of_counts(drawn.reshape(RESAMPLES, *counts.shape), metric)
    found = found[np.isfinite(found)]
    low, high = np.percentile(found, [2.5, 97.5]) if len(found) else (math.nan, math.nan)
    return float(low), float(high)


def _counts(scored: Scored) -> np.ndarray:
    """(C, C) utterances, true class by row."""
    size = len(scored.names)
    return np.bincount(scored.truth * size + scored.predicted, minlength=size * size).reshape(size, size)


def _of_counts(counts: np.ndarray, metric: str) -> np.ndarray:
    """A metric (B,) of confusion matrices (B, C, C), over the classes that occur."""
    hits = np.diagonal(counts, axis1=1, axis2=2).astype(float)
    true, said = counts.sum(axis=2), counts.sum(axis=1)
    if metric == "wa":
        return _over(hits.sum(axis=1), true.sum(axis=1))
    if metric == "ua":
        return _mean(np.stack([np.diag(recalls(own)) for own in counts]))
    if metric == "f1":
        return _mean(_over(2 * hits, true + said))
    if metric == "precision":
        return _mean(np.where(true + said > 0, hits / np.maximum(said, 1), np.nan))
    raise DataError(f"{metric}: expected ua, wa, f1 or precision of classes")


def _over(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    found: np.ndarray = np.divide(above, below, out=np.full(above.shape, np.nan), where=below > 0)
    return found


def _mean(values: np.ndarray) -> np.ndarray:
    """Means (B,) over what is there of (B, C)."""
    there = np.isfinite(values)
    return _over(np.where(there, values, 0).sum(axis=1), there.sum(axis=1))


def _columns(scored: Scored, metric: str) -> list[int]:
    """The attributes that a metric is of."""
    name = metric.removeprefix("ccc").removeprefix("_")
    if not metric.startswith("ccc") or (name and name not in scored.names):
        raise DataError(f"{metric}: expected ccc, or ccc_ and one of {', '.join(scored.names)}")
    return [scored.names.index(name)] if name else list(range(len(scored.names)))


def _ccc(truth: np.ndarray, predicted: np.ndarray, columns: list[int]) -> float:
    """The mean CCC of columns of (U, A); as :func:`sersearch.metrics.ccc`, with population moments."""
    if not len(truth):
        return math.nan
    x, y = truth[:, columns], predicted[:, columns]
    covariance = ((x - x.mean(axis=0)) * (y - y.mean(axis=0))).mean(axis=0)
    spread = x.var(axis=0) + y.var(axis=0) + (x.mean(axis=0) - y.mean(axis=0)) ** 2
    return float(_over(2 * covariance, spread).mean())
