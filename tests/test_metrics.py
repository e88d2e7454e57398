from __future__ import annotations

import audmetric
import numpy as np
import pytest
import torch
import torchmetrics.functional as tmf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.interpolate import interp1d
from scipy.optimize import brentq
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, precision_score, roc_curve

from sersearch.metrics import ccc, confusion, eer, f1, precision, target_metrics, ua, wa

torch.set_num_threads(1)
CLASSES = 4
codes = st.integers(0, CLASSES - 1)
pairs = st.lists(st.tuples(codes, codes), min_size=1, max_size=40).map(lambda p: torch.tensor(p).T)
quick = settings(deadline=None)  # the first call into a library can be slow
floats = st.floats(-100, 100, allow_nan=False, width=32)


# --- classes ----------------------------------------------------------------------------------------------------------


def test_a_case_by_hand():
    #                     A  A  A  A  B  B  C
    labels = torch.tensor([0, 0, 0, 0, 1, 1, 2])
    predicted = torch.tensor([0, 0, 0, 1, 1, 0, 1])
    assert confusion(predicted, labels, 3).tolist() == [[3, 1, 0], [1, 1, 0], [0, 1, 0]]
    assert ua(predicted, labels, 3).item() == pytest.approx((3 / 4 + 1 / 2 + 0) / 3)
    assert wa(predicted, labels, 3).item() == pytest.approx(4 / 7)
    assert f1(predicted, labels, 3).item() == pytest.approx((6 / 8 + 2 / 5 + 0) / 3)
    assert precision(predicted, labels, 3).item() == pytest.approx((3 / 4 + 1 / 3 + 0) / 3), "C is never predicted"


@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true", "ignore:A single label was found")
@quick
@given(pairs)
def test_as_scikit_learn_and_torchmetrics_have_them(both):
    predicted, labels = both
    truth, guess = labels.numpy(), predicted.numpy()
    counts = confusion(predicted, labels, CLASSES)
    assert counts.tolist() == confusion_matrix(truth, guess, labels=range(CLASSES)).tolist()
    assert ua(predicted, labels, CLASSES).item() == pytest.approx(balanced_accuracy_score(truth, guess))
    assert wa(predicted, labels, CLASSES).item() == pytest.approx((truth == guess).mean())
    assert f1(predicted, labels, CLASSES).item() == pytest.approx(f1_score(truth, guess, average="macro"))
    expected = precision_score(truth, guess, average="macro", zero_division=0)
    assert precision(predicted, labels, CLASSES).item() == pytest.approx(expected)
    theirs = tmf.classification.multiclass_f1_score(predicted, labels, CLASSES, average="macro")
    assert f1(predicted, labels, CLASSES).item() == pytest.approx(theirs.item(), rel=1e-5)


@quick
@given(pairs)
def test_as_audmetric_has_them(both):
    predicted, labels = both
    truth, guess = labels.tolist(), predicted.tolist()
    present = sorted(set(truth))
    assert wa(predicted, labels, CLASSES).item() == pytest.approx(audmetric.accuracy(truth, guess))
    recall = audmetric.recall_per_class(truth, guess, zero_division=0)
    assert ua(predicted, labels, CLASSES).item() == pytest.approx(np.mean([recall[c] for c in present]))


@quick
@given(pairs, st.integers(1, 5), st.randoms())
def test_lanes_are_judged_apart_and_unlabelled_utterances_do_not_count(both, lanes, random):
    _, labels = both
    predicted = torch.tensor([[random.randrange(CLASSES) for _ in labels] for _ in range(lanes)])
    unlabelled = torch.cat([labels, torch.tensor([-1, -1])])
    padded = torch.cat([predicted, torch.zeros(lanes, 2, dtype=torch.int64)], -1)
    for metric in (ua, wa, f1, precision, confusion):
        alone = torch.stack([metric(lane, labels, CLASSES) for lane in predicted])
        assert torch.equal(metric(predicted, labels, CLASSES), alone)
        assert torch.equal(metric(padded, unlabelled, CLASSES), alone)
        assert torch.equal(metric(predicted, labels.expand(lanes, -1), CLASSES), alone)


@quick
@given(pairs, st.permutations(range(CLASSES)))
def test_the_names_of_the_classes_do_not_matter(both, order):
    predicted, labels = both
    renamed = torch.tensor(order)
    for metric in (ua, wa, f1, precision):
        torch.testing.assert_close(
            metric(renamed[predicted], renamed[labels], CLASSES), metric(predicted, labels, CLASSES)
        )


def test_without_labels_there_is_no_accuracy():
    predicted, labels = torch.tensor([0, 1]), torch.tensor([-1, -1])
    assert all(metric(predicted, labels, 2).isnan() for metric in (ua, wa, f1, precision))


# --- CCC --------------------------------------------------------------------------------------------------------------


def test_ccc_by_hand():
    # means 2 and 3, variances 2/3 and 2/3, covariance 2/3: 4/3 / (4/3 + 1)
    assert ccc(torch.tensor([1.0, 2, 3]), torch.tensor([2.0, 3, 4])).item() == pytest.approx(4 / 7)


