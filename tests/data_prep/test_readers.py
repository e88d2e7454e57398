"""Readers: what they find in a corpus laid out as its makers lay it out, and what they say of one that is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.corpora import corpus_names, csv, get_corpus
from sersearch.data.schema import manifest_table
from sersearch.errors import ConfigError, DataError


def wav(path: Path, seconds: float = 0.2) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.random.default_rng(0).normal(size=round(seconds * 16_000)) / 10, 16_000)
    return path


def test_readers_by_name() -> None:
    assert {"csv", "demo", "iemocap", "librispeech", "msp_improv", "nemo"} <= set(corpus_names())
    with pytest.raises(ConfigError, match="did you mean nemo"):
        get_corpus("nemos")


@pytest.mark.parametrize("name", ["nemo", "librispeech", "iemocap", "msp_improv"])
def test_a_folder_without_audio_is_refused_with_the_layout(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"no audio found; .* has "):
        get_corpus(name).read(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        get_corpus(name).read(tmp_path / "absent")


def test_nemo(corpora: Path) -> None:
    reading = get_corpus("nemo").read(corpora / "nemo")
    rows = reading.utterances
    assert {u.emotion for u in rows} == {"anger", "fear", "happiness", "neutral", "sadness", "surprised"}
    speakers = {u.speaker for u in rows}
    assert len(speakers) == 7
    assert {(u.speaker, u.gender) for u in rows if u.speaker in ("SM0", "EB0")} == {("SM0", "male"), ("EB0", "female")}
    assert len({u.sentence for u in rows}) <= 90
    assert all((corpora / "nemo" / u.path).is_file() for u in rows)
    assert reading.synthetic is False


def test_librispeech(corpora: Path) -> None:
    rows = get_corpus("librispeech").read(corpora / "LibriSpeech").utterances
    assert {u.gender for u in rows} == {"female", "male"}
    assert all(u.emotion is None and u.id.startswith(f"{u.speaker}-") for u in rows)


# --- IEMOCAP --------------------------------------------------------------------------------------------------------

EVALUATION = """% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 3.5000, 1.5000]
C-E1:\tneu;\t()
A-E1:\tval 3; act 2; dom  2;\t()

