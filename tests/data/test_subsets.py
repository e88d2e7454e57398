"""Subsets of a test set: how large, who is together, and the same for every model."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.data.subsets import subsets
from sersearch.errors import DataError


@given(
    st.lists(st.sampled_from("abcdefghij"), min_size=4).filter(lambda names: len(set(names)) >= 4), st.integers(0, 9)
)
def test_names_are_dealt_evenly_and_stay_together(names, seed):
    found = subsets(names, 4, seed)
    by_name = {name: {s for n, s in zip(names, found, strict=True) if n == name} for name in set(names)}
    assert all(len(own) == 1 for own in by_name.values())
    sizes = Counter(next(iter(own)) for own in by_name.values())
    assert set(sizes) == {0, 1, 2, 3}
    assert max(sizes.values()) - min(sizes.values()) <= 1
    assert subsets(names[::-1], 4, seed).tolist() == found[::-1].tolist(), "whatever the order"


def test_four_subsets_of_msp_podcast_s_test_set_have_the_same_size():
    found = subsets([f"MSP-PODCAST_{n:04}" for n in range(10124)])
    assert Counter(found.tolist()) == {0: 2531, 1: 2531, 2: 2531, 3: 2531}
    assert found.tolist() != subsets([f"MSP-PODCAST_{n:04}" for n in range(10124)], seed=1).tolist()


def test_more_subsets_than_names_are_refused():
    with pytest.raises(DataError, match="4 subsets of a test set need as many utterances, or speakers, and it has 3"):
        subsets(["a", "b", "c", "a"])
