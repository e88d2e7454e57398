"""Random numbers of a step: a function of (seed, epoch, step, phase), so that nothing has to be remembered."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from sersearch.family import Noise


class StepNoise(Noise):
    """Draws for one phase of one step.

    `streams` holds a (seed, epoch) per distinct stream among the lanes; `stream` is the position in it of the lane
    that asks, a 0-dim tensor inside vmap, or None where all lanes share one stream. Each stream has a generator of
    its own, and so a lane draws what its twin draws alone.
    """

    def __init__(
        self,
        streams: Sequence[tuple[int, int]],
        step: int,
        phase: int,
        device: torch.device,
        dtype: torch.dtype,
        *,
        training: bool,
    ) -> None:
        self.training = training
        self.stream: Tensor | None = None
        self.asked: list[tuple[bool, tuple[int, ...]]] = []
        """What was asked for: whether it was normal numbers, and their shape."""
        self._device, self._dtype = device, dtype
        self._seeds = streams, step, phase
        self._generators = [self._generator(seed, epoch, step, phase) for seed, epoch in streams]

    def _generator(self, seed: int, epoch: int, step: int, phase: int) -> torch.Generator:
        words = np.random.SeedSequence([seed, epoch, step, phase]).generate_state(2)
        return torch.Generator(self._device).manual_seed((int(words[0]) << 32 | int(words[1])) >> 1)

    def again(self) -> StepNoise:
        """The same numbers from their beginning."""
        return StepNoise(*self._seeds, self._device, self._dtype, training=self.training)

    def all_of(self, asked: Sequence[tuple[bool, tuple[int, ...]]], *, stacked: bool) -> list[Tensor]:
        """All that a phase asks for, drawn in its order; with a leading dimension of streams, if `stacked`."""
        drawn = [self._draws(torch.randn if normal else torch.rand, shape) for normal, shape in asked]
        return [torch.stack(each) if stacked else each[0] for each in drawn]

    def _draws(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> list[Tensor]:
        return [draw(shape, generator=g, device=self._device, dtype=self._dtype) for g in self._generators]

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        drawn = self._draws(draw, shape)
        if self.stream is None:
            return drawn[0]
        return torch.stack(drawn)[self.stream]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        self.asked.append((True, shape))
        return self._draw(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of `shape`."""
        self.asked.append((False, shape))
        return self._draw(torch.rand, shape)
