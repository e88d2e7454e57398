"""The demo corpus: whole, balanced, audible, the same for a seed, and never taken for speech."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from data_prep.corpora import demo
from sersearch.audio import RATE, OpenFace, extractor, load_audio
from sersearch.audio.visual import INTENSITIES
from sersearch.data.schema import Utterance


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    demo.write(folder)
    return folder


@pytest.fixture(scope="module")
def rows(root: Path) -> list[Utterance]:
    return demo.read(root).utterances


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    """One sentence and one unlabelled clip a speaker."""
    monkeypatch.setattr(demo, "SENTENCES", 1)
    monkeypatch.setattr(demo, "POOL", 1)


def content(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def test_every_speaker_says_every_sentence_in_every_emotion(rows: list[Utterance]) -> None:
    labelled = [row for row in rows if row.emotion]
    said = Counter((row.speaker, row.emotion, row.sentence) for row in labelled)
    assert set(said.values()) == {1}
    assert len(said) == len(demo.VOICES) * len(demo.STYLES) * demo.SENTENCES
    genders = {row.speaker: row.gender for row in rows}
    assert Counter(genders.values()) == {"female": 4, "male": 4}


def test_the_pool_has_no_labels_and_no_held_out_speaker(rows: list[Utterance]) -> None:
    parts = {part: {row.speaker for row in rows if row.split == part} for part in ("train", "dev", "test")}
    assert {part: len(speakers) for part, speakers in parts.items()} == {"train": 4, "dev": 2, "test": 2}
    assert len(set.union(*parts.values())) == 8, "no speaker is in two parts"
    pool = [row for row in rows if row.split == "unlabelled"]
    assert len(pool) == 4 * demo.POOL
    assert all(row.emotion is None and row.activation is None and row.valence is None for row in pool)
    assert {row.speaker for row in pool} == parts["train"]


def test_attributes_lie_on_the_scale_and_follow_the_emotion(root: Path, rows: list[Utterance]) -> None:
    reading = demo.read(root)
    assert reading.attribute_scale == (1.0, 5.0)
    means = {e: np.mean([row.activation for row in rows if row.emotion == e]) for e in demo.STYLES}
    assert means["anger"] > means["neutral"] > means["sadness"]
    values = [v for row in rows if row.emotion for v in (row.activation, row.valence, row.dominance)]
    assert 1 <= min(values) <= max(values) <= 5


def test_it_says_that_it_is_synthetic(root: Path) -> None:
    assert demo.read(root).synthetic
    assert (root / "README.txt").read_text("utf-8").startswith("Synthetic speech-like sounds, made by sersearch")
    assert "synthetic" in demo.SUMMARY


def test_clips_are_of_speech_s_length_and_not_clipped(root: Path, rows: list[Utterance]) -> None:
    for row in rows[::7]:
        samples = load_audio(root / row.path)
        assert 0.8 < len(samples) / 16_000 < 4
        assert 0.01 < np.abs(samples).max() < 1
        assert len(extractor("spectrogram")(samples)) > 50


def test_a_corpus_that_is_there_is_left_alone(root: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    demo.write(root)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


@pytest.mark.usefixtures("short")
def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        demo.write_demo(tmp_path / name, seed)
    a, b, c = (content(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() == c.keys()
    assert all(a[name] != c[name] for name in a)


@pytest.mark.usefixtures("short")
def test_a_killed_synthesis_starts_again(tmp_path: Path) -> None:
    demo.write_demo(tmp_path)
    whole = content(tmp_path)
    (tmp_path / "README.txt").unlink()
    (tmp_path / "F01/F01_anger_1.wav").write_bytes(b"RIFF")
    demo.write_demo(tmp_path)
    assert content(tmp_path) == whole


# --- faces ------------------------------------------------------------------------------------------------------------


def test_every_clip_has_a_face_as_long_as_its_sound(root: Path, rows: list[Utterance]) -> None:
    for row in rows[::16]:
        assert row.visual is not None
        matrix = OpenFace().read(Path(row.visual))
        assert matrix.shape[1] == 35
        assert len(matrix) == pytest.approx(30 * len(load_audio(root / row.path)) / RATE, abs=2)


def test_faces_move_with_the_emotion(rows: list[Utterance]) -> None:
    smile = INTENSITIES.index("AU12_r")
    found: dict[str, list[float]] = {emotion: [] for emotion in demo.STYLES}
    for row in rows:
        if row.emotion and row.visual is not None:
            found[row.emotion].append(float(OpenFace().read(Path(row.visual))[:, smile].mean()))
    means = {emotion: np.mean(values) for emotion, values in found.items()}
    assert max(means, key=means.__getitem__) == "happiness"
    assert min(found["happiness"]) < max(found["neutral"]), "the classes overlap"
