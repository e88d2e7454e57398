"""Corpora from strangers: what they list, hold and claim stays below their folder, runs nothing and fits in memory."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from data_prep.corpora import csv as csv_reader
from data_prep.reading import is_below
from sersearch.audio import Embeddings, OpenFace, load_audio
from sersearch.audio.visual import COLUMNS
from sersearch.data.place import read_parquet
from sersearch.errors import AudioError, ConfigError, DataError
from tests.security.memory import at_most
from tests.security.test_bundles import Harmful

# What pandas says about audformat.
pytestmark = pytest.mark.filterwarnings("ignore:The inplace keyword:DeprecationWarning")

RATE = 16_000


def tone(path: Path, seconds: float = 0.5) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(int(seconds * RATE)) / 5) / 3, RATE)
    return path


# --- audformat --------------------------------------------------------------------------------------------------------


HEADER = """
name: small
source: made
usage: unrestricted
languages: []
schemes:
  emotion: {dtype: str, labels: [anger, neutral]}
  speaker: {dtype: str}
tables:
  files:
    type: filewise
    columns:
      emotion: {scheme_id: emotion}
      speaker: {scheme_id: speaker}
"""


@pytest.fixture
def database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A database of two files."""
    pytest.importorskip("audformat")
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "db"
    for name in ("a", "b"):
        tone(root / "wav" / f"{name}.wav")
    (root / "db.yaml").write_text(HEADER)
    (root / "db.files.csv").write_text("file,emotion,speaker\nwav/a.wav,anger,x\nwav/b.wav,neutral,y\n")
    return root


def read(root: Path):
    from data_prep.corpora import audformat

    return audformat.read(root)


def test_a_database_that_is_harmless_is_read(database: Path) -> None:
    assert [row.speaker for row in read(database).utterances] == ["x", "y"]


@pytest.mark.parametrize(
    "tag",
    [
        "!!python/object/apply:os.mkdir ['ran']",
        "!!python/object/new:os.mkdir ['ran']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!<tag:yaml.org,2002:python/object/apply:os.mkdir> [ran]",
    ],
)
def test_a_header_that_says_what_to_run_is_refused(database: Path, tag: str) -> None:
    (database / "db.yaml").write_text(f"{HEADER}\nmeta: {tag}\n")
    with pytest.raises(DataError, match="could not determine a constructor for the tag"):
        read(database)
    assert not Path("ran").exists()


def test_a_pickled_table_is_refused_whatever_lies_beside_it(database: Path) -> None:
    (database / "db.files.pkl").write_bytes(pickle.dumps(Harmful()))
    with pytest.raises(DataError, match=r"db\.files\.pkl: a pickle, which can run code as it is read; delete it"):
        read(database)
    (database / "db.files.csv").unlink()
    with pytest.raises(DataError, match=r"db\.files\.pkl: a pickle"):
        read(database)
    assert not Path("ran").exists()


def test_a_table_s_name_that_leads_elsewhere_is_refused(database: Path) -> None:
    (database.parent / "evil.pkl").write_bytes(pickle.dumps(Harmful()))
    (database / "db.yaml").write_text(HEADER.replace("  files:", "  a/../../evil:"))
    with pytest.raises(DataError, match=r"a table called 'a/\.\./\.\./evil', which leads out of the folder"):
        read(database)
    assert not Path("ran").exists()


def test_aliases_of_a_header_that_stand_for_billions_of_values(database: Path) -> None:
    laughs = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    laughs += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    (database / "db.yaml").write_text(HEADER + "\n".join(laughs))
    with at_most(200), pytest.raises(DataError, match=r"db\.yaml: its aliases stand for more than 1000000 values"):
        read(database)


