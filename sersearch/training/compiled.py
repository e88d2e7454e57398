"""Compiled steps: a phase's losses and gradients as a few generated kernels instead of hundreds.

Compiled and plain steps give the same numbers but for rounding. What is faster depends on model, lanes and machine, so
it is measured, on the steps of training themselves. On a CPU steps are plain unless asked otherwise: a result must
not depend on the clock there, and compiling needs a C++ compiler.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

from sersearch.family import Noise

T = TypeVar("T")

TIMED = 4
"""Steps of each kind that are timed."""
VARIANTS = 64
"""Shapes and lane counts that one function may be compiled for."""


class Values:
    """Hyperparameters as attributes: what phases are handed. The compiler can't read a SimpleNamespace."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        for name, value in values.items():
            setattr(self, name, value)


class Drawn(Noise):
    """Random numbers that were drawn beforehand, in the order in which a phase asks for them."""

    def __init__(self, draws: list[Tensor], stream: Tensor | None, *, training: bool) -> None:
        """`draws` have a leading dimension of streams, of which the lane's is `stream`, unless that is None."""
        self.training = training
        self._draws, self._stream, self._next = draws, stream, 0

    def _take(self) -> Tensor:
        drawn = self._draws[self._next]
        self._next += 1
        return drawn if self._stream is None else drawn[self._stream]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        return self._take()

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of `shape`."""
        return self._take()


def compiled(function: Callable[..., T], device: torch.device) -> Callable[..., T]:
    """`function`, compiled as a whole at its first call; on a GPU its kernels are replayed as a CUDA graph."""
    torch._dynamo.config.recompile_limit = max(torch._dynamo.config.recompile_limit, VARIANTS)
    return torch.compile(function, fullgraph=True, mode="reduce-overhead" if device.type == "cuda" else "default")


class Choice:
    """Plain or compiled steps: each kind is timed for some steps, and from then on the faster is taken.

    The first step is plain, the second compiles. What can't be compiled stays plain, with a warning.
    """

    def __init__(self, device: torch.device, *, always: bool) -> None:
        """`always`: all steps are compiled, and what can't be is an error."""
        self._device = device
        self._steps, self._seconds = 0, {False: 0.0, True: 0.0}
        self.compiled: bool | None = True if always else None
        """What was chosen; None while it isn't."""

    def step(self, plain: Callable[[], T], fast: Callable[[], T]) -> T:
        """Run one step, in the one way or the other; both must give the same."""
        if self.compiled is not None:
            return fast() if self.compiled else plain()
        self._steps += 1
        if self._steps == 1:
            return plain()
        return self._first(plain, fast) if self._steps == 2 else self._timed(plain, fast)

    def _first(self, plain: Callable[[], T], fast: Callable[[], T]) -> T:
        try:
            return fast()
        except Exception as error:
            self.compiled = False
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            warnings.warn(f"steps are not compiled: {reason}", stacklevel=2)
            return plain()

    def _timed(self, plain: Callable[[], T], fast: Callable[[], T]) -> T:
        is_fast = self._steps % 2 == 1
        self._wait()
        started = time.perf_counter()
        result = fast() if is_fast else plain()
        self._wait()
        self._seconds[is_fast] += time.perf_counter() - started
        if self._steps == 2 + 2 * TIMED:
            self.compiled = self._seconds[True] < self._seconds[False]
        return result

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)


__all__ = ["Choice", "Drawn", "Values", "compiled"]
