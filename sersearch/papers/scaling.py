"""A paper's budget at a laptop's size: `--scale`.

With a scale below 1, epochs (also of pre-training), values of each searched range, seeds, runs and folds are multiplied
by it, rounded up and at least 2 (1 epoch of pre-training), and networks, rates and batches are those of the space's
`demo` block in place of the paper's. Numbers of clusters and of unlabelled sentences stay. Figures of a scaled run say
nothing about the paper.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from sersearch.errors import ConfigError
from sersearch.families import get_family
from sersearch.tuning.space import SearchSpace

FEW = 3
"""Values of a searched hyperparameter that no scale thins out."""


def check_scale(scale: float) -> None:
    """Raise :class:`ConfigError` for a scale that isn't above 0 and at most 1."""
    if not 0 < scale <= 1:
        raise ConfigError(f"--scale {scale:g}: expected more than 0 and at most 1, which is the paper's own budget")


def scaled_count(count: int, scale: float) -> int:
    """Seeds, runs, folds or epochs."""
    return count if scale == 1 or count < 2 else min(count, max(2, math.ceil(count * scale - 1e-9)))


def scaled_space(space: SearchSpace, scale: float) -> SearchSpace:
    """The space with fewer epochs and values, and its demo's network."""
    if scale == 1:
        return space
    small = {name: value for name, value in space.demo.fixed.items() if name not in space.search}
    config = get_family(space.family).config
    if "pretrain_epochs" in config.names():
        small["pretrain_epochs"] = max(1, round(space.config(space.middle()).to_dict()["pretrain_epochs"] * scale))
    search = {name: {"choices": tuple(_thinned(space, name, scale))} for name in space.search}
    return space.changed(fixed={**space.fixed, **small}, search=search, epochs=scaled_count(space.epochs, scale))


def _thinned(space: SearchSpace, name: str, scale: float) -> list[Any]:
    """Values of a searched hyperparameter, evenly taken with both ends."""
    values = list(space.values(name) or ())
    if len(values) <= FEW:
        return values
    return [values[int(n)] for n in np.linspace(0, len(values) - 1, scaled_count(len(values), scale)).round()]


__all__ = ["check_scale", "scaled_count", "scaled_space"]