def test_files_outside_a_database_are_rejected(database: Path) -> None:
    outside = tone(database.parent / "mine.wav")
    with (database / "db.files.csv").open("a") as file:
        file.write(f"../mine.wav,anger,x\n{outside},anger,x\nwav/../../mine.wav,anger,x\n")
    reading = read(database)
    assert [row.path for row in reading.utterances] == ["wav/a.wav", "wav/b.wav"]
    assert [row.path for row in reading.rejected] == ["../mine.wav", str(outside), "wav/../../mine.wav"]
    assert {row.reason for row in reading.rejected} == {"its file does not lie below the database's folder"}


# --- manifests --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/etc/passwd", "../a.wav", "a/../../b.wav", "a/.."])
def test_names_that_lead_elsewhere(path: str, tmp_path: Path) -> None:
    assert not is_below(path)
    (tmp_path / "manifest.csv").write_text(f"path,speaker\n{path},ann\n")
    with pytest.raises(DataError, match="does not lie below the CSV file's folder"):
        csv_reader.read(tmp_path)


def test_labels_of_files_elsewhere_have_no_audio(tmp_path: Path) -> None:
    """Readers of known corpora take what they found in the folder, and no name from a table."""
    from data_prep.corpora import nemo

    tone(tmp_path / "mine.flac")
    tone(tmp_path / "nemo" / "samples" / "a.flac")
    rows = ["file_id\temotion\traw_text\tspeaker_id\tgender", "a.flac\tanger\tx\ts\tmale"]
    rows += ["../../mine.flac\tanger\tx\ts\tmale", f"{tmp_path}/mine.flac\tanger\tx\ts\tmale"]
    (tmp_path / "nemo" / "data.tsv").write_text("\n".join(rows) + "\n")
    reading = nemo.read(tmp_path / "nemo")
    assert [row.path for row in reading.utterances] == ["samples/a.flac"]
    assert len(reading.rejected) == 2


