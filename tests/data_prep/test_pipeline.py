"""`prep`: the same bytes each time, nothing done twice, nothing lost, and what cannot be used is listed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from filelock import FileLock

from data_prep.check import check
from data_prep.corpora import demo
from data_prep.noise import NoiseCopies
from data_prep.pipeline import Prepared, Step, prepare
from data_prep.shards import Task
from sersearch.audio import extractor, load_audio, mix
from sersearch.data.place import place
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError

pytestmark = [
    pytest.mark.usefixtures("ray_running"),
]
COUNT = 8


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


def run(corpus: Path, out: Path, **options: object) -> Prepared:
    return prepare("csv", corpus, "spectrogram", out, shard_size=3, **options)  # type: ignore[arg-type]


def content(out: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in sorted((out / "spectrogram").glob("part-*.parquet"))}


def test_two_runs_give_the_same_bytes_and_a_third_does_nothing(corpus: Path, tmp_path: Path) -> None:
    first, second = run(corpus, tmp_path / "a"), run(corpus, tmp_path / "b")
    assert (first.utterances, first.shards, first.written, first.rejected) == (COUNT, 3, 3, 0)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    assert first.hashes == second.hashes
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

    def die_after_one(tasks: list[Task], *cluster: object) -> Iterator[tuple[int, int, float]]:
        yield tasks[0].write()
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_tasks", die_after_one)
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
    assert new.hashes != old.hashes
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


def test_the_order_of_the_manifest_does_not_matter(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "a")
    header, *lines = (corpus / "manifest.csv").read_text().splitlines()
    (corpus / "manifest.csv").write_text("\n".join([header, *reversed(lines)]))
    assert run(corpus, tmp_path / "a").written == 0
    assert pq.read_table(tmp_path / "a" / "manifest.parquet")["id"].to_pylist() == [f"u{n}" for n in range(COUNT)]


def test_a_changed_label_changes_its_shard_and_a_removed_line_its_table(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    manifest = corpus / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("u4.wav,s0,female,joy", "u4.wav,s0,female,anger"))
    assert run(corpus, tmp_path / "out").written == 1
    assert FeatureTable.open(tmp_path / "out", "spectrogram").utterances["emotion"][4] == "anger"
    manifest.write_text("\n".join(manifest.read_text().splitlines()[:-2]))
    made = run(corpus, tmp_path / "out")
    assert (made.utterances, made.shards, made.written) == (COUNT - 2, 2, 0)
    assert sorted(content(tmp_path / "out")) == ["part-00000.parquet", "part-00001.parquet"], "none is left behind"
    assert len(FeatureTable.open(tmp_path / "out", "spectrogram")) == COUNT - 2


def test_progress_counts_utterances_from_what_is_there(corpus: Path, tmp_path: Path) -> None:
    (corpus / "u1.wav").write_bytes(b"no audio at all")
    seen: list[Step] = []
    run(corpus, tmp_path, max_rejected=0.2, progress=seen.append)
    assert [(step.done, step.total) for step in (seen[0], seen[-1])] == [(0, COUNT), (COUNT, COUNT)]
    assert [step.done for step in seen] == sorted(step.done for step in seen)
    assert (len(seen), seen[-1].rejected) == (4, 1)
    lengths = [soundfile.info(corpus / f"u{n}.wav").duration for n in range(COUNT) if n != 1]
    assert seen[-1].seconds == pytest.approx(sum(lengths))
    (tmp_path / "spectrogram" / "part-00002.parquet").unlink()
    seen.clear()
    run(corpus, tmp_path, max_rejected=0.2, progress=seen.append)
    assert [(step.done, step.total) for step in seen] == [(6, COUNT), (COUNT, COUNT)]


@pytest.mark.parametrize(
    "name", ["manifest.parquet", "rejected.parquet", "spectrogram/card.json", "spectrogram/part-00001.json"]
)
def test_descriptions_that_are_damaged_are_written_again(corpus: Path, tmp_path: Path, name: str) -> None:
    made = run(corpus, tmp_path / "out")
    whole = (tmp_path / "out" / name).read_bytes()
    for damaged in (whole[:7], b""):
        (tmp_path / "out" / name).write_bytes(damaged)
        assert run(corpus, tmp_path / "out").hashes == made.hashes
        assert (tmp_path / "out" / name).read_bytes() == whole


def test_a_card_of_an_earlier_version_is_written_anew_and_no_shard_is(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    path = tmp_path / "out" / "spectrogram" / "card.json"
    whole = path.read_text()
    card = json.loads(whole)
    for shard in card["shards"]:
        del shard["bytes"]
    path.write_text(json.dumps(card))
    with pytest.raises(DataError, match=r"shards\.0\.bytes: Field required.*run `sersearch prep` again"):
        FeatureTable.open(tmp_path / "out", "spectrogram")
    assert run(corpus, tmp_path / "out").written == 0
    assert path.read_text() == whole


def test_a_shard_of_which_nothing_is_left(corpus: Path, tmp_path: Path) -> None:
    for number in (3, 4, 5):
        (corpus / f"u{number}.wav").write_bytes(b"no audio at all")
    made = run(corpus, tmp_path / "out", max_rejected=0.5)
    assert (made.utterances, made.shards) == (COUNT - 3, 3)
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    np.testing.assert_array_equal(table[3], extractor("spectrogram")(load_audio(corpus / "u6.wav")))


def test_it_stops_once_too_many_are_rejected(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(4):
        (corpus / f"u{number}.wav").write_bytes(b"no audio at all")
    decoded = counted(monkeypatch)
    monkeypatch.setattr("data_prep.pipeline.ENOUGH", 2)
    with pytest.raises(DataError, match=r"3 of 8 utterances cannot be used, more than --max-rejected 0\.25 allows"):
        run(corpus, tmp_path / "out", max_rejected=0.25)
    assert len(decoded) == 3, "the first shard said enough"


def test_labels_well_outside_the_scale_are_rejected(tmp_path: Path) -> None:
    audio, labels = (tmp_path / "iemocap/Session1" / folder for folder in ("sentences/wav", "dialog/EmoEvaluation"))
    labels.mkdir(parents=True)
    (audio / "Ses01F_impro01").mkdir(parents=True)
    lines = []
    for number, valence in enumerate((5.5, 9.0, 1.0)):
        turn = f"Ses01F_impro01_F{number:03}"
        soundfile.write(
            audio / "Ses01F_impro01" / f"{turn}.wav", np.random.default_rng(0).normal(size=4000) / 10, 16_000
        )
        lines.append(f"[1.0 - 2.0]\t{turn}\tang\t[{valence}, 4.0, 3.0]\n")
    (labels / "Ses01F_impro01.txt").write_text("".join(lines))
    prepare("iemocap", tmp_path / "iemocap", "spectrogram", tmp_path / "out", max_rejected=0.5)
    assert FeatureTable.open(tmp_path / "out", "spectrogram").utterances["valence"].tolist() == [5.5, 1.0]
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert row["reason"] == "valence 9 is outside the corpus's scale of 1 to 5"


def test_nothing_usable_is_an_error_whatever_may_be_rejected(corpus: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        (corpus / f"u{number}.wav").write_bytes(b"no audio at all")
    with pytest.raises(DataError, match="8 of 8 utterances cannot be used, so nothing is left"):
        run(corpus, tmp_path / "out", max_rejected=1.0)
    for number in range(COUNT):
        (corpus / f"u{number}.wav").unlink()
    with pytest.raises(DataError, match="8 of 8 utterances cannot be used, so nothing is left"):
        run(corpus, tmp_path / "other", max_rejected=1.0)
    assert not (tmp_path / "other" / "corpus.json").exists()


def test_a_limit_that_is_raised_afterwards_repeats_nothing(corpus: Path, tmp_path: Path) -> None:
    (corpus / "u1.wav").write_bytes(b"no audio at all")
    with pytest.raises(DataError, match=r"1 of 8 utterances cannot be used.*\n  u1: cannot be decoded"):
        run(corpus, tmp_path / "out", max_rejected=0.1)
    with pytest.raises(DataError, match="unfinished"):
        FeatureTable.open(tmp_path / "out", "spectrogram")
    made = run(corpus, tmp_path / "out", max_rejected=0.125)
    assert (made.written, made.rejected, made.utterances) == (0, 1, COUNT - 1)


def test_labels_without_files_count_and_files_without_labels_too(tmp_path: Path) -> None:
    turns = [f"Ses01F_impro01_F{number:03}" for number in range(4)]
    audio, labels = (tmp_path / "iemocap/Session1" / folder for folder in ("sentences/wav", "dialog/EmoEvaluation"))
    labels.mkdir(parents=True)
    (audio / "Ses01F_impro01").mkdir(parents=True)
    for turn in turns[:3]:
        path = audio / "Ses01F_impro01" / f"{turn}.wav"
        soundfile.write(path, np.random.default_rng(0).normal(size=4000) / 10, 16_000)
    lines = [f"[1.0 - 2.0]\t{turn}\tang\t[2.0, 4.0, 3.0]\n" for turn in turns[1:]]
    (labels / "Ses01F_impro01.txt").write_text("".join(lines))
    with pytest.raises(DataError) as error:
        prepare("iemocap", tmp_path / "iemocap", "spectrogram", tmp_path / "out", max_rejected=0.3)
    assert "2 of 4 utterances cannot be used" in str(error.value)
    assert f"{turns[3]}: no such file, though EmoEvaluation labels it" in str(error.value)
    assert f"{turns[0]}: no label in EmoEvaluation" in str(error.value)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {".prep.lock", "rejected.parquet"}
    prepare("iemocap", tmp_path / "iemocap", "spectrogram", tmp_path / "out", max_rejected=0.5)
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    assert table.corpus["attribute_scale"] == [1.0, 5.0]
    assert table.utterances[["valence", "activation"]].to_numpy().tolist() == [[2.0, 4.0]] * 2


def test_a_file_whose_name_is_in_another_encoding_is_listed(tmp_path: Path) -> None:
    folder = tmp_path / "LibriSpeech" / "test-other" / "14" / "208"
    folder.mkdir(parents=True)
    (tmp_path / "LibriSpeech" / "SPEAKERS.TXT").write_text("14 | F | test-other | 25.03 | Ann\n")
    for name in (b"14-208-0000.flac", b"\xb1.flac"):
        path = os.fsdecode(os.fsencode(folder) + b"/" + name)
        soundfile.write(str(folder / "new.flac"), np.random.default_rng(0).normal(size=4000) / 10, 16_000)
        (folder / "new.flac").rename(path)
    prepare("librispeech", tmp_path / "LibriSpeech", "spectrogram", tmp_path / "out", max_rejected=0.5)
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (row["path"], row["reason"]) == (
        "test-other/14/208/\\xb1.flac",
        "its name is not in UTF-8; rename the file",
    )


def test_what_the_system_refuses_to_read_is_named(corpus: Path, tmp_path: Path) -> None:
    (corpus / "manifest.csv").write_text(f"path,speaker\n{'x' * 300}.wav,s0\n")
    with pytest.raises(
        DataError, match=r"preparation stopped: .*File name too long: .*xxx\.wav.*; once that is mended"
    ):
        run(corpus, tmp_path / "out")
    with pytest.raises(DataError, match=r"preparation stopped: .*File name too long"):
        prepare("nemo", Path("x" * 300), "spectrogram", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_parts_of_one_long_file_in_another_format_are_utterances_of_their_own(tmp_path: Path) -> None:
    stereo = np.random.default_rng(0).normal(size=(2 * 48_000, 2)) / 10
    soundfile.write(tmp_path / "talk.flac", stereo, 48_000, subtype="PCM_16")
    soundfile.write(tmp_path / "copy.flac", stereo, 48_000, subtype="PCM_16")
    text = (
        "path,speaker,start,end\ntalk.flac,a,0,0.5\ntalk.flac,b,0.5,1.25\ncopy.flac,b,0.5,1.25\ntalk.flac,a,1.9,2.5\n"
    )
    (tmp_path / "manifest.csv").write_text(text)
    prepare("csv", tmp_path, "spectrogram", tmp_path / "out", max_rejected=0.25)
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    rows = table.utterances.set_index("id")
    assert rows["duration"].to_dict() == {"copy_0.5-1.25": 0.75, "talk_0-0.5": 0.5, "talk_0.5-1.25": 0.75}
    assert rows["frames"].tolist() == [1 + (round(16_000 * s) - 400) // 160 for s in rows["duration"]]
    assert rows["frames"].tolist() == [len(table[row]) for row in range(3)]
    same = rows["audio_sha256"]["copy_0.5-1.25"]
    assert rows.index[rows["audio_sha256"] == same].tolist() == ["copy_0.5-1.25", "talk_0.5-1.25"], "a leak is seen"
    (rejected,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (rejected["id"], rejected["path"]) == ("talk_1.9-2.5", "talk.flac")
    assert rejected["reason"] == "the span 1.9-2.5 s does not lie in the file, which lasts 2.00 s"


def test_a_file_that_is_new_but_the_same_gives_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    old = run(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    os.utime(corpus / "u4.wav", (1, 1))
    new = run(corpus, tmp_path / "out")
    assert (new.written, new.hashes, content(tmp_path / "out")) == (1, old.hashes, before)


def test_the_demo_corpus_is_made_where_it_is_prepared_and_says_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SENTENCES", 1)
    monkeypatch.setattr(demo, "POOL", 1)
    made = prepare("demo", None, "spectrogram", tmp_path / "demo")
    assert (made.utterances, made.rejected, made.synthetic) == (8 * 4 + 4, 0, True)
    table = FeatureTable.open(tmp_path / "demo", "spectrogram")
    assert (table.corpus["corpus"], table.corpus["synthetic"], table.corpus["attribute_scale"]) == (
        "demo",
        True,
        [1, 5],
    )
    assert prepare("demo", None, "spectrogram", tmp_path / "demo").written == 0


def test_the_demo_corpus_for_an_object_store_is_made_in_a_folder_that_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo, "SENTENCES", 1)
    monkeypatch.setattr(demo, "POOL", 1)
    counted(monkeypatch)  # the store is this process's memory: tasks have to run here
    store, voices = place(f"memory://bucket/{tmp_path.name}"), tmp_path / "voices"
    with pytest.raises(ConfigError, match=f"`sersearch prep demo FOLDER --out {store}`"):
        prepare("demo", None, "spectrogram", store)
    made = prepare("demo", voices, "spectrogram", store)
    assert (made.utterances, made.rejected, made.synthetic) == (8 * 4 + 4, 0, True)
    assert [path.name for path in tmp_path.iterdir()] == ["voices"]
    assert prepare("demo", voices, "spectrogram", store).written == 0


def test_a_folder_that_holds_something_else_is_no_place_for_the_demo_corpus(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine", "utf-8")
    with pytest.raises(DataError, match=r"manifest\.csv: no such file"):
        prepare("demo", tmp_path / "mine", "spectrogram", tmp_path / "out")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["notes.txt"]


def test_one_at_a_time(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    with (
        FileLock(tmp_path / "out" / ".prep.lock"),
        pytest.raises(DataError, match=r"out: another `sersearch prep` is writing there; wait for it, or choose"),
    ):
        run(corpus, tmp_path / "out")


def test_a_disk_that_refuses_says_what_and_the_same_command_goes_on(corpus: Path, tmp_path: Path) -> None:
    in_the_way = tmp_path / "out" / "spectrogram" / "part-00001.parquet"
    in_the_way.mkdir(parents=True)
    with pytest.raises(DataError, match=r"preparation stopped: .*part-00001\.parquet.*; once that is mended, the same"):
        run(corpus, tmp_path / "out")
    assert not (tmp_path / "out" / "spectrogram" / "card.json").exists()
    in_the_way.rmdir()
    run(corpus, tmp_path / "out")
    run(corpus, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "spectrogram").touch()
    with pytest.raises(DataError, match=r"preparation stopped: .*Not a directory"):
        run(corpus, tmp_path / "blocked")
    with pytest.raises(DataError, match="a file; --out is the folder of a prepared corpus"):
        run(corpus, tmp_path / "blocked" / "spectrogram")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_rejected": -0.1}, "max_rejected is -0.1; it is a fraction"),
        ({"workers": 0}, "workers is 0; at least one process must extract"),
        ({"shard_size": 0}, "shard_size is 0; a shard holds at least one utterance"),
    ],
)
def test_options_that_cannot_be(corpus: Path, tmp_path: Path, options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        prepare("csv", corpus, "spectrogram", tmp_path / "out", **options)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_what_is_no_corpus_leaves_nothing_behind(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no corpus called 'librispech': did you mean librispeech\?"):
        prepare("librispech", corpus, "spectrogram", tmp_path / "out")
    with pytest.raises(DataError, match="no audio found; nEMO has"):
        prepare("nemo", corpus, "spectrogram", tmp_path / "out")
    (corpus / "manifest.csv").write_text("path,speaker\nu1.wav,\n")
    with pytest.raises(DataError, match="line 2: no speaker"):
        run(corpus, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_json_that_is_damaged_is_not_guessed(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    (tmp_path / "out" / "corpus.json").write_text("{")
    with pytest.raises(DataError, match=r"corpus\.json: cannot be read \(.*delete .*out or choose another --out"):
        run(corpus, tmp_path / "out")


# --- what is there is taken over --------------------------------------------------------------------------------------


def test_what_is_new_is_extracted_and_nothing_else(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpus, tmp_path / "out")
    before = content(tmp_path / "out")
    soundfile.write(corpus / "a0.wav", np.random.default_rng(9).normal(size=5000) / 10, 16_000)
    with (corpus / "manifest.csv").open("a") as file:
        file.write("\na0.wav,s0,female,joy\n")
    decoded = counted(monkeypatch)
    made = run(corpus, tmp_path / "out")
    assert (made.written, made.utterances) == (3, COUNT + 1), "it is the first now, and every shard another"
    assert decoded == ["a0.wav"]
    whole = run(corpus, tmp_path / "whole")
    assert content(tmp_path / "out") == content(tmp_path / "whole") != before
    assert made.hashes == whole.hashes
    assert not list((tmp_path / "out" / "spectrogram").glob(".old-*"))


def test_a_changed_label_costs_no_extraction(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(corpus, tmp_path / "out")
    manifest = corpus / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("joy", "anger"))
    decoded = counted(monkeypatch)
    assert run(corpus, tmp_path / "out").written == 2
    assert decoded == []
    assert set(FeatureTable.open(tmp_path / "out", "spectrogram").utterances["emotion"].dropna()) == {"anger"}


def counted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files that are decoded from now on; tasks run in this process."""
    from data_prep import pipeline, shards

    decoded: list[str] = []

    def load(path: Path, *span: float | None) -> np.ndarray:
        decoded.append(path.name)
        return load_audio(path, *span)

    monkeypatch.setattr(shards, "load_audio", load)
    monkeypatch.setattr(pipeline, "run_tasks", lambda tasks, *cluster: (task.write() for task in tasks))
    return decoded


