"""The features of many utterances, memory-mapped from a folder that `sersearch prep` wrote."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock
from numpy.typing import NDArray

from sersearch.data.atomic import atomic
from sersearch.data.schema import feature_schema
from sersearch.errors import DataError, one_of


@dataclass(frozen=True, eq=False)
class FeatureTable:
    """Utterances and their features, neither normalised nor cut into segments.

    The frames of all utterances lie in one file that is mapped read-only, so that any number of processes share its
    pages. Pickled, a table is its folder's name: it is opened again where it arrives.
    """

    root: Path  # the prepared corpus
    card: dict[str, Any]  # the feature set: extractor, parameters, hash, shards
    corpus: dict[str, Any]  # the corpus: its name, whether it is synthetic, its attributes' scale
    utterances: pd.DataFrame  # RangeIndex 0 ... N-1: MANIFEST_SCHEMA's columns, duration, frames, audio_sha256
    frames: NDArray[np.float32]  # (total frames, D), read-only
    offsets: NDArray[np.int64]  # (N + 1,): utterance i has the rows offsets[i] ... offsets[i + 1] of `frames`

    @classmethod
    def open(cls, root: Path | str, features: str) -> FeatureTable:
        """Open the feature set `features` of the prepared corpus in the folder `root`.

        The first to open it after `prep` writes the map (`frames-*.npy`) from the shards, under a lock.

        Raises :class:`DataError` for a folder that is missing, was not made by `prep`, has other features, or whose
        preparation has not finished.
        """
        root = Path(root)
        try:
            corpus, card = _cards(root, features)
        except OSError as error:
            raise DataError(f"{root}: cannot be read ({error.strerror})") from error
        folder = root / features
        columns = [name for name in feature_schema(card["dims"]).names if name != "features"]
        shards = [_read_shard(folder / shard["file"], columns) for shard in card["shards"]]
        utterances = pa.concat_tables(shards).to_pandas()
        offsets = np.concatenate([[0], np.cumsum(utterances["frames"].to_numpy(dtype=np.int64))])
        return cls(root, card, corpus, utterances, _map(folder, card, int(offsets[-1])), offsets)

    @property
    def dims(self) -> int:
        """Features a frame."""
        return int(self.card["dims"])

    def __len__(self) -> int:
        """The number of utterances."""
        return len(self.utterances)

    def __getitem__(self, row: int) -> NDArray[np.float32]:
        """The features (T, D) of the utterance in `row`: a view that cannot be written to."""
        if not 0 <= row < len(self):
            raise IndexError(f"row {row} of a table of {len(self)} utterances")
        return self.frames[self.offsets[row] : self.offsets[row + 1]]

    def check_like(self, card: Mapping[str, Any]) -> None:
        """Raise :class:`DataError` unless the features were made as those of `card`, another table's or a model's."""
        for name in ("features", "version", "dims", "rate", "frame_rate", "parameters"):
            if self.card.get(name) != card.get(name):
                raise DataError(
                    f"{self.root}: its {self.card['features']} features were made with {name} {self.card.get(name)}, "
                    f"those that it goes with have {card.get(name)}; prepare both with the same sersearch"
                )

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the name, not the frames."""
        return FeatureTable.open, (self.root, self.card["features"])


def _cards(root: Path, features: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """corpus.json and card.json of a folder."""
    prep = f"sersearch prep CORPUS ROOT --features {features} --out {root}"
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; `{prep}` makes it")
    path = root / features / "card.json"
    if path.parent.is_dir() and not path.is_file():
        raise DataError(f"{root}: its {features} features are unfinished; run `{prep}` again, it goes on where it was")
    if not (root / "corpus.json").is_file():
        raise DataError(f"{root}: not a prepared corpus (it has no corpus.json); `{prep}` makes one")
    corpus = _read_json(root / "corpus.json", ("corpus", "root", "synthetic"))
    if path.is_file():
        return corpus, _read_json(path, ("features", "dims", "hash", "shards"))
    present = sorted(card.parent.name for card in root.glob("*/card.json"))
    prep = prep.replace("CORPUS ROOT", f"{corpus['corpus']} {corpus['root']}")
    raise DataError(f"{root}: no features called {features!r}, {one_of(features, present)}; `{prep}` adds them")


def _read_json(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(needed) or content.get("shards") == []:
            raise ValueError(f"expected an object with {', '.join(needed)}")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run `sersearch prep` again") from error
    return content


def _read_shard(path: Path, columns: list[str]) -> pa.Table:
    try:
        return pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: missing or damaged; delete it and run `sersearch prep` again") from error


def _map(folder: Path, card: dict[str, Any], total: int) -> NDArray[np.float32]:
    """The frames of all shards (total, D), mapped; the card's hash in the file's name tells an outdated map."""
    path = folder / f"frames-{card['hash'][:16]}.npy"
    if not path.is_file():
        try:
            with FileLock(folder / ".frames.lock"):
                if not path.is_file():
                    _write_map(path, card, total)
        except OSError as error:
            raise DataError(f"{path}: the map of the features cannot be written ({error.strerror})") from error
    try:
        return np.asarray(np.load(path, mmap_mode="r"))
    except (ValueError, EOFError) as error:
        raise DataError(f"{path}: damaged ({error}); delete it, it is made again from the shards") from error


def _write_map(path: Path, card: dict[str, Any], total: int) -> None:
    """Write the map shard by shard, checking each, and remove those of earlier preparations."""
    header = {"descr": np.dtype(np.float32).str, "fortran_order": False, "shape": (total, card["dims"])}
    # Written, not mapped: on a full disk writing is an error, and what is mapped kills the process.
    with atomic(path) as temporary, temporary.open("wb") as map_file:
        np.lib.format.write_array_header_1_0(map_file, header)
        for shard in card["shards"]:
            file = path.parent / shard["file"]
            content = file.read_bytes()
            if hashlib.sha256(content).hexdigest() != shard["sha256"]:
                raise DataError(f"{file}: damaged (another hash than in card.json); delete it and run prep again")
            column = pq.read_table(pa.BufferReader(content), columns=["features"])["features"].combine_chunks()
            map_file.write(column.flatten().flatten().to_numpy())
    for old in path.parent.glob("frames-*.npy"):
        if old != path:
            old.unlink(missing_ok=True)
