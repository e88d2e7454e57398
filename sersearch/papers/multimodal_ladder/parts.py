"""The multimodal ladder paper's models (section 5)."""

from __future__ import annotations

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import Part

PROTOCOL = (
    "20 random speaker-independent partitions, 70/15/15, the same for all models, one training on each; mean over them"
)


def model(name: str) -> Part:
    """A model with the paper's settings, on each partition."""
    return Part(
        name=name,
        space="multimodal_ablation",
        search={"model": [name]},
        protocol=Protocol("speaker"),
        each="run",
        seeds=20,
    )
