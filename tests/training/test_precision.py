"""Products in fewer bits: where they are, where they are not, and that lanes have them too."""

from __future__ import annotations

import pytest
import torch
from torch.func import vmap

from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY
from sersearch.training import Engine, Precision
from sersearch.training.precision import arithmetic
from tests.families.conformance import run
from tests.synthetic import make_data

SMALL = LadderConfig(hidden=(6, 5), batch_size=8, learning_rate=1e-3, alpha=0.3, beta=0.3)


def rounded(x: torch.Tensor) -> torch.Tensor:
    return x.bfloat16().double()


@pytest.mark.parametrize("fused", [False, True])
def test_factors_are_rounded_and_products_are_not(fused: bool) -> None:
    x, w = torch.rand(5, 64), torch.rand(3, 4, 64)

    def product(w: torch.Tensor) -> torch.Tensor:
        with arithmetic("bf16"):
            return torch.nn.functional.linear(x, w) + 1e-3

    y = vmap(product)(w) if fused else torch.stack([product(one) for one in w])
    expected = torch.einsum("bi,koi->kbo", rounded(x), rounded(w)) + 1e-3
    assert y.dtype == torch.float32
    assert (y - expected).abs().max() < 2**-8 * expected.abs().max(), "rounded once more as a result"
    exact = torch.einsum("bi,koi->kbo", x.double(), w.double()) + 1e-3
    assert (y - exact).abs().max() > 1e-5


def test_float32_changes_nothing() -> None:
    x, w = torch.rand(5, 64), torch.rand(4, 64)
    with arithmetic("float32"):
        assert torch.equal(torch.nn.functional.linear(x, w), x @ w.T)


def test_lanes_are_trained_in_the_precision_asked_for() -> None:
    data = make_data(view=FAMILY.view(SMALL), target="attributes")

    def losses(precision: Precision, lanes: int) -> list[float]:
        engine = Engine(FAMILY, data, precision=precision)
        numbers = [engine.join(SMALL, seed=0, epochs=2) for _ in range(lanes)]
        return [r.metrics["train_loss_prediction"] for r in run(engine)[numbers[0]]]

    exact, alone, together = losses("float32", 1), losses("bf16", 1), losses("bf16", 2)
    assert alone != pytest.approx(exact, rel=1e-6)
    assert alone == pytest.approx(exact, rel=0.02)
    assert together == pytest.approx(alone, rel=1e-3)
