"""Shards of feature tables: what one is made from, whether it is there, and the Ray tasks that write the others.

A shard is a row group of the manifest. For each feature set it becomes a Parquet file `part-NNNNN.parquet` and, written
after it, a record `part-NNNNN.json` that vouches for it. A part that is no longer what it should be is renamed to
`.old-KEY` until all is done: rows of it that are still right are taken over, not extracted again.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from sersearch.audio import RATE, VISUAL, extractor_from_card, load_audio, mix, visual_from_card
from sersearch.cluster import prepare, ray_session
from sersearch.data.atomic import atomic, write_json
from sersearch.data.place import place
from sersearch.data.schema import Rejected, feature_schema, feature_type
from sersearch.data.table import flat
from sersearch.errors import AudioError

DECISIVE = ("path", "start", "end", "noise", "noise_start", "snr")
"""Columns that decide what an utterance sounds like."""
ADDED = ("duration", "frames", "audio_sha256", "features")


@dataclass(frozen=True)
class Keys:
    """Hashes of span, noise, and the files' sizes and times, a row each; and the bytes of all audio files."""

    audio: list[str]
    visual: list[str]
    size: int

    def of(self, card: Mapping[str, Any]) -> list[str]:
        """Those that count for the feature set of `card`."""
        return self.visual if card["features"] in VISUAL else self.audio


@dataclass(frozen=True)
class Source:
    """Where the rows of all shards are, and their audio and noises."""

    manifest: Path
    hash: str
    """Of the manifest."""
    root: Path
    noise: Path | None

    def rows(self, number: int) -> list[dict[str, Any]]:
        """The rows of shard `number`."""
        with self.manifest.open("rb") as file:
            whole = pq.ParquetFile(file, metadata=_footer(str(self.manifest), self.hash))
            rows: list[dict[str, Any]] = whole.read_row_group(number).to_pylist()
        return rows

    def keys(self, rows: Sequence[Mapping[str, Any]]) -> Keys:
        """What the features of `rows` depend on beside the extractor."""
        audio, visual, size = [], [], 0
        for row in rows:
            files = [_stamp(self.root / row["path"])]
            size += files[0][0] if files[0] else 0
            if row["noise"] is not None:
                files.append(_stamp(self.noise_file(row)))
            audio.append(_digest([[row[name] for name in DECISIVE], files])[:24])
            seen = row["visual"] and _stamp(self.root / row["visual"])
            visual.append(_digest([audio[-1], row["visual"], seen])[:24])
        return Keys(audio, visual, size)

    def noise_file(self, row: Mapping[str, Any]) -> Path:
        """The file of a row's noise."""
        assert self.noise is not None
        return self.noise / str(row["noise"])

    def samples(self, row: Mapping[str, Any]) -> NDArray[np.float32]:
        """The audio of a row, with its noise. Raises :class:`AudioError`."""
        samples = load_audio(self.root / row["path"], row["start"], row["end"])
        if row["noise"] is None:
            return samples
        file = self.noise_file(row)
        return mix(samples, _noise(file, tuple(_stamp(file) or ())), row["snr"], row["noise_start"])


@lru_cache(maxsize=1)
def _footer(manifest: str, key: str) -> pq.FileMetaData:
    """A manifest's footer, read once a process: that of half a million rows is long."""
    with place(manifest).open("rb") as file:
        return pq.ParquetFile(file).metadata


@lru_cache(maxsize=32)
def _noise(path: Path, stamp: tuple[int, ...]) -> NDArray[np.float32]:
    return load_audio(path)


@dataclass(frozen=True)
class Part:
    """A shard of one feature set: its file, the extractor's card, and the hash of all that it is made from."""

    path: Path
    card: dict[str, Any]
    key: str

    @classmethod
    def of(cls, path: Path, card: dict[str, Any], rows: Sequence[Mapping[str, Any]], keys: Keys) -> Part:
        """The part of `rows`, labels included, of the extractor that wrote `card`."""
        return cls(path, card, _digest([rows, keys.of(card), decisive(card)]))

    def done(self) -> bool:
        """Whether the file is there, whole, and made from what the corpus and the extractor are now."""
        try:
            record = self.record()
            return bool(record["key"] == self.key and record["bytes"] == self.path.stat().st_size)
        except (OSError, ValueError, KeyError, TypeError):
            return False

    def entry(self) -> dict[str, Any]:
        """The part's line in the feature set's card."""
        record = self.record()
        return {"file": self.path.name, **{name: record[name] for name in ("rows", "frames", "bytes", "sha256")}}

    def rejected(self) -> list[Rejected]:
        """The rows that could not be used."""
        return [Rejected(**row) for row in self.record()["rejected"]]

    def record(self) -> dict[str, Any]:
        """What vouches for the file."""
        record: dict[str, Any] = json.loads(self.path.with_suffix(".json").read_text("utf-8"))
        return record


TRIES = 4  # at a shard, whose workers die

