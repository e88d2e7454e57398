"""Databases that audformat itself wrote: which tables are read, where fields are found, and what is not clear."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile

from data_prep.corpora import audformat as reader
from sersearch.audio import load_audio
from sersearch.data.schema import manifest_table
from sersearch.errors import ConfigError, DataError

audformat = pytest.importorskip("audformat")
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")  # pandas's, about audformat

FILES = ["wav/a.wav", "wav/b.wav", "wav/c.wav"]
EMOTIONS = ["anger", "neutral", None]


def column(table, name: str, values: list, scheme: str | None = "") -> None:
    table[name] = audformat.Column(scheme_id=name if scheme == "" else scheme)
    table[name].set(values)


def emotions(database, name: str = "emotion", split: str | None = None, values: list = EMOTIONS, files=FILES) -> None:
    database[name] = audformat.Table(audformat.filewise_index(files), split_id=split)
    column(database[name], "emotion", values)


@pytest.fixture
def database():
    """A header with the usual schemes, and a table of files with their speakers."""
    made = audformat.Database("small")
    for split in ("train", "dev", "test", "other"):
        made.splits[split] = audformat.Split(split)
    made.schemes["emotion"] = audformat.Scheme(labels=["anger", "neutral", "happiness"])
    for name in ("arousal", "valence", "dominance"):
        made.schemes[name] = audformat.Scheme("float", minimum=1, maximum=7)
    made.schemes["speaker"] = audformat.Scheme("int", labels={3: {"gender": "male"}, 8: {"gender": "female"}})
    made.schemes["transcription"] = audformat.Scheme(labels={"a01": "Der Lappen", "a02": "Das will"})
    made["files"] = audformat.Table(audformat.filewise_index(FILES))
    column(made["files"], "speaker", [3, 8, 3])
    column(made["files"], "transcription", ["a01", "a02", "a01"])
    return made


def saved(database, root: Path) -> Path:
    for number, file in enumerate(database.files):
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(root / file, np.random.default_rng(number).normal(size=32_000) / 10, 16_000)
    database.save(str(root))
    return root


def test_one_table_of_emotions(database, tmp_path: Path) -> None:
    emotions(database)
    reading = reader.read(saved(database, tmp_path))
    rows = reading.utterances
    assert [(row.id, row.path) for row in rows] == [("wav_a", FILES[0]), ("wav_b", FILES[1]), ("wav_c", FILES[2])]
    assert [row.emotion for row in rows] == EMOTIONS
    assert [(row.speaker, row.gender) for row in rows] == [("3", "male"), ("8", "female"), ("3", "male")]
    assert [row.sentence for row in rows] == ["Der Lappen", "Das will", "Der Lappen"]
    assert {(row.start, row.end, row.split, row.activation) for row in rows} == {(None,) * 4}
    assert (reading.rejected, reading.attribute_scale) == ([], None)
    assert len(manifest_table(rows)) == 3


@pytest.mark.parametrize("storage", ["csv", "parquet"])
def test_tables_in_every_format(database, tmp_path: Path, storage: str) -> None:
    emotions(database)
    saved(database, tmp_path)
    for file in tmp_path.glob("db.*.parquet"):
        file.unlink()
    database.save(str(tmp_path), storage_format=storage)
    assert [row.emotion for row in reader.read(tmp_path).utterances] == EMOTIONS


def test_segments_have_their_times_and_the_speakers_of_their_files(database, tmp_path: Path) -> None:
    index = audformat.segmented_index([FILES[0], FILES[0], FILES[1]], ["0s", "0.5s", "0s"], ["0.5s", pd.NaT, pd.NaT])
    database["segments"] = audformat.Table(index)
    column(database["segments"], "emotion", ["anger", "neutral", "happiness"])
    root = saved(database, tmp_path)
    rows = reader.read(root).utterances
    assert [(row.id, row.start, row.end) for row in rows] == [
        ("wav_a_0-0.5", 0.0, 0.5),
        ("wav_a_0.5", 0.5, None),
        ("wav_b", 0.0, None),
    ]
    assert [(row.emotion, row.speaker) for row in rows] == [("anger", "3"), ("neutral", "3"), ("happiness", "8")]
    lengths = [len(load_audio(root / row.path, row.start, row.end)) for row in rows]
    assert lengths == [8_000, 24_000, 32_000]


def test_attributes_and_their_scale_from_a_table_of_their_own(database, tmp_path: Path) -> None:
    emotions(database)
    database["dimensions"] = audformat.Table(audformat.filewise_index(FILES[:2]))
    for name, values in {"arousal": [1.5, 7.0], "valence": [2.5, None], "dominance": [3.5, 4.0]}.items():
        column(database["dimensions"], name, values)
    reading = reader.read(saved(database, tmp_path))
    assert [(row.emotion, row.activation, row.valence, row.dominance) for row in reading.utterances] == [
        ("anger", 1.5, 2.5, 3.5),
        ("neutral", 7.0, None, 4.0),
        (None, None, None, None),
    ]
    assert reading.attribute_scale == (1.0, 7.0)
    database.schemes["valence"].minimum = -1
    assert reader.read(saved(database, tmp_path)).attribute_scale is None, "not one for all"


def test_a_gender_from_a_table_of_speakers(database, tmp_path: Path) -> None:
    del database.tables["files"]
    del database.schemes["speaker"]
    database.schemes["sex"] = audformat.Scheme(labels=["female", "male", "other"])
    database["speaker"] = audformat.MiscTable(pd.Index(["x", "y", "z"], name="speaker", dtype="string"))
    column(database["speaker"], "sex", ["female", "other", "male"])
    database.schemes["speaker"] = audformat.Scheme("str", labels="speaker")
    emotions(database)
    column(database["emotion"], "speaker", ["x", "y", "z"])
    rows = reader.read(saved(database, tmp_path)).utterances
    assert [(row.speaker, row.gender) for row in rows] == [("x", "female"), ("y", None), ("z", "male")]


def test_speakers_of_files_and_of_segments(database, tmp_path: Path) -> None:
    database["files"]["speaker"].set([3, None, 3])
    index = audformat.segmented_index([FILES[0], FILES[1], FILES[1]], ["0s", "0s", "0.5s"], ["1s", "0.5s", pd.NaT])
    database["segments"] = audformat.Table(index)
    column(database["segments"], "emotion", ["anger", "neutral", "happiness"])
    column(database["segments"], "speaker", [None, 8, 3])
    rows = reader.read(saved(database, tmp_path)).utterances
    assert [(row.path, row.start, row.speaker) for row in rows] == [
        (FILES[0], 0.0, "3"),
        (FILES[1], 0.0, "8"),
        (FILES[1], 0.5, "3"),
    ]


# --- Splits ---------------------------------------------------------------------------------------------------------


def parted(database, family: str, parts: dict[str, list[int]]) -> None:
    for split, rows in parts.items():
        values, files = [EMOTIONS[row] for row in rows], [FILES[row] for row in rows]
        emotions(database, f"emotion.{split}.{family}", split, values, files)


def test_tables_of_splits_beside_a_whole_one(database, tmp_path: Path) -> None:
    emotions(database)
    parted(database, "gold", {"train": [0], "test": [1]})
    rows = reader.read(saved(database, tmp_path)).utterances
    assert [(row.emotion, row.split) for row in rows] == [("anger", "train"), ("neutral", "test"), (None, None)]


def test_tables_of_splits_alone(database, tmp_path: Path) -> None:
    parted(database, "gold", {"train": [0], "dev": [1], "other": [2]})
    root = saved(database, tmp_path)
    assert {row.id: row.split for row in reader.read(root).utterances} == {
        "wav_a": "train",
        "wav_b": "dev",
        "wav_c": None,
    }
    (row,) = reader.read(root, table="emotion.dev.gold").utterances
    assert (row.id, row.emotion, row.split) == ("wav_b", "neutral", "dev")


def test_one_of_two_partitions_by_a_pattern(database, tmp_path: Path) -> None:
    parted(database, "gold", {"train": [0], "test": [1]})
    parted(database, "desired", {"train": [1], "test": [0]})
    root = saved(database, tmp_path)
    for pattern, splits in (("*gold", ["train", "test"]), ("emotion.*.desired", ["test", "train"])):
        rows = reader.read(root, table=pattern).utterances
        assert {row.id: row.split for row in rows} == dict(zip(["wav_a", "wav_b"], splits, strict=True))
    with pytest.raises(DataError, match="several tables hold emotion; choose by table=NAME") as raised:
        reader.read(root)
    assert "\n  emotion.test.desired (split test): emotion" in str(raised.value)
    with pytest.raises(DataError, match=r"is in the splits .* and .*; read one partition: choose by"):
        reader.read(root, table="emotion.*")


def test_emotions_by_split_and_attributes_of_all(database, tmp_path: Path) -> None:
    parted(database, "gold", {"train": [0], "test": [1]})
    database["dimensions"] = audformat.Table(audformat.filewise_index(FILES))
    column(database["dimensions"], "arousal", [1.0, 2.0, 3.0])
    rows = sorted(reader.read(saved(database, tmp_path)).utterances, key=lambda row: row.id)
    assert [(row.emotion, row.activation, row.split) for row in rows] == [
        ("anger", 1.0, "train"),
        ("neutral", 2.0, "test"),
        (None, 3.0, None),
    ]


# --- What is not clear, and what is missing -------------------------------------------------------------------------


def test_two_whole_tables_need_a_choice(database, tmp_path: Path) -> None:
    emotions(database, "acted", values=["happiness"] * 3)
    emotions(database, "heard")
    root = saved(database, tmp_path)
    with pytest.raises(DataError, match=r"choose by table=NAME, with \* for several; its tables and their columns:\n"):
        reader.read(root)
    assert [row.emotion for row in reader.read(root, table="acted").utterances] == ["happiness"] * 3
    assert [row.emotion for row in reader.read(root, table="heard").utterances] == EMOTIONS
    with pytest.raises(DataError, match=r"two values of emotion for one utterance \(Found overlapping data"):
        reader.read(root, table="*")
    with pytest.raises(DataError, match=r"no table 'head'; .*columns:\n  acted: emotion\n"):
        reader.read(root, table="head")


def test_of_several_columns_the_one_with_the_scheme_s_name(database, tmp_path: Path) -> None:
    emotions(database)
    column(database["emotion"], "rater1", ["happiness"] * 3, "emotion")
    assert [row.emotion for row in reader.read(saved(database, tmp_path)).utterances] == EMOTIONS
    database["emotion"].drop_columns("emotion", inplace=True)
    assert [row.emotion for row in reader.read(saved(database, tmp_path)).utterances] == ["happiness"] * 3
    column(database["emotion"], "rater2", EMOTIONS, "emotion")
    with pytest.raises(DataError, match="the table emotion has emotion in rater1, rater2, and it is not clear which"):
        reader.read(saved(database, tmp_path))


def test_a_table_without_labels_can_be_chosen(database, tmp_path: Path) -> None:
    root = saved(database, tmp_path)
    with pytest.raises(DataError, match="no table holds emotions or attributes; choose by table=NAME"):
        reader.read(root)
    rows = reader.read(root, table="files").utterances
    assert [(row.speaker, row.emotion) for row in rows] == [("3", None), ("8", None), ("3", None)]


def test_speakers_are_needed(database, tmp_path: Path) -> None:
    emotions(database)
    database["files"]["speaker"].set([3, 8, None])
    reading = reader.read(saved(database, tmp_path))
    assert [row.speaker for row in reading.utterances] == ["3", "8"]
    assert [(row.id, row.reason) for row in reading.rejected] == [("wav_c", "no speaker")]
    database["files"].drop_columns("speaker", inplace=True)
    with pytest.raises(
        DataError, match=r"no speakers, by whom data is split; .*:\n  emotion: emotion\n  files: transcription"
    ):
        reader.read(saved(database, tmp_path))


def test_missing_files_are_listed_and_missing_tables_are_an_error(database, tmp_path: Path) -> None:
    emotions(database)
    root = saved(database, tmp_path)
    (root / FILES[1]).unlink()
    assert [(row.path, row.reason) for row in reader.read(root).rejected] == [(FILES[1], "no such file")]
    (root / "db.emotion.parquet").unlink()
    with pytest.raises(DataError, match=r"not a database that audformat can load \(.*db\.emotion"):
        reader.read(root)
    (root / "db.yaml").write_text("name: [")
    with pytest.raises(DataError, match="not a database that audformat can load"):
        reader.read(root)
    (root / "db.yaml").unlink()
    with pytest.raises(DataError, match=r"no db\.yaml found; a database in audformat has db\.yaml"):
        reader.read(root)


# --- Packages -------------------------------------------------------------------------------------------------------


def test_a_missing_package_is_named_with_the_command(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = saved(database, tmp_path)
    monkeypatch.setitem(sys.modules, "audformat", None)
    with pytest.raises(ConfigError, match=r"needs the package audformat: pip install 'sersearch\[audformat\]'"):
        reader.read(root)
    monkeypatch.setitem(sys.modules, "audb", None)
    with pytest.raises(ConfigError, match=r"needs the package audb: pip install 'sersearch\[audb\]'"):
        reader.read(Path("audb:emodb"))


def test_a_database_by_its_name_in_audb(database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    emotions(database)
    root = saved(database, tmp_path)

    def load(name: str, verbose: bool) -> SimpleNamespace:
        if name != "small":
            raise RuntimeError(f"Cannot find a version for database '{name}'.")  # audb's words without a network
        return SimpleNamespace(root=str(root))

    monkeypatch.setitem(sys.modules, "audb", SimpleNamespace(load=load))
    assert [row.emotion for row in reader.read(Path("audb:small")).utterances] == EMOTIONS
    with pytest.raises(DataError, match=r"audb:large: audb cannot fetch it \(Cannot find .*; it needs the network"):
        reader.read(Path("audb:large"))