[10.0100 - 11.3925]\tSes01F_impro01_M003\texc\t[4.5000, 4.0000, 3.0000]
[12.0100 - 13.3925]\tSes01F_impro01_M004\txxx\t[5.5000, 2.0000, 3.0000]
[14.0100 - 15.3925]\tSes01F_impro01_F009\tsad\t[1.5000, 2.0000, 3.0000]
[16.0100 - garbled
"""


def iemocap(root: Path) -> Path:
    for turn in ("F000", "M003", "M004", "F777"):
        wav(root / f"Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_{turn}.wav")
    (root / "Session1/dialog/EmoEvaluation").mkdir(parents=True)
    (root / "Session1/dialog/EmoEvaluation/Ses01F_impro01.txt").write_text(EVALUATION)
    return root


def test_iemocap_s_numbers_are_valence_activation_dominance(tmp_path: Path) -> None:
    first, second, third = get_corpus("iemocap").read(iemocap(tmp_path)).utterances
    assert (first.valence, first.activation, first.dominance) == (2.5, 3.5, 1.5)
    assert first.emotion == "neutral"
    assert second.emotion == "happiness", "excited counts as happy"
    assert third.emotion is None, "xxx is no majority"
    assert third.valence == 5.5


def test_iemocap_s_talker_is_the_turn_s_not_the_dialogue_s(tmp_path: Path) -> None:
    first, second, _ = get_corpus("iemocap").read(iemocap(tmp_path)).utterances
    assert (first.speaker, first.gender) == ("01F", "female")
    assert (second.speaker, second.gender) == ("01M", "male")


def test_iemocap_lists_what_does_not_match(tmp_path: Path) -> None:
    reasons = {r.id or r.path: r.reason for r in get_corpus("iemocap").read(iemocap(tmp_path)).rejected}
    assert "no such file" in reasons["Ses01F_impro01_F009"]
    assert "no label in EmoEvaluation" in reasons["Ses01F_impro01_F777"]
    assert "not a label line" in reasons["Session1/dialog/EmoEvaluation/Ses01F_impro01.txt:10"]


# --- MSP-IMPROV -----------------------------------------------------------------------------------------------------

EVALUTION = """UTD-IMPROV-S01A-F01-S-FM01.avi; N; A:3.000000; V:3.500000; D:2.000000; N:4.1
ann-1; N; A:1.000000; V:1.000000; D:1.000000;

UTD-IMPROV-S02H-M01-R-FM02.avi; H; V:4.500000; D:2.500000; A:4.000000;

UTD-IMPROV-S02H-M01-P-FM03.avi; X; A:2.000000; V:2.500000; D:2.000000;

UTD-IMPROV-S02H-M01-P-FM99.avi; A; A:2.000000; V:2.500000; D:2.000000;

UTD-IMPROV-broken
"""


def msp_improv(root: Path) -> Path:
    for name in ("S01A-F01-S-FM01", "S02H-M01-R-FM02", "S02H-M01-P-FM03", "S02H-M01-P-FM50"):
        scene, _, condition, _ = name.split("-")
        wav(root / f"Audio/session1/{scene}/{condition}/MSP-IMPROV-{name}.wav")
    (root / "Evalution.txt").write_text(EVALUTION)
    return root


def test_msp_improv_s_numbers_are_read_by_their_key(tmp_path: Path) -> None:
    rows = {u.id: u for u in get_corpus("msp_improv").read(msp_improv(tmp_path)).utterances}
    first, read = rows["MSP-IMPROV-S01A-F01-S-FM01"], rows["MSP-IMPROV-S02H-M01-R-FM02"]
    assert (first.activation, first.valence, first.dominance, first.emotion) == (3.0, 3.5, 2.0, "neutral")
    assert (read.activation, read.valence, read.dominance, read.emotion) == (4.0, 4.5, 2.5, "happiness")
    assert (first.speaker, first.gender) == ("F01", "female")
    assert (first.sentence, read.sentence) == (None, "S02"), "an improvised turn has no given sentence"
    assert rows["MSP-IMPROV-S02H-M01-P-FM03"].emotion is None


def test_msp_improv_lists_what_does_not_match(tmp_path: Path) -> None:
    reasons = {r.id or r.path: r.reason for r in get_corpus("msp_improv").read(msp_improv(tmp_path)).rejected}
    assert "no such file" in reasons["MSP-IMPROV-S02H-M01-P-FM99"]
    assert "no label in Evalution.txt" in reasons["MSP-IMPROV-S02H-M01-P-FM50"]
    assert "not a label line" in reasons["Evalution.txt:10"]


# --- csv ------------------------------------------------------------------------------------------------------------


def manifest(folder: Path, text: str, encoding: str = "utf-8") -> Path:
    wav(folder / "a.wav")
    (folder / "m.csv").write_bytes(text.encode(encoding))
    return folder / "m.csv"


def test_all_columns_of_a_manifest(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,speaker,id,start,end,gender,emotion,activation,valence,dominance,sentence,split\n"
        "a.wav,ann,one,0.05,0.15,female,joy,1,2,3.5,hello,train\n"
        "a.wav,bob,,,,,,,,,,\n",
    )
    one, two = csv.read(path).utterances
    assert (one.id, one.start, one.end, one.gender, one.emotion) == ("one", 0.05, 0.15, "female", "joy")
    assert (one.activation, one.valence, one.dominance, one.sentence, one.split) == (1, 2, 3.5, "hello", "train")
    assert (two.id, two.speaker, two.emotion, two.start) == ("a", "bob", None, None)


def test_every_bad_line_is_listed_with_its_number(tmp_path: Path) -> None:
    path = manifest(
        tmp_path,
        "path,speaker,start,end,gender,valence,split\n"
        "a.wav,ann,,,woman,,\n"
        "a.wav,,0.3,0.1,,,\n"
        ",ann,,,,,\n"
        "a.wav,ann,,,,high,training\n"
        "../a.wav,ann,,,,,\n"
        "a.wav,ann,,,,,,,surplus\n",
    )
    with pytest.raises(DataError) as error:
        csv.read(path)
    text = str(error.value)
    for piece in (
        "line 2: gender 'woman'",
        "line 3: no speaker",
        "line 3: end 0.1 is not after start 0.3",
        "line 4: no path",
        "line 5: valence 'high' is not a number",
        "line 5: split 'training': did you mean train",
        "line 6: path '../a.wav' does not lie below",
        "line 7: more fields",
        "stands in line 2 too",
    ):
        assert piece in text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,speeker\na.wav,ann\n", "did you mean speaker"),
        ("path\na.wav\n", "no column speaker"),
        ("path,speaker\n", "no utterances, only a header"),
        ("", "no column path and no column speaker"),
    ],
)
def test_a_header_that_cannot_be_used(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        csv.read(manifest(tmp_path, text))


def test_another_encoding_and_a_missing_manifest(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a CSV file in UTF-8"):
        csv.read(manifest(tmp_path, "path,speaker\na.wav,Zoë\n", "latin-1"))
    with pytest.raises(DataError, match=r"absent\.csv: no such file"):
        csv.read(tmp_path / "absent.csv")


def test_a_missing_audio_file_is_rejected_with_its_line(tmp_path: Path) -> None:
    reading = csv.read(manifest(tmp_path, "path,speaker\na.wav,ann\nb.wav,ann\n"))
    assert [u.path for u in reading.utterances] == ["a.wav"]
    assert [(r.path, r.reason) for r in reading.rejected] == [("b.wav", "line 3: no such file")]


@settings(max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["ann", "bob"]),
            st.sampled_from(["", "joy", "anger, cold", 'say "no"', "żal"]),
            st.floats(0, 100).map(lambda x: round(x, 3)),
        ),
        min_size=1,
        max_size=8,
    )
)
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, float]]) -> None:
    import csv as standard

    folder = tmp_path_factory.mktemp("csv")
    wav(folder / "a.wav")
    with (folder / "m.csv").open("w", newline="", encoding="utf-8") as file:
        writer = standard.writer(file)
        writer.writerow(["id", "path", "speaker", "emotion", "start"])
        writer.writerows([f"u{i}", "a.wav", *row] for i, row in enumerate(rows))
    found = csv.read(folder / "m.csv").utterances
    assert [(u.speaker, u.emotion or "", u.start) for u in found] == rows


def test_ids_are_unique_and_sorted(tmp_path: Path) -> None:
    utterances = csv.read(manifest(tmp_path, "id,path,speaker\nz,a.wav,ann\nb,a.wav,ann\n")).utterances
    assert manifest_table(utterances)["id"].to_pylist() == ["b", "z"]
    with pytest.raises(DataError, match=r"stand for several utterances, such as z: a\.wav, a\.wav"):
        manifest_table([utterances[0], utterances[0]])
