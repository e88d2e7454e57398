"""Random numbers of a step, as properties of (seed, epoch, step, phase)."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.training.noise import StepNoise

CPU = torch.device("cpu")
KEYS = st.tuples(*[st.integers(0, 2**32)] * 2, st.integers(0, 10**6), st.integers(0, 9))


def noise(key: tuple[int, int, int, int], training: bool = True, dtype: torch.dtype = torch.float64) -> StepNoise:
    seed, epoch, step, phase = key
    return StepNoise([(seed, epoch)], step, phase, CPU, dtype, training=training)


@given(key=KEYS, other=KEYS)
def test_equal_keys_draw_equal_numbers_and_others_do_not(
    key: tuple[int, int, int, int], other: tuple[int, int, int, int]
) -> None:
    first = noise(key)
    drawn = [first.normal(3), first.uniform(2, 2)]
    again = noise(key)
    assert torch.equal(drawn[0], again.normal(3))
    assert torch.equal(drawn[1], again.uniform(2, 2))
    assert torch.equal(drawn[0], noise(other).normal(3)) == (key == other)


@given(key=KEYS)
@settings(max_examples=20)
def test_the_global_generator_is_neither_read_nor_moved(key: tuple[int, int, int, int]) -> None:
    before = torch.random.get_rng_state()
    noise(key).normal(4)
    noise(key).dropout(torch.ones(4, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64))
    assert torch.equal(before, torch.random.get_rng_state())


@given(seeds=st.lists(st.integers(0, 50), min_size=1, max_size=4, unique=True), epoch=st.integers(0, 99))
@settings(max_examples=20)
def test_every_stream_draws_what_it_draws_alone(seeds: list[int], epoch: int) -> None:
    streams = [(seed, epoch) for seed in seeds]
    for position, (seed, _) in enumerate(streams):
        together = StepNoise(streams, 5, 1, CPU, torch.float64, training=True)
        together.stream = torch.tensor(position)
        assert torch.equal(together.normal(6), noise((seed, epoch, 5, 1)).normal(6))


def test_draws_of_one_step_differ_from_each_other() -> None:
    own = noise((0, 0, 0, 0))
    assert not torch.equal(own.normal(8), own.normal(8))


def test_numbers_are_distributed_as_named() -> None:
    own = noise((1, 2, 3, 0))
    normal, uniform = own.normal(100_000), own.uniform(100_000)
    assert normal.mean().item() == pytest.approx(0, abs=0.02)
    assert normal.std().item() == pytest.approx(1, abs=0.02)
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert uniform.mean().item() == pytest.approx(0.5, abs=0.01)
    assert own.normal(2, 3).shape == (2, 3)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_numbers_have_the_network_s_dtype(dtype: torch.dtype) -> None:
    assert noise((0, 0, 0, 0), dtype=dtype).normal(2).dtype == dtype
    assert noise((0, 0, 0, 0), dtype=dtype).dropout(torch.ones(3, dtype=dtype), torch.tensor(0.5)).dtype == dtype


def test_no_dropout_at_rate_0() -> None:
    x = torch.arange(100, dtype=torch.float64)
    assert torch.equal(noise((0, 0, 0, 0)).dropout(x, torch.tensor(0.0, dtype=torch.float64)), x)
