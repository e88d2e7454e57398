"""Readers by name; what is in the real excerpts of nEMO and LibriSpeech, and faults that copies of corpora have."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.corpora import corpus_names, get_corpus
from data_prep.reading import Reading
from sersearch.data.schema import MANIFEST_SCHEMA, manifest_table
from sersearch.errors import ConfigError, DataError

HEADER = "file_id\temotion\traw_text\tnormalized_text\tspeaker_id\tgender\tage\n"
ANN, BOB = "ann_joy_1.flac\tjoy\tŻal.\tżal\tann\tfemale\t30\n", "bob_joy_1.flac\tjoy\tŻal.\tżal\tbob\tmale\t40\n"


def audio(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(size=3200) / 10, 16_000)


def reasons(reading: Reading) -> dict[str, str]:
    return {rejected.path: rejected.reason for rejected in reading.rejected}


def test_readers_by_name() -> None:
    names = {"audformat", "crema_d", "csv", "demo", "emodb", "iemocap", "librispeech", "msp_improv", "msp_podcast"}
    assert names | {"nemo", "ravdess"} <= set(corpus_names())
    with pytest.raises(ConfigError, match="did you mean nemo"):
        get_corpus("nemos")


@pytest.mark.parametrize("name", ["nemo", "librispeech", "iemocap", "msp_improv"])
def test_a_folder_without_audio_is_refused_with_the_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no audio found; .* has "):
        get_corpus(name).read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        get_corpus(name).read(tmp_path / "absent")


# --- nEMO -----------------------------------------------------------------------------------------------------------


def test_the_excerpt_of_nemo(corpora: Path) -> None:
    reading = get_corpus("nemo").read(corpora / "nemo")
    rows = reading.utterances
    assert (len(rows), reading.rejected) == (1903, [])
    assert {speaker: len(found) for speaker, found in emotions_of(rows).items() if len(found) < 6} == {"MK0": 5}
    assert "surprised" not in emotions_of(rows)["MK0"]
    assert len({row.speaker for row in rows}) == 7
    assert all(row.sentence and row.gender and row.split is None and row.activation is None for row in rows)
    for emotion, speaker, sentence in ((row.emotion, row.speaker, row.id) for row in rows):
        assert sentence.startswith(f"{speaker}_{emotion}_"), "the file's name says the same as data.tsv"
    table = manifest_table(rows)
    assert table.schema == MANIFEST_SCHEMA
    assert table["id"].to_pylist() == sorted(row.id for row in rows)


def emotions_of(rows: list) -> dict[str, set[str]]:
    return {speaker: {row.emotion for row in rows if row.speaker == speaker} for speaker in {r.speaker for r in rows}}


def nemo(root: Path, table: str, encoding: str = "utf-8") -> Path:
    for name in ("ann_joy_1", "bob_joy_1"):
        audio(root / "samples" / f"{name}.flac")
    (root / "data.tsv").write_bytes(table.encode(encoding))
    return root


def test_nemo_s_labels_without_files_and_files_without_labels_are_listed(tmp_path: Path) -> None:
    reading = get_corpus("nemo").read(nemo(tmp_path, HEADER + ANN + ANN.replace("ann_", "eve_")))
    assert [row.id for row in reading.utterances] == ["ann_joy_1"]
    assert reasons(reading) == {
        "samples/eve_joy_1.flac": "no such file, though data.tsv labels it",
        "samples/bob_joy_1.flac": "no label in data.tsv",
    }


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("ann_joy_1.flac\tjoy\n", "no raw_text, speaker_id, gender"),
        (ANN.replace("\tann\t", "\t\t"), "no speaker_id"),
    ],
)
def test_a_line_that_is_cut_or_has_no_speaker_is_listed(tmp_path: Path, line: str, reason: str) -> None:
    reading = get_corpus("nemo").read(nemo(tmp_path, HEADER + BOB + line))
    assert [row.id for row in reading.utterances] == ["bob_joy_1"]
    assert reasons(reading)["data.tsv:3"] == reason


def test_nemo_s_table_in_another_form(tmp_path: Path) -> None:
    assert len(get_corpus("nemo").read(nemo(tmp_path, "\ufeff" + HEADER + ANN + BOB)).utterances) == 2
    with pytest.raises(DataError, match=r"data\.tsv: not a table in UTF-8"):
        get_corpus("nemo").read(nemo(tmp_path, HEADER + ANN, "cp1250"))
    with pytest.raises(DataError, match=r"data\.tsv: not a table in UTF-8 \(field larger than"):
        get_corpus("nemo").read(nemo(tmp_path, HEADER + ANN.replace("Żal.", 200_000 * "a")))
    with pytest.raises(DataError, match=r"data\.tsv: no column speaker_id, gender; nEMO's are file_id, emotion"):
        get_corpus("nemo").read(nemo(tmp_path, "file_id\temotion\traw_text\n"))
    (tmp_path / "data.tsv").unlink()
    with pytest.raises(DataError, match=r"no data\.tsv found; nEMO has data\.tsv and samples"):
        get_corpus("nemo").read(tmp_path)


def test_macos_twins_of_audio_files_are_no_audio(tmp_path: Path) -> None:
    nemo(tmp_path, HEADER + ANN + BOB)
    (tmp_path / "samples/._ann_joy_1.flac").write_bytes(b"\0\5\x16\7")
    assert get_corpus("nemo").read(tmp_path).rejected == []


# --- LibriSpeech ----------------------------------------------------------------------------------------------------


def test_the_excerpt_of_librispeech(corpora: Path) -> None:
    reading = get_corpus("librispeech").read(corpora / "LibriSpeech")
    rows = reading.utterances
    assert (len(rows), reading.rejected, reading.attribute_scale) == (351, [], None)
    assert Counter(Counter(row.speaker for row in rows).values()) == {1: 251, 10: 10}
    assert all(row.gender and row.emotion is None and row.activation is None and row.split is None for row in rows)
    assert {row.path.split("/")[0] for row in rows} == {"test-other", "train-clean-100"}
    lines = (corpora / "LibriSpeech/SPEAKERS.TXT").read_text("utf-8").splitlines()
    sexes = dict(line.split(" | ")[:2] for line in lines if line[0] != ";")
    sexes = {speaker.strip(): sex.strip() for speaker, sex in sexes.items()}
    assert all(row.gender == {"F": "female", "M": "male"}[sexes[row.speaker]] for row in rows)


def librispeech(root: Path, speakers: bytes) -> Path:
    audio(root / "test-other/14/208/14-208-0000.flac")
    (root / "SPEAKERS.TXT").write_bytes(speakers)
    return root


def test_librispeech_s_speakers(tmp_path: Path) -> None:
    read = get_corpus("librispeech").read
    remark = "; names in any encoding\n\n14   | F | test-other | 25.03 | Zoë\n"
    (row,) = read(librispeech(tmp_path, remark.encode("latin-1"))).utterances
    assert (row.id, row.speaker, row.gender) == ("14-208-0000", "14", "female")
    (row,) = read(librispeech(tmp_path, b"15 | F | test-other | 25.03 | Ann\n")).utterances
    assert row.gender is None
    with pytest.raises(DataError, match=r"SPEAKERS\.TXT:2: expected `id \| F or M .*found '14 \| X'"):
        read(librispeech(tmp_path, b"; a remark\n14 | X\n"))
    (tmp_path / "SPEAKERS.TXT").unlink()
    with pytest.raises(DataError, match=r"no SPEAKERS\.TXT found; LibriSpeech has"):
        read(tmp_path)


def test_one_subset_is_not_the_corpus_s_root(tmp_path: Path) -> None:
    librispeech(tmp_path, b"")
    with pytest.raises(
        DataError, match=r"test-other: no audio found; LibriSpeech has SPEAKERS\.TXT and SUBSET/SPEAKER"
    ):
        get_corpus("librispeech").read(tmp_path / "test-other")


def many_speakers(root: Path, women: int, men: int, unknown: int = 0) -> Path:
    """A subset `a` of women and men, numbered from 1, and a subset `b` of the speakers without a gender."""
    lines = []
    for speaker in range(1, 1 + women + men + unknown):
        folder = root / f"{'a' if speaker <= women + men else 'b'}/{speaker}/1"
        folder.mkdir(parents=True)
        for number in range(2):
            (folder / f"{speaker}-1-000{number}.flac").touch()
        if speaker <= women + men:
            lines.append(f"{speaker} | {'F' if speaker <= women else 'M'} | a | 25.03 | Name")
    (root / "SPEAKERS.TXT").write_text("\n".join(lines))
    return root


def drawn(root: Path, speakers: int, seed: int = 0) -> Counter:
    rows = get_corpus("librispeech").read(root, speakers=speakers, seed=seed).utterances
    assert set(Counter(row.speaker for row in rows).values()) == {2}, "all that a drawn speaker says"
    return Counter({row.speaker: row.gender for row in rows}.values())


def test_subsets_of_librispeech(corpora: Path) -> None:
    read = get_corpus("librispeech").read
    rows = read(corpora / "LibriSpeech", subsets=("test-other",)).utterances
    assert (len(rows), {row.path.split("/")[0] for row in rows}) == (100, {"test-other"})
    assert len(read(corpora / "LibriSpeech", subsets=("test-other", "train-clean-100")).utterances) == 351
    for wrong in (("test-other", "test_other"), ()):
        with pytest.raises(
            ConfigError, match=r"no subset '(test_other)?': .*expected one of test-other, train-clean-100"
        ):
            read(corpora / "LibriSpeech", subsets=wrong)


def test_speakers_of_librispeech_are_drawn_with_balanced_genders(tmp_path: Path) -> None:
    root = many_speakers(tmp_path, women=3, men=9, unknown=2)
    assert drawn(root, 4) == {"female": 2, "male": 2}
    assert sorted(drawn(root, 5).values()) == [2, 3]
    assert drawn(root, 10) == {"female": 3, "male": 7}, "as far as there are women"
    assert drawn(root, 13) == {"female": 3, "male": 9, None: 1}, "those without a gender come last"
    assert drawn(root, 14) == {"female": 3, "male": 9, None: 2}


def test_the_seed_decides_which_speakers_are_drawn(tmp_path: Path) -> None:
    root = many_speakers(tmp_path, women=10, men=10)
    read = get_corpus("librispeech").read

    def speakers(number: int, seed: int) -> set[str]:
        return {row.speaker for row in read(root, speakers=number, seed=seed).utterances}

    assert speakers(6, seed=1) == speakers(6, seed=1)
    assert len({frozenset(speakers(6, seed)) for seed in range(8)}) > 4
    assert speakers(4, seed=1) < speakers(6, seed=1) < speakers(11, seed=1)


def test_more_speakers_than_librispeech_s_subsets_have(tmp_path: Path) -> None:
    root = many_speakers(tmp_path, women=2, men=2, unknown=3)
    for number in (5, 0, -1):
        with pytest.raises(ConfigError, match=rf"speakers={number}: the subsets have 4 speakers"):
            get_corpus("librispeech").read(root, subsets=("a",), speakers=number)
