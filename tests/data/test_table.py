"""A feature table in its folder: what is mapped is what the shards hold, for every reader, and faults are named."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import re
import resource
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.data.atomic import write_json
from sersearch.data.place import place
from sersearch.data.schema import MANIFEST_SCHEMA
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError
from tests.synthetic import make_table, write_table


def write(folder: Path, shards: int = 3, seed: int = 0) -> FeatureTable:
    """A table in memory, and the same in `folder` in several shards."""
    table = make_table(dims=8, speakers=2, repetitions=1, unlabelled=2, seed=seed)
    write_table(folder, table)
    features = folder / "spectrogram"
    whole = pq.read_table(features / "part-00000.parquet")
    parts = []
    for number, rows in enumerate(np.array_split(np.arange(len(whole)), shards)):
        path = features / f"part-{number:05d}.parquet"
        pq.write_table(whole.slice(rows[0], len(rows)), path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        frames = int(table.utterances["frames"].iloc[rows].sum())
        size = path.stat().st_size
        parts.append({"file": path.name, "rows": len(rows), "frames": frames, "bytes": size, "sha256": sha256})
    total = hashlib.sha256("".join(part["sha256"] for part in parts).encode()).hexdigest()
    write_json(features / "card.json", {**table.card, "hash": total, "shards": parts})
    return table


def maps(folder: Path) -> list[Path]:
    return sorted((folder / "spectrogram").glob("frames-*.npy"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write(tmp_path / "made")
    return tmp_path / "made"


# --- what it holds ----------------------------------------------------------------------------------------------------


@settings(max_examples=15)
@given(shards=st.integers(1, 6), seed=st.integers(0, 999))
def test_it_is_what_the_shards_hold(tmp_path_factory: pytest.TempPathFactory, shards: int, seed: int) -> None:
    folder = tmp_path_factory.mktemp("table") / "made"
    made, opened = write(folder, shards, seed), FeatureTable.open(folder, "spectrogram")
    np.testing.assert_array_equal(opened.frames, made.frames)
    np.testing.assert_array_equal(opened.offsets, made.offsets)
    assert (len(opened), opened.dims, opened.frames.dtype, opened.offsets.dtype) == (12, 8, np.float32, np.int64)
    for row in range(len(opened)):
        np.testing.assert_array_equal(opened[row], made[row])
    paths = sorted((folder / "spectrogram").glob("part-*.parquet"))
    stored = [matrix for path in paths for matrix in pq.read_table(path)["features"].to_pylist()]
    for matrix, expected in zip(map(opened.__getitem__, range(12)), stored, strict=True):
        np.testing.assert_array_equal(matrix, np.array(expected, np.float32))


def test_utterances_have_the_manifest_s_columns_in_their_types(folder: Path) -> None:
    rows = FeatureTable.open(folder, "spectrogram").utterances
    assert list(rows.columns) == [*MANIFEST_SCHEMA.names, "duration", "frames", "audio_sha256"]
    assert rows.index.tolist() == list(range(12))
    assert rows["emotion"].isna().sum() == 4
    assert rows["activation"].dtype == np.float32
    assert rows["frames"].dtype == np.int32


@pytest.mark.parametrize("row", [-1, 12])
def test_rows_count_from_0_to_the_last(folder: Path, row: int) -> None:
    with pytest.raises(IndexError, match=f"row {row} of a table of 12 utterances"):
        FeatureTable.open(folder, "spectrogram")[row]


# --- the map ----------------------------------------------------------------------------------------------------------


def test_frames_are_mapped_and_cannot_be_written(folder: Path) -> None:
    table = FeatureTable.open(folder, "spectrogram")
    assert isinstance(table.frames.base, np.memmap)
    assert not table.frames.flags.writeable
    assert np.shares_memory(table[3], table.frames), "an utterance is a view, not a copy"
    with pytest.raises(ValueError, match="read-only"):
        table[0][0, 0] = 1
    assert maps(folder)[0].stat().st_size == 128 + table.frames.nbytes


def test_the_map_is_made_once_for_a_hash_and_anew_for_another(folder: Path) -> None:
    FeatureTable.open(folder, "spectrogram")
    (first,) = maps(folder)
    made = first.stat().st_mtime_ns
    FeatureTable.open(folder, "spectrogram")
    assert first.stat().st_mtime_ns == made
    other = write(folder.parent / "other", seed=5)
    for path in (folder.parent / "other" / "spectrogram").iterdir():
        path.replace(folder / "spectrogram" / path.name)
    np.testing.assert_array_equal(FeatureTable.open(folder, "spectrogram").frames, other.frames)
    assert first not in maps(folder)
    assert len(maps(folder)) == 1


def test_many_may_open_it_at_once(folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda _: FeatureTable.open(folder, "spectrogram"), range(8)))
    assert len(maps(folder)) == 1
    for table in tables:
        np.testing.assert_array_equal(table.frames, tables[0].frames)


def test_pickled_it_is_its_folder_s_name(folder: Path) -> None:
    table = FeatureTable.open(folder, "spectrogram")
    pickled = pickle.dumps(table)
    assert len(pickled) < 1000 < table.frames.nbytes
    np.testing.assert_array_equal(pickle.loads(pickled).frames, table.frames)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def refusal(folder: Path, features: str = "spectrogram") -> str:
    with pytest.raises(DataError) as error:
        FeatureTable.open(folder, features)
    return str(error.value)


def test_a_folder_that_is_missing_or_was_not_prepared_says_how_to_prepare_it(tmp_path: Path) -> None:
    command = f"`sersearch prep CORPUS ROOT --features spectrogram --out {tmp_path}"
    assert refusal(tmp_path / "absent") == f"{tmp_path}/absent: no such folder; {command}/absent` makes it"
    assert refusal(tmp_path) == f"{tmp_path}: not a prepared corpus (it has no corpus.json); {command}` makes one"


def test_other_features_are_named_with_the_command_that_adds_these(folder: Path) -> None:
    assert refusal(folder, "spectogram") == (
        f"{folder}: no features called 'spectogram', did you mean spectrogram? expected one of spectrogram; "
        f"`sersearch prep made nowhere --features spectogram --out {folder}` adds them"
    )


def test_unfinished_features(folder: Path) -> None:
    (folder / "spectrogram" / "card.json").unlink()
    assert "its spectrogram features are unfinished; run `sersearch prep" in refusal(folder)


@pytest.mark.parametrize("name", ["corpus.json", "spectrogram/card.json"])
@pytest.mark.parametrize("text", ["", '{"corpus": "ma', "[]", "{}"])
def test_descriptions_that_are_damaged(folder: Path, name: str, text: str) -> None:
    (folder / name).write_text(text)
    assert refusal(folder).startswith(f"{folder / name}: cannot be read (")
    assert refusal(folder).endswith("); delete it and run `sersearch prep` again")


def test_shards_that_are_missing_cut_or_swapped(folder: Path) -> None:
    path, twin = (folder / "spectrogram" / f"part-0000{number}.parquet" for number in (1, 2))
    whole = path.read_bytes()
    for damaged in (whole[:-50], twin.read_bytes()):
        path.write_bytes(damaged)
        assert refusal(folder) == f"{path}: damaged (another hash than in card.json); delete it and run prep again"
    path.unlink()
    assert refusal(folder) == f"{path}: missing or damaged; delete it and run `sersearch prep` again"
    assert maps(folder) == [], "nothing half-written"
    path.write_bytes(whole)
    assert len(FeatureTable.open(folder, "spectrogram")) == 12


def test_a_disk_that_refuses_the_map_says_so_and_nothing_is_left(folder: Path) -> None:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, before[1]))
    try:
        message = refusal(folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert message.endswith(
        ".npy: the map of the features, which training reads, cannot be written (File too large); make room, or, of a "
        "folder that you may only read, make a copy"
    )
    left = {path.name for path in (folder / "spectrogram").iterdir()}
    assert not [name for name in left if ".npy" in name]
    assert len(FeatureTable.open(folder, "spectrogram")) == 12


def test_a_folder_that_the_system_refuses() -> None:
    assert refusal(Path("x" * 300)).endswith("xxx: cannot be read (File name too long)")


@pytest.mark.parametrize("size", [0, 100, 500])
def test_a_damaged_map_is_named_and_can_be_deleted(folder: Path, size: int) -> None:
    FeatureTable.open(folder, "spectrogram")
    (rows,) = (folder / "spectrogram").glob("rows-*.arrow")
    for path in (rows, *maps(folder)):
        path.write_bytes(path.read_bytes()[:size])
        assert f"{path}: damaged (" in refusal(folder)
        path.unlink()
        assert len(FeatureTable.open(folder, "spectrogram")) == 12


@pytest.mark.parametrize("name", ["rows", "frames"])
def test_a_map_of_other_frames_than_the_card_s_is_refused(folder: Path, name: str) -> None:
    FeatureTable.open(folder, "spectrogram")
    write(folder.parent / "other", seed=5)
    FeatureTable.open(folder.parent / "other", "spectrogram")
    (path,), (theirs,) = ((root / "spectrogram").glob(f"{name}-*") for root in (folder, folder.parent / "other"))
    path.write_bytes(theirs.read_bytes())
    assert re.fullmatch(
        re.escape(str(path)) + r": damaged \(\d+ frames, its card says \d+\); delete it, it is made .* from the shards",
        refusal(folder),
    )


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"dims": 0}, "dims: Input should be greater than 0"),
        ({"dtype": "float31"}, "dtype: Input should be 'float32' or 'float16'"),
        ({"shards": []}, "shards: List should have at least 1 item after validation, not 0"),
        ({"shards": [{"file": "part-00000.parquet"}]}, "shards.0.rows: Field required"),
        ({"shards": [{"file": "../part-00000.parquet"}]}, "shards.0.file: String should match"),
    ],
)
def test_a_card_that_is_none(folder: Path, change: dict[str, object], why: str) -> None:
    path = folder / "spectrogram" / "card.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert refusal(folder).startswith(f"{path}: cannot be read ({why}")
    assert refusal(folder).endswith("); delete it and run `sersearch prep` again")


def test_a_card_that_tells_another_size_of_a_shard_is_refused(folder: Path) -> None:
    path = folder / "spectrogram" / "card.json"
    card = json.loads(path.read_text())
    card["shards"][1]["frames"] += 1
    path.write_text(json.dumps(card))
    shard = folder / "spectrogram" / "part-00001.parquet"
    assert refusal(folder) == f"{shard}: not of the size that its card says; delete it and run `sersearch prep` again"
    assert maps(folder) == []


def test_what_killed_processes_left_of_maps_is_removed(folder: Path) -> None:
    left = [folder / "spectrogram" / f".{name}.123.tmp" for name in ("frames-0.npy", "rows-0.arrow")]
    for path in left:
        path.write_bytes(b"half")
    FeatureTable.open(folder, "spectrogram")
    assert not [path for path in left if path.exists()]


def test_the_card_decides_which_shards_belong_to_it(folder: Path) -> None:
    card = json.loads((folder / "spectrogram" / "card.json").read_text())
    kept = card["shards"][:2]
    write_json(folder / "spectrogram" / "card.json", {**card, "hash": "fewer", "shards": kept})
    assert len(FeatureTable.open(folder, "spectrogram")) == sum(part["rows"] for part in kept)


# --- shards that are altered later ------------------------------------------------------------------------------------


def altered(folder: Path) -> str:
    """What a table that was opened before says of its shards."""
    with pytest.raises(DataError) as error:
        FeatureTable.open(folder, "spectrogram").check_shards()
    return str(error.value)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def keep_time(path: Path, change: Callable[[Path], None]) -> None:
    before = path.stat()
    change(path)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def test_shards_that_nobody_altered_pass_however_often_they_were_copied(folder: Path) -> None:
    table = FeatureTable.open(folder, "spectrogram")
    table.check_shards()
    for path in (folder / "spectrogram").glob("part-*.parquet"):
        path.write_bytes(path.read_bytes())
    table.check_shards()


def test_a_shard_that_is_altered_after_the_map_was_made_is_refused(folder: Path) -> None:
    FeatureTable.open(folder, "spectrogram").check_shards()
    path = folder / "spectrogram" / "part-00001.parquet"
    flip(path)
    assert altered(folder) == f"{path}: damaged (another hash than in card.json); delete it and run prep again"


def test_a_shard_that_is_missing_or_of_another_size_is_refused_however_old(folder: Path) -> None:
    FeatureTable.open(folder, "spectrogram")
    again = f"run `sersearch prep` for the spectrogram features of {folder} again"
    path = folder / "spectrogram" / "part-00001.parquet"
    size = path.stat().st_size
    keep_time(path, lambda path: path.write_bytes(path.read_bytes()[:-1]))
    assert altered(folder) == f"{path}: {size - 1} bytes, and {size} when it was made; delete it and {again}"
    path.unlink()
    assert altered(folder) == f"{path}: missing; {again}, or restore the file"


def test_of_old_shards_nothing_is_read(folder: Path) -> None:
    """Of 100 GB that would take minutes at each resume; `sersearch data check` does."""
    table = FeatureTable.open(folder, "spectrogram")
    keep_time(folder / "spectrogram" / "part-00001.parquet", flip)
    table.check_shards()


def test_another_card_is_refused(folder: Path) -> None:
    table = FeatureTable.open(folder, "spectrogram")
    path = folder / "spectrogram" / "card.json"
    card = json.loads(path.read_text())
    card["shards"][1]["sha256"] = "0" * 64
    path.write_text(json.dumps(card))
    assert altered(folder).startswith(f"{path}: altered since the features were opened; run `sersearch prep` for")
    path.write_text(json.dumps({**card, "hash": "another"}))
    with pytest.raises(DataError, match="altered since the features were opened"):
        table.check_shards()


def test_in_an_object_store_sizes_are_compared(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    store = place(f"memory://table/{tmp_path.name}")
    for path in folder.rglob("*.*"):
        if path.is_file():
            (store / str(path.relative_to(folder))).write_bytes(path.read_bytes())
    FeatureTable.open(store, "spectrogram").check_shards()
    shard = store / "spectrogram" / "part-00002.parquet"
    shard.write_bytes(shard.read_bytes()[:-1])
    assert altered(store).startswith(f"{shard}: ")
    shard.unlink()
    assert altered(store).startswith(f"{shard}: missing")