def test_an_id_is_no_path(tmp_path: Path) -> None:
    tone(tmp_path / "a.wav")
    for name in ("../x", "a/b", "a\x1b[2Jb", "a b"):
        (tmp_path / "manifest.csv").write_text(f"path,speaker,id\na.wav,ann,{name}\n")
        with pytest.raises(DataError, match="may hold letters, digits") as error:
            csv_reader.read(tmp_path)
        assert "\x1b" not in str(error.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e999"])
def test_figures_of_a_manifest_are_finite(tmp_path: Path, value: str) -> None:
    tone(tmp_path / "a.wav")
    (tmp_path / "manifest.csv").write_text(f"path,speaker,valence,start\na.wav,ann,{value},{value}\n")
    with pytest.raises(DataError, match=f"valence '{value}' is not a number"):
        csv_reader.read(tmp_path)


# --- audio ------------------------------------------------------------------------------------------------------------


def test_hours_of_silence_in_a_small_file_are_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sersearch.audio.decode.MOST", 2**24)  # 2**29, 3.1 h, takes this test half a minute
    path = tmp_path / "a.flac"
    with soundfile.SoundFile(path, "w", 48_000, 2, "PCM_16") as file:
        for _ in range(12):
            file.write(np.zeros((48_000 * 60, 2), np.int16))
    assert path.stat().st_size < 250_000
    with at_most(50), pytest.raises(AudioError, match=r"a\.flac: 0\.2 h at 48000 Hz at once; expected at most 0\.1 h"):
        load_audio(path)
    with at_most(50), pytest.raises(AudioError, match="silent"):
        load_audio(path, 600, 610)


def test_channels_are_averaged_as_they_are_decoded(tmp_path: Path) -> None:
    path, noise = tmp_path / "a.flac", np.random.default_rng(0).normal(size=(RATE * 60, 8)) / 10
    soundfile.write(path, noise, RATE)
    del noise
    with at_most(40):  # 60 s of 8 channels are 29 MiB, as float64 twice as many
        samples = load_audio(path)
    whole, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(samples, whole.mean(axis=1, dtype=np.float64).astype(np.float32))


@pytest.mark.parametrize("rate", [1, 3_999, 768_001, 2**31 - 1])
def test_a_rate_that_no_recorder_has(tmp_path: Path, rate: int) -> None:
    content = bytearray(tone(tmp_path / "a.wav").read_bytes())
    content[24:28] = rate.to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(content)
    with at_most(50), pytest.raises(AudioError, match=rf"a\.wav: (a sampling rate of {rate} Hz; expected|cannot)"):
        load_audio(tmp_path / "a.wav")


def test_what_is_no_file_of_audio_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    (tmp_path / "b.wav").symlink_to("/dev/zero")
    for name in ("a.wav", "b.wav"):
        with pytest.raises(AudioError, match="not a file"):
            load_audio(tmp_path / name)


# --- visual features --------------------------------------------------------------------------------------------------


def test_arrays_of_objects_and_archives_are_no_visual_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "a.npy"
    np.save(path, np.array([[Harmful()]], dtype=object), allow_pickle=True)
    contents = [path.read_bytes(), pickle.dumps(Harmful())]
    for write in (np.savez, np.savez_compressed):  # the latter is 16 GB in the mind of whoever unpacks it whole
        with path.open("wb") as file:
            write(file, a=np.zeros((2**21, 8), np.float32))
        contents.append(path.read_bytes())
    structured = np.zeros(3, dtype=[("a", "f4"), ("b", "O")])
    np.save(path, structured, allow_pickle=True)
    contents.append(path.read_bytes())
    for content in contents:
        path.write_bytes(content)
        with at_most(50), pytest.raises(AudioError, match="not a NumPy array, or a damaged one"):
            Embeddings(dims=8).read(path)
        with pytest.raises(ConfigError, match="not a NumPy array, or a damaged one"):
            Embeddings.of([path])
    assert not Path("ran").exists()


@pytest.mark.parametrize("shape", ["(1000000000000, 8)", "(-1, 8)", "(8," * 50 + ")" * 50, "(1e3, 8)", "(2**3, 8)"])
def test_a_header_that_claims_another_array(tmp_path: Path, shape: str) -> None:
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".encode().ljust(500) + b"\n"
    content = b"\x93NUMPY\x02\x00" + len(header).to_bytes(4, "little") + header + bytes(256)
    (tmp_path / "a.npy").write_bytes(content)
    with at_most(50), pytest.raises(AudioError, match="not a NumPy array, or a damaged one"):
        Embeddings(dims=8).read(tmp_path / "a.npy")


def test_a_few_rows_of_openface_do_not_stand_for_a_day(tmp_path: Path) -> None:
    times = [*np.arange(100) / 30, 86_000.0]
    pd.DataFrame({name: times if name == "timestamp" else 0.0 for name in COLUMNS}).to_csv(tmp_path / "a.csv")
    with at_most(50), pytest.raises(AudioError, match=r"a\.csv: its timestamps are .* end at 86000"):
        OpenFace().read(tmp_path / "a.csv")


# --- prepared corpora -------------------------------------------------------------------------------------------------


def test_parquet_that_stands_for_far_more_than_it_is(tmp_path: Path) -> None:
    zeros = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(2_000_000, np.float32)), 100)
    lists = pa.table({"features": pa.ListArray.from_arrays([0, len(zeros)], zeros)})
    flat = pa.table({"id": pa.array(["a"] * 1_000_000).dictionary_encode()})
    for table in (lists, flat):
        with pq.ParquetWriter(tmp_path / "a.parquet", table.schema, compression="zstd") as file:
            for _ in range(25):
                file.write_table(table)
        assert (tmp_path / "a.parquet").stat().st_size < 150_000
        with at_most(60), pytest.raises(pa.ArrowException, match=r"bytes that stand for \d+ values"):
            read_parquet(tmp_path / "a.parquet")


def test_parquet_of_half_a_million_utterances_is_read(tmp_path: Path) -> None:
    columns = {"id": [f"u{n:07d}" for n in range(500_000)], **{f"c{n}": pa.nulls(500_000) for n in range(17)}}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert len(read_parquet(tmp_path / "a.parquet", ["id"])) == 500_000
