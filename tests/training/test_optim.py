"""Optimisers against torch.optim, and clipping against torch's, with lanes and without."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from sersearch.family import Optimizer
from sersearch.training import optim

STEPS = 30


@pytest.fixture(autouse=True)
def torch_s_coefficients_in_float64() -> Iterator[None]:
    """torch.optim keeps step counts and NAdam's product in the default dtype, sersearch in float64 always."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def parameters(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "w": torch.randn(3, 4, generator=generator, dtype=torch.float64),
        "b": torch.randn(4, generator=generator, dtype=torch.float64),
    }


def gradients(of: dict[str, Tensor], step: int) -> dict[str, Tensor]:
    """Gradients of a bumpy loss, other ones at each step."""
    return {n: torch.sin(3 * p + step) + 0.1 * p for n, p in of.items()}


def torch_result(kind: str, rate: float, momentum: float, seed: int) -> dict[str, Tensor]:
    own = {n: p.clone().requires_grad_() for n, p in parameters(seed).items()}
    made = {
        "sgd": lambda: torch.optim.SGD(own.values(), rate, momentum),
        "adam": lambda: torch.optim.Adam(own.values(), rate),
        "nadam": lambda: torch.optim.NAdam(own.values(), rate),
    }[kind]()
    for step in range(STEPS):
        for name, gradient in gradients({n: p.detach() for n, p in own.items()}, step).items():
            own[name].grad = gradient
        made.step()
    return {n: p.detach() for n, p in own.items()}


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
def test_a_single_lane_steps_as_torch_does(kind: str) -> None:
    own = parameters(0)
    slots = optim.init_slots(kind, own)
    hp = {"learning_rate": torch.tensor(0.03, dtype=torch.float64), "m": torch.tensor(0.9, dtype=torch.float64)}
    for step in range(STEPS):
        optim.step(Optimizer(kind, momentum="m"), own, gradients(own, step), slots, hp, {})
    for name, expected in torch_result(kind, 0.03, 0.9, 0).items():
        torch.testing.assert_close(own[name], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
def test_each_lane_steps_at_its_own_rate_as_torch_does(kind: str) -> None:
    rates, momenta = [0.1, 0.01, 0.003], [0.9, 0.0, 0.5]
    apart = [parameters(seed) for seed in range(3)]
    own = {n: torch.stack([p[n] for p in apart]) for n in apart[0]}
    fresh = [optim.init_slots(kind, p) for p in apart]
    slots = {n: torch.stack([s[n] for s in fresh]) for n in fresh[0]}
    hp = {"learning_rate": torch.tensor(rates, dtype=torch.float64), "m": torch.tensor(momenta, dtype=torch.float64)}
    for step in range(STEPS):
        optim.step(Optimizer(kind, momentum="m"), own, gradients(own, step), slots, hp, {})
    for lane, (rate, momentum) in enumerate(zip(rates, momenta, strict=True)):
        for name, expected in torch_result(kind, rate, momentum, lane).items():
            torch.testing.assert_close(own[name][lane], expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
def test_what_has_no_gradient_or_may_not_move_stands_still(kind: str) -> None:
    own = {n: torch.stack([p, p]) for n, p in parameters(0).items()}
    before = {n: p.clone() for n, p in own.items()}
    slots = {n: torch.stack([s, s]) for n, s in optim.init_slots(kind, parameters(0)).items()}
    hp = {"learning_rate": torch.full((2,), 0.1, dtype=torch.float64), "m": torch.full((2,), 0.9, dtype=torch.float64)}
    found = {"w": gradients(own, 0)["w"]}
    optim.step(Optimizer(kind, momentum="m"), own, found, slots, hp, {"w": torch.tensor([True, False])})
    assert torch.equal(own["b"], before["b"])
    assert torch.equal(own["w"][1], before["w"][1])
    assert not torch.equal(own["w"][0], before["w"][0])
    assert all(
        torch.equal(t[1], torch.zeros_like(t[1]))
        for n, t in slots.items()
        if n in ("momentum/w", "exp_avg/w", "exp_avg_sq/w")
    )


def test_clipping_is_torch_s_for_each_lane() -> None:
    lanes = [{n: 5.0 * g for n, g in gradients(parameters(seed), seed).items()} for seed in range(3)]
    lanes[1] = {n: g / 1000 for n, g in lanes[1].items()}
    stacked = {n: torch.stack([g[n] for g in lanes]) for n in lanes[0]}
    optim.clip(stacked, 1.0, 3)
    for lane, own in enumerate(lanes):
        leaves = [torch.zeros_like(g).requires_grad_() for g in own.values()]
        for leaf, gradient in zip(leaves, own.values(), strict=True):
            leaf.grad = gradient.clone()
        torch.nn.utils.clip_grad_norm_(leaves, 1.0)
        for name, leaf in zip(own, leaves, strict=True):
            torch.testing.assert_close(stacked[name][lane], leaf.grad, rtol=1e-9, atol=0)


def test_a_nan_in_one_lane_s_gradients_stays_there() -> None:
    stacked = {"w": torch.ones(2, 3, dtype=torch.float64)}
    stacked["w"][0, 0] = torch.nan
    optim.clip(stacked, 1.0, 2)
    assert torch.isfinite(stacked["w"][1]).all()
