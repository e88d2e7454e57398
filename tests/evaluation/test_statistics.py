"""Tests against published figures, hand computation, scipy and statsmodels."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm
from statsmodels.stats.weightstats import DescrStatsW, ttest_ind

from sersearch.errors import ConfigError, DataError
from sersearch.evaluation.statistics import (
    cohen_d,
    cohen_dz,
    cohen_q,
    fisher_z,
    holm,
    observations,
    paired_t,
    two_sample_t,
)

# Student, "The probable error of a mean", Biometrika 6 (1908): extra hours of sleep of ten patients by two drugs. R's
# documentation of `sleep` and `t.test` has the figures below.
SLEEP_1 = [0.7, -1.6, -0.2, -1.2, -0.1, 3.4, 3.7, 0.8, 0.0, 2.0]
SLEEP_2 = [1.9, 0.8, 1.1, 0.1, -0.1, 4.4, 5.5, 1.6, 4.6, 3.4]


# --- observations -----------------------------------------------------------------------------------------------------


def test_a_test_part_is_one_observation_whatever_the_number_of_seeds():
    runs = {(seed, part): seed / 10 + n for seed in (1, 2, 3) for n, part in enumerate(["s1", "s2"])}
    assert observations(runs) == pytest.approx({(None, "s1"): 0.2, (None, "s2"): 1.2})
    alone = {run: score for run, score in runs.items() if run[1] == "s1"}
    assert observations(alone) == alone, "of one test part each seed is one"
    assert observations(runs, subsets=True) == runs, "DeepEmoCluster's 4 subsets x 5 trials are 20 results"
    partitions = {(seed, f"partition seed {seed}"): seed / 10 for seed in range(20)}
    assert [*observations(partitions).values()] == [*partitions.values()], "the multimodal ladder's 20 results"


# --- correlations -----------------------------------------------------------------------------------------------------


def test_fisher_z_of_a_textbook():
    # J. C. Pezzullo, "Biostatistics for Dummies", chapter 15: r = 0.4 of 100 against 0.6 of 150; z values 0.424 and
    # 0.693, their difference 0.269 with standard error 0.131, z = 2.05, p = 0.039.
    found = fisher_z(0.6, 0.4, 150, 100, tails=2)
    assert found.effect == pytest.approx(0.693 - 0.424, abs=1e-3)
    assert found.effect / found.statistic == pytest.approx(0.131, abs=5e-4)
    assert found.statistic == pytest.approx(2.05, abs=0.02)
    assert found.p == pytest.approx(0.039, abs=1e-3)
    assert (found.df, found.n) == (None, (150, 100))
    assert found.difference == pytest.approx(0.2)


def test_fisher_z_by_hand():
    # atanh(0.6) = ln(1.6 / 0.4) / 2 = ln 2; atanh(0) = 0; n = 7: the standard error is sqrt(1 / 4 + 1 / 4).
    found = fisher_z(0.6, 0.0, 7, 7)
    assert found.effect == pytest.approx(math.log(2))
    assert found.statistic == pytest.approx(math.log(2) * math.sqrt(2))
    assert found.p == pytest.approx(1 - norm.cdf(math.log(2) * math.sqrt(2)))
    assert fisher_z(0.6, 0.0, 7, 7, tails=2).p == pytest.approx(2 * found.p)
    assert fisher_z(0.0, 0.6, 7, 7).p == pytest.approx(1 - found.p), "one-tailed asks for the better one"


# Parthasarathy & Busso, TASLP 2020: CCC on the 7,341 test turns (section IV-A) of STL, MTL and the ladders, in whose
# marks S is "significantly better than STL" and M than MTL.
TABLES = {
    "I, arousal": (0.743, 0.745, {0.765: "SM", 0.763: "SM", 0.770: "SM"}),
    "I, valence": (0.312, 0.293, {0.303: "", 0.293: "", 0.301: ""}),
    "I, dominance": (0.670, 0.671, {0.678: "", 0.690: "SM", 0.700: "SM"}),
    "III, LLD, arousal": (0.756, 0.759, {0.768: "S", 0.769: "S", 0.771: "SM"}),
    "III, LLD, valence": (0.244, 0.223, {0.274: "SM", 0.279: "SM", 0.269: "M"}),
    "III, LLD, dominance": (0.682, 0.684, {0.687: "", 0.681: "", 0.685: ""}),
    "III, MFB, arousal": (0.733, 0.738, {0.744: "", 0.741: "", 0.743: "", 0.740: ""}),
    "III, MFB, valence": (0.204, 0.254, {0.200: "", 0.232: "S", 0.184: ""}),
    "III, MFB, dominance": (0.659, 0.659, {0.659: "", 0.655: "", 0.656: ""}),
}


@pytest.mark.parametrize("table", TABLES)
def test_fisher_z_gives_every_mark_of_the_ladder_paper(table):
    stl, mtl, ladders = TABLES[table]
    for score, marks in ladders.items():
        better = {mark for mark, base in (("S", stl), ("M", mtl)) if fisher_z(score, base, 7341, 7341).p < 0.05}
        assert better == set(marks), score


@pytest.mark.parametrize(
    ("r", "n", "message"),
    [
        (1.0, 50, r"a correlation of 1 has no Fisher transform"),
        (-1.0, 50, r"between -1 and 1"),
        (math.nan, 50, r"a correlation of nan .* without spread"),
        (0.5, 3, r"at least 4 utterances, this one is of 3"),
    ],
)
def test_a_correlation_without_an_answer(r, n, message):
    for arguments in ((r, 0.2, n, 50), (0.2, r, 50, n)):
        with pytest.raises(DataError, match=message):
            fisher_z(*arguments)


# --- t-tests ----------------------------------------------------------------------------------------------------------


def test_pairs_of_students_sleep():
    found = paired_t(SLEEP_1, SLEEP_2, tails=2)
    assert (found.statistic, found.df, found.p) == pytest.approx((-4.0621, 9, 0.002833), rel=1e-4)
    assert (found.difference, found.n) == (pytest.approx(-1.58), (10, 10))
    assert paired_t(SLEEP_2, SLEEP_1).p == pytest.approx(0.002833 / 2, rel=1e-3), "one-tailed by default, as in papers"
    gains = DescrStatsW(np.array(SLEEP_1) - SLEEP_2)
    assert (found.statistic, found.p, found.df) == pytest.approx(gains.ttest_mean())
    # d_z is t / sqrt(n).
    assert found.effect == pytest.approx(-4.0621 / math.sqrt(10), rel=1e-4)


def test_two_samples_of_students_sleep():
    student = two_sample_t(SLEEP_1, SLEEP_2)
    assert (student.statistic, student.df, student.p) == pytest.approx((-1.8608, 18, 0.07919), rel=1e-4)
    assert (student.statistic, student.p, student.df) == pytest.approx(ttest_ind(SLEEP_1, SLEEP_2))
    welch = two_sample_t(SLEEP_1, SLEEP_2, equal_variances=False)
    assert (welch.statistic, welch.df, welch.p) == pytest.approx((-1.8608, 17.776, 0.07939), rel=1e-4)
    assert (welch.statistic, welch.p, welch.df) == pytest.approx(ttest_ind(SLEEP_1, SLEEP_2, usevar="unequal"))
    assert two_sample_t(SLEEP_1, SLEEP_2, tails=1).p == pytest.approx(1 - 0.07919 / 2, rel=1e-4)
    # d is t * sqrt(1 / n + 1 / n).
    assert student.effect == welch.effect == pytest.approx(-1.8608 * math.sqrt(2 / 10), rel=1e-4)


def test_samples_of_different_sizes():
    found = two_sample_t([1.0, 2.0, 3.0], [1.0, 1.0])
    # Means 2 and 1, squares 2 and 0, pooled variance 2 / 3, standard error sqrt(2 / 3 * (1 / 3 + 1 / 2)).
    assert found.statistic == pytest.approx(1 / math.sqrt(2 / 3 * 5 / 6))
    assert (found.df, found.n, found.effect) == (3, (3, 2), pytest.approx(1 / math.sqrt(2 / 3)))


@pytest.mark.parametrize("tails", [1, 2])
def test_equal_runs_are_no_difference(tails):
    for found in (paired_t([0.5, 0.6], [0.5, 0.6], tails), two_sample_t([0.5, 0.5], [0.5, 0.5], tails)):
        assert (found.statistic, found.p, found.effect, found.difference) == (0, tails / 2, 0, 0)
        assert found.note.endswith("of both is the same")


def test_runs_without_deviation_are_refused():
    # In float64, 0.3 - 0.2 isn't 0.6 - 0.5: rounding is no deviation.
    with pytest.raises(DataError, match=r"every pair has the same difference of \+0\.1, .* copies of one another\?"):
        paired_t([0.3, 0.6], [0.2, 0.5])
    with pytest.raises(DataError, match="every value has the same difference of"):
        two_sample_t([0.6, 0.6], [0.5, 0.5])


@pytest.mark.parametrize("test", [paired_t, two_sample_t])
def test_figures_without_an_answer(test):
    with pytest.raises(DataError, match=r"1 of 2 values are NaN or infinite"):
        test([0.5, math.nan], [0.5, 0.6])
    with pytest.raises(DataError, match=r"at least 2 .*, there are 1; test with more seeds or folds"):
        test([0.5], [0.4])
    with pytest.raises(ConfigError, match="1 or 2 tails, not 3"):
        test([0.5, 0.4], [0.5, 0.6], 3)


def test_pairs_that_do_not_pair():
    with pytest.raises(DataError, match="there are 3 and 2"):
        paired_t([1, 2, 3], [1, 2])


# --- effect sizes and correction --------------------------------------------------------------------------------------


def test_effect_sizes_by_hand():
    # Cohen (1988), Table 4.2.2 has z = .549 of r = .50 and .255 of r = .25.
    assert cohen_q(0.50, 0.25) == pytest.approx(0.549 - 0.255, abs=1e-3)
    # Differences 1, 2, 3: mean 2, deviation 1.
    assert cohen_dz(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(2)
    # Means 3 and 1, each of variance 2: the pooled deviation is sqrt(2).
    assert cohen_d(np.array([2.0, 4.0]), np.array([0.0, 2.0])) == pytest.approx(2 / math.sqrt(2))


def test_holm_by_hand():
    # 0.005 x 4, 0.01 x 3, 0.03 x 2, and 0.04 x 1, which must not be below the one before.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.6, 0.7]) == [1, 1]
    assert holm([0.04]) == [0.04]
    assert holm([]) == []
