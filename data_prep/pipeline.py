"""A corpus -> a prepared corpus: manifest, fixed shards of features, and a card. Killed runs go on where they were.

A folder that `prepare` writes::

    corpus.json, manifest.parquet, rejected.parquet
    spectrogram/part-00000.parquet   features of the manifest's first rows
    spectrogram/part-00000.json      what it was made from, and its hash: written after it, so it vouches for it
    spectrogram/card.json            written last: without it the features are unfinished

Everything is written under a temporary name and renamed. The bytes of a shard depend on its rows, their audio and
the extractor alone.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from data_prep.corpora import get_corpus
from data_prep.reading import Corpus, Reading
from data_prep.shards import Shard, run_shards
from sersearch.audio import Extractor, extractor
from sersearch.data.atomic import atomic, write_json
from sersearch.data.schema import Rejected, manifest_table, rejected_table
from sersearch.errors import ConfigError, DataError

SHARD_SIZE = 128  # utterances
SHOWN = 10  # rejected utterances in an error

Progress = Callable[[int, int], None]  # utterances done, utterances in all


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    out: Path
    corpus: str
    features: str
    synthetic: bool
    utterances: int  # in the feature table
    rejected: int
    shards: int
    written: int  # shards that this run made; the others were there
    seconds: float
    hash: str  # of the feature set, as in its card


def prepare(
    corpus: str,
    root: Path | None,
    features: str,
    out: Path,
    *,
    max_rejected: float = 0.05,
    shard_size: int = SHARD_SIZE,
    workers: int | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare `features` of the corpus below `root` in the folder `out`, on Ray Data; a finished one is left alone.

    `root` may be None for a corpus that sersearch makes itself (`demo`). Feature sets that `out` already has stay.
    `workers` processes extract at a time (None: as many as there are CPUs); in a Ray that is already running, its own.

    Raises :class:`ConfigError` for unknown names and options, and :class:`DataError` for a root that does not hold the
    corpus, an `out` that holds another one or cannot be written, more than `max_rejected` (a fraction) of the
    utterances unusable, or none usable.
    """
    began = time.monotonic()
    _check_options(max_rejected, shard_size, workers)
    reader, extract = get_corpus(corpus), extractor(features)
    try:
        _check_out(out, corpus)
        reading = _read(reader, root, out)
        manifest = manifest_table(reading.utterances)
        _check_rejected(reading.rejected, len(manifest), max_rejected, out)
        out.mkdir(parents=True, exist_ok=True)
        with FileLock(out / ".prep.lock", timeout=0):
            shards = _shards(manifest, reading.root.resolve(), out.resolve() / features, extract, shard_size)
            written = _extract(shards, out, manifest, reading, workers, progress)
            rejected = reading.rejected + [row for shard in shards for row in shard.rejected()]
            _check_rejected(rejected, len(manifest) + len(reading.rejected) - len(rejected), max_rejected, out)
            card = _finish(shards, out, reader, reading, manifest, rejected, extract)
    except Timeout:
        raise DataError(
            f"{out}: another `sersearch prep` is writing there; wait for it, or choose another --out"
        ) from None
    except OSError as error:
        raise DataError(f"preparation stopped: {error}; once that is mended, the same command goes on") from error
    rows = sum(shard["rows"] for shard in card["shards"])
    seconds = time.monotonic() - began
    return Prepared(
        out, corpus, features, reading.synthetic, rows, len(rejected), len(shards), written, seconds, card["hash"]
    )


def _check_options(max_rejected: float, shard_size: int, workers: int | None) -> None:
    if not 0 <= max_rejected <= 1:
        raise ConfigError(f"max_rejected is {max_rejected}; it is a fraction, 0 to 1 (0.05: one in twenty)")
    if shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size}; a shard holds at least one utterance")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; at least one process must extract")


