"""The columns of a manifest and of a feature table."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyarrow as pa

from sersearch.errors import DataError

GENDERS = ("female", "male")
SPLITS = ("train", "dev", "test", "unlabelled")

MANIFEST_SCHEMA = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("path", pa.string(), nullable=False),
        pa.field("start", pa.float64()),
        pa.field("end", pa.float64()),
        pa.field("speaker", pa.string(), nullable=False),
        pa.field("gender", pa.string()),
        pa.field("emotion", pa.string()),
        pa.field("activation", pa.float32()),
        pa.field("valence", pa.float32()),
        pa.field("dominance", pa.float32()),
        pa.field("sentence", pa.string()),
        pa.field("corpus", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("condition", pa.string()),
        pa.field("noise", pa.string()),
        pa.field("noise_start", pa.float64()),
        pa.field("snr", pa.float32()),
        pa.field("visual", pa.string()),
    ]
)
REJECTED_SCHEMA = pa.schema(
    [("id", pa.string()), ("path", pa.string()), ("features", pa.string()), ("reason", pa.string())]
)


@dataclass(frozen=True, kw_only=True)
class Utterance:
    """One row of a manifest. Without an emotion and without attributes it is unlabelled."""

    id: str  # unique in its corpus; letters, digits and _ . -
    path: str  # of the audio, below the corpus's root, parted by /; absolute where it lies elsewhere
    speaker: str
    corpus: str
    start: float | None = None  # s; None: the file's start
    end: float | None = None  # s; None: the file's end
    gender: str | None = None  # one of GENDERS
    emotion: str | None = None
    activation: float | None = None
    valence: float | None = None
    dominance: float | None = None
    sentence: str | None = None  # its text or its number, by which a leak between the parts of a split is found
    split: str | None = None  # one of SPLITS, where the corpus comes with official ones
    condition: str | None = None  # clean, snr10, ... in a corpus of several; None: as recorded
    noise: str | None = None  # file of the noise that is mixed in
    noise_start: float | None = None  # s: where in that file
    snr: float | None = None  # dB
    visual: str | None = None  # file of visual features


@dataclass(frozen=True)
class Rejected:
    """An utterance that cannot be used, and why."""

    id: str
    path: str
    reason: str
    features: str | None = None  # the feature set that refused it; None: its label or its file is wrong for all


def utterance_id(text: str) -> str:
    """`text` with what an id cannot hold replaced by underscores."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", text)


def manifest_table(utterances: Sequence[Utterance]) -> pa.Table:
    """The manifest of `utterances`, sorted by id; :class:`DataError` for ids that repeat or are malformed."""
    counts = Counter(utterance.id for utterance in utterances)
    repeated = sorted(name for name, count in counts.items() if count > 1)
    if repeated:
        paths = [utterance.path for utterance in utterances if utterance.id == repeated[0]]
        raise DataError(
            f"{len(repeated)} ids stand for several utterances, such as {repeated[0]}: {', '.join(paths[:3])}"
        )
    odd = sorted(name for name in counts if not name or utterance_id(name) != name)
    if odd:
        raise DataError(f"ids may hold letters, digits and _ . - only; found {', '.join(map(repr, odd[:3]))}")
    rows = sorted(utterances, key=lambda row: row.id)
    columns = [pa.array([getattr(row, field.name) for row in rows], field.type) for field in MANIFEST_SCHEMA]
    return pa.Table.from_arrays(columns, schema=MANIFEST_SCHEMA)


def rejected_table(rejected: Sequence[Rejected]) -> pa.Table:
    """The table of what cannot be used, sorted."""
    rows = sorted(
        (asdict(row) for row in rejected),
        key=lambda row: (row["path"], row["id"], row["features"] or "", row["reason"]),
    )
    return pa.Table.from_pylist(rows, schema=REJECTED_SCHEMA)


def feature_type(card: Mapping[str, Any]) -> pa.DataType:
    """The column `features` of a feature set: a vector (dims,) an utterance, or a sequence (frames, dims) of vectors.

    A set without a frame rate has one vector an utterance; `dtype` is float32 unless the card says otherwise.
    """
    number = pa.float16() if card.get("dtype") == "float16" else pa.float32()
    vector = pa.list_(number, card["dims"])
    return vector if card["frame_rate"] is None else pa.list_(vector)


def feature_schema(card: Mapping[str, Any]) -> pa.Schema:
    """The columns of a feature shard: the manifest's, then what extraction adds."""
    added = [
        pa.field("duration", pa.float64(), nullable=False),  # s, of the decoded span
        pa.field("frames", pa.int32(), nullable=False),
        pa.field("audio_sha256", pa.string(), nullable=False),  # of the decoded 16 kHz samples
        pa.field("features", feature_type(card), nullable=False),
    ]
    return pa.schema([*MANIFEST_SCHEMA, *added])
