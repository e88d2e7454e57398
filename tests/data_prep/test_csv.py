"""The CSV manifest: everything that the documented columns can say comes through, and no line goes wrong unnamed."""

from __future__ import annotations

import csv as standard
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora import csv
from sersearch.data.schema import GENDERS, MANIFEST_SCHEMA, SPLITS, manifest_table
from sersearch.errors import DataError


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    folder.mkdir(exist_ok=True)
    for name in ("a.wav", "b.wav"):
        if not (folder / name).is_file():
            soundfile.write(folder / name, np.random.default_rng(0).normal(size=3200) / 10, 16_000)
    (folder / "manifest.csv").write_bytes(text.encode(encoding))
    return folder / "manifest.csv"


def problems(folder: Path, text: str) -> list[str]:
    with pytest.raises(DataError) as error:
        csv.read(manifest(folder, text))
    return [line.strip() for line in str(error.value).splitlines()[1:]]


WORDS = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp")), min_size=1, max_size=8)
NUMBERS = st.floats(0, 1e6, width=32).map(float)


@settings(max_examples=60)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {"path": st.sampled_from(["a.wav", "b.wav"]), "speaker": WORDS},
            optional={
                "gender": st.sampled_from(GENDERS),
                "emotion": WORDS,
                "activation": NUMBERS,
                "valence": NUMBERS,
                "dominance": NUMBERS,
                "sentence": st.tuples(WORDS, WORDS).map(", \n".join),
                "split": st.sampled_from(SPLITS),
                "start": NUMBERS,
            },
        ),
        min_size=1,
        max_size=6,
    ),
    order=st.permutations(csv.COLUMNS),
    dialect=st.sampled_from(["excel", "unix"]),
    mark=st.sampled_from(["utf-8", "utf-8-sig"]),
)
def test_every_column_in_any_order_comes_through(
    tmp_path_factory: pytest.TempPathFactory, rows: list[dict], order: list[str], dialect: str, mark: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    genders = {row["speaker"]: row["gender"] for row in rows if "gender" in row}
    rows = [row | {"id": f"u{number}"} for number, row in enumerate(rows)]
    rows = [row | ({"gender": genders[row["speaker"]]} if row["speaker"] in genders else {}) for row in rows]
    with manifest(folder, "").open("w", encoding=mark, newline="") as file:
        writer = standard.DictWriter(file, order, dialect=dialect)
        writer.writeheader()
        writer.writerows(rows)
    found = [asdict(row) for row in csv.read(folder).utterances]
    blank = dict.fromkeys(MANIFEST_SCHEMA.names) | {"corpus": folder.name}
    assert found == [blank | row for row in rows]


def test_the_corpus_is_called_as_its_file_or_its_folder(tmp_path: Path) -> None:
    path = manifest(tmp_path / "my speech", "path,speaker\na.wav,ann\n")
    assert {row.corpus for row in csv.read(path).utterances} == {"my_speech"}
    path = path.rename(path.with_name("first.csv"))
    assert {row.corpus for row in csv.read(path).utterances} == {"first"}


def test_a_row_without_labels_is_an_unlabelled_utterance(tmp_path: Path) -> None:
    reading = csv.read(manifest(tmp_path, "path,speaker,emotion,activation\na.wav,ann,,\nb.wav,bob,joy,\n"))
    table = manifest_table(reading.utterances)
    assert table["emotion"].to_pylist() == [None, "joy"]
    assert table["activation"].to_pylist() == [None, None]
    assert reading.rejected == []


def test_parts_of_a_file_get_ids_of_their_own_to_the_millisecond_of_a_day(tmp_path: Path) -> None:
    text = (
        "path,speaker,start,end\na.wav,ann,0,1.5\na.wav,ann,80000.001,80001\na.wav,ann,80000.002,80001\na.wav,ann,2,\n"
    )
    assert [row.id for row in csv.read(manifest(tmp_path, text)).utterances] == [
        "a_0-1.5",
        "a_80000.001-80001",
        "a_80000.002-80001",
        "a_2",
    ]


def test_all_that_is_wrong_in_a_line_is_said_of_that_line(tmp_path: Path) -> None:
    text = "path,speaker,gender,valence,start,id\na.wav,ann,,,,\n/b.wav,,man,1e999,-1,a/b\n"
    assert problems(tmp_path, text) == [
        "line 3: no speaker",
        "line 3: valence '1e999' is not a number",
        "line 3: start -1 is before the file's start",
        "line 3: gender 'man': expected one of female, male",
        "line 3: path '/b.wav' does not lie below the CSV file's folder",
        "line 3: id 'a/b' may hold letters, digits and _ . - only",
    ]


def test_every_bad_line_is_listed_with_its_number(tmp_path: Path) -> None:
    text = (
        "path,speaker,start,end,split\n"
        "a.wav,ann,0.3,0.1,\n"
        ",ann,,,\n"
        "a.wav,ann,,,training\n"
        "../a.wav,ann,,,\n"
        "b.wav,ann,,,,surplus\n"
    )
    assert problems(tmp_path, text) == [
        "line 2: end 0.1 is not after start 0.3",
        "line 3: no path",
        "line 4: split 'training': did you mean train? expected one of dev, test, train, unlabelled",
        "line 5: path '../a.wav' does not lie below the CSV file's folder",
        "line 6: more fields than the header has columns",
    ]


def test_a_missing_audio_file_is_rejected_with_its_line(tmp_path: Path) -> None:
    reading = csv.read(manifest(tmp_path, "path,speaker\na.wav,ann\nc.wav,ann\n"))
    assert [u.path for u in reading.utterances] == ["a.wav"]
    assert [(r.path, r.reason) for r in reading.rejected] == [("c.wav", "line 3: no such file")]


def test_ids_are_unique_and_sorted(tmp_path: Path) -> None:
    utterances = csv.read(manifest(tmp_path, "id,path,speaker\nz,a.wav,ann\nb,a.wav,ann\n")).utterances
    assert manifest_table(utterances)["id"].to_pylist() == ["b", "z"]
    with pytest.raises(DataError, match=r"stand for several utterances, such as z: a\.wav, a\.wav"):
        manifest_table([utterances[0], utterances[0]])


def test_a_speaker_has_one_gender(tmp_path: Path) -> None:
    text = "path,speaker,gender,id\na.wav,ann,,x\na.wav,ann,female,y\nb.wav,ann,male,z\n"
    assert problems(tmp_path, text) == ["line 4: speaker ann is male, in line 3 female"]


def test_attributes_lie_on_their_scale(tmp_path: Path) -> None:
    path = manifest(tmp_path, "path,speaker,valence,dominance\na.wav,ann,1,7\nb.wav,ann,0.5,8\n")
    with pytest.raises(DataError, match=r"line 3: valence 0\.5 is outside 1 to 7\n  line 3: dominance 8 is outside"):
        csv.read(path, attribute_scale=(1, 7))
    assert csv.read(path, attribute_scale=(0, 8)).attribute_scale == (0, 8)
    with pytest.raises(DataError, match="the lowest value comes first"):
        csv.read(path, attribute_scale=(8, 0))


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    assert problems(tmp_path, "path,speaker\n.,ann\n") == ["line 2: path '.' is no file"]


def test_a_record_over_two_lines_counts_as_its_last(tmp_path: Path) -> None:
    assert problems(tmp_path, 'path,speaker,sentence\na.wav,ann,"one\ntwo"\nb.wav,,\n') == ["line 4: no speaker"]


def test_repeated_ids_point_to_the_first(tmp_path: Path) -> None:
    text = "id,path,speaker\nx,a.wav,ann\ny,a.wav,ann\nx,b.wav,ann\nx,b.wav,ann\n"
    assert problems(tmp_path, text) == [f"line {n}: the id x stands in line 2 too" for n in (4, 5)]


def test_paths_that_ids_cannot_hold_get_ids_of_their_own(tmp_path: Path) -> None:
    manifest(tmp_path, "")
    for name in ("高.wav", "怒.wav", "a b.wav"):
        (tmp_path / "a.wav").with_name(name).write_bytes((tmp_path / "a.wav").read_bytes())
    text = "path,speaker\n高.wav,ann\n怒.wav,ann\na b.wav,ann\na.wav,ann\n"
    ids = [row.id for row in csv.read(manifest(tmp_path, text)).utterances]
    assert len(set(ids)) == 4
    assert [i.rpartition("-")[0] for i in ids] == ["_", "_", "a_b", ""], "as they were, but for a hash"
    message = "line 3: the id a stands in line 2 too, made from the path; a column id may tell them apart"
    assert problems(tmp_path, "path,speaker\na.wav,ann\na.flac,ann\n") == [message]


def test_a_flood_of_problems_is_counted_and_cut(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv: 70 problems:\n  line 2: ") as error:
        csv.read(manifest(tmp_path, "id,path,speaker\n" + "".join(f"u{n},a.wav,\n" for n in range(70))))
    assert str(error.value).endswith("line 51: no speaker\n  and 20 more")


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("path;speaker", r"no column is called 'path;speaker': did you mean speaker\?"),
        ("Path,speaker", r"no column is called 'Path': did you mean path\?"),
        ("path,speaker,emotion,emotion", "several columns are called 'emotion'; keep one"),
        ("path,speaker,", "no column is called ''"),
        ("path", "no column speaker"),
        ("", "no column path and no column speaker"),
    ],
)
def test_a_header_of_another_kind(tmp_path: Path, header: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        csv.read(manifest(tmp_path, f"{header}\na.wav,ann\n"))


def test_a_header_alone(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no utterances, only a header"):
        csv.read(manifest(tmp_path, "path,speaker\n"))


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_another_encoding_is_named_as_such(tmp_path: Path, encoding: str) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv: not a CSV file in UTF-8"):
        csv.read(manifest(tmp_path, "path,speaker\na.wav,Zoë\n", encoding))


def test_a_folder_without_a_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"manifest\.csv: no such file; a CSV manifest has a header with path, speaker"):
        csv.read(tmp_path)
