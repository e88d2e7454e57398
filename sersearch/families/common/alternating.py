"""What both ladder families are: unlabelled and labelled mini-batches by turns, of audio features."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np

from sersearch.data.batches import LabelSpace, SegmentView, TrainingData
from sersearch.families.common import steps
from sersearch.families.common.config import LadderHyperparameters
from sersearch.family import Family, Losses, Optimizer, Phase

NADAM = Optimizer("nadam")


class Alternating(Family):
    """Base of the ladder families (Parthasarathy & Busso, TASLP 2020)."""

    features = ("functionals", "egemaps", "lld", "mfb")

    def unused(self, labels: LabelSpace) -> tuple[str, ...]:
        """Eq. 2 weighs three attributes: of one, or of classes, alpha and beta change nothing."""
        return () if len(labels.attributes) == 3 else ("alpha", "beta")

    def view(self, config: LadderHyperparameters) -> SegmentView:
        """One vector an utterance (section IV-D), or 1000 frames of it (section III-D)."""
        return steps.view(config)

    def plan(self, config: LadderHyperparameters, data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
        """Labelled mini-batches, with UL behind as many unlabelled segments (sections IV-C and V-C)."""
        return steps.plan(config, data, rng, unlabelled=config.learns_unlabelled)


def alternating_phases(
    config: LadderHyperparameters,
    children: tuple[str, ...],
    unlabelled: Callable[..., Losses],
    labelled: Callable[..., Losses],
) -> tuple[Phase, ...]:
    """Unlabelled, then labelled, which the paper found better than mixing; with setting L labelled alone.

    One optimiser for both: children of the labelled phase alone are its parameters too, and have no gradient in the
    unlabelled one. `labelled` takes `halved`: whether a mini-batch has an unlabelled half.
    """
    loss = partial(labelled, halved=config.setting == "UL")
    if config.setting == "L":
        return (Phase("labelled", loss, "labelled", children, NADAM),)
    return (
        Phase("unlabelled", unlabelled, "unlabelled", children, NADAM),
        Phase("labelled", loss, "labelled", children, NADAM, state_of="unlabelled"),
    )


__all__ = ["NADAM", "Alternating", "alternating_phases"]