Known = dict[int, tuple[str, int]]
"""Row of a shard -> old file's name, and row in it."""


@dataclass(frozen=True)
class Task:
    """A shard of which some parts have to be written; plain enough to be sent to another process."""

    number: int
    size: int
    """Bytes of its audio: what takes long is begun first."""
    source: Source
    parts: list[Part]
    known: list[Known]
    """By part: rows that an old file has."""

    def write(self) -> tuple[int, int, float]:
        """Write the parts; returns rows, rejected ones and seconds of audio.

        Raises OSError where the shard's files aren't here what they are where `prep` was started, as on a node without
        the corpus: its utterances would be rejected, by a record that vouches for files which were never seen.
        """
        rows = self.source.rows(self.number)
        keys = self.source.keys(rows)
        if any(Part.of(part.path, part.card, rows, keys).key != part.key for part in self.parts):
            raise OSError(
                f"{socket.gethostname()}: the files below {self.source.root} aren't those of the machine where prep "
                "was started (they are missing, or of another size or time): give all nodes the same folder, of "
                "--noise and --visual, too, and let nothing change in it meanwhile"
            )
        writers = [_Writer(p, known, keys.of(p.card)) for p, known in zip(self.parts, self.known, strict=True)]
        for index, row in enumerate(rows):
            new = [writer for writer in writers if not writer.take(index, row)]
            if not new:
                continue
            try:
                samples = self.source.samples(row)
            except AudioError as error:
                for writer in new:
                    writer.reject(row, error, self.source.root)
                continue
            for writer in new:
                writer.add(index, row, samples, self.source.root)
        for writer in writers:
            writer.finish()
        used = max(writers, key=lambda writer: len(writer.rows))
        return len(rows), len(rows) - len(used.rows), sum(row["duration"] for row in used.rows)


class _Writer:
    """One part in the making."""

    def __init__(self, part: Part, known: Known, keys: list[str]) -> None:
        self.part, self._known, self._row_keys = part, known, keys
        self._visual = visual_from_card(part.card)
        self._extract = None if self._visual else extractor_from_card(part.card)
        self._old = {name: _old_table(part.path.with_name(name)) for name in {name for name, _ in known.values()}}
        self.rows: list[dict[str, Any]] = []
        self._keys: list[str] = []
        self._features: list[NDArray[Any]] = []
        self._rejected: list[dict[str, Any]] = []

    def take(self, index: int, row: dict[str, Any]) -> bool:
        """Take a row over from an old file, if one has it that is whole."""
        name, at = self._known.get(index, ("", 0))
        table = self._old.get(name)
        if table is None:
            return False
        old = table.slice(at, 1)
        added = {column: old[column][0].as_py() for column in ADDED[:-1]}
        self._append(row | added, self._row_keys[index], flat(old["features"]).reshape(-1, self.part.card["dims"]))
        return True

    def add(self, index: int, row: dict[str, Any], samples: NDArray[np.float32], root: Path) -> None:
        """Extract a row's features, or read them."""
        try:
            matrix = self._extract(samples) if self._extract else self._seen(row, root)
        except AudioError as error:
            self.reject(row, error, root)
            return
        digest = hashlib.sha256(samples.tobytes()).hexdigest()
        added = {"duration": len(samples) / RATE, "frames": len(matrix), "audio_sha256": digest}
        self._append(row | added, self._row_keys[index], matrix)

    def _seen(self, row: dict[str, Any], root: Path) -> NDArray[np.float32]:
        assert self._visual is not None
        if row["visual"] is None:
            raise AudioError(f"{root / row['path']}: no file of visual features is called as it is")
        return self._visual.read(root / row["visual"], row["start"], row["end"])

    def reject(self, row: dict[str, Any], error: AudioError, root: Path) -> None:
        """List a row that can't be used."""
        reason = str(error).removeprefix(f"{root / row['path']}: ")
        self._rejected.append(asdict(Rejected(row["id"], row["path"], reason, self.part.card["features"])))

    def _append(self, row: dict[str, Any], key: str, matrix: NDArray[Any]) -> None:
        self.rows.append(row)
        self._keys.append(key)
        self._features.append(matrix)

    def finish(self) -> None:
        """Write the file, then its record."""
        path = self.part.path
        with atomic(path) as temporary:
            table = _table(self.rows, self._features, self.part.card)
            pq.write_table(table, temporary, use_dictionary=False, compression="zstd")
            digest = hashlib.sha256(temporary.read_bytes()).hexdigest()
            size = temporary.stat().st_size
        record = {
            "key": self.part.key,
            "rows": len(self.rows),
            "frames": sum(row["frames"] for row in self.rows),
            "bytes": size,
            "sha256": digest,
            "features": decisive(self.part.card),
            "row_keys": self._keys,
            "rejected": self._rejected,
        }
        write_json(path.with_suffix(".json"), record)


def decisive(card: Mapping[str, Any]) -> dict[str, Any]:
    """Of an extractor's card, what decides on the features."""
    return {name: value for name, value in card.items() if name != "versions"}


