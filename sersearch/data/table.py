"""The features of many utterances, memory-mapped from a folder that `sersearch prep` wrote."""

from __future__ import annotations

import hashlib
import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from filelock import FileLock
from numpy.typing import NDArray
from pydantic import BaseModel, Field, NonNegativeInt, PositiveInt, ValidationError

from sersearch.data.atomic import atomic
from sersearch.data.place import full_name, is_local, parquet_table, place
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

    @property
    def speakers(self) -> NDArray[np.object_]:
        """The speaker of each utterance (N,) as `corpus/speaker`: two corpora may both have a speaker "01"."""
        return (self.utterances["corpus"] + "/" + self.utterances["speaker"]).to_numpy(object)

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

    def check_shards(self) -> None:
        """Raise :class:`DataError` where the shards are no more what the table's map was made of.

        Looked at are the card, each shard's size, and the content of the shards that are younger than the map: of
        100 GB that nobody touched, names alone. `sersearch data check` reads all of it. An object store, whose clock is
        another, is asked for sizes only.
        """
        folder, name = self.root / self.card["features"], self.card["features"]
        again = f"run `sersearch prep` for the {name} features of {self.root} again"
        total = hashlib.sha256("".join(shard["sha256"] for shard in self.card["shards"]).encode()).hexdigest()
        if not (_cards(self.root, name)[1]["hash"] == self.card["hash"] == total):
            raise DataError(f"{folder / 'card.json'}: altered since the features were opened; {again}")
        there, made = _listed(folder), map_files(folder, self.card)[1]
        mapped = made.stat().st_mtime_ns if is_local(folder) else math.inf
        for shard in self.card["shards"]:
            path = folder / shard["file"]
            size, changed = there.get(shard["file"], (-1, 0))
            if size < 0:
                raise DataError(f"{path}: missing; {again}, or restore the file")
            if size != shard["bytes"]:
                raise DataError(f"{path}: {size} bytes, and {shard['bytes']} when it was made; delete it and {again}")
            if changed >= mapped:
                _content(path, shard["sha256"])

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
        return corpus, read_card(path)
    present = sorted(card.parent.name for card in root.glob("*/card.json"))
    prep = prep.replace("CORPUS ROOT", f"{corpus['corpus']} {corpus['root']}")
    raise DataError(f"{root}: no features called {features!r}, {one_of(features, present)}; `{prep}` adds them")


class _Shard(BaseModel):
    file: str = Field(pattern=r"^part-\d+\.parquet$")
    rows: NonNegativeInt
    frames: NonNegativeInt
    bytes: NonNegativeInt
    sha256: str


class _Card(BaseModel):
    """What is read of a card.json, which tells more."""

    features: str = Field(pattern=r"^\w+$")
    dims: PositiveInt
    frame_rate: float | None
    dtype: Literal["float32", "float16"] = "float32"
    hash: str = Field(pattern=r"^[0-9A-Za-z]+$")
    shards: list[_Shard] = Field(min_length=1)


def read_card(path: Path) -> dict[str, Any]:
    """A feature set's card.json. Raises :class:`DataError` for one that is damaged or another version's."""
    card = _read_json(path, ("shards",))
    try:
        _Card.model_validate(card, strict=True)
    except ValidationError as error:
        first = error.errors()[0]
        why = f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
        raise DataError(f"{path}: cannot be read ({why}); delete it and run `sersearch prep` again") from error
    return card


def _read_json(path: Path, needed: tuple[str, ...]) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(needed):
            raise ValueError(f"expected an object with {', '.join(needed)}")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: cannot be read ({error}); delete it and run `sersearch prep` again") from error
    return content


