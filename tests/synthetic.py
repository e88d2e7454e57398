"""Small feature tables for tests that need no audio."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.companions import Companion
from sersearch.data.protocols import Protocol
from sersearch.data.schema import feature_schema
from sersearch.data.table import FeatureTable
from sersearch.data.targets import attributes_of

CLASSES = ("anger", "happiness", "neutral", "sadness")


def make_table(
    dims: int = 16,
    speakers: int = 4,
    repetitions: int = 2,
    unlabelled: int = 4,
    seed: int = 0,
    corpus: str = "made",
    *,
    vectors: bool = False,
    attributes: bool = False,
    conditions: tuple[str, ...] = (),
) -> FeatureTable:
    """`speakers` x 4 classes x `repetitions` labelled utterances whose mean over bands tells the class, and a pool.

    `vectors`: one frame an utterance; `attributes`: labels of these, too, which the bands tell; `conditions`: noisy
    copies of all utterances, beside the clean ones.
    """
    rng = np.random.default_rng(seed)
    rows, pieces = [], []
    for speaker in range(speakers):
        todo = [*(list(CLASSES) * repetitions), *([None] * unlabelled)]
        for number, emotion in enumerate(todo):
            frames = 1 if vectors else int(rng.integers(20, 70))
            piece = rng.normal(size=(frames, dims)).astype(np.float32)
            if emotion is not None:
                piece[:, CLASSES.index(emotion) * dims // 4 : (CLASSES.index(emotion) + 1) * dims // 4] += 2
            level = rng.normal(size=3)
            if attributes and emotion is not None:
                piece[:, :3] += level
            pieces.append(piece)
            labels = np.clip(4 + level, 1, 7).round(2).tolist() if attributes and emotion is not None else [None] * 3
            condition = "clean" if conditions else None
            rows.append(_row(corpus, speaker, number, frames, emotion, labels, condition))
    clean = list(zip(rows, pieces, strict=True))
    for condition in conditions:
        for row, piece in clean:
            name = f"{row['id']}_{condition}"
            rows.append(row | {"id": name, "condition": condition, "audio_sha256": f"{corpus}{name}"})
            pieces.append((piece + rng.normal(size=piece.shape)).astype(np.float32))
    return FeatureTable(
        root=Path("made"),
        card={
            "features": "spectrogram",
            "dims": dims,
            "frame_rate": None if vectors else 100.0,
            "parameters": {},
            "versions": {},
            "hash": "0",
        },
        corpus={"corpus": corpus, "synthetic": True, "attribute_scale": [1, 7] if attributes else None},
        utterances=pd.DataFrame(rows),
        frames=np.concatenate(pieces),
        offsets=np.cumsum([0, *(len(p) for p in pieces)]),
    )


def _row(
    corpus: str,
    speaker: int,
    number: int,
    frames: int,
    emotion: str | None,
    attributes: list[float | None],
    condition: str | None,
) -> dict[str, Any]:
    """One utterance of a manifest."""
    name = f"s{speaker}_{number:02d}"
    return {
        **dict.fromkeys(("start", "end", "sentence", "split")),
        "id": name,
        "path": f"{name}.wav",
        "speaker": f"s{speaker}",
        "gender": ("female", "male")[speaker % 2],
        "emotion": emotion,
        **dict(zip(("activation", "valence", "dominance"), attributes, strict=True)),
        "corpus": corpus,
        "condition": condition,
        "duration": frames / 100,
        "frames": frames,
        "audio_sha256": f"{corpus}{speaker}_{number}",
    }


def make_visual(table: FeatureTable, dims: int = 8, lacking: int = 1) -> Companion:
    """Visual features beside `table`, a third of its frames, of which the means tell the class, too.

    Each speaker's first `lacking` utterances have none.
    """
    rng = np.random.default_rng(len(table.utterances))
    has = table.utterances["id"].str.slice(-2).astype(int) >= lacking
    utterances = table.utterances[has.to_numpy()].reset_index(drop=True)
    pieces = []
    for emotion, frames in zip(utterances["emotion"], utterances["frames"], strict=True):
        piece = rng.normal(size=(max(frames // 3, 1), dims)).astype(np.float32)
        if emotion in CLASSES:
            piece[:, CLASSES.index(emotion) * dims // 4 : (CLASSES.index(emotion) + 1) * dims // 4] += 2
        pieces.append(piece)
    made = replace(
        table,
        card={**table.card, "features": "visual", "dims": dims, "frame_rate": 30.0},
        utterances=utterances.assign(frames=[len(piece) for piece in pieces]),
        frames=np.concatenate(pieces),
        offsets=np.cumsum([0, *(len(p) for p in pieces)]),
    )
    return Companion(made, np.where(has, np.cumsum(has) - 1, -1))


def make_data(
    table: FeatureTable | None = None,
    view: SegmentView | None = None,
    target: str = "emotion",
    visual: SegmentView | None = None,
) -> TrainingData:
    """Training data of :func:`make_table` under LOSO, cut into segments of 32 frames, or as `view` says.

    With `visual`, features of :func:`make_visual` beside it, cut so.
    """
    view = view or SegmentView(32, 32)
    if table is None:
        table = make_table(vectors=view.frames == 1, attributes=bool(attributes_of(target)))
    split = Protocol("loso", test_speaker="s0").split(table, target)
    further = {} if visual is None else {"visual": (make_visual(table), visual)}
    return training_data(table, split, view, target, companions=further)


def write_table(folder: Path, table: FeatureTable) -> Path:
    """`table` as `sersearch prep` would have written it."""
    rows = table.utterances.astype(object).where(table.utterances.notna(), None).to_dict("records")
    for number, row in enumerate(rows):
        row["features"] = (table[number][0] if table.card["frame_rate"] is None else table[number]).tolist()
    path = folder / table.card["features"] / "part-00000.parquet"
    path.parent.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows, schema=feature_schema(table.card)), path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    frames = sum(row["frames"] for row in rows)
    size, total = path.stat().st_size, hashlib.sha256(sha256.encode()).hexdigest()
    shards = [{"file": path.name, "rows": len(rows), "frames": frames, "bytes": size, "sha256": sha256}]
    write_json(folder / "corpus.json", {**table.corpus, "root": "nowhere"})
    write_json(path.parent / "card.json", {**table.card, "hash": total, "shards": shards})
    return folder
