"""CREMA-D: the real label tables, with empty files for its audio, and what a copy may lack."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import pytest

from data_prep.corpora import crema_d
from sersearch.errors import ConfigError, DataError

# Section 4.1 of the multimodal ladder paper (ICASSP 2023).
PAPER = {"happiness": 1230, "fear": 1180, "disgust": 1222, "anger": 1067, "sadness": 672, "neutral": 2071}
INITIALS = {"H": "happiness", "F": "fear", "D": "disgust", "A": "anger", "S": "sadness", "N": "neutral"}


@pytest.fixture(scope="module")
def full(corpora: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All 7,442 clips, without their sound."""
    root = tmp_path_factory.mktemp("crema_d")
    (root / "AudioWAV").mkdir()
    (root / "processedResults").mkdir()
    shutil.copy(corpora / "crema_d/VideoDemographics.csv", root)
    shutil.copy(corpora / "crema_d/summaryTable.csv", root / "processedResults")
    for row in table(root):
        (root / f"AudioWAV/{row['FileName']}.wav").touch()
    return root


def table(root: Path) -> list[dict[str, str]]:
    with (root / "processedResults/summaryTable.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def counts(root: Path, **options: str) -> Counter:
    return Counter(row.emotion for row in crema_d.read(root, **options).utterances)


def small(root: Path, votes: dict[str, str]) -> Path:
    (root / "AudioWAV").mkdir(parents=True, exist_ok=True)
    for name in votes:
        (root / f"AudioWAV/{name}.wav").touch()
    lines = [
        f'"{number}","{name}","N","60","D:N","50","{vote}","70"\n' for number, (name, vote) in enumerate(votes.items())
    ]
    header = '"","FileName","VoiceVote","VoiceLevel","FaceVote","FaceLevel","MultiModalVote","MultiModalLevel"\n'
    (root / "summaryTable.csv").write_text(header + "".join(lines))
    demographics = '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","",""\n1002,21,"Female","",""\n'
    (root / "VideoDemographics.csv").write_text(demographics)
    return root


def test_the_whole_corpus_by_the_intended_emotion(full: Path) -> None:
    reading = crema_d.read(full, labels="intended")
    rows = reading.utterances
    assert (len(rows), reading.rejected, reading.attribute_scale) == (7442, [], None)
    assert Counter(row.emotion for row in rows) == {"neutral": 1087} | dict.fromkeys(set(PAPER) - {"neutral"}, 1271)
    genders = {row.speaker: row.gender for row in rows}
    assert Counter(genders.values()) == {"male": 48, "female": 43}, "as the paper has it"
    assert len({row.sentence for row in rows}) == 12
    assert {row.split for row in rows} == {None}


def test_the_multimodal_votes_are_the_paper_s_labels_but_for_ties(full: Path) -> None:
    perceived = counts(full)
    assert perceived == {
        "neutral": 1972, "happiness": 1219, "disgust": 1139, "fear": 1084, "anger": 1019, "sadness": 589, None: 420,
    }  # fmt: skip
    assert sum(PAPER.values()) == perceived.total()
    ties = Counter(
        INITIALS[code]
        for row in table(full)
        for code in row["MultiModalVote"]
        if ":" in row["MultiModalVote"] and code != ":"
    )
    for emotion, count in PAPER.items():
        assert perceived[emotion] <= count <= perceived[emotion] + ties[emotion], "each tie went to one of its emotions"


def test_the_votes_on_voices_and_on_faces_are_not(full: Path) -> None:
    assert counts(full, modality="voice")["neutral"] == 3897
    assert counts(full, modality="face") == {
        "neutral": 2076, "happiness": 1266, "disgust": 1057, "anger": 968, "fear": 822, "sadness": 783, None: 470,
    }  # fmt: skip


def test_what_is_known_of_a_clip(tmp_path: Path) -> None:
    root = small(tmp_path, {"1001_DFA_ANG_XX": "S", "1002_IEO_HAP_HI": "A:H"})
    sad, tied = crema_d.read(root).utterances
    assert (sad.id, sad.path, sad.speaker) == ("1001_DFA_ANG_XX", "AudioWAV/1001_DFA_ANG_XX.wav", "1001")
    assert (sad.gender, sad.emotion, sad.sentence) == ("male", "sadness", "DFA")
    assert (tied.gender, tied.emotion, tied.sentence) == ("female", None, "IEO")
    assert [row.emotion for row in crema_d.read(root, labels="intended").utterances] == ["anger", "happiness"]
    assert [row.emotion for row in crema_d.read(root, modality="voice").utterances] == ["neutral", "neutral"]
    assert [row.emotion for row in crema_d.read(root, modality="face").utterances] == [None, None]


def test_a_modality_of_the_intended_emotion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="modality=voice is what raters of the perceived emotion were given"):
        crema_d.read(tmp_path, labels="intended", modality="voice")


def test_crema_d_lists_what_does_not_match(tmp_path: Path) -> None:
    root = small(tmp_path, {"1001_DFA_ANG_XX": "A", "1002_IEO_HAP_HI": "H"})
    (root / "AudioWAV/1002_IEO_HAP_HI.wav").rename(root / "AudioWAV/1002_IEO_JOY_HI.wav")
    assert {row.id: row.reason for row in crema_d.read(root).rejected} == {
        "1002_IEO_HAP_HI": "no such file, though summaryTable.csv labels it",
        "1002_IEO_JOY_HI": "no label in summaryTable.csv",
    }
    reading = crema_d.read(root, labels="intended")
    assert [row.id for row in reading.utterances] == ["1001_DFA_ANG_XX"]
    assert [(row.id, row.reason) for row in reading.rejected] == [("1002_IEO_JOY_HI", "no label in its name")]


def test_folders_that_are_not_crema_d(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no audio found; CREMA-D has AudioWAV"):
        crema_d.read(tmp_path)
    root = small(tmp_path, {"1001_DFA_ANG_XX": "A"})
    (root / "summaryTable.csv").write_text('"FileName","FaceVote"\n')
    with pytest.raises(DataError, match=r"summaryTable\.csv: no column MultiModalVote; CREMA-D's has FileName and"):
        crema_d.read(root)
    (root / "summaryTable.csv").unlink()
    with pytest.raises(DataError, match=r"no summaryTable\.csv found; CREMA-D has"):
        crema_d.read(root)
    assert len(crema_d.read(root, labels="intended").utterances) == 1, "which needs no votes"
    (root / "VideoDemographics.csv").unlink()
    with pytest.raises(DataError, match=r"no VideoDemographics\.csv found; CREMA-D has"):
        crema_d.read(root)
