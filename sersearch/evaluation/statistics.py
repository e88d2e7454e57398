"""Is one model better than another: the papers' tests, effect sizes and Holm's correction.

What each paper does, all at p < 0.05, without a correction for the number of tests:

- Ladder (Parthasarathy & Busso, TASLP 2020), sections V-A and V-C: :func:`fisher_z` on CCCs, one-tailed. Section V-B,
  over the test partitions of another corpus: :func:`paired_t`, one-tailed.
- DeepEmoCluster (Lin et al., ICASSP 2021), section 5.1: a "two-tailed T-test over the 20 results" of 4 random quarters
  of the test set x 5 trials: :func:`two_sample_t`. The text doesn't say whether in pairs or with equal variances;
  settled here: two samples, Student's.
- Multimodal ladder (Goncalves & Busso, ICASSP 2023), section 5: :func:`paired_t`, one-tailed, over 20 random
  partitions.
- Decoupled ladder (Leem et al., Interspeech 2021): the mean over 20 trials, without a test. MTL-AAE (Latif et al.,
  TAFFC 2020), section 5: mean and standard deviation over ten repetitions, without a test.

What they count as one observation, :func:`observations` says. All of them ask whether `a` is higher than `b`:
one-tailed, that is the alternative; two-tailed, any difference is. Whatever has no answer (NaN, too few values, a
correlation of 1, no spread) is refused by :class:`DataError` or answered with a note, and never NaN.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Literal

import numpy as np

from sersearch.errors import ConfigError, DataError

Tails = Literal[1, 2]
_ALTERNATIVE = {1: "greater", 2: "two-sided"}


@dataclass(frozen=True)
class Outcome:
    """What a test says of `a` against `b`; figures are positive where `a` is higher."""

    difference: float
    """Of the means, or of the correlations."""
    statistic: float
    """t, or z."""
    df: float | None
    """Degrees of freedom of t; None for z."""
    p: float
    tails: Tails
    effect: float
    """Cohen's q of correlations, d_z of pairs, d of two samples."""
    n: tuple[int, int]
    """Observations of `a` and of `b`: utterances, runs, or test parts."""
    note: str = ""
    """What must be known to read it, as a sentence; mostly empty."""


def observations(
    runs: Mapping[tuple[int, str], float], *, subsets: bool = False
) -> dict[tuple[int | None, str], float]:
    """What a test counts, of scores by seed and test part; None in place of a seed: a mean over seeds.

    Of several test parts each is one observation, the mean over its seeds: a speaker who is hard for one seed is hard
    for the next, so to count every run would make chance significant. Of one test part each run is one, and p is of
    other seeds, not of other speakers; so is each run on each of the random `subsets` of one test part, as
    DeepEmoCluster, section 5.1, has them.
    """
    parts = dict.fromkeys(part for _, part in runs)
    if subsets or len(parts) == 1:
        return {(seed, part): score for (seed, part), score in runs.items()}
    return {(None, part): fmean(score for (_, own), score in runs.items() if own == part) for part in parts}


# --- tests ------------------------------------------------------------------------------------------------------------


def fisher_z(r_a: float, r_b: float, n_a: int, n_b: int, tails: Tails = 1) -> Outcome:
    """z-test of two correlations, of `n_a` and `n_b` utterances, after Fisher's transformation ``z = atanh(r)``.

    ``(atanh(r_a) - atanh(r_b)) / sqrt(1 / (n_a - 3) + 1 / (n_b - 3))`` is standard normal under equal correlations
    (R. A. Fisher, "On the 'probable error' of a coefficient of correlation deduced from a small sample", Metron 1,
    1921). As in the ladder paper (section V-A), CCCs are taken for correlations, though the variance of a transformed
    CCC is another one (L. Lin, Biometrics 45, 1989), and for those of independent samples, though both models are
    tested on the same utterances: where their outputs agree, that makes the test conservative.

    Raises :class:`DataError` for fewer than 4 utterances and for a correlation that isn't strictly between -1 and 1.
    """
    from scipy.stats import norm

    alternative = _alternative(tails)
    for r, n in ((r_a, n_a), (r_b, n_b)):
        if not abs(r) < 1:
            raise DataError(
                f"a correlation of {r:g} has no Fisher transform, expected one between -1 and 1; at exactly 1 look for "
                "labels among the inputs, NaN is that of outputs and labels without spread"
            )
        if n < 4:
            raise DataError(f"Fisher's z-test needs correlations of at least 4 utterances, this one is of {n}")
    effect = cohen_q(r_a, r_b)
    z = effect / math.sqrt(1 / (n_a - 3) + 1 / (n_b - 3))
    p = float(norm.sf(z) if alternative == "greater" else 2 * norm.sf(abs(z)))
    return Outcome(r_a - r_b, z, None, p, tails, effect, (n_a, n_b))


