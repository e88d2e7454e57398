"""How far other utterances, speakers or test parts would move a metric: bootstrap confidence intervals."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sersearch.errors import DataError

FEW = 10
"""Below so many speakers or test parts, a note says that intervals over them are too narrow (as those over few clusters
are: Cameron, Gelbach & Miller, "Bootstrap-based improvements for inference with clustered errors", Rev. Econ. Stat. 90,
2008)."""

FEWEST = 5
"""Below so many there is none: of speakers who are right at a rate of 0.6 with a deviation of 0.1, tried 150 times, 95%
intervals over 2, 3, 4, 5 and 7 of them hold that rate in 60, 77, 79, 88 and 93 of 100."""

Metric = Callable[[Tensor, Tensor], Any]
"""A measure of predictions (..., U) against labels (U,): a number or a tensor, such as those of `sersearch.metrics`."""


@dataclass(frozen=True)
class Interval:
    """A bootstrap confidence interval of a metric."""

    value: float
    """The metric of all that is there, its mean over leading dimensions."""
    low: float
    high: float
    level: float
    by: Literal["speaker", "utterance", "fold"]
    """What was drawn; a fold is a test part."""
    units: int
    """How many of them there are."""
    method: Literal["BCa", "percentile"]
    note: str = ""


def bootstrap_interval(
    metric: Metric,
    predicted: Tensor,
    labels: Tensor,
    groups: Sequence[str] | None = None,
    *,
    by: Literal["speaker", "fold"] = "speaker",
    level: float = 0.95,
    method: Literal["BCa", "percentile"] = "BCa",
    resamples: int = 2000,
    seed: int = 0,
) -> Interval:
    """Interval of `metric` on predictions (..., U) against labels (..., U): how far other utterances would move it.

    With `groups` (U,), whole speakers, or what else these are, are drawn with all that they say (the cluster bootstrap:
    Davison & Hinkley, "Bootstrap Methods and their Application", 1997, section 3.8), since utterances of one speaker
    aren't independent and an interval that takes them to be is too narrow; without, utterances are. Leading dimensions,
    such as seeds, are tested on the same draws and averaged. BCa corrects for bias and skew (Efron, JASA 82, 1987);
    where it has no answer, the interval is the percentiles', and its note says so. The same `seed` gives the same
    interval.

    Raises :class:`DataError` for fewer than :data:`FEWEST` groups or 2 utterances and for a metric that is NaN on all
    utterances.
    """
    members = None if groups is None else _members(groups)
    units, drawn_by = (labels.shape[-1], "utterance") if members is None else (len(members), by)
    what, least = "test part" if drawn_by == "fold" else drawn_by, 2 if members is None else FEWEST

    def value(drawn: np.ndarray) -> float:
        rows = torch.from_numpy(drawn if members is None else np.concatenate([members[unit] for unit in drawn]))
        return float(torch.as_tensor(metric(predicted[..., rows], labels[..., rows])).double().mean())

    if units < least:
        raise DataError(
            f"a bootstrap interval over {units} {what}{'' if units == 1 else 's'} would be far too narrow; it needs at "
            f"least {least}"
        )
    whole = value(np.arange(units))
    if not math.isfinite(whole):
        raise DataError("the metric has no value on the test utterances (NaN), so it has no interval; see the outputs")
    low, high, used, notes = _limits(value, units, level, method, resamples, seed)
    if members is not None and units < FEW:
        notes.append(f"few {what}s, so rather too narrow")
    return Interval(whole, low, high, level, drawn_by, units, used, "; ".join(notes))  # type: ignore[arg-type]


def _members(groups: Sequence[str]) -> list[np.ndarray]:
    """The utterances of each group."""
    _, codes = np.unique(np.asarray(groups, object).astype(str), return_inverse=True)
    return [np.flatnonzero(codes == code) for code in range(codes.max(initial=-1) + 1)]


def _limits(
    value: Callable[[np.ndarray], float], units: int, level: float, method: str, resamples: int, seed: int
) -> tuple[float, float, str, list[str]]:
    """Both ends, the method that gave them, and notes."""
    from scipy.stats import DegenerateDataWarning, bootstrap

    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore", DegenerateDataWarning)  # seen below, as limits that are NaN
        found = bootstrap(
            (np.arange(units),),
            value,
            vectorized=False,
            n_resamples=resamples,
            confidence_level=level,
            method=method,
            batch=64,  # a jackknife of all at once would hold units x units numbers
            rng=seed,
        )
    drawn = np.asarray(found.bootstrap_distribution)
    finite, notes = drawn[np.isfinite(drawn)], []
    if 2 * len(finite) < len(drawn):
        raise DataError("most resamples of the test utterances have no value (NaN): they are too few for an interval")
    if len(finite) < len(drawn):
        notes.append(f"{len(drawn) - len(finite)} of {len(drawn)} resamples have no value and are left out")
    elif np.ptp(drawn) == 0:
        notes.append("every resample gives the same value")
    limits = np.array(found.confidence_interval)
    if np.isfinite(limits).all():
        return float(limits[0]), float(limits[1]), method, notes
    if method == "BCa" and not notes:
        notes.append("BCa has no answer here, these are percentiles")
    limits = np.quantile(finite, [(1 - level) / 2, (1 + level) / 2])
    return float(limits[0]), float(limits[1]), "percentile", notes