def _check_out(out: Path, corpus: str) -> None:
    """Refuse a folder that holds another corpus."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; --out is the folder of a prepared corpus")
    if not (out / "corpus.json").is_file():
        return
    try:
        held = json.loads((out / "corpus.json").read_text("utf-8"))["corpus"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out / 'corpus.json'}: cannot be read ({error}); delete {out} or choose another --out"
        ) from error
    if held != corpus:
        raise DataError(f"{out}: holds the corpus {held}, not {corpus}; choose another --out")


def _read(reader: Corpus, root: Path | None, out: Path) -> Reading:
    """Read the corpus, or first make the one that sersearch can make, below `out`."""
    if root is None:
        if reader.write is None:
            raise ConfigError(f"the corpus {reader.name} lies in a folder of yours: name it ({reader.summary})")
        root = out / "audio"
        reader.write(root)
    return reader.read(root)


def _check_rejected(rejected: list[Rejected], usable: int, max_rejected: float, out: Path) -> None:
    """Fail, with the list in `out`/rejected.parquet, when too many utterances cannot be used."""
    total = len(rejected) + usable
    if usable and len(rejected) <= max_rejected * total:
        return
    _write_table(out / "rejected.parquet", rejected_table(rejected))
    first = "\n  ".join(f"{row.id or row.path}: {row.reason}" for row in rejected[:SHOWN])
    more = f"\n  and {len(rejected) - SHOWN} more" if len(rejected) > SHOWN else ""
    limit = f"more than --max-rejected {max_rejected:g} allows" if usable else "so nothing is left"
    raise DataError(
        f"{len(rejected)} of {total} utterances cannot be used, {limit}:\n  {first}{more}\n"
        f"The list is in {out / 'rejected.parquet'}"
    )


def _shards(manifest: pa.Table, root: Path, folder: Path, extract: Extractor, size: int) -> list[Shard]:
    """The manifest in fixed pieces."""
    starts = range(0, len(manifest), size)
    return [
        Shard.of(manifest.slice(start, size), root, folder / f"part-{number:05d}.parquet", extract)
        for number, start in enumerate(starts)
    ]


def _extract(
    shards: list[Shard], out: Path, manifest: pa.Table, reading: Reading, workers: int | None, progress: Progress | None
) -> int:
    """Write the shards that are not there yet; their number. Ray starts for these alone."""
    pending = [shard for shard in shards if not shard.done()]
    if not pending:
        return 0
    # From here on the features are unfinished: a reader must not take old for new.
    (pending[0].path.parent / "card.json").unlink(missing_ok=True)
    done = len(manifest) - sum(len(shard.rows) for shard in pending)
    if progress:
        progress(done, len(manifest))
    for rows in run_shards(pending, workers):
        done += rows
        if progress:
            progress(done, len(manifest))
    return len(pending)


def _finish(
    shards: list[Shard],
    out: Path,
    reader: Corpus,
    reading: Reading,
    manifest: pa.Table,
    rejected: list[Rejected],
    extract: Extractor,
) -> dict[str, Any]:
    """Write what describes the corpus and, last, the card; return it. A file that already says so is not touched."""
    corpus = {
        "corpus": reader.name,
        "synthetic": reading.synthetic,
        "root": str(reading.root),
        "attribute_scale": reading.attribute_scale and list(reading.attribute_scale),
        "utterances": len(manifest),
        "rejected": len(rejected),
    }
    parts = [shard.entry() for shard in shards]
    total = hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest()
    folder = shards[0].path.parent
    _write_table(out / "manifest.parquet", manifest)
    _write_table(out / "rejected.parquet", rejected_table(rejected))
    if _json(out / "corpus.json") != corpus:
        write_json(out / "corpus.json", corpus)
    there = _json(folder / "card.json")
    if there and there.get("hash") == total:
        return there
    kept = {shard.path.stem for shard in shards}
    for extra in folder.glob("part-*"):
        if extra.stem not in kept:
            extra.unlink()
    card: dict[str, Any] = {**extract.card(), "hash": total, "shards": parts}
    write_json(folder / "card.json", card)
    return card


def _json(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _write_table(path: Path, table: pa.Table) -> None:
    """Write a table, unless the file holds it already."""
    try:
        if path.is_file() and pq.read_table(path).equals(table):
            return
    except pa.ArrowException:
        pass  # damaged
    with atomic(path) as temporary:
        pq.write_table(table, temporary)
