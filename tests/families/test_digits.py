"""The ladder on digits: unlabelled data must help. `python -m benchmarks digits` has ten seeds and their test."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks import digits


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def test_unlabelled_digits_help_the_ladder() -> None:
    seeds = (0, 1)
    with_pool = digits.accuracies(digits.CONFIG, seeds)
    without = digits.accuracies(replace(digits.CONFIG, setting="L"), seeds)
    assert all(u > w + 0.005 for u, w in zip(with_pool, without, strict=True)), (with_pool, without)
    assert min(with_pool) > 0.9


def test_no_digit_is_in_two_parts() -> None:
    data = digits.digits(3)
    assert not set(data.train.ids) & set(data.dev.ids)
    assert int(data.train.labelled_S.sum()) == digits.LABELLED
    assert data.dev.utterances == digits.TESTED
    codes = data.train.labels_U["emotion"]
    assert [int((codes == c).sum()) for c in range(10)] == [10] * 10
