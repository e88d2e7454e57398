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
        self._device, self._dtype = device, dtype
        self._generators = [self._generator(seed, epoch, step, phase) for seed, epoch in streams]

    def _generator(self, seed: int, epoch: int, step: int, phase: int) -> torch.Generator:
        words = np.random.SeedSequence([seed, epoch, step, phase]).generate_state(2)
        return torch.Generator(self._device).manual_seed((int(words[0]) << 32 | int(words[1])) >> 1)

    def _draw(self, draw: Callable[..., Tensor], shape: tuple[int, ...]) -> Tensor:
        drawn = [draw(shape, generator=g, device=self._device, dtype=self._dtype) for g in self._generators]
        if self.stream is None:
            return drawn[0]
        return torch.stack(drawn)[self.stream]

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        return self._draw(torch.randn, shape)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of `shape`."""
        return self._draw(torch.rand, shape)
