"""EmoDB and RAVDESS, whose file names hold all that is known of a file."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.corpora import get_corpus
from data_prep.reading import Reading
from sersearch.errors import DataError


def read(name: str, root: Path, *files: str) -> Reading:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).touch()
    return get_corpus(name).read(root)


@pytest.mark.parametrize("name", ["emodb", "ravdess"])
def test_a_folder_without_audio_is_refused_with_the_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no audio found; .* has "):
        read(name, tmp_path)


# --- EmoDB ----------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_file_of_emodb(tmp_path: Path) -> None:
    (row,) = read("emodb", tmp_path, "wav/03a01Fa.wav").utterances
    assert (row.id, row.path, row.speaker, row.gender) == ("03a01Fa", "wav/03a01Fa.wav", "03", "male")
    assert (row.emotion, row.sentence, row.split, row.corpus) == ("happiness", "a01", None, "emodb")


def test_the_german_initials_of_emotions(tmp_path: Path) -> None:
    rows = read("emodb", tmp_path, *(f"wav/08b10{letter}b.wav" for letter in "WLEAFTN")).utterances
    assert {row.id[5]: row.emotion for row in rows} == {
        "W": "anger",  # Wut
        "L": "boredom",  # Langeweile
        "E": "disgust",  # Ekel
        "A": "fear",  # Angst
        "F": "happiness",  # Freude
        "T": "sadness",  # Trauer
        "N": "neutral",
    }


def test_five_men_and_five_women(tmp_path: Path) -> None:
    speakers = ("03", "08", "09", "10", "11", "12", "13", "14", "15", "16")
    rows = read("emodb", tmp_path, *(f"wav/{speaker}a02Na.wav" for speaker in speakers)).utterances
    assert [row.speaker for row in rows if row.gender == "male"] == ["03", "10", "11", "12", "15"]
    assert [row.speaker for row in rows if row.gender == "female"] == ["08", "09", "13", "14", "16"]


@pytest.mark.parametrize("name", ["04a01Fa", "03a01Xa", "03c01Fa", "03a01Fa-copy", "3a01Fa"])
def test_a_name_that_is_not_emodb_s_is_listed(tmp_path: Path, name: str) -> None:
    reading = read("emodb", tmp_path, "wav/03a01Fa.wav", f"wav/{name}.wav")
    assert [row.id for row in reading.utterances] == ["03a01Fa"]
    (rejected,) = reading.rejected
    assert (rejected.path, rejected.reason) == (f"wav/{name}.wav", "not a name of EmoDB, such as 03a01Fa")


# --- RAVDESS --------------------------------------------------------------------------------------------------------


def test_what_is_known_of_a_file_of_ravdess(tmp_path: Path) -> None:
    (row,) = read("ravdess", tmp_path, "Actor_02/03-01-05-02-01-02-02.wav").utterances
    assert (row.id, row.path) == ("03-01-05-02-01-02-02", "Actor_02/03-01-05-02-01-02-02.wav")
    assert (row.speaker, row.gender, row.emotion, row.sentence) == ("02", "female", "anger", "01")
    assert (row.split, row.corpus) == (None, "ravdess")


def test_the_eight_emotions_in_words_of_the_other_corpora(tmp_path: Path) -> None:
    rows = read("ravdess", tmp_path, *(f"Actor_11/03-01-0{code}-01-02-01-11.wav" for code in range(1, 9))).utterances
    expected = ["neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise"]
    assert [row.emotion for row in rows] == expected
    assert {(row.speaker, row.gender) for row in rows} == {("11", "male")}


def test_songs_and_videos_are_left_out(tmp_path: Path) -> None:
    others = ("03-02-05-01-01-01-01.wav", "01-01-05-01-01-01-01.mp4", "02-01-05-01-01-01-01.mp4")
    speech = "Actor_01/03-01-05-01-01-01-01.wav"
    reading = read("ravdess", tmp_path, speech, *(f"Actor_01/{name}" for name in others))
    assert ([row.path for row in reading.utterances], reading.rejected) == ([speech], [])
    with pytest.raises(DataError, match="no audio found; RAVDESS has the speech of an actor in Actor_01"):
        read("ravdess", tmp_path / "songs", f"Actor_01/{others[0]}")


@pytest.mark.parametrize("name", ["03-01-09-01-01-01-01", "03-01-05-01-01-01-25", "03-01-05-01-01-01"])
def test_a_name_that_is_not_ravdess_s_is_listed(tmp_path: Path, name: str) -> None:
    (rejected,) = read("ravdess", tmp_path, f"Actor_01/{name}.wav").rejected
    assert (rejected.id, rejected.reason) == (name, "not a name of RAVDESS, such as 03-01-05-01-02-01-01")