@quick
@given(st.lists(st.tuples(floats, floats), min_size=2, max_size=30))
def test_ccc_as_audmetric_and_torchmetrics_have_it(points):
    x, y = torch.tensor(points, dtype=torch.float64).T
    expected = audmetric.concordance_cc(y.tolist(), x.tolist())
    ours = ccc(x, y).item()
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)
    if len(points) > 2 and x.std() > 1e-3 and y.std() > 1e-3:
        # torchmetrics takes sample moments in the correlation and the variances alike, which is another coefficient.
        n = len(points)
        var_x, var_y, cov = x.var(), y.var(), ((x - x.mean()) * (y - y.mean())).sum() / (n - 1)
        sample = 2 * cov / (var_x + var_y + (x.mean() - y.mean()) ** 2)
        assert tmf.concordance_corrcoef(x, y).item() == pytest.approx(sample.item(), abs=1e-4)


@quick
@given(st.lists(st.tuples(floats, floats, floats), min_size=2, max_size=20))
def test_ccc_by_lane_is_symmetric_and_bounded(points):
    first, second, truth = torch.tensor(points, dtype=torch.float64).T
    both = ccc(torch.stack([first, second]), truth)
    torch.testing.assert_close(both, torch.stack([ccc(first, truth), ccc(second, truth)]), equal_nan=True)
    torch.testing.assert_close(ccc(truth, first), ccc(first, truth), equal_nan=True)
    assert (both.nan_to_num() <= 1 + 1e-9).all()
    assert (both.nan_to_num() >= -1 - 1e-9).all()


def test_ccc_is_one_for_the_truth_and_differentiable():
    truth = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert ccc(truth, truth).item() == pytest.approx(1)
    x = torch.tensor([0.5, 2.0, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: ccc(v, truth), (x,))


# --- EER --------------------------------------------------------------------------------------------------------------


def test_eer_by_hand():
    scores = torch.tensor([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    assert eer(scores, torch.tensor([1, 1, 1, 0, 0, 0])).item() == 0
    assert eer(scores, torch.tensor([0, 0, 0, 1, 1, 1])).item() == 1
    assert eer(scores, torch.tensor([1, 1, 0, 1, 0, 0])).item() == pytest.approx(1 / 3)
    assert eer(torch.ones(4), torch.tensor([1, 0, 0, 1])).item() == pytest.approx(0.5)


trials = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), min_size=2, max_size=40).filter(
    lambda t: len({same for _, same in t}) == 2
)


@quick
@given(trials)
def test_eer_is_where_the_roc_curve_crosses(trials):
    scores, same = map(torch.tensor, zip(*trials, strict=True))
    alarm, hit, _ = roc_curve(same.numpy(), scores.numpy())
    curve = interp1d(alarm, hit)
    # A vertical jump of the curve makes interp1d jump too; the root is then the jump's place, as in ours.
    expected = brentq(lambda x: 1 - x - curve(x), 0, 1)
    assert eer(scores.double(), same).item() == pytest.approx(expected, abs=1e-9)


@quick
@given(trials, st.integers(1, 4))
def test_eer_by_lane_and_unmoved_by_monotone_maps(trials, lanes):
    scores, same = map(torch.tensor, zip(*trials, strict=True))
    scores = scores.double()
    stacked = torch.stack([scores.roll(lane) for lane in range(lanes)])
    torch.testing.assert_close(eer(stacked, same), torch.stack([eer(lane, same) for lane in stacked]))
    torch.testing.assert_close(eer(scores.exp() * 3 - 1, same), eer(scores, same))
    torch.testing.assert_close(eer(-scores, ~same), eer(scores, same))


def test_eer_needs_both_kinds_and_numbers():
    assert eer(torch.tensor([0.1, 0.2]), torch.tensor([1, 1])).isnan()
    assert eer(torch.tensor([0.1, torch.nan]), torch.tensor([0, 1])).isnan()


def test_what_a_model_is_judged_by_follows_its_outputs() -> None:
    posteriors = torch.tensor([[[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]]])
    labels = {"emotion": torch.tensor([0, 1, 1])}
    found = target_metrics({"emotion": posteriors}, labels, ())
    assert {name: value.tolist() for name, value in found.items()} == {"ua": [0.75], "wa": [pytest.approx(2 / 3)]}
    rng = torch.Generator().manual_seed(0)
    truth, values = torch.randn(20, 2, generator=rng), torch.randn(3, 20, 2, generator=rng)
    found = target_metrics({"attributes": values}, {"attributes": truth}, ("activation", "valence"))
    assert found.keys() == {"ccc", "ccc_activation", "ccc_valence"}
    for a, name in enumerate(("activation", "valence")):
        each = torch.stack([ccc(values[k, :, a], truth[:, a]) for k in range(3)])
        torch.testing.assert_close(found[f"ccc_{name}"], each)
    torch.testing.assert_close(found["ccc"], (found["ccc_activation"] + found["ccc_valence"]) / 2)