def test_several_feature_sets_are_made_from_audio_that_is_decoded_once(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded = counted(monkeypatch)
    made = prepare("csv", corpus, ["spectrogram", "mel"], tmp_path / "out", shard_size=3)
    assert sorted(decoded) == [f"u{n}.wav" for n in range(COUNT)]
    assert made.hashes.keys() == {"spectrogram", "mel"}
    one = prepare("csv", corpus, "mel", tmp_path / "alone", shard_size=3)
    assert one.hashes["mel"] == made.hashes["mel"]
    table = FeatureTable.open(tmp_path / "out", "mel")
    assert table.frames.dtype == np.float16
    expected = extractor("mel")(load_audio(corpus / "u2.wav"))
    np.testing.assert_array_equal(table[2], expected.astype(np.float16))


def test_a_feature_set_that_is_added_leaves_the_others_alone(corpus: Path, tmp_path: Path) -> None:
    (corpus / "u1.wav").write_bytes(b"no audio at all")
    run(corpus, tmp_path / "out", max_rejected=0.2)
    before = content(tmp_path / "out")
    prepare("csv", corpus, "functionals", tmp_path / "out", shard_size=3, max_rejected=0.2)
    assert content(tmp_path / "out") == before
    table = FeatureTable.open(tmp_path / "out", "functionals")
    assert table.frames.shape == (COUNT - 1, 6373)
    assert table.card["frame_rate"] is None
    (part,) = {p.name: p for p in (tmp_path / "out" / "functionals").glob("part-00000.parquet")}.values()
    assert pq.read_schema(part).field("features").type.list_size == 6373
    listed = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert [(row["path"], row["features"]) for row in listed] == [("u1.wav", "functionals"), ("u1.wav", "spectrogram")]


@pytest.mark.parametrize("damage", ["a bit", "zeros"])
def test_rows_of_a_damaged_part_are_not_taken_over(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    run(corpus, tmp_path / "out")
    path = tmp_path / "out" / "spectrogram" / "part-00000.parquet"
    content_of = bytearray(path.read_bytes())
    content_of[len(content_of) // 3] ^= 1
    path.write_bytes(content_of if damage == "a bit" else bytes(len(content_of)))
    relabel(corpus)
    decoded = counted(monkeypatch)
    made = run(corpus, tmp_path / "out")
    assert decoded == ["u0.wav", "u1.wav", "u2.wav"]
    assert made.hashes == run(corpus, tmp_path / "whole").hashes


@pytest.mark.parametrize("change", ["changes", "is gone"])
def test_files_that_change_meanwhile_stop_it_and_nothing_vouches_for_them(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    from data_prep import pipeline

    run(corpus, tmp_path / "out")
    relabel(corpus)

    def late(tasks: list[Task], *cluster: object) -> Iterator[tuple[int, int, float]]:
        if change == "changes":
            soundfile.write(corpus / "u4.wav", np.random.default_rng(7).normal(size=6000) / 10, 16_000)
        else:
            (corpus / "u4.wav").unlink()
        return (task.write() for task in tasks)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_tasks", late)
        with pytest.raises(DataError, match=r"aren't those of the machine .*; once that is mended, the same command"):
            run(corpus, tmp_path / "out", max_rejected=0.2)
    again = run(corpus, tmp_path / "out", max_rejected=0.2)
    assert again.hashes == run(corpus, tmp_path / "whole", max_rejected=0.2).hashes


@pytest.mark.parametrize("unseen", ["corpus", "noise", "faces"])
def test_a_node_that_sees_other_files_writes_no_shard(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unseen: str
) -> None:
    from data_prep import pipeline

    (tmp_path / "noise").mkdir()
    soundfile.write(tmp_path / "noise" / "n.wav", np.random.default_rng(5).normal(size=48_000) / 10, 16_000)
    (tmp_path / "faces").mkdir()
    for number in range(COUNT):
        np.save(tmp_path / "faces" / f"u{number}.npy", np.full((3, 5), number))

    def prepared() -> Prepared:
        features = ["spectrogram", "visual"]
        given = {"noise": NoiseCopies(tmp_path / "noise", (10,)), "visual": tmp_path / "faces", "max_rejected": 1.0}
        return prepare("csv", corpus, features, tmp_path / "out", shard_size=3, **given)  # type: ignore[arg-type]

    def elsewhere(tasks: list[Task], *cluster: object) -> Iterator[tuple[int, int, float]]:
        mount = tmp_path / unseen
        mount.rename(tmp_path / "elsewhere")
        try:
            yield from [task.write() for task in tasks]
        finally:
            (tmp_path / "elsewhere").rename(mount)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "run_tasks", elsewhere)
        with pytest.raises(DataError, match="give all nodes the same folder"):
            prepared()
    assert not list((tmp_path / "out").glob("*/part-*"))
    assert (prepared().utterances, prepared().rejected) == (2 * COUNT, 0)


def test_feature_sets_of_an_earlier_state_are_not_taken_for_new(corpus: Path, tmp_path: Path) -> None:
    prepare("csv", corpus, ["spectrogram", "mel"], tmp_path / "out", shard_size=3)
    relabel(corpus)
    made = run(corpus, tmp_path / "out")
    assert made.notes == ("the mel features are of an earlier state of the corpus: add --features mel",)
    with pytest.raises(DataError, match=r"its mel features are unfinished; run .*--features mel"):
        FeatureTable.open(tmp_path / "out", "mel")
    assert prepare("csv", corpus, "mel", tmp_path / "out", shard_size=3).notes == ()
    assert list(check(tmp_path / "out")) == []


def test_a_folder_is_of_one_corpus(corpus: Path, tmp_path: Path) -> None:
    run(corpus, tmp_path / "out")
    (corpus / "manifest.csv").rename(corpus / "other.csv")
    with pytest.raises(DataError, match="holds the corpus corpus, not other; choose another --out"):
        prepare("csv", corpus / "other.csv", "mel", tmp_path / "out")


def test_what_one_set_could_not_use_stays_listed_when_another_fails(corpus: Path, tmp_path: Path) -> None:
    (corpus / "u1.wav").write_bytes(b"no audio at all")
    run(corpus, tmp_path / "out", max_rejected=0.2)
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces" / "u0.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"7 of 8|8 of 8"):
        prepare("csv", corpus, "visual", tmp_path / "out", visual=tmp_path / "faces", shard_size=3)
    listed = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert ("u1", "spectrogram") in {(row["id"], row["features"]) for row in listed}


def relabel(corpus: Path) -> None:
    """Another label for all: every part is another, and no feature is."""
    manifest = corpus / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("female", "male"))


# --- visual features --------------------------------------------------------------------------------------------------


def test_visual_features_stand_beside_the_audio_s(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpus, tmp_path / "out")
    before = FeatureTable.open(tmp_path / "out", "spectrogram").frames.copy()
    (tmp_path / "faces" / "deep").mkdir(parents=True)
    for number in range(1, COUNT):
        np.save(tmp_path / "faces" / "deep" / f"u{number}.npy", np.full((3, 5), number))
    with pytest.raises(ConfigError, match="--features visual needs --visual"):
        prepare("csv", corpus, "visual", tmp_path / "out")
    decoded = counted(monkeypatch)
    made = prepare(
        "csv",
        corpus,
        ["spectrogram", "visual"],
        tmp_path / "out",
        visual=tmp_path / "faces",
        shard_size=3,
        max_rejected=0.2,
    )
    assert len(decoded) == COUNT, "for the durations; spectrograms are taken over"
    assert (made.utterances, made.rejected) == (COUNT, 1)
    table = FeatureTable.open(tmp_path / "out", "visual")
    assert (table.dims, len(table), table[0].tolist()) == (5, COUNT - 1, [[1] * 5] * 3)
    np.testing.assert_array_equal(FeatureTable.open(tmp_path / "out", "spectrogram").frames, before)
    (row,) = pq.read_table(tmp_path / "out" / "rejected.parquet").to_pylist()
    assert (row["id"], row["features"]) == ("u0", "visual")
    assert row["reason"] == "no file of visual features is called as it is"
    np.save(tmp_path / "faces" / "u1.npy", np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"u1\.npy and .*u1\.npy may both be of u1\.wav"):
        prepare("csv", corpus, "visual", tmp_path / "out", visual=tmp_path / "faces")


# --- object stores ----------------------------------------------------------------------------------------------------


def test_an_object_store_holds_the_same_bytes_as_a_disk(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    counted(monkeypatch)  # the store is this process's memory: tasks have to run here
    store = place(f"memory://bucket/{tmp_path.name}")
    made, whole = run(corpus, store), run(corpus, tmp_path / "disk")
    assert content(store) == content(tmp_path / "disk")
    assert made.hashes == whole.hashes
    assert run(corpus, store).written == 0
    assert not [path for path in store.glob("**/*") if "tmp" in path.name or path.name == ".prep.lock"]
    table = FeatureTable.open(str(store), "spectrogram")
    np.testing.assert_array_equal(table.frames, FeatureTable.open(tmp_path / "disk", "spectrogram").frames)
    near = sorted(path.name.partition("-")[0] for path in (tmp_path / "cache" / "sersearch").glob("*/[fr]*"))
    assert near == ["frames", "rows"], "what training maps lies on a disk"
    (corpus / "u1.wav").write_bytes((corpus / "u2.wav").read_bytes())
    assert run(corpus, store).written == 1
    assert list(check(store)) == []
    assert not list((store / "spectrogram").glob(".old-*"))


# --- noise ------------------------------------------------------------------------------------------------------------


def test_noisy_copies_are_what_the_extractor_makes_of_the_mixture(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "noise").mkdir()
    noise = np.random.default_rng(5).normal(size=48_000) / 10
    soundfile.write(tmp_path / "noise" / "n.wav", noise, 16_000)
    copies = NoiseCopies(tmp_path / "noise", (10, 0))
    made = run(corpus, tmp_path / "out", noise=copies)
    assert made.utterances == 3 * COUNT
    assert "one noise for 2 speakers" in made.notes[0]
    table = FeatureTable.open(tmp_path / "out", "spectrogram")
    rows = table.utterances.set_index("id")
    assert rows["condition"].value_counts().to_dict() == {"clean": COUNT, "snr10": COUNT, "snr0": COUNT}
    at = table.utterances["id"].tolist().index("u3_snr0")
    mixture = mix(
        load_audio(corpus / "u3.wav"), load_audio(tmp_path / "noise" / "n.wav"), 0, rows["noise_start"]["u3_snr0"]
    )
    np.testing.assert_array_equal(table[at], extractor("spectrogram")(mixture))
    assert run(corpus, tmp_path / "out", noise=copies).written == 0
    soundfile.write(tmp_path / "noise" / "n.wav", noise / 2, 16_000)
    assert run(corpus, tmp_path / "out", noise=copies).written == made.shards, "another noise, other copies"


# --- killed -----------------------------------------------------------------------------------------------------------

KILLED = """
import os, signal, sys
from pathlib import Path
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
import ray
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
from data_prep.pipeline import prepare
def die(step):
    if step.done:
        os.kill(os.getpid(), signal.SIGKILL)
prepare("csv", Path(sys.argv[1]), "spectrogram", Path(sys.argv[2]), shard_size=1, progress=die)
"""


def test_a_process_that_is_killed_leaves_whole_shards_and_the_rest_is_made(corpus: Path, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, corpus, tmp_path / "out"], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(DataError, match="unfinished"):
        FeatureTable.open(tmp_path / "out", "spectrogram")
    again = prepare("csv", corpus, "spectrogram", tmp_path / "out", shard_size=1)
    whole = prepare("csv", corpus, "spectrogram", tmp_path / "whole", shard_size=1)
    assert again.written < COUNT == whole.written
    assert again.hashes == whole.hashes
    assert content(tmp_path / "out") == content(tmp_path / "whole")


DYING = """
import os, sys
from pathlib import Path
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
import ray
from data_prep import shards
from data_prep.pipeline import prepare
from sersearch.errors import DataError
out, times = Path(sys.argv[2]), int(sys.argv[3])
write = shards._write
def die(task):
    died = [name for name in os.listdir(out) if name.startswith("died-")]
    if len(died) < times:
        (out / f"died-{len(died)}").touch()
        os._exit(9)
    return write(task)
shards._write = die
ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
try:
    print(prepare("csv", Path(sys.argv[1]), "spectrogram", out, shard_size=COUNT).utterances)
except DataError as error:
    print(error)
""".replace("COUNT", str(COUNT))


@pytest.mark.parametrize(
    ("times", "said"),
    [
        (1, str(COUNT)),
        (99, "preparation stopped: 4 worker processes died over the same utterances (of too little memory?); once"),
    ],
)
def test_a_shard_whose_worker_dies_is_written_by_another(corpus: Path, tmp_path: Path, times: int, said: str) -> None:
    command = [sys.executable, "-c", DYING, str(corpus), str(tmp_path / "out"), str(times)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert any(line.startswith(said) for line in done.stdout.splitlines()), done.stdout + done.stderr
    assert len(list((tmp_path / "out").glob("died-*"))) == min(times, 4)


AGAIN = """
import os, signal, sys
from pathlib import Path
from data_prep.pipeline import prepare
def die(step):
    if step.done >= int(sys.argv[3]):
        os.killpg(0, signal.SIGKILL)
prepare("csv", Path(sys.argv[1]), ["spectrogram", "mel"], Path(sys.argv[2]), shard_size=1, workers=2, progress=die)
"""


@pytest.mark.slow
@pytest.mark.fault
def test_killed_at_ten_moments_it_ends_with_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    lines = (corpus / "manifest.csv").read_text().splitlines()
    count = 60
    for number in range(COUNT, count):
        (corpus / f"u{number}.wav").write_bytes((corpus / f"u{number % COUNT}.wav").read_bytes())
        lines.append(f"u{number}.wav,s{number % 2},female,joy")
    (corpus / "manifest.csv").write_text("\n".join(lines))

    def prepared(out: str, code: int, dies_at: int = count + 1) -> None:
        """Prepare in a session of its own, which dies when so many utterances are done."""
        command = [sys.executable, "-c", AGAIN, str(corpus), str(tmp_path / out), str(dies_at)]
        with (tmp_path / "said").open("w") as said:
            done = subprocess.run(command, start_new_session=True, stdout=said, stderr=said)
        assert done.returncode == code, (tmp_path / "said").read_text()

    prepared("whole", 0)
    for moment in sorted(np.random.default_rng(0).choice(count + 1, 10, replace=False)):
        prepared("out", -signal.SIGKILL, moment)
    prepared("out", 0)
    for features in ("spectrogram", "mel"):
        parts = {p.name: p.read_bytes() for p in (tmp_path / "out" / features).iterdir()}
        assert parts == {p.name: p.read_bytes() for p in (tmp_path / "whole" / features).iterdir()}
    assert list(check(tmp_path / "out")) == []
