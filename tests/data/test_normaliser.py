from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.data import normaliser as module
from sersearch.data.normaliser import Normaliser
from sersearch.errors import DataError


def matrices(lengths, dims=3, seed=0, offset=0.0):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(n, dims)) * [1, 10, 0.1] + offset).astype(np.float32) for n in lengths]


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=12), st.data())
def test_moments_are_those_of_the_chosen_frames_whatever_the_chunks(memory_table, lengths, data):
    chosen = np.array(data.draw(st.sets(st.integers(0, len(lengths) - 1), min_size=1).map(sorted)))
    table = memory_table([{"speaker": "a"}] * len(lengths), matrices=matrices(lengths))
    frames = np.concatenate([table[row] for row in chosen]).astype(np.float64)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CHUNK_FRAMES", 7)
        fitted = Normaliser.fit(table, chosen)
    np.testing.assert_allclose(fitted.mean, frames.mean(axis=0), rtol=1e-5, atol=1e-6)
    spread = frames.std(axis=0)
    np.testing.assert_allclose(fitted.std, np.where(spread > 1e-7 * abs(frames.mean(0)), spread, 1), rtol=1e-5)


def test_a_large_offset_costs_no_precision(memory_table):
    table = memory_table([{"speaker": "a"}], matrices=matrices([50_000], offset=1000.0))
    expected = table.frames.astype(np.float64).std(axis=0)
    np.testing.assert_allclose(Normaliser.fit(table, np.array([0])).std, expected, rtol=1e-6)


def test_normalised_training_frames_have_zero_mean_and_unit_deviation(memory_table):
    table = memory_table([{"speaker": "a"}] * 3, matrices=matrices([40, 50, 60]))
    x = Normaliser.fit(table, np.arange(3))(table.frames)
    assert x.dtype == np.float32
    np.testing.assert_allclose(x.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(x.std(axis=0), 1, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.1, -80.0, 1e6])
def test_a_constant_dimension_is_divided_by_one(memory_table, constant):
    frames = np.full((40_000, 2), constant, np.float32)
    frames[:, 1] = np.arange(40_000)
    fitted = Normaliser.fit(memory_table([{"speaker": "a"}], matrices=[frames]), np.array([0]))
    assert fitted.std[0] == 1
    assert np.isfinite(fitted(frames)).all()


def test_same_rows_give_the_same_bits_in_any_order_and_through_json(memory_table):
    table = memory_table([{"speaker": "a"}] * 4, matrices=matrices([10, 20, 30, 40]))
    one, other = Normaliser.fit(table, np.array([0, 1, 3])), Normaliser.fit(table, np.array([3, 0, 1]))
    back = Normaliser.from_dict(json.loads(json.dumps(one.to_dict())))
    for twin in (other, back):
        assert twin.mean.tobytes() == one.mean.tobytes()
        assert twin.std.tobytes() == one.std.tobytes()
    assert one.mean.dtype == one.std.dtype == np.float32


def test_no_rows(memory_table):
    table = memory_table([{"speaker": "a"}], matrices=matrices([5]))
    with pytest.raises(DataError, match="the training part is empty"):
        Normaliser.fit(table, np.zeros(0, np.int64))


def test_features_that_are_not_finite_are_named(memory_table):
    bad = matrices([5, 5, 5])
    bad[1][2, 0] = np.nan
    table = memory_table([{"speaker": "a"}] * 3, matrices=bad)
    with pytest.raises(DataError, match=r"utterance u0001 has features that are not finite.*sersearch prep"):
        Normaliser.fit(table, np.arange(3))
    assert np.isfinite(Normaliser.fit(table, np.array([0, 2])).mean).all()
