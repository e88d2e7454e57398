"""`prep`: the same bytes each time, nothing done twice, nothing lost, and what cannot be used is listed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

from data_prep.pipeline import Prepared, prepare
from data_prep.shards import Shard
from sersearch.audio import extractor, load_audio
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]
COUNT = 8


@pytest.fixture(scope="module", autouse=True)
def one_ray() -> Iterator[None]:
    import ray

    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eight short utterances in a CSV manifest, two of them without a label."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,speaker,gender,emotion"]
    for number in range(COUNT):
        soundfile.write(folder / f"u{number}.wav", rng.normal(size=4000 + 500 * number) / 10, 16_000)
        lines.append(f"u{number}.wav,s{number % 2},female,{'' if number > 5 else 'joy'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def run(corpus: Path, out: Path, **options: float) -> Prepared:
    return prepare("csv", corpus, "spectrogram", out, shard_size=3, **options)  # type: ignore[arg-type]


def content(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "spectrogram").glob("part-*.parquet"))}


def test_two_runs_give_the_same_bytes_and_a_third_does_nothing(corpus: Path, tmp_path: Path) -> None:
    first, second = run(corpus, tmp_path / "a"), run(corpus, tmp_path / "b")
    assert (first.utterances, first.shards, first.written, first.rejected) == (COUNT, 3, 3, 0)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first.hash == second.hash
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "a").rglob("*") if p.name != ".prep.lock"}
    again = run(corpus, tmp_path / "a")
    assert again.written == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_the_table_holds_what_the_extractor_makes_of_each_file(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    assert table.utterances["id"].tolist() == [f"u{n}" for n in range(COUNT)]
    for row, name in enumerate(table.utterances["path"]):
        np.testing.assert_array_equal(table[row], extractor("spectrogram")(load_audio(corpus / name)))
    assert table.utterances["emotion"].isna().tolist() == [n > 5 for n in range(COUNT)]


@pytest.mark.parametrize("damage", ["delete", "truncate", "delete the record"])
def test_a_damaged_shard_alone_is_written_again(corpus: Path, tmp_path: Path, damage: str) -> None:
    run(corpus, tmp_path / "out")
    whole = content(tmp_path / "out")
    part = tmp_path / "out" / "spectrogram" / "part-00001.parquet"
    if damage == "delete":
        part.unlink()
    elif damage == "truncate":
        part.write_bytes(part.read_bytes()[:-100])
    else:
        part.with_suffix(".json").unlink()
    assert run(corpus, tmp_path / "out").written == 1
    assert content(tmp_path / "out") == whole


def test_a_killed_run_goes_on(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(corpus, tmp_path / "whole")
    from data_prep import pipeline

    def die_after_one(shards: list[Shard], workers: int | None) -> Iterator[int]:
        shards[0].write()
        yield len(shards[0].rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_shards", die_after_one)
        with pytest.raises(KeyboardInterrupt):
            run(corpus, tmp_path / "out")
    with pytest.raises(DataError, match=r"unfinished; run .* again, it goes on where it was"):
        FeatureTable.open(tmp_path / "out", "spectrogram")
    assert run(corpus, tmp_path / "out").written == 2
    assert content(tmp_path / "out") == content(tmp_path / "whole")


def test_a_changed_file_changes_its_shard_alone(corpus: Path, tmp_path: Path) -> None:
    old = run(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    soundfile.write(corpus / "u4.wav", np.random.default_rng(1).normal(size=4321) / 10, 16_000)
    new = run(corpus, tmp_path / "out")
    assert new.written == 1
    assert new.hash != old.hash
    assert [name for name, data in content(tmp_path / "out").items() if data != before[name]] == ["part-00001.parquet"]
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    np.testing.assert_array_equal(table[4], extractor("spectrogram")(load_audio(corpus / "u4.wav")))


def test_what_cannot_be_used_is_listed_and_the_rest_is_there(corpus: Path, tmp_path: Path) -> None:
    (corpus / "u1.wav").write_bytes(b"no audio at all")
    (corpus / "u3.wav").unlink()
    soundfile.write(corpus / "u5.wav", np.full(4000, np.nan), 16_000, subtype="FLOAT")
    made = run(corpus, tmp_path / "out", max_rejected=0.5)
    assert (made.utterances, made.rejected) == (COUNT - 3, 3)
    listed = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    reasons = {row["path"]: row["reason"] for row in listed}
    assert "cannot be decoded" in reasons["u1.wav"]
    assert "no such file" in reasons["u3.wav"]
    assert "NaN" in reasons["u5.wav"]
    assert FeatureTable.open(tmp_path / "out", "spectrogram").utterances["id"].tolist() == [
        "u0",
        "u2",
        "u4",
        "u6",
        "u7",
    ]


def test_too_many_rejected_is_an_error_with_the_list_and_no_card(corpus: Path, tmp_path: Path) -> None:
    for number in (1, 2, 3):
        soundfile.write(corpus / f"u{number}.wav", np.zeros(4000), 16_000)
    with pytest.raises(DataError) as error:
        run(corpus, tmp_path / "out")
    text = str(error.value)
    assert "3 of 8 utterances cannot be used, more than --max-rejected 0.05 allows" in text
    assert "u2: silent" in text
    assert not (tmp_path / "out" / "spectrogram" / "card.json").exists()
    assert len(pq.read_table(tmp_path / "out" / "rejected.parquet")) == 3


def test_requests_that_cannot_be(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="did you mean spectrogram"):
        prepare("csv", corpus, "spectogram", tmp_path / "out")
    with pytest.raises(ConfigError, match="a fraction, 0 to 1"):
        run(corpus, tmp_path / "out", max_rejected=5)
    with pytest.raises(ConfigError, match="lies in a folder of yours"):
        prepare("nemo", None, "spectrogram", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    run(corpus, tmp_path / "out")
    with pytest.raises(DataError, match="holds the corpus csv, not nemo"):
        prepare("nemo", corpus, "spectrogram", tmp_path / "out")


# --- the table that training opens ------------------------------------------------------------------------------------


def test_a_folder_that_is_no_prepared_corpus_says_what_makes_one(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such folder; `sersearch prep"):
        FeatureTable.open(tmp_path / "absent", "spectrogram")
    with pytest.raises(DataError, match=r"not a prepared corpus .*`sersearch prep"):
        FeatureTable.open(corpus, "spectrogram")
    run(corpus, tmp_path / "out")
    with pytest.raises(DataError, match=r"no features called 'functionals', expected one of spectrogram; .*--features"):
        FeatureTable.open(tmp_path / "out", "functionals")


def test_the_frames_are_one_map_that_cannot_be_written_and_follows_the_card(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    (path,) = (tmp_path / "out" / "spectrogram").glob("frames-*.npy")
    assert isinstance(table.frames.base, np.memmap) or isinstance(table.frames, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        table[0][:] = 0
    made = path.stat().st_mtime_ns
    FeatureTable.open(tmp_path / "out", "spectrogram")
    assert path.stat().st_mtime_ns == made, "opened again, not written again"
    soundfile.write(corpus / "u0.wav", np.random.default_rng(2).normal(size=4000) / 10, 16_000)
    run(corpus, tmp_path / "out")
    FeatureTable.open(tmp_path / "out", "spectrogram")
    assert [p.name for p in (tmp_path / "out" / "spectrogram").glob("frames-*.npy")] != [path.name]


def test_a_shard_that_is_not_the_card_s_is_refused(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    card = json.loads((tmp_path / "out" / "spectrogram" / "card.json").read_text())
    soundfile.write(corpus / "u0.wav", np.random.default_rng(3).normal(size=4000) / 10, 16_000)
    run(corpus, tmp_path / "other")
    name = card["shards"][0]["file"]
    shutil.copy(tmp_path / "other" / "spectrogram" / name, tmp_path / "out" / "spectrogram" / name)
    with pytest.raises(DataError, match=rf"{name}: damaged"):
        FeatureTable.open(tmp_path / "out", "spectrogram")