def set_aside(part: Part) -> None:
    """Rename a part that is there but isn't what it should be, for its rows to be taken over."""
    try:
        key = part.record()["key"]
        part.path.rename(part.path.with_name(f".old-{key[:16]}.parquet"))
        part.path.with_suffix(".json").rename(part.path.with_name(f".old-{key[:16]}.json"))
    except (OSError, ValueError, KeyError, TypeError):
        return  # missing or damaged


def old_rows(folder: Path, card: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    """Rows by key of the parts that were set aside and that this very extractor wrote: file name and row in it."""
    found: dict[str, tuple[str, int]] = {}
    for path in sorted(folder.glob(".old-*.json")):
        try:
            record = json.loads(path.read_text("utf-8"))
            file = path.with_suffix(".parquet")
            if record["features"] == decisive(card) and record["bytes"] == file.stat().st_size:
                found |= {key: (file.name, row) for row, key in enumerate(record["row_keys"])}
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return found


def _old_table(path: Path) -> pa.Table | None:
    """A part that was set aside; None where it isn't what its record says."""
    try:
        record, content = json.loads(path.with_suffix(".json").read_text("utf-8")), path.read_bytes()
        if hashlib.sha256(content).hexdigest() == record["sha256"]:
            return pq.read_table(pa.BufferReader(content))
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        pass
    return None


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def _stamp(path: Path) -> list[int] | None:
    """Size and time of a file; None where it is missing."""
    try:
        status = path.stat()
    except OSError:
        return None
    return [status.st_size, status.st_mtime_ns]


def _table(rows: list[dict[str, Any]], features: list[NDArray[Any]], card: Mapping[str, Any]) -> pa.Table:
    """Rows and their features as an Arrow table of :func:`feature_schema`."""
    schema, kind = feature_schema(card), feature_type(card)
    vector = kind if card["frame_rate"] is None else kind.value_type
    dtype = np.float16 if vector.value_type == pa.float16() else np.float32
    frames = np.concatenate([*features, np.empty((0, card["dims"]), dtype)]).astype(dtype)
    column = pa.FixedSizeListArray.from_arrays(pa.array(frames.reshape(-1)), card["dims"])
    if card["frame_rate"] is not None:
        offsets = np.concatenate([[0], np.cumsum([len(matrix) for matrix in features])]).astype(np.int32)
        column = pa.ListArray.from_arrays(pa.array(offsets), column)
    plain = pa.Table.from_pylist(rows, schema=pa.schema(list(schema)[:-1]))
    return plain.append_column(schema.field("features"), column.cast(kind))


def run_tasks(tasks: list[Task], workers: int | None, address: str | None) -> Iterator[tuple[int, int, float]]:
    """Write shards, each in a Ray task of one CPU; yield rows, rejected rows and seconds of audio of each.

    Tasks of Ray's core and not of Ray Data, which starts a task only when it has seen another end: 0.2 s in which a
    core is idle, 4% of the time of ComParE functionals. They wait at Ray's scheduler, also for nodes that come later.

    A failure that no row explains (a full disk) is an OSError; the shards written so far stay.
    """
    prepare(address)
    import ray

    with ray_session(address, num_cpus=workers):
        write = ray.remote(num_cpus=1, max_retries=TRIES - 1)(_write)
        # Long ones first: no worker waits at the end for one that began late.
        pending = [write.remote(_to_json(task)) for task in sorted(tasks, key=lambda task: -task.size)]
        try:
            while pending:
                done, pending = ray.wait(pending)
                rows, rejected, seconds, failure = ray.get(done[0])
                if failure:
                    raise OSError(failure)
                yield rows, rejected, seconds
        except ray.exceptions.WorkerCrashedError as error:
            raise OSError(f"{TRIES} worker processes died over the same utterances (of too little memory?)") from error
        finally:
            for task in pending:
                ray.cancel(task)


def _to_json(task: Task) -> str:
    return json.dumps(asdict(task), default=str)


def _from_json(text: str) -> Task:
    plain = json.loads(text)
    of = plain["source"]
    source = Source(place(of["manifest"]), of["hash"], place(of["root"]), of["noise"] and place(of["noise"]))
    parts = [Part(place(part["path"]), part["card"], part["key"]) for part in plain["parts"]]
    known: list[Known] = [{int(row): tuple(at) for row, at in rows.items()} for rows in plain["known"]]
    return Task(plain["number"], plain["size"], source, parts, known)


def _write(task: str) -> tuple[int, int, float, str]:
    """Rows, rejected ones, seconds of audio; and, because what Ray raises no longer tells its cause, a failure.

    SIGTERM, by which Ray ends its workers, ends this one at once: what Ray raises for it is lost where openSMILE calls
    Python back, and an utterance would be rejected because its extraction was cut off.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(1))
    try:
        return *_from_json(task).write(), ""
    except OSError as error:
        return 0, 0, 0.0, str(error)
