"""Hyperparameters of the decoupled ladder network (DLN), Leem et al., Interspeech 2021."""

from __future__ import annotations

from dataclasses import dataclass

from sersearch.families.common.config import LadderHyperparameters


@dataclass(frozen=True, kw_only=True)
class DecoupledLadderConfig(LadderHyperparameters):
    """The slides state no values but that the ladder network's are the same; so these are the ladder paper's.

    Both embeddings have the width of the last of `hidden`. `lambda_l` is the slide's lambda^l: l is an index there.
    """
