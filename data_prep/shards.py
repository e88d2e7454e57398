"""One shard: some utterances' features in one Parquet file, and the Ray Data tasks that write shards."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.audio import Extractor, extractor_from_card, load_audio
from sersearch.data.atomic import atomic, write_json
from sersearch.data.schema import Rejected, feature_schema
from sersearch.errors import AudioError

RATE = 16_000


@dataclass(frozen=True)
class Shard:
    """A fixed piece of a manifest and the file that its features go to."""

    rows: pa.Table
    root: Path
    path: Path
    card: dict[str, Any]
    key: str
    """Hash of what the features are made of: the rows, the extractor, and the audio files' sizes and times."""

    @classmethod
    def of(cls, rows: pa.Table, root: Path, path: Path, extract: Extractor) -> Shard:
        """The shard of `rows`, whose audio lies below `root`."""
        card = extract.card()
        source = [card, rows.to_pylist(), [_stamp(root / name) for name in rows["path"].to_pylist()]]
        key = hashlib.sha256(json.dumps(source, sort_keys=True).encode()).hexdigest()
        return cls(rows, root, path, card, key)

    @property
    def _note(self) -> Path:
        return self.path.with_suffix(".json")

    def done(self) -> bool:
        """Whether the file is there and was made from the same."""
        try:
            note = json.loads(self._note.read_text("utf-8"))
        except (OSError, ValueError):
            return False
        return bool(note.get("key") == self.key and self.path.is_file() and _sha256(self.path) == note.get("sha256"))

    def entry(self) -> dict[str, Any]:
        """The shard in the features' card: file, rows, sha256."""
        note = json.loads(self._note.read_text("utf-8"))
        return {"file": self.path.name, "rows": note["rows"], "sha256": note["sha256"]}

    def rejected(self) -> list[Rejected]:
        """The utterances that could not be used, with reasons."""
        return [Rejected(**row) for row in json.loads(self._note.read_text("utf-8"))["rejected"]]

    def write(self) -> int:
        """Decode, extract and write; note what cannot be used. Returns the number of utterances read."""
        extract = extractor_from_card(self.card)
        good, rejected = [], []
        for row in self.rows.to_pylist():
            try:
                samples = load_audio(self.root / row["path"], row["start"], row["end"])
                features = extract(samples)
            except AudioError as error:
                rejected.append({"id": row["id"], "path": row["path"], "reason": str(error)})
                continue
            row |= {
                "duration": len(samples) / RATE,
                "frames": len(features),
                "audio_sha256": hashlib.sha256(samples.tobytes()).hexdigest(),
            }
            good.append((row, features))
        with atomic(self.path) as temporary:
            pq.write_table(_table(good, int(self.card["dims"])), temporary, compression="zstd")
        note = {"key": self.key, "rows": len(good), "sha256": _sha256(self.path), "rejected": rejected}
        write_json(self._note, note)
        return len(self.rows)


def _table(good: list[tuple[dict[str, Any], np.ndarray]], dims: int) -> pa.Table:
    schema = feature_schema(dims)
    columns = {name: [row[name] for row, _ in good] for name in schema.names if name != "features"}
    flat = np.concatenate([f.reshape(-1) for _, f in good]) if good else np.zeros(0, np.float32)
    frames = pa.FixedSizeListArray.from_arrays(pa.array(flat, pa.float32()), dims)
    offsets = np.cumsum([0, *(len(f) for _, f in good)], dtype=np.int32)
    arrays = {name: pa.array(values, schema.field(name).type) for name, values in columns.items()}
    arrays["features"] = pa.ListArray.from_arrays(pa.array(offsets), frames)
    return pa.Table.from_arrays([arrays[name] for name in schema.names], schema=schema)


def _stamp(path: Path) -> list[int]:
    try:
        stat = path.stat()
    except OSError:
        return []  # reported as missing when the shard is written
    return [stat.st_size, stat.st_mtime_ns]


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _write(row: dict[str, Any], shards: list[Shard]) -> dict[str, Any]:
    return {"rows": shards[int(row["item"])].write()}


def run_shards(shards: list[Shard], workers: int | None) -> Iterator[int]:
    """Write `shards` as Ray Data tasks, one a shard; yields the utterances of each as it is done.

    Starts a local Ray where none runs, and stops it again. A task carries rows and file names, no audio.
    """
    # One thread a process: the processes already take every core.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    import ray
    import ray.data

    started = not ray.is_initialized()
    if started:
        ray.init(num_cpus=workers, include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False)
    try:
        context = ray.data.DataContext.get_current()
        context.enable_progress_bars = False
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        dataset = ray.data.from_items(list(range(len(shards))), override_num_blocks=len(shards))
        written = dataset.map(_write, fn_args=(shards,), num_cpus=1)
        for row in written.iter_rows():
            yield int(row["rows"])
    finally:
        if started:
            ray.shutdown()
