"""Hyperparameters of the ladder network and its baselines, Parthasarathy & Busso, TASLP 2020."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sersearch.families.common.config import LadderHyperparameters
from sersearch.family import lane, static


@dataclass(frozen=True, kw_only=True)
class LadderConfig(LadderHyperparameters):
    """Defaults are the paper's values (section IV-D). STL or MTL isn't a field: it follows from the target."""

    dropout: float = lane(
        0.5, "the dense baseline's dropout before its first and second hidden layer; stated", low=0.0, high=0.99
    )

    model: Literal["ladder", "dense"] = static(
        "ladder",
        "ladder: the proposed model; dense: the STL and MTL baselines (IV-C), which learn from labels alone whatever "
        "the setting",
    )
    top: Literal["output", "hidden"] = static(
        "output",
        "of classes, where the decoder starts; output: output layer (Rasmus et al.); hidden: the last hidden layer, "
        "as it does of attributes; the paper predicts no classes",
    )

    @property
    def learns_unlabelled(self) -> bool:
        """Not the dense baselines, whatever the setting."""
        return self.model == "ladder" and super().learns_unlabelled