def _listed(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of modification (ns; 0 in an object store) of a folder's files."""
    if is_local(folder):
        with os.scandir(folder) as entries:
            return {entry.name: (entry.stat().st_size, entry.stat().st_mtime_ns) for entry in entries}
    store: Any = folder
    store.fs.invalidate_cache()  # what others write there isn't known to this process
    return {place["name"].rsplit("/", 1)[-1]: (place["size"], 0) for place in store.fs.ls(store.path, detail=True)}


def map_files(folder: Path, card: dict[str, Any]) -> tuple[Path, Path]:
    """The files of rows and frames of a feature set's map, there or not; the hash in their names tells old ones."""
    return _near(folder) / f"rows-{card['hash'][:16]}.arrow", _near(folder) / f"frames-{card['hash'][:16]}.npy"


def _mapped(folder: Path, card: dict[str, Any]) -> tuple[pd.DataFrame, NDArray[Any]]:
    """The rows of all shards, and their frames (total, D), mapped."""
    rows, frames = map_files(folder, card)
    if not (rows.is_file() and frames.is_file()):
        try:
            frames.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(frames.parent / ".frames.lock"):
                if not (rows.is_file() and frames.is_file()):
                    _write_map(rows, frames, folder, card)
        except OSError as error:
            raise DataError(
                f"{frames}: the map of the features, which training reads, cannot be written ({error.strerror}); make "
                "room, or, of a folder that you may only read, make a copy"
            ) from error
    read, mapped = _opened(rows, lambda path: _read_rows(path, row_schema(card))), _opened(frames, _map_frames)
    total = sum(shard["frames"] for shard in card["shards"])
    for path, seen in ((rows, int(read["frames"].sum())), (frames, len(mapped))):
        if seen != total:
            raise _damaged(path, f"{seen} frames, its card says {total}")
    return read, mapped


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
        raise _damaged(path, str(error)) from error


def _damaged(path: Path, why: str) -> DataError:
    return DataError(f"{path}: damaged ({why}); delete it, it is made again from the shards")


def _read_rows(path: Path, schema: pa.Schema) -> pd.DataFrame:
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        if not table.schema.equals(schema):
            raise ValueError("other columns than its card's")
        table.validate(full=True)  # Arrow believes what it reads: an offset that is wrong would end the process
        rows: pd.DataFrame = table.to_pandas()
        return rows


def _map_frames(path: Path) -> NDArray[Any]:
    return np.asarray(np.lib.format.open_memmap(path, mode="r"))


def _write_map(rows: Path, frames: Path, folder: Path, card: dict[str, Any]) -> None:
    """Write rows and frames of the shards in `folder`, checking each, and remove those of earlier preparations."""
    plain = row_schema(card)
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
            shard_rows, shard_frames = read_shard(folder / shard["file"], shard["sha256"], plain)
            seen, told = (len(shard_rows), len(shard_frames)), (shard["rows"], shard["frames"] * card["dims"])
            if seen != told:
                path = folder / shard["file"]
                raise DataError(f"{path}: not of the size that its card says; delete it and run `sersearch prep` again")
            row_file.write_table(shard_rows)
            map_file.write(shard_frames.tobytes())
    for old in [
        *frames.parent.glob("frames-*.npy"),
        *frames.parent.glob("rows-*.arrow"),
        *frames.parent.glob(".frames-*.tmp"),
        *frames.parent.glob(".rows-*.tmp"),
    ]:
        if old not in (rows, frames):
            old.unlink(missing_ok=True)


def row_schema(card: Mapping[str, Any]) -> pa.Schema:
    """Columns of a shard of the feature set of `card`, but for the features."""
    whole = feature_schema(card)
    return whole.remove(whole.get_field_index("features"))


def read_shard(path: Path, sha256: str, rows: pa.Schema) -> tuple[pa.Table, NDArray[Any]]:
    """A shard's `rows` and its numbers, in order; :class:`DataError` unless it is what its card says."""
    table = parquet_table(pa.BufferReader(_content(path, sha256)))
    return table.select(rows.names).cast(rows), flat(table["features"])


def _content(path: Path, sha256: str) -> bytes:
    """A shard that is what its card says."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: missing or damaged; delete it and run `sersearch prep` again") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise DataError(f"{path}: damaged (another hash than in card.json); delete it and run prep again")
    return content


def flat(column: pa.ChunkedArray) -> NDArray[Any]:
    """All numbers of a features column, in order."""
    values = column.combine_chunks()
    while isinstance(values.type, (pa.ListType, pa.FixedSizeListType)):
        values = values.flatten()
    return np.asarray(values)
