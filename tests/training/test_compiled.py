"""Compiled steps: the same numbers as plain ones, and the choice between them."""

from __future__ import annotations

import shutil
import warnings

import pytest
import torch

from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY
from sersearch.training import Engine, LaneState
from sersearch.training.compiled import TIMED, Choice
from tests.families.conformance import assert_close, run
from tests.synthetic import make_data

CPU = torch.device("cpu")
SMALL = LadderConfig(setting="L", hidden=(6, 5), batch_size=8, learning_rate=1e-3, alpha=0.3, beta=0.3)


class Clock:
    """Time that passes as steps say; their kinds, in order."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, plain: float, fast: float) -> None:
        self.now, self.kinds = 0.0, ""
        self._seconds = {"p": plain, "f": fast}
        monkeypatch.setattr("sersearch.training.compiled.time.perf_counter", lambda: self.now)

    def step(self, choice: Choice) -> None:
        choice.step(lambda: self._pass("p"), lambda: self._pass("f"))

    def _pass(self, kind: str) -> None:
        self.kinds += kind
        self.now += self._seconds[kind]


@pytest.mark.parametrize(("fast", "chosen"), [(0.5, True), (2.0, False)])
def test_the_faster_kind_is_taken(monkeypatch: pytest.MonkeyPatch, fast: float, chosen: bool) -> None:
    clock, choice = Clock(monkeypatch, plain=1.0, fast=fast), Choice(CPU, always=False)
    for _ in range(2 + 2 * TIMED):
        assert choice.compiled is None
        clock.step(choice)
    assert choice.compiled is chosen
    assert clock.kinds == "pf" + "fp" * TIMED
    clock.step(choice)
    assert clock.kinds[-1] == ("f" if chosen else "p")


def test_what_can_t_be_compiled_stays_plain_with_a_warning() -> None:
    def broken() -> str:
        raise RuntimeError("no C++ compiler\nwas found")

    choice = Choice(CPU, always=False)
    assert choice.step(lambda: "plain", broken) == "plain"
    with pytest.warns(UserWarning, match="steps are not compiled: no C"):
        assert choice.step(lambda: "plain", broken) == "plain"
    assert choice.compiled is False
    with pytest.raises(RuntimeError):
        Choice(CPU, always=True).step(lambda: "plain", broken)


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling needs a C++ compiler")
def test_compiled_steps_train_the_same_lanes() -> None:
    data = make_data(view=FAMILY.view(SMALL), target="attributes")

    def states(compile: bool, lanes: int) -> list[LaneState]:
        engine = Engine(FAMILY, data, dtype=torch.float64, compile=compile)
        numbers = [engine.join(SMALL, seed=lane, epochs=2) for lane in range(lanes)]  # seeds: streams of their own
        run(engine)
        return [engine.state(number) for number in numbers]

    for lanes in (1, 2):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fast = states(True, lanes)
        for state, twin in zip(fast, states(False, lanes), strict=True):
            assert_close(state, twin, 1e-9)
