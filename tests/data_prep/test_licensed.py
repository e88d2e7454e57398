"""IEMOCAP and MSP-IMPROV: every code, condition and turn of phrase of their label files, and the faults of copies."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora import get_corpus
from data_prep.reading import Reading
from sersearch.data.schema import Utterance
from sersearch.errors import DataError


def audio(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(size=3200) / 10, 16_000)
    return path


# --- IEMOCAP --------------------------------------------------------------------------------------------------------

LABELS = "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt"


def turn(name: str, code: str = "neu", numbers: str = "2.5000, 3.5000, 1.5000") -> str:
    return f"[6.2901 - 8.2357]\t{name}\t{code}\t[{numbers}]\n"


def iemocap(root: Path, text: str | bytes, *turns: str) -> Reading:
    for name in turns or ("Ses01F_impro01_F000",):
        audio(root / f"Session{int(name[3:5])}/sentences/wav/{name.rpartition('_')[0]}/{name}.wav")
    (root / LABELS).parent.mkdir(parents=True, exist_ok=True)
    (root / LABELS).write_bytes(text if isinstance(text, bytes) else text.encode())
    return get_corpus("iemocap").read(root)


def test_the_paper_s_four_emotions_and_no_other(tmp_path: Path) -> None:
    codes = ("ang", "hap", "sad", "neu", "exc", "dis", "fru", "fea", "sur", "oth", "xxx")
    names = [f"Ses01F_impro01_F{number:03}" for number in range(len(codes))]
    reading = iemocap(tmp_path, "".join(map(turn, names, codes)), *names)
    assert {code: row.emotion for code, row in zip(codes, reading.utterances, strict=True)} == {
        **dict.fromkeys(codes),
        "ang": "anger",
        "hap": "happiness",
        "exc": "happiness",
        "sad": "sadness",
        "neu": "neutral",
    }
    assert all((row.valence, row.activation, row.dominance) == (2.5, 3.5, 1.5) for row in reading.utterances)
    assert (reading.rejected, reading.attribute_scale, reading.synthetic) == ([], (1.0, 5.0), False)


@pytest.mark.parametrize(
    ("name", "speaker", "gender"),
    [
        ("Ses01M_script01_1b_MXX0", "01M", "male"),
        ("Ses03F_script02_2_M039", "03M", "male"),
        ("Ses05M_impro07_F011", "05F", "female"),
    ],
)
def test_turns_of_scripts_and_of_every_session(tmp_path: Path, name: str, speaker: str, gender: str) -> None:
    (row,) = iemocap(tmp_path, turn(name), name).utterances
    assert (row.id, row.speaker, row.gender) == (name, speaker, gender)
    assert (tmp_path / row.path).is_file()


def test_raters_lines_are_passed_over_in_any_encoding(tmp_path: Path) -> None:
    raters = "C-E1:\tAnger; Other;\t(fiancé)\r\nA-E3:\tval 2; act 4; dom  4;\t()\r\n".encode("latin-1")
    reading = iemocap(
        tmp_path, b"% [START_TIME - END_TIME] ...\r\n\r\n" + turn("Ses01F_impro01_F000").encode() + raters
    )
    assert (len(reading.utterances), reading.rejected) == (1, [])


def test_macos_twins_are_neither_labels_nor_audio(tmp_path: Path) -> None:
    wav = audio(tmp_path / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav")
    for path in (tmp_path / LABELS, wav):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f"._{path.name}").write_bytes(b"\0\5\x16\7\xff[\n[")
    assert iemocap(tmp_path, turn("Ses01F_impro01_F000")).rejected == []


@pytest.mark.parametrize("numbers", ["2.5.0, 3.5000, 1.5000", "2.5000, 3.5000", "nan, 3.5, 1.5", ""])
def test_numbers_that_are_none_are_listed_with_file_and_line(tmp_path: Path, numbers: str) -> None:
    names = ("Ses01F_impro01_F000", "Ses01F_impro01_F001")
    reading = iemocap(tmp_path, turn(names[0]) + turn(names[1], numbers=numbers), *names)
    assert [row.id for row in reading.utterances] == [names[0]]
    (line,) = [row for row in reading.rejected if row.path == f"{LABELS}:2"]
    assert line.reason.startswith("not a label line of IEMOCAP: '[6.2901")


def test_iemocap_lists_what_does_not_match(tmp_path: Path) -> None:
    audio(tmp_path / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F777.wav")
    text = turn("Ses01F_impro01_F000", numbers="5.5, 2.0, 3.0") + turn("Ses01F_impro01_F009")
    reading = iemocap(tmp_path, text)
    assert [row.valence for row in reading.utterances] == [5.5], "as rated: IEMOCAP has such ones"
    assert {row.id: row.reason for row in reading.rejected} == {
        "Ses01F_impro01_F009": "no such file, though EmoEvaluation labels it",
        "Ses01F_impro01_F777": "no label in EmoEvaluation",
    }


def test_audio_without_any_label_file(tmp_path: Path) -> None:
    iemocap(tmp_path, "")
    (tmp_path / LABELS).unlink()
    with pytest.raises(DataError, match="no label files found; IEMOCAP has Session"):
        get_corpus("iemocap").read(tmp_path)


# --- MSP-IMPROV -----------------------------------------------------------------------------------------------------


def improv(root: Path, text: str | bytes, *names: str) -> Reading:
    for name in names or ("S01A-F01-S-FM01",):
        scene, speaker, condition, _ = name.split("-")
        path = root / f"Audio/session{int(speaker[1:])}/{scene}/{condition}/MSP-IMPROV-{name}.wav"
        if not path.is_file():
            audio(path)
    (root / "Evalution.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return get_corpus("msp_improv").read(root)


def block(name: str = "S01A-F01-S-FM01", rest: str = "N; A:3.000000; V:3.500000; D:2.000000;") -> str:
    return f"UTD-IMPROV-{name}.avi; {rest}\nSome rater; N; A:1.000000; V:1.000000; D:1.000000;\n\n"


def attributes(row: Utterance) -> tuple[float | None, float | None, float | None]:
    return row.activation, row.valence, row.dominance


def test_categories_keep_their_attributes(tmp_path: Path) -> None:
    categories = {"A": "anger", "S": "sadness", "H": "happiness", "N": "neutral", "O": None, "X": None}
    names = [f"S{number:02}A-F01-S-FM01" for number in range(1, 7)]
    text = "".join(block(name, f"{code}; A:3.0; V:3.5; D:2.0;") for name, code in zip(names, categories, strict=True))
    reading = improv(tmp_path, text, *names)
    assert [row.emotion for row in reading.utterances] == list(categories.values())
    assert {attributes(row) for row in reading.utterances} == {(3.0, 3.5, 2.0)}
    assert (reading.rejected, reading.attribute_scale) == ([], (1.0, 5.0))


@settings(max_examples=40)
@given(
    fields=st.permutations(["A:3.25", "V:3.5", "D:2", "N:4.2"]),
    gap=st.sampled_from(["; ", ";", " ; "]),
    end=st.sampled_from(["", ";", " ;", "\r"]),
)
def test_numbers_go_by_their_key_in_any_order(
    tmp_path_factory: pytest.TempPathFactory, fields: list[str], gap: str, end: str
) -> None:
    (row,) = improv(tmp_path_factory.getbasetemp() / "improv", block(rest=gap.join(["N", *fields]) + end)).utterances
    assert attributes(row) == (3.25, 3.5, 2.0)


@pytest.mark.parametrize(("condition", "sentence"), [("R", "S07"), ("T", "S07"), ("S", None), ("P", None)])
def test_a_sentence_is_known_where_it_was_given(tmp_path: Path, condition: str, sentence: str | None) -> None:
    name = f"S07H-M06-{condition}-MF02"
    (row,) = improv(tmp_path, block(name), name).utterances
    assert (row.sentence, row.speaker, row.gender) == (sentence, "M06", "male")
    assert (tmp_path / row.path).is_file()


@pytest.mark.parametrize(
    "rest", ["N; A:3.0; V:3.5.0; D:2.0;", "N; A:3.0; V:nan; D:2.0;", "Q; A:3.0;", "N A:3.0", "N" + "; " * 99 + "?"]
)
def test_a_line_that_is_garbled_is_listed_with_its_number(tmp_path: Path, rest: str) -> None:
    other = "S02A-F01-S-FM01"
    reading = improv(tmp_path, block(other) + block(rest=rest), other, "S01A-F01-S-FM01")
    assert [row.id for row in reading.utterances] == [f"MSP-IMPROV-{other}"]
    reasons = {row.path: row.reason for row in reading.rejected}
    assert reasons["Evalution.txt:4"].startswith("not a label line of MSP-IMPROV: 'UTD-IMPROV-S01A")


def test_msp_improv_lists_what_does_not_match(tmp_path: Path) -> None:
    audio(tmp_path / "Audio/session1/S01A/S/MSP-IMPROV-S01A-F01-S-FM50.wav")
    reading = improv(tmp_path, block() + block("S02H-M01-P-FM99"))
    assert {row.id: row.reason for row in reading.rejected} == {
        "MSP-IMPROV-S02H-M01-P-FM99": "no such file, though Evalution.txt labels it",
        "MSP-IMPROV-S01A-F01-S-FM50": "no label in Evalution.txt",
    }


def test_raters_names_in_any_encoding_and_naturalness_of_any_kind(tmp_path: Path) -> None:
    text = block(rest="N; A:3.0; V:3.5; D:2.0; N:nan;").replace("Some", "Zoë")
    reading = improv(tmp_path, text.encode("latin-1"))
    assert ([attributes(row) for row in reading.utterances], reading.rejected) == ([(3.0, 3.5, 2.0)], [])


def test_the_label_file_by_either_spelling_or_none(tmp_path: Path) -> None:
    improv(tmp_path, block())
    (tmp_path / "Evalution.txt").rename(tmp_path / "Evaluation.txt")
    assert len(get_corpus("msp_improv").read(tmp_path).utterances) == 1
    (tmp_path / "Evaluation.txt").unlink()
    with pytest.raises(DataError, match=r"no Evalution\.txt found; MSP-IMPROV has Audio/sessionN"):
        get_corpus("msp_improv").read(tmp_path)
