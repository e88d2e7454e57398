"""Flipped bits in a prepared corpus, a checkpoint or a map, as a disk, a copy or a hand makes them."""

from __future__ import annotations

import re
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from data_prep import pipeline
from data_prep.check import check
from data_prep.pipeline import prepare
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError
from tests.faults.disk.disks import files
from tests.synthetic import make_table, write_table
from tests.trained import make_ladder_study

Command = Callable[..., tuple[int, str]]
FLIPS = 60


def flipped(path: Path, bit: int) -> bytes:
    """Flip a bit of a file, counted from its beginning and round; returns what was there."""
    whole = path.read_bytes()
    content = bytearray(whole)
    bit %= 8 * len(content)
    content[bit // 8] ^= 1 << bit % 8
    path.write_bytes(content)
    return whole


# --- a prepared corpus ------------------------------------------------------------------------------------------------


def prepared(corpus: Path, out: Path) -> Path:
    prepare("csv", corpus, ["spectrogram", "mel"], out, shard_size=3)
    return out


@pytest.fixture
def out(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(pipeline, "run_tasks", lambda tasks, *cluster: (task.write() for task in tasks))
    FeatureTable.open(prepared(corpus, tmp_path / "out"), "mel")
    return tmp_path / "out"


def answer(out: Path) -> str:
    """What `data check` finds, or else what opening the table says: not a line break in it, and no other error."""
    try:
        said = list(check(out))
        FeatureTable.open(out, "mel").check_shards()
    except DataError as error:
        said = [str(error)]
    assert not [sentence for sentence in said if "\n" in sentence]
    return said[0] if said else ""


@pytest.mark.parametrize("name", ["mel/part-00001.parquet", "mel/frames-*.npy", "mel/rows-*.arrow"])
def test_a_flipped_bit_in_what_training_reads_is_found(out: Path, name: str) -> None:
    rng = np.random.default_rng(0)
    (path,) = out.glob(name)
    said, expected = Counter[str](), rows_of(out)
    for bit in rng.integers(0, 8 * path.stat().st_size, FLIPS):
        whole = flipped(path, int(bit))
        if found := answer(out):
            said[found] += 1
        else:
            assert rows_of(out) == expected, "between two columns, where nothing is read"
        path.write_bytes(whole)
    assert said.total() == FLIPS or (name.startswith("mel/rows") and said.total() > FLIPS / 2)


def rows_of(out: Path) -> list[dict[str, object]]:
    rows = FeatureTable.open(out, "mel").utterances
    return rows.astype(object).where(rows.notna(), None).to_dict("records")


@pytest.mark.parametrize("name", ["manifest.parquet", "rejected.parquet", "corpus.json", "mel/card.json"])
def test_a_flipped_bit_in_a_description_never_ends_in_another_error_than_a_sentence(out: Path, name: str) -> None:
    rng, path = np.random.default_rng(1), out / name
    found = 0
    for bit in rng.integers(0, 8 * path.stat().st_size, FLIPS):
        whole = flipped(path, int(bit))
        found += bool(answer(out))
        path.write_bytes(whole)
    assert found > FLIPS / 10, "the others are in words of which there is but one copy"


@pytest.mark.parametrize(
    "name", ["manifest.parquet", "rejected.parquet", "mel/card.json", "mel/part-00001.json", "spectrogram/*0.json"]
)
def test_prep_mends_what_it_described_itself(corpus: Path, out: Path, name: str) -> None:
    """Or it, or who opens the table, says what to delete, after which prep mends it."""
    rng = np.random.default_rng(2)
    (path,) = out.glob(name)
    features, ends = ("spectrogram" if "spectrogram" in name else "mel"), Counter[str]()
    whole = files(out)
    shards = {name: content for name, content in whole.items() if re.fullmatch(r"\w+/part-\d+\.parquet", name)}
    for bit in rng.integers(0, 8 * path.stat().st_size, FLIPS // 2):
        flipped(path, int(bit))
        said = ""
        try:
            prepared(corpus, out)
            FeatureTable.open(out, features)
        except DataError as error:
            said = str(error)
        if said:
            assert "delete it" in said, said
            Path(said.partition(": ")[0]).unlink()
            prepared(corpus, out)
        ends["deleted" if said else "mended"] += 1
        assert list(check(out)) == []
        assert {n: c for n, c in files(out).items() if n in shards} == shards
        shutil.rmtree(out)
        for file, content in whole.items():
            (out / file).parent.mkdir(parents=True, exist_ok=True)
            (out / file).write_bytes(content)
    assert ends["mended"] > ends["deleted"]


# --- a checkpoint -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.safetensors", "model-dev_ccc_valence.safetensors", "state.safetensors"])
def test_a_damaged_checkpoint_is_neither_exported_nor_evaluated(tmp_path: Path, command: Command, name: str) -> None:
    data = write_table(tmp_path / "data", make_table(vectors=True, attributes=True))
    table = FeatureTable.open(data, "spectrogram")
    study = make_ladder_study(tmp_path / "studies", table, Protocol("loso", test_speaker="s0"), epochs=2).study.folder
    for trial in (0, 1, 2):
        path = study / "ray" / f"trial{trial}" / name
        if trial == 0:
            path.write_bytes(path.read_bytes()[:-1])
        elif trial == 1:
            flipped(path, 8 * path.stat().st_size - 30)
        else:
            path.unlink()
        why = "missing" if trial == 2 else "cut off or altered since it was written (another hash than in SHA256SUMS)"
        expected = (2, f"Error: {path}: {why}; restore the folder from a copy\n")
        assert command("export", study, "--trial", trial, "--out", tmp_path / "model") == expected
        assert command("evaluate", study, "--trial", trial) == expected
    assert not (tmp_path / "model").exists()
    assert not (study / "evaluation").exists()
