"""Bootstrap intervals against published figures, hand computation and scipy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.stats import bootstrap

from sersearch.bootstrap import bootstrap_interval
from sersearch.errors import DataError
from sersearch.metrics import ccc, wa

# Efron & Tibshirani, "An Introduction to the Bootstrap" (1993), Table 3.1: LSAT and GPA of 15 law schools.
LSAT = torch.tensor([576, 635, 558, 578, 666, 580, 555, 661, 651, 605, 653, 575, 545, 572, 594]).double()
GPA = torch.tensor([3.39, 3.30, 2.81, 3.03, 3.44, 3.07, 3.00, 3.43, 3.36, 3.13, 3.12, 2.74, 2.76, 2.88, 2.96]).double()


def pearson(x: torch.Tensor, y: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([x, y]))[0, 1])


def accuracy(predicted: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    return wa(predicted, labels, 2)


@pytest.mark.parametrize("method", ["BCa", "percentile"])
def test_the_law_schools(method):
    found = bootstrap_interval(pearson, LSAT, GPA, method=method, level=0.9)
    assert found.value == pytest.approx(0.776, abs=5e-4)
    assert (found.by, found.units, found.method, found.note) == ("utterance", 15, method, "")
    many = bootstrap(
        (LSAT.numpy(), GPA.numpy()),
        lambda x, y: np.corrcoef(x, y)[0, 1],
        paired=True,
        vectorized=False,
        method=method,
        confidence_level=0.9,
        n_resamples=9999,
        rng=7,
    ).confidence_interval
    assert (found.low, found.high) == pytest.approx((many.low, many.high), abs=0.03)
    assert found == bootstrap_interval(pearson, LSAT, GPA, method=method, level=0.9), "the same seed, the same interval"
    other = bootstrap_interval(pearson, LSAT, GPA, method=method, level=0.9, seed=1)
    assert (other.low, other.high) != (found.low, found.high)
    assert bootstrap_interval(pearson, LSAT, GPA, method=method, level=0.99).low < found.low


def speakers_who_differ(count: int, each: int = 40) -> tuple[torch.Tensor, torch.Tensor, list[str], np.ndarray]:
    """Predictions, labels and speakers of `each` utterances, and the rates at which the speakers are right."""
    rates = np.linspace(0.3, 0.9, count)
    right = np.concatenate([np.arange(each) < round(rate * each) for rate in rates])
    names = [f"s{n}" for n in range(count) for _ in range(each)]
    return torch.from_numpy(right).long(), torch.ones(count * each).long(), names, np.round(rates * each) / each


def test_speakers_are_drawn_whole():
    predicted, labels, names, rates = speakers_who_differ(20)
    found = bootstrap_interval(accuracy, predicted, labels, names, method="percentile", resamples=4000)
    assert (found.by, found.units, found.value) == ("speaker", 20, pytest.approx(rates.mean()))
    # The mean of 20 drawn rates has this deviation, and is close to normal.
    error = rates.std() / math.sqrt(20)
    assert found.low == pytest.approx(rates.mean() - 1.96 * error, abs=0.01)
    assert found.high == pytest.approx(rates.mean() + 1.96 * error, abs=0.01)
    alone = bootstrap_interval(accuracy, predicted, labels, method="percentile")
    error = math.sqrt(rates.mean() * (1 - rates.mean()) / len(names))
    assert alone.high - alone.low == pytest.approx(2 * 1.96 * error, abs=0.01)
    assert found.high - found.low > 2 * (alone.high - alone.low), "utterances of one speaker aren't independent"


def test_five_speakers_by_hand():
    # One of five is always right, the others never: how often that one is drawn is binomial, of 5 with 1/5. None has
    # 0.328, one 0.410, two 0.205, three 0.051, so that 60% lie between none and two, and 10% at one.
    predicted, labels = torch.tensor([1, 1, 0, 0, 0, 0, 0, 0, 0, 0]), torch.ones(10).long()
    names = [name for name in "abcde" for _ in range(2)]
    found = bootstrap_interval(accuracy, predicted, labels, names, method="percentile", level=0.6)
    assert (found.low, found.high, found.value) == pytest.approx((0, 2 / 5, 1 / 5))
    narrow = bootstrap_interval(accuracy, predicted, labels, names, method="percentile", level=0.1)
    assert (narrow.low, narrow.high) == pytest.approx((1 / 5, 1 / 5)), "drawn once"
    assert found.note == "few speakers, so rather too narrow"


def test_test_parts_are_drawn_as_speakers_are():
    figures, names = torch.tensor([0.2, 0.5, 0.4, 0.3, 0.9, 0.1]).double(), [f"part {n}" for n in range(6)]
    found = bootstrap_interval(lambda drawn, _: drawn.mean(), figures, figures, names, by="fold")
    assert (found.by, found.units, found.value) == ("fold", 6, pytest.approx(0.4))
    assert found.note == "few test parts, so rather too narrow"
    expected = bootstrap((figures.numpy(),), np.mean, method="BCa", n_resamples=20_000, rng=1).confidence_interval
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.03)


@pytest.mark.parametrize(("by", "what"), [("speaker", "speakers"), ("fold", "test parts")])
def test_four_speakers_or_test_parts_are_too_few(by, what):
    ones = torch.ones(8).long()
    with pytest.raises(DataError, match=f"interval over 4 {what} would be far too narrow; it needs at least 5"):
        bootstrap_interval(accuracy, ones, ones, [*"aabbccdd"], by=by)
    assert bootstrap_interval(accuracy, ones, ones, [*"aabbccde"], by=by).units == 5


def test_seeds_are_averaged_on_the_same_draws():
    rng = np.random.default_rng(0)
    truth = torch.from_numpy(rng.normal(size=60))
    outputs = truth + torch.from_numpy(rng.normal(size=(3, 60)))
    found = bootstrap_interval(ccc, outputs, truth, resamples=200)
    assert found.value == pytest.approx(float(ccc(outputs, truth).mean()))
    one = bootstrap_interval(ccc, outputs[0], truth, resamples=200)
    thrice = bootstrap_interval(ccc, outputs[:1].expand(3, 60), truth, resamples=200)
    assert (thrice.low, thrice.high) == pytest.approx((one.low, one.high))


def test_intervals_without_spread_or_value():
    ones = torch.ones(6).long()
    found = bootstrap_interval(accuracy, ones, ones)
    assert (found.low, found.value, found.high) == (1, 1, 1)
    assert (found.method, found.note) == ("percentile", "every resample gives the same value")
    with pytest.raises(DataError, match=r"no value on the test utterances \(NaN\)"):
        bootstrap_interval(ccc, torch.ones(6), torch.ones(6))
    with pytest.raises(DataError, match=r"over 1 speaker would be far too narrow; it needs at least 5"):
        bootstrap_interval(accuracy, ones, ones, ["a"] * 6)
    with pytest.raises(DataError, match=r"over 0 utterances would be far too narrow; it needs at least 2$"):
        bootstrap_interval(accuracy, ones[:0], ones[:0])


def test_resamples_without_a_value_are_left_out_and_said():
    # Of two utterances, one of which is right: a draw of the same one twice has no spread, so no CCC.
    found = bootstrap_interval(ccc, torch.tensor([1.0, 2.0, 2.0]), torch.tensor([1.0, 2.0, 2.0]), resamples=300)
    assert (found.low, found.high, found.method) == (1, 1, "percentile")
    # Utterances 2 and 3 are alike: all draws but those of both kinds, 9 of 27, have no value.
    missing = int(found.note.split()[0])
    assert missing / 300 == pytest.approx(9 / 27, abs=0.1)
    assert found.note == f"{missing} of 300 resamples have no value and are left out"
    with pytest.raises(DataError, match=r"most resamples of the test utterances have no value"):
        bootstrap_interval(lambda p, y: p.mean() if len(set(y.tolist())) == 4 else math.nan, *[torch.arange(4.0)] * 2)


def test_bca_without_an_answer_falls_back_on_percentiles():
    # Every draw has fewer different utterances than there are, so the bias that BCa corrects is infinite.
    found = bootstrap_interval(lambda p, y: len(p.unique()), torch.arange(20), torch.arange(20))
    assert (found.method, found.note) == ("percentile", "BCa has no answer here, these are percentiles")
    assert found.low < found.high < found.value == 20
