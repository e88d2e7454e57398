"""The features of many utterances, memory-mapped from a folder that `sersearch prep` wrote."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
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
from sersearch.data.place import full_name, is_local, place
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
    frames: NDArray[Any]  # (total frames, D), float32 or float16, read-only
    offsets: NDArray[np.int64]  # (N + 1,): utterance i has the rows offsets[i] ... offsets[i + 1] of `frames`

    @classmethod
    def open(cls, root: Path | str, features: str) -> FeatureTable:
        """Open the feature set `features` of the prepared corpus in the folder `root`.

        The first to open it after `prep` writes `frames-*.npy` and `rows-*.arrow` from the shards, under a lock; these
        are what is mapped from then on.

        Raises :class:`DataError` for a folder that is missing, was not made by `prep`, has other features, or whose
        preparation has not finished.
        """
        root = place(root)
        try:
            corpus, card = _cards(root, features)
        except OSError as error:
            raise DataError(f"{root}: cannot be read ({error.strerror})") from error
        utterances, frames = _mapped(root / features, card)
        offsets = np.concatenate([[0], np.cumsum(utterances["frames"].to_numpy(dtype=np.int64))])
        return cls(root, card, corpus, utterances, frames, offsets)

    @property
    def dims(self) -> int:
        """Features a frame."""
        return int(self.card["dims"])

    def __len__(self) -> int:
        """The number of utterances."""
        return len(self.utterances)

    def __getitem__(self, row: int) -> NDArray[Any]:
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
        card = _read_json(path, ("features", "dims", "frame_rate", "hash", "shards"))
        if not all(shard.keys() >= {"file", "rows", "frames", "sha256"} for shard in card["shards"]):
            raise DataError(f"{path}: written by another version of sersearch; run `{prep}` again")
        return corpus, card
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


def _mapped(folder: Path, card: dict[str, Any]) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The rows of all shards, and their frames (total, D), mapped; the card's hash in their names tells old files."""
    near, names = _near(folder), (f"rows-{card['hash'][:16]}.arrow", f"frames-{card['hash'][:16]}.npy")
    rows, frames = (near / name for name in names)
    if not (rows.is_file() and frames.is_file()):
        try:
            near.mkdir(parents=True, exist_ok=True)
            with FileLock(near / ".frames.lock"):
                if not (rows.is_file() and frames.is_file()):
                    _write_map(rows, frames, folder, card)
        except OSError as error:
            raise DataError(f"{frames}: the map of the features cannot be written ({error.strerror})") from error
    return _opened(rows, _read_rows), _opened(frames, _map_frames)


def _near(folder: Path) -> Path:
    """Where a feature set's map lies: beside its shards, or for shards in an object store in the user's cache."""
    if is_local(folder):
        return folder
    cache = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser()
    return cache / "sersearch" / hashlib.sha256(full_name(folder).encode()).hexdigest()[:16]


def _opened(path: Path, read: Callable[[Path], Any]) -> Any:
    try:
        return read(path)
    except (ValueError, EOFError, OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: damaged ({error}); delete it, it is made again from the shards") from error


def _read_rows(path: Path) -> pd.DataFrame:
    with pa.memory_map(str(path)) as file:
        rows: pd.DataFrame = pa.ipc.open_file(file).read_all().to_pandas()
        return rows


def _map_frames(path: Path) -> NDArray[Any]:
    return np.asarray(np.load(path, mmap_mode="r"))


def _write_map(rows: Path, frames: Path, folder: Path, card: dict[str, Any]) -> None:
    """Write rows and frames of the shards in `folder`, checking each, and remove those of earlier preparations."""
    plain = feature_schema(card)
    plain = plain.remove(plain.get_field_index("features"))
    total = sum(shard["frames"] for shard in card["shards"])
    dtype = np.dtype(card.get("dtype", "float32"))
    header = {"descr": dtype.str, "fortran_order": False, "shape": (total, card["dims"])}
    # Written, not mapped: on a full disk writing is an error, and what is mapped kills the process.
    with (
        atomic(frames) as frames_new,
        frames_new.open("wb") as map_file,
        atomic(rows) as rows_new,
        pa.ipc.new_file(rows_new, plain) as row_file,
    ):
        np.lib.format.write_array_header_1_0(map_file, header)
        for shard in card["shards"]:
            table = _read_shard(folder / shard["file"], shard["sha256"])
            row_file.write_table(table.select(plain.names).cast(plain))
            map_file.write(flat(table["features"]).tobytes())
    for old in [
        *frames.parent.glob("frames-*.npy"),
        *frames.parent.glob("rows-*.arrow"),
        *frames.parent.glob(".frames-*.tmp"),
    ]:
        if old not in (rows, frames):
            old.unlink(missing_ok=True)


def _read_shard(path: Path, sha256: str) -> pa.Table:
    """A shard that is what its card says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: missing or damaged; delete it and run `sersearch prep` again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: damaged (another hash than in card.json); delete it and run prep again")
    return pq.read_table(pa.BufferReader(content))


def flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """All numbers of a features column, in order."""
    values = column.combine_chunks()
    while isinstance(values.type, (pa.ListType, pa.FixedSizeListType)):
        values = values.flatten()
    return np.asarray(values)
