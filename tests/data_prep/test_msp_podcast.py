"""MSP-Podcast: both spellings of its files, its splits, unknown speakers, and the unlabelled pool."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.corpora import get_corpus, msp_podcast
from data_prep.reading import Reading
from sersearch.audio import load_audio
from sersearch.data.schema import manifest_table
from sersearch.errors import DataError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set\n"
FIRST = "MSP-PODCAST_0001_0008"


def line(name: str = FIRST, labels: str = "N,2.2,4.0,2.6", rest: str = "30,Male,Train") -> str:
    return f"{name}.wav,{labels},{rest}\n"


def wav(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(size=1600) / 10, 16_000)
    return path


def podcast(root: Path, text: str, *names: str, audio: str = "Audios", labels: str = "labels_consensus.csv") -> Path:
    for name in names or (FIRST,):
        wav(root / audio / f"{name}.wav")
    (root / "Labels").mkdir(parents=True, exist_ok=True)
    (root / "Labels" / labels).write_text(text, "utf-8")
    return root


def read(root: Path) -> Reading:
    return get_corpus("msp_podcast").read(root)


def test_a_segment_of_each_version(tmp_path: Path) -> None:
    new = read(podcast(tmp_path / "new", HEADER + line()))
    old = read(podcast(tmp_path / "old", HEADER + line(), audio="Audio", labels="labels_concensus.csv"))
    for reading, folder in ((new, "Audios"), (old, "Audio")):
        (row,) = reading.utterances
        assert (row.id, row.path, row.speaker, row.gender) == (FIRST, f"{folder}/{FIRST}.wav", "30", "male")
        assert (row.emotion, row.activation, row.valence, row.dominance) == ("neutral", 2.2, 4.0, 2.6)
        assert (row.split, row.sentence, row.start, row.end) == ("train", None, None, None)
        assert (reading.rejected, reading.attribute_scale) == ([], (1.0, 7.0))
        assert (reading.root / row.path).is_file()


def test_every_category_and_every_split(tmp_path: Path) -> None:
    emotions = ["anger", "sadness", "happiness", "surprise", "fear", "disgust", "contempt", "neutral", None, None]
    splits = ["Train", "Development", "Validation", "Test", "Test1", "Test2", "Test3", "Train", "Train", "Train"]
    names = [f"MSP-PODCAST_0002_{number:04}" for number in range(10)]
    text = HEADER + "".join(
        line(name, f"{code},1.5,2.5,6.5", f"7,Female,{split}")
        for name, code, split in zip(names, "ASHUFDCNOX", splits, strict=True)
    )
    rows = read(podcast(tmp_path, text, *names)).utterances
    assert [row.emotion for row in rows] == emotions
    assert [row.split for row in rows] == ["train", "dev", "dev", *["test"] * 4, *["train"] * 3]
    assert {(row.activation, row.valence, row.dominance, row.gender) for row in rows} == {(1.5, 2.5, 6.5, "female")}


def test_unknown_speakers_are_not_one_speaker(tmp_path: Path) -> None:
    names = [f"MSP-PODCAST_0001_000{number}" for number in range(1, 5)]
    speakers = ("Unknown", "Unknown", "", "30")
    text = HEADER + "".join(
        line(name, rest=f"{speaker},Unknown,Train") for name, speaker in zip(names, speakers, strict=True)
    )
    rows = read(podcast(tmp_path, text, *names)).utterances
    assert [row.speaker for row in rows] == [*names[:3], "30"]
    assert {row.gender for row in rows} == {None}


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (line(labels="Q,1,2,3"), "EmoClass 'Q': expected one of A, C, D, "),
        (line(rest="30,Male,Test4"), "Split_Set 'Test4': did you mean Test"),
        (line(labels="N,2.2,nan,2.6"), "EmoVal 'nan' is not a number"),
        (line(labels="N,,4.0,2.6"), "EmoAct '' is not a number"),
        (f"{FIRST}.wav,N,2.2\n", "Split_Set '': expected one of"),
    ],
)
def test_a_line_that_cannot_be_used_is_listed_with_its_number(tmp_path: Path, bad: str, reason: str) -> None:
    other = "MSP-PODCAST_0009_0001"
    reading = read(podcast(tmp_path, HEADER + line(other) + bad, other))
    assert [row.id for row in reading.utterances] == [other]
    (rejected,) = reading.rejected
    assert rejected.path == "labels_consensus.csv:3"
    assert rejected.reason.startswith(reason)


def test_msp_podcast_lists_what_does_not_match(tmp_path: Path) -> None:
    reading = read(podcast(tmp_path, HEADER + line() + line("MSP-PODCAST_0001_0009"), FIRST, "MSP-PODCAST_0003_0001"))
    assert {row.id: row.reason for row in reading.rejected} == {
        "MSP-PODCAST_0001_0009": "no such file, though labels_consensus.csv labels it",
        "MSP-PODCAST_0003_0001": "no label in labels_consensus.csv",
    }


def test_folders_that_are_not_msp_podcast(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Audios: no such folder; MSP-Podcast has Audios/MSP-PODCAST_0001_0008\.wav"):
        read(tmp_path)
    podcast(tmp_path, "FileName,EmoClass,EmoAct,EmoVal,EmoDom,Gender\n")
    with pytest.raises(DataError, match=r"labels_consensus\.csv: no column SpkrID, Split_Set; MSP-Podcast's are"):
        read(tmp_path)
    (tmp_path / "Labels/labels_consensus.csv").write_bytes(HEADER.encode("utf-16"))
    with pytest.raises(DataError, match=r"labels_consensus\.csv: not a CSV file in UTF-8"):
        read(tmp_path)
    (tmp_path / "Labels/labels_consensus.csv").unlink()
    with pytest.raises(DataError, match=r"no Labels/labels_consensus\.csv found; MSP-Podcast has"):
        read(tmp_path)


# --- The unlabelled pool --------------------------------------------------------------------------------------------


def test_a_pool_outside_the_corpus_has_absolute_paths(tmp_path: Path) -> None:
    root, pool = podcast(tmp_path / "corpus", HEADER + line()), tmp_path / "pool"
    names = ["MSP-PODCAST_0001_0100.wav", "part2/deep/MSP-PODCAST_0001_0200.WAV"]
    for name in names:
        wav(pool / name)
    wav(pool / "._MSP-PODCAST_0001_0100.wav")
    wav(pool / ".cache/MSP-PODCAST_0001_0300.wav")
    (pool / "README.txt").touch()
    reading = msp_podcast.read(root, unlabeled=pool)
    labelled, *rows = reading.utterances
    assert (labelled.split, reading.rejected) == ("train", [])
    assert [row.path for row in rows] == [(pool / name).as_posix() for name in names]
    assert [row.id for row in rows] == [
        "unlabelled_MSP-PODCAST_0001_0100",
        "unlabelled_part2_deep_MSP-PODCAST_0001_0200",
    ]
    assert {row.split for row in rows} == {"unlabelled"}
    assert len({row.speaker for row in rows}) == 2, "the podcast 0001 is no speaker"
    assert {(row.emotion, row.activation, row.valence, row.dominance, row.gender) for row in rows} == {(None,) * 5}
    assert len(load_audio(reading.root / rows[0].path)) == 1600


def test_a_pool_inside_the_corpus_has_paths_from_its_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    podcast(tmp_path, HEADER + line())
    wav(tmp_path / "Unlabeled/a.wav")
    monkeypatch.chdir(tmp_path)
    assert msp_podcast.read(tmp_path, unlabeled=Path("Unlabeled")).utterances[-1].path == "Unlabeled/a.wav"
    assert msp_podcast.read(Path(), unlabeled=tmp_path / "Unlabeled").utterances[-1].path == "Unlabeled/a.wav"


def test_ids_of_a_pool_are_unique_and_stay_when_it_grows(tmp_path: Path) -> None:
    podcast(tmp_path, HEADER + line())
    for name in ("a/b.wav", "a_b.wav", "a b.wav", "c.wav"):
        wav(tmp_path / "pool" / name)
    before = {row.path: row.id for row in msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool").utterances}
    assert len(set(before.values())) == 5
    wav(tmp_path / "pool/0.wav")
    after = msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool").utterances
    assert before.items() <= {row.path: row.id for row in after}.items()
    assert len(manifest_table(after)) == 6


def test_a_labelled_segment_in_the_pool_is_refused(tmp_path: Path) -> None:
    podcast(tmp_path, HEADER + line(rest="30,Male,Test1"))
    for name in (FIRST, "MSP-PODCAST_0001_0100"):
        wav(tmp_path / f"pool/part1/{name}.wav")
    reading = msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool")
    assert [(row.path, row.reason) for row in reading.rejected] == [
        (f"pool/part1/{FIRST}.wav", "a labelled segment, in the unlabelled pool")
    ]
    assert [row.split for row in reading.utterances] == ["test", "unlabelled"]


def test_a_pool_without_audio(tmp_path: Path) -> None:
    podcast(tmp_path, HEADER + line())
    with pytest.raises(DataError, match="pool: no such folder; the unlabelled pool is a folder of wav files"):
        msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool")
    (tmp_path / "pool/part1").mkdir(parents=True)
    with pytest.raises(DataError, match="pool: no audio found; the unlabelled pool"):
        msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool")


def test_a_folder_of_the_pool_that_cannot_be_listed_is_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    podcast(tmp_path, HEADER + line())
    wav(tmp_path / "pool/a.wav")
    (tmp_path / "pool/locked").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> object:
        if str(path).endswith("locked"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"locked: cannot be listed \(Permission denied\)"):
        msp_podcast.read(tmp_path, unlabeled=tmp_path / "pool")
