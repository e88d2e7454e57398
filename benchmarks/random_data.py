"""Random utterances with random labels: what steps and epochs are timed on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.companions import Companion
from sersearch.data.protocols import Protocol, Split
from sersearch.data.table import FeatureTable

EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")


def random_table(frames_U: np.ndarray, dims: int, features: str, frame_rate: float | None = None) -> FeatureTable:
    """Normal features of utterances of so many frames (U,); each utterance has an emotion and three attributes."""
    count, rng = len(frames_U), np.random.default_rng(0)
    names = [f"u{number:06d}" for number in range(count)]
    columns: dict[str, Any] = dict.fromkeys(("start", "end", "gender", "condition", "sentence", "split"))
    columns |= {"id": names, "path": names, "audio_sha256": names, "speaker": "s", "corpus": "random"}
    columns |= {"emotion": [EMOTIONS[number % len(EMOTIONS)] for number in range(count)]}
    columns |= {name: rng.normal(size=count) for name in ("activation", "valence", "dominance")}
    return FeatureTable(
        root=Path("random"),
        card={"features": features, "dims": dims, "frame_rate": frame_rate, "hash": "0"},
        corpus={"corpus": "random", "synthetic": True, "attribute_scale": None},
        utterances=pd.DataFrame(columns),
        frames=rng.standard_normal((int(frames_U.sum()), dims), np.float32),
        offsets=np.concatenate([[0], np.cumsum(frames_U)]),
    )


def random_data(
    table: FeatureTable,
    labelled: int,
    unlabelled: int,
    view: SegmentView,
    target: str,
    companions: Mapping[str, tuple[FeatureTable, SegmentView]] | None = None,
) -> TrainingData:
    """The table's first utterances as labelled ones, the next as unlabelled ones, the rest to develop.

    `companions` are tables of the same utterances, with how they are cut.
    """
    rows = np.arange(len(table))
    train, pool, dev = np.split(rows, [labelled, labelled + unlabelled])
    further = {name: (Companion(own, rows), cut) for name, (own, cut) in (companions or {}).items()}
    return training_data(table, Split(Protocol("speaker"), train, pool, dev), view, target, companions=further)
