"""Small feature tables for tests that need no audio."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
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
            rows.append(
                {
                    "id": f"s{speaker}_{number:02d}",
                    "path": f"s{speaker}_{number:02d}.wav",
                    "start": None,
                    "end": None,
                    "speaker": f"s{speaker}",
                    "gender": ("female", "male")[speaker % 2],
                    "emotion": emotion,
                    **dict(zip(("activation", "valence", "dominance"), labels, strict=True)),
                    "sentence": None,
                    "corpus": corpus,
                    "split": None,
                    "condition": "clean" if conditions else None,
                    "duration": frames / 100,
                    "frames": frames,
                    "audio_sha256": f"{corpus}{speaker}{number}",
                }
            )
    for condition in conditions:
        for row, piece in list(zip(rows, pieces, strict=True))[: speakers * (4 * repetitions + unlabelled)]:
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


def make_data(
    table: FeatureTable | None = None, view: SegmentView | None = None, target: str = "emotion"
) -> TrainingData:
    """Training data of :func:`make_table` under LOSO, cut into segments of 32 frames, or as `view` says."""
    view = view or SegmentView(32, 32)
    if table is None:
        table = make_table(vectors=view.frames == 1, attributes=bool(attributes_of(target)))
    split = Protocol("loso", test_speaker="s0").split(table, target)
    return training_data(table, split, view, target)


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
    shards = [{"file": path.name, "rows": len(rows), "frames": frames, "sha256": sha256}]
    write_json(folder / "corpus.json", {**table.corpus, "root": "nowhere"})
    write_json(path.parent / "card.json", {**table.card, "hash": sha256, "shards": shards})
    return folder
