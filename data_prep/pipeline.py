"""A corpus -> a prepared corpus: manifest, fixed shards of features, and a card. Killed runs go on where they were.

A folder that `prepare` writes::

    corpus.json, manifest.parquet, rejected.parquet
    spectrogram/part-00000.parquet   features of the manifest's first rows
    spectrogram/part-00000.json      what it was made from, and its hash: written after it, so it vouches for it
    spectrogram/card.json            written last: without it the features are unfinished

Everything is written under a temporary name and renamed. The bytes of a shard depend on its rows, their audio and
the extractor alone. Where a corpus or its labels have changed, features that are still right are taken over.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from data_prep.corpora import get_corpus
from data_prep.files import json_object, write_table
from data_prep.lock import hold
from data_prep.noise import NoiseCopies
from data_prep.options import checked_options
from data_prep.reading import Corpus, Reading
from data_prep.refusals import check_names, check_options, check_out, check_rejected, rejected_earlier
from data_prep.rows import Rows, read_rows
from data_prep.shards import Keys, Known, Part, Source, Task, old_rows, run_tasks, set_aside
from sersearch.audio import VISUAL, Extractor, Visual, extractor
from sersearch.data.atomic import write_json
from sersearch.data.place import full_name, is_local, place
from sersearch.data.schema import Rejected, rejected_table
from sersearch.errors import DataError

SHARD_SIZE = 128  # utterances
ENOUGH = 100  # rejected utterances that are worth seeing together, before a run that has too many is ended


@dataclass(frozen=True)
class Step:
    """How far `prepare` is."""

    done: int  # utterances
    total: int
    rejected: int  # of them, so far
    seconds: float  # of audio, extracted by this run


Progress = Callable[[Step], None]


@dataclass(frozen=True)
class Prepared:
    """What `prepare` did."""

    out: Path
    corpus: str
    features: tuple[str, ...]
    synthetic: bool
    utterances: int  # in the feature tables: in the one that has most
    rejected: int
    shards: int
    written: int  # shards that this run made; the others were there
    seconds: float
    hashes: dict[str, str]  # by feature set, as in its card
    notes: tuple[str, ...]  # what the user should know of the noises


def prepare(
    corpus: str,
    root: Path | None,
    features: str | Sequence[str],
    out: Path,
    *,
    options: Mapping[str, Any] | None = None,
    noise: NoiseCopies | None = None,
    visual: Path | None = None,
    max_rejected: float = 0.05,
    shard_size: int = SHARD_SIZE,
    workers: int | None = None,
    address: str | None = None,
    progress: Progress | None = None,
) -> Prepared:
    """Prepare `features` of the corpus below `root` in the folder `out`, on Ray; finished ones are left alone.

    `root` may be None for a corpus that sersearch makes itself (`demo`). Feature sets that `out` already has stay.
    Several feature sets are extracted from audio that is decoded once. `options` are the reader's; `noise` adds noisy
    copies of the utterances; `visual` is the folder of their visual features. `workers` processes extract at a time
    (None: as many as there are CPUs), unless `address` or RAY_ADDRESS name a Ray cluster, or this process has a Ray.

    Raises :class:`ConfigError` for unknown names and options, and :class:`DataError` for a root that does not hold the
    corpus, an `out` that holds another one or cannot be written, more than `max_rejected` (a fraction) of the
    utterances unusable, or none usable.
    """
    began = time.monotonic()
    check_options(max_rejected, shard_size, workers)
    reader = get_corpus(corpus)
    names = _feature_names(features)
    given = checked_options(reader, options or {})
    try:
        check_out(out, corpus)
        rows = read_rows(reader, root, out, given, names, noise, visual)
        check_names(out, set(rows.manifest["corpus"].to_pylist()))
        if is_local(out):
            out.mkdir(parents=True, exist_ok=True)
        with hold(out) as still:
            check_rejected(rows.reading.rejected, len(rows.manifest), max_rejected, out, names)
            write_table(out / "manifest.parquet", rows.manifest, row_group_size=shard_size)
            source = _source(out, rows.reading, noise)
            shards = _shards(rows.manifest, source, rows.extractors, shard_size)
            most = max_rejected * (len(rows.manifest) + len(rows.reading.rejected)) - len(rows.reading.rejected)
            written = _extract(shards, source, most, workers, address, progress, still)
            rejected = _all_rejected(rows, shards, max_rejected, out, names)
            _describe(out, reader, rows, given, noise, rejected)
            cards = [_finish([s.parts[k] for s in shards], e, source.hash) for k, e in enumerate(rows.extractors)]
            notes = rows.notes + _outdated(out, source.hash)
            _sweep(out, names)
    except OSError as error:
        raise DataError(f"preparation stopped: {error}; once that is mended, the same command goes on") from error
    return _prepared(out, corpus, rows, cards, rejected, notes, written, time.monotonic() - began)


def _feature_names(features: str | Sequence[str]) -> list[str]:
    """The feature sets, each once. Raises :class:`ConfigError` for an unknown one."""
    names = [features] if isinstance(features, str) else list(dict.fromkeys(features))
    for name in set(names) - VISUAL.keys():
        extractor(name)
    return names


def _prepared(
    out: Path,
    corpus: str,
    rows: Rows,
    cards: list[dict[str, Any]],
    rejected: list[Rejected],
    notes: tuple[str, ...],
    written: int,
    seconds: float,
) -> Prepared:
    """What was done, as the cards of its feature sets say."""
    return Prepared(
        out=out,
        corpus=corpus,
        features=tuple(card["features"] for card in cards),
        synthetic=rows.reading.synthetic,
        utterances=max(sum(shard["rows"] for shard in card["shards"]) for card in cards),
        rejected=len({(row.id, row.path) for row in rejected}),
        shards=len(cards[0]["shards"]),
        written=written,
        seconds=seconds,
        hashes={card["features"]: card["hash"] for card in cards},
        notes=notes,
    )


def _source(out: Path, reading: Reading, noise: NoiseCopies | None) -> Source:
    """Where tasks, on whatever machine, find the rows and their files."""
    manifest = place(full_name(out)) / "manifest.parquet"
    key = hashlib.sha256(manifest.read_bytes()).hexdigest()
    return Source(manifest, key, reading.root.resolve(), noise.root.resolve() if noise else None)


def _all_rejected(
    rows: Rows, shards: list[Shard], max_rejected: float, out: Path, features: Sequence[str]
) -> list[Rejected]:
    """What the reader and the extractors could not use, checked, and what other feature sets could not."""
    parts = [part for shard in shards for part in shard.parts if part.done()]
    rejected = rows.reading.rejected + [row for part in parts for row in part.rejected()]
    unusable = {row.id for row in rejected if row.features}
    check_rejected(rejected, len(rows.manifest) - len(unusable), max_rejected, out, features)
    return rejected + rejected_earlier(out, features)


@dataclass(frozen=True)
class Shard:
    """A row group of the manifest."""

    rows: int
    keys: Keys
    parts: list[Part]  # by feature set


def _shards(manifest: pa.Table, source: Source, extractors: list[Extractor | Visual], size: int) -> list[Shard]:
    """The manifest in fixed pieces, as its row groups are."""
    out = source.manifest.parent
    cards = [extract.card() for extract in extractors]
    shards = []
    for number, start in enumerate(range(0, len(manifest), size)):
        rows = manifest.slice(start, size).to_pylist()
        keys, name = source.keys(rows), f"part-{number:05d}.parquet"
        parts = [Part.of(out / card["features"] / name, card, rows, keys) for card in cards]
        shards.append(Shard(len(rows), keys, parts))
    return shards


def _extract(
    shards: list[Shard],
    source: Source,
    most: float,
    workers: int | None,
    address: str | None,
    progress: Progress | None,
    still: Callable[[], None],
) -> int:
    """Write the parts that are not there yet; the number of their shards. Ray starts for these alone.

    More than `most` rows rejected end it early, once there are some to show.
    """
    undone = {number: [part for part in shard.parts if not part.done()] for number, shard in enumerate(shards)}
    pending = {number: parts for number, parts in undone.items() if parts}
    total = sum(shard.rows for shard in shards)
    step = Step(total - sum(shards[number].rows for number in pending), total, 0, 0.0)
    if progress:
        progress(step)
    if not pending:
        return 0
    cards: dict[Path, Mapping[str, Any]] = {}
    for part in (part for parts in pending.values() for part in parts):
        cards[part.path.parent] = part.card
        # From here on the features are unfinished: a reader must not take old for new.
        (part.path.parent / "card.json").unlink(missing_ok=True)
        set_aside(part)
    old = {folder: old_rows(folder, card) for folder, card in cards.items()}
    tasks = []
    for number, parts in pending.items():
        known = [_known(shards[number].keys, part, old[part.path.parent]) for part in parts]
        tasks.append(Task(number, shards[number].keys.size, source, parts, known))
    for count, rejected, seconds in run_tasks(tasks, workers, address):
        step = Step(step.done + count, step.total, step.rejected + rejected, step.seconds + seconds)
        still()
        if progress:
            progress(step)
        if step.rejected > max(most, ENOUGH):
            break
    return len(pending)


def _known(keys: Keys, part: Part, old: Mapping[str, tuple[str, int]]) -> Known:
    """Rows of a shard that an old part has."""
    return {row: old[key] for row, key in enumerate(keys.of(part.card) if old else []) if key in old}


def _describe(
    out: Path,
    reader: Corpus,
    rows: Rows,
    options: Mapping[str, Any],
    noise: NoiseCopies | None,
    rejected: list[Rejected],
) -> None:
    """Write what describes the corpus; a file that already says so is not touched."""
    reading, manifest = rows.reading, rows.manifest
    corpus = {
        "corpus": reader.name,
        "names": sorted(set(manifest["corpus"].to_pylist())),
        "options": {name: str(value) if isinstance(value, Path) else value for name, value in options.items()},
        "synthetic": reading.synthetic,
        "root": str(reading.root),
        "noise": noise and {**asdict(noise), "root": str(noise.root), "snr": list(noise.snr)},
        "attribute_scale": reading.attribute_scale and list(reading.attribute_scale),
        "utterances": len(manifest),
        "rejected": len({(row.id, row.path) for row in rejected}),
    }
    write_table(out / "rejected.parquet", rejected_table(rejected))
    if json_object(out / "corpus.json") != json.loads(json.dumps(corpus)):
        write_json(out / "corpus.json", corpus)


def _outdated(out: Path, manifest: str) -> tuple[str, ...]:
    """Take the cards of other feature sets away that were made of another manifest: their labels may be others."""
    notes = []
    for path in sorted(out.glob("*/card.json")):
        if (json_object(path) or {}).get("manifest") != manifest:
            path.unlink()
            name = path.parent.name
            notes.append(f"the {name} features are of an earlier state of the corpus: add --features {name}")
    return tuple(notes)


def _finish(parts: list[Part], extract: Extractor | Visual, manifest: str) -> dict[str, Any]:
    """Write the card, last, and remove what it doesn't name; return it. A card that already says so is not touched."""
    entries = [part.entry() for part in parts]
    total = hashlib.sha256("".join(entry["sha256"] for entry in entries).encode()).hexdigest()
    folder = parts[0].path.parent
    there = json_object(folder / "card.json")
    if there and (there.get("hash"), there.get("manifest"), there.get("shards")) == (total, manifest, entries):
        return there
    kept = {part.path.stem for part in parts}
    for extra in [*folder.glob("part-*"), *folder.glob(".old-*")]:
        if extra.stem not in kept:
            extra.unlink()
    card: dict[str, Any] = {**extract.card(), "hash": total, "manifest": manifest, "shards": entries}
    write_json(folder / "card.json", card)
    return card


def _sweep(out: Path, features: Sequence[str]) -> None:
    """Remove what runs that were killed had begun to write."""
    begun = [out.glob(f".{name}.*.tmp") for name in ("manifest.parquet", "rejected.parquet", "corpus.json")]
    begun += [(out / name).glob(f".{kind}.*.tmp") for name in features for kind in ("part-*", "card.json")]
    for path in (path for found in begun for path in found):
        path.unlink(missing_ok=True)
