"""What a phase's loss is handed in tests: random numbers, and hyperparameters as tensors."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import Tensor

from sersearch.family import Config, Noise


class Draws(Noise):
    """Noise of one generator; `training` False leaves dropout out, as on development data."""

    def __init__(self, *, training: bool = True) -> None:
        self.training = training
        self.generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator)


def lane_values(config: Config, **changed: float) -> SimpleNamespace:
    """The lane hyperparameters of `config`, some of them `changed`."""
    return SimpleNamespace(**{name: torch.tensor(value) for name, value in (config.lanes() | changed).items()})
