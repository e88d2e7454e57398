"""What a person should know of a search beside what its split card says."""

from __future__ import annotations

from sersearch.data.protocols import Protocol
from sersearch.tuning.space import SearchSpace, signatures


def unlearnt(space: SearchSpace, protocol: Protocol) -> list[str]:
    """That no trial learns from the condition that `protocol` has unlabelled speech of, in sentences."""
    condition = protocol.unlabeled_condition
    configs = [space.config(point) for point in signatures(space)]
    if condition is None or any(config.learns_unlabelled for config in configs):
        return []
    return [
        f"No trial learns from the unlabelled speech in {condition}: the setting L, and a dense model, learn from "
        "labelled speech alone. It only counts in the mean and deviation by which features are normalised, and the "
        "development figures in noise are shown."
    ]


__all__ = ["unlearnt"]
