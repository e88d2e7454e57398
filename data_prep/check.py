"""`sersearch data check`: is a prepared corpus what its cards say, shard by shard, its map too, and is nothing lost?"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from sersearch.data.place import parquet_table, read_parquet
from sersearch.data.schema import MANIFEST_SCHEMA, REJECTED_SCHEMA, feature_schema
from sersearch.data.table import FeatureTable, map_files, read_card, read_shard, row_schema
from sersearch.errors import DataError


def feature_sets(root: Path) -> list[str]:
    """The feature sets of a prepared corpus, finished or not; :class:`DataError` for what is none."""
    if not (root / "corpus.json").is_file():
        raise DataError(f"{root}: not a prepared corpus (it has no corpus.json); `sersearch prep` makes one")
    return sorted({path.parent.name for path in [*root.glob("*/card.json"), *root.glob("*/part-*.json")]})


def check(root: Path) -> Iterator[str]:
    """What is wrong with the prepared corpus in `root`, a sentence each: reads and hashes every shard."""
    names = feature_sets(root)
    try:
        manifest = _table(root / "manifest.parquet", MANIFEST_SCHEMA)
        rejected = _table(root / "rejected.parquet", REJECTED_SCHEMA).to_pylist()
    except DataError as error:
        yield str(error)
        return
    if not names:
        yield f"{root}: no features; `sersearch prep` has not finished"
    for name in names:
        refused = {row["id"] for row in rejected if row["features"] == name}
        yield from _check_set(root / name, manifest, refused)


def _table(path: Path, schema: pa.Schema) -> pa.Table:
    """A Parquet file of `schema`; :class:`DataError` for what is none."""
    try:
        table = read_parquet(path)
        if not table.schema.remove_metadata().equals(schema):
            raise ValueError("other columns")
        table.validate(full=True)
    except (OSError, ValueError, pa.ArrowException) as error:
        why = " ".join(str(error).split())
        raise DataError(f"{path}: cannot be read ({why}); run `sersearch prep` again") from error
    return table


def _check_set(folder: Path, manifest: pa.Table, refused: set[str]) -> Iterator[str]:
    """What is wrong with one feature set, which ought to have the utterances of `manifest` but for `refused` ones."""
    path = folder / "card.json"
    if not path.is_file():
        yield f"{folder}: unfinished (no card.json); run `sersearch prep` again, it goes on where it was"
        return
    try:
        card = read_card(path)
    except DataError as error:
        yield str(error)
        return
    shards, schema = card["shards"], feature_schema(card)
    total = hashlib.sha256("".join(shard["sha256"] for shard in shards).encode()).hexdigest()
    if total != card["hash"]:
        yield f"{path}: its hash is not that of its shards"
    tables, whole = [], True
    for shard in shards:
        problems, rows = _check_shard(folder / str(shard["file"]), shard, schema)
        yield from problems
        tables.append(rows)
        whole = whole and not problems
    if whole and all(file.is_file() for file in map_files(folder, card)):
        yield from _check_map(folder, card)
    rows = pa.concat_tables(tables) if tables else MANIFEST_SCHEMA.empty_table()
    found, expected = set(rows["id"].to_pylist()), set(manifest["id"].to_pylist()) - refused
    same = manifest.filter(pc.is_in(manifest["id"], value_set=rows["id"].combine_chunks()))
    if found <= expected and not same.equals(rows.cast(manifest.schema)):
        yield f"{folder}: its labels or files are of an earlier state of the corpus; prepare it again"
    named = {shard["file"] for shard in shards}
    for extra in sorted(file.name for file in folder.glob("part-*.parquet") if file.name not in named):
        yield f"{folder / extra}: stands in no card"
    if lost := sorted(expected - found):
        yield f"{folder}: {len(lost)} utterances of the manifest are missing, such as {lost[0]}; prepare it again"
    if strange := sorted(found - expected):
        yield f"{folder}: {len(strange)} utterances are not in the manifest, such as {strange[0]}; prepare it again"


def _check_shard(path: Path, shard: dict[str, Any], schema: pa.Schema) -> tuple[list[str], pa.Table]:
    """What is wrong with one shard, and its rows, as in the manifest."""
    nothing = MANIFEST_SCHEMA.empty_table()
    try:
        content = path.read_bytes()
    except OSError as error:
        return [f"{path}: cannot be read ({error.strerror})"], nothing
    if hashlib.sha256(content).hexdigest() != shard["sha256"]:
        return [f"{path}: damaged (another hash than in card.json); delete it and run `sersearch prep` again"], nothing
    table = parquet_table(pa.BufferReader(content), columns=[*MANIFEST_SCHEMA.names, "frames"])
    problems = []
    seen = pq.read_schema(pa.BufferReader(content)).remove_metadata()
    if not seen.equals(schema):
        wrong = sorted(set(map(str, schema)) ^ set(map(str, seen)))
        problems.append(f"{path}: its columns are not those of its card: {'; '.join(wrong[:4])}")
    ids = table["id"].to_pylist()
    for what, count in (("rows", len(ids)), ("frames", sum(table["frames"].to_pylist()))):
        if count != shard[what]:
            problems.append(f"{path}: {count} {what}, its card says {shard[what]}")
    if len(set(ids)) < len(ids):
        problems.append(f"{path}: an utterance stands in it twice")
    return problems, table.select(MANIFEST_SCHEMA.names)


def _check_map(folder: Path, card: dict[str, Any]) -> Iterator[str]:
    """What is wrong with the map of a feature set, which training reads, though its shards are whole."""
    rows, frames = map_files(folder, card)
    try:
        table = FeatureTable.open(folder.parent, card["features"])
        plain = row_schema(card)
        mapped = pa.ipc.open_file(rows.read_bytes()).read_all()
        at = row = 0
        for shard in card["shards"]:
            expected, numbers = read_shard(folder / shard["file"], shard["sha256"], plain)
            if not mapped.slice(row, len(expected)).equals(expected):
                raise DataError(f"{rows}: not what the shards hold; delete it, it is made again from them")
            if table.frames[at : at + shard["frames"]].tobytes() != numbers.tobytes():
                raise DataError(f"{frames}: not what the shards hold; delete it, it is made again from them")
            at, row = at + shard["frames"], row + len(expected)
    except DataError as error:
        yield str(error)
