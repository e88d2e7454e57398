"""Shards of a feature table: what one holds, whether it is there, and Ray Data tasks that write those that are not."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch.audio import RATE, Extractor, extractor_from_card, load_audio
from sersearch.data.atomic import atomic, write_json
from sersearch.data.schema import Rejected, feature_schema
from sersearch.errors import AudioError


@dataclass(frozen=True)
class Shard:
    """Consecutive rows of a manifest, and the Parquet file that gets their features. Plain JSON but for the paths."""

    path: Path  # of the Parquet file; beside it lies the record, of the same name in .json
    root: Path  # of the audio
    rows: list[dict[str, Any]]
    card: dict[str, Any]  # the extractor's
    key: str  # sha256 of all that the file is made from

    @classmethod
    def of(cls, rows: pa.Table, root: Path, path: Path, extract: Extractor) -> Shard:
        """The shard of `rows`; its key covers them, the extractor and the size and time of every source file."""
        listed, card = rows.to_pylist(), extract.card()
        decisive = {name: value for name, value in card.items() if name != "versions"}
        made_from = [listed, decisive, [_stamp(root / row["path"]) for row in listed]]
        return cls(path, root, listed, card, hashlib.sha256(json.dumps(made_from).encode()).hexdigest())

    def done(self) -> bool:
        """Whether the file is there, whole, and made from what the corpus and the extractor are now."""
        try:
            record = self._record()
            return bool(record["key"] == self.key and record["bytes"] == self.path.stat().st_size)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def entry(self) -> dict[str, Any]:
        """The shard's line in the feature set's card."""
        record = self._record()
        return {"file": self.path.name, "rows": record["rows"], "sha256": record["sha256"]}

    def rejected(self) -> list[Rejected]:
        """The rows whose audio could not be used."""
        return [Rejected(**row) for row in self._record()["rejected"]]

    def write(self) -> None:
        """Decode and extract every row, write the file, then the record."""
        extract = extractor_from_card(self.card)
        rows, features, rejected = [], [], []
        for row in self.rows:
            try:
                samples = load_audio(self.root / row["path"], row["start"], row["end"])
                matrix = extract(samples)
            except AudioError as error:
                reason = str(error).removeprefix(f"{self.root / row['path']}: ")
                rejected.append(asdict(Rejected(row["id"], row["path"], reason)))
                continue
            digest = hashlib.sha256(samples.tobytes()).hexdigest()
            rows.append(row | {"duration": len(samples) / RATE, "frames": len(matrix), "audio_sha256": digest})
            features.append(matrix)
        with atomic(self.path) as temporary:
            pq.write_table(_table(rows, features, extract.dims), temporary, use_dictionary=False, compression="zstd")
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            size = temporary.stat().st_size
        record = {"key": self.key, "rows": len(rows), "bytes": size, "sha256": digest, "rejected": rejected}
        write_json(self.path.with_suffix(".json"), record)

    def _record(self) -> dict[str, Any]:
        record: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text("utf-8"))
        return record


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file; None where it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _table(rows: list[dict[str, Any]], features: list[NDArray[np.float32]], dims: int) -> pa.Table:
    """Rows and their features as an Arrow table of :func:`feature_schema`, the features as fixed-size lists."""
    schema = feature_schema(dims)
    frames = np.concatenate([*features, np.empty((0, dims), np.float32)])
    offsets = np.concatenate([[0], np.cumsum([len(matrix) for matrix in features])]).astype(np.int32)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(frames.reshape(-1)), dims)
    column = pa.ListArray.from_arrays(pa.array(offsets), vectors)
    plain = pa.Table.from_pylist(rows, schema=pa.schema(list(schema)[:-1]))
    return plain.append_column(schema.field("features"), column.cast(schema.field("features").type))


def run_shards(shards: list[Shard], workers: int | None) -> Iterator[int]:
    """Write the shards, each in a Ray Data task of one CPU; yield the number of rows of each as it is finished.

    A failure that no row explains (a full disk) is an OSError; the shards written so far stay.
    """
    import ray

    with _ray(workers):
        items = [{"shard": _to_json(shard)} for shard in shards]
        written = ray.data.from_items(items, override_num_blocks=len(items)).map(_write)
        for row in written.iter_rows():
            if row["failure"]:
                raise OSError(row["failure"])
            yield int(row["rows"])


def _to_json(shard: Shard) -> str:
    return json.dumps(asdict(shard) | {"path": str(shard.path), "root": str(shard.root)})


def _write(row: dict[str, Any]) -> dict[str, Any]:
    """The Ray Data task: one row of the data set is one shard. What Ray raises no longer tells its cause: return it."""
    fields = json.loads(row["shard"])
    shard = Shard(**fields | {"path": Path(fields["path"]), "root": Path(fields["root"])})
    try:
        shard.write()
    except OSError as error:
        return {"rows": 0, "failure": str(error)}
    return {"rows": len(shard.rows), "failure": ""}


@contextmanager
def _ray(workers: int | None) -> Iterator[None]:
    """A Ray to run in: the one that is there, that of RAY_ADDRESS, or a quiet one of our own for the duration."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # the behaviour that Ray announces as its default
    import ray
    import ray.data

    ours = not ray.is_initialized()
    if ours:
        local: dict[str, Any] = {"address": "local", "num_cpus": workers, "include_dashboard": False}
        ray.init(**({} if "RAY_ADDRESS" in os.environ else local), log_to_driver=False, logging_level=logging.ERROR)
    context, logger = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    bars, level = context.enable_progress_bars, logger.level
    context.enable_progress_bars = False
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = bars
        logger.setLevel(level)
        if ours:
            ray.shutdown()