def paired_t(a: Sequence[float], b: Sequence[float], tails: Tails = 1) -> Outcome:
    """Matched-pair t-test over runs (R,), one-tailed in the papers; its effect size is d_z.

    Ladder paper, section V-B; multimodal ladder, section 5. Where every pair is equal, t is 0 and a note says so.
    Raises :class:`DataError` for samples of different lengths, fewer than 2 pairs, values that aren't finite, and for
    pairs that all differ by the same amount, which have no deviation to compare with.
    """
    from scipy.stats import ttest_rel

    alternative = _alternative(tails)
    x, y = _sample(a, "pairs"), _sample(b, "pairs")
    if len(x) != len(y):
        raise DataError(f"a paired test needs a value of each model for each run, there are {len(x)} and {len(y)}")
    count = (len(x), len(x))
    gain = float((x - y).mean())
    if _is_constant(x - y, x, y):
        return _without_spread(gain, len(x) - 1, tails, count, "every pair", x, y)
    found = ttest_rel(x, y, alternative=alternative)
    return Outcome(gain, float(found.statistic), float(found.df), float(found.pvalue), tails, cohen_dz(x, y), count)


def two_sample_t(a: Sequence[float], b: Sequence[float], tails: Tails = 2, *, equal_variances: bool = True) -> Outcome:
    """Student's t-test of two samples of runs, or Welch's without `equal_variances`; its effect size is Cohen's d.

    DeepEmoCluster, section 5.1. Where all values are one and the same, t is 0 and a note says so. Raises
    :class:`DataError` for fewer than 2 values, values that aren't finite, and for two samples without any spread.
    """
    from scipy.stats import ttest_ind

    alternative = _alternative(tails)
    x, y = _sample(a, "values"), _sample(b, "values")
    gain, count = float(x.mean() - y.mean()), (len(x), len(y))
    if _is_constant(x, x) and _is_constant(y, y):
        return _without_spread(gain, sum(count) - 2, tails, count, "every value", x, y)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Precision loss", RuntimeWarning)  # of one sample without spread
        found = ttest_ind(x, y, equal_var=equal_variances, alternative=alternative)
    return Outcome(gain, float(found.statistic), float(found.df), float(found.pvalue), tails, cohen_d(x, y), count)


def _alternative(tails: Tails) -> str:
    if tails not in _ALTERNATIVE:
        raise ConfigError(f"a test has 1 or 2 tails, not {tails!r}")
    return _ALTERNATIVE[tails]


def _sample(values: Sequence[float], what: str) -> np.ndarray:
    sample = np.asarray(values, np.float64)
    if len(sample) < 2:
        raise DataError(f"a t-test needs at least 2 {what}, there are {len(sample)}; test with more seeds or folds")
    if not np.isfinite(sample).all():
        raise DataError(
            f"{int((~np.isfinite(sample)).sum())} of {len(sample)} values are NaN or infinite, as those of a model "
            "whose outputs are constant are; leave out their seeds for all models, or train them again"
        )
    return sample


def _is_constant(values: np.ndarray, *scale: np.ndarray) -> bool:
    """Whether `values` are the same but for the rounding of figures as large as those of `scale`."""
    return float(np.ptp(values)) <= 1e-12 * max(float(np.abs(s).max()) for s in scale)


def _without_spread(
    gain: float, df: int, tails: Tails, n: tuple[int, int], what: str, x: np.ndarray, y: np.ndarray
) -> Outcome:
    if not _is_constant(np.array([0.0, gain]), x, y):
        raise DataError(
            f"{what} has the same difference of {gain:+.4g}, so there is no deviation to test it against; are runs "
            "copies of one another? Test with other seeds or folds"
        )
    return Outcome(0.0, 0.0, float(df), tails / 2, tails, 0.0, n, f"{what} of both is the same")


# --- effect sizes, after J. Cohen, "Statistical Power Analysis for the Behavioral Sciences", 2nd ed., 1988 ------------


def cohen_q(r_a: float, r_b: float) -> float:
    """The difference of two correlations after Fisher's transformation: Eq. 4.2.1; .1 is small, .3 medium, .5 large."""
    return math.atanh(r_a) - math.atanh(r_b)


def cohen_dz(a: np.ndarray, b: np.ndarray) -> float:
    """Mean over deviation of the differences of pairs (R,): section 2.3.5."""
    gains = a - b
    return float(gains.mean() / gains.std(ddof=1))


def cohen_d(a: np.ndarray, b: np.ndarray) -> float:
    """Difference of two means over the pooled deviation: Eq. 2.5.1 with its 2.5.2; .2 is small, .5 medium, .8 large."""
    squares = np.square(a - a.mean()).sum() + np.square(b - b.mean()).sum()
    return float((a.mean() - b.mean()) / math.sqrt(squares / (len(a) + len(b) - 2)))


def holm(p: Sequence[float]) -> list[float]:
    """p-values corrected for their number: at most 1, in the order given; S. Holm, Scand. J. Statist. 6 (1979)."""
    from statsmodels.stats.multitest import multipletests

    return [float(value) for value in multipletests(list(p), method="holm")[1]] if p else []
