"""Corpora on disk -> prepared corpora: readers, the synthesised demo corpus, and the pipeline on Ray."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

DEMO_VISUAL = "openface"
"""The demo corpus's set of visual features."""


def demo_data(out: Path, features: str | Sequence[str] = "spectrogram", workers: int | None = None) -> Path:
    """Make sure that `out` holds the demo corpus with the feature set, or sets, `features`, and return `out`.

    Some seconds of synthesis and extraction the first time, nothing to do afterwards.
    """
    from data_prep.pipeline import prepare

    prepare("demo", None, features, out, workers=workers)
    return out
