"""Noisy copies of a corpus: which utterances, which noises, and the same ones each time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.noise import NoiseCopies, noisy
from sersearch.data.schema import Utterance
from sersearch.errors import ConfigError, DataError


def noises(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        soundfile.write(folder / f"n{number}.wav", np.random.default_rng(number).normal(size=16_000 * 3) / 10, 16_000)
    return folder


def spoken(speakers: int, each: int = 6, split: str | None = None) -> list[Utterance]:
    return [
        Utterance(id=f"s{s}_{n}", path=f"s{s}_{n}.wav", speaker=f"s{s}", corpus="made", emotion="joy", split=split)
        for s in range(speakers)
        for n in range(each)
    ]


def test_every_utterance_has_a_copy_at_each_snr_with_its_labels(tmp_path: Path) -> None:
    rows, _ = noisy(spoken(2), NoiseCopies(noises(tmp_path / "noise", 3), (10, 0, -2.5)))
    assert len(rows) == 2 * 6 * 4
    clean = {row.id: row for row in rows if row.condition == "clean"}
    assert [row.noise for row in clean.values()] == [None] * 12
    for row in rows:
        if row.condition != "clean":
            original = clean[row.id.rpartition("_snr")[0]]
            assert row.condition == f"snr{row.snr:g}"
            assert (row.path, row.speaker, row.emotion) == (original.path, original.speaker, original.emotion)
            assert row.noise in {"n0.wav", "n1.wav", "n2.wav"}
            assert 0 <= row.noise_start <= 3
    assert {row.condition for row in rows} == {"clean", "snr10", "snr0", "snr-2.5"}


def test_the_seed_decides_and_further_utterances_or_snrs_change_nothing(tmp_path: Path) -> None:
    root = noises(tmp_path / "noise", 5)
    first, _ = noisy(spoken(2), NoiseCopies(root, (10, 5)))
    again, _ = noisy(spoken(2)[::-1], NoiseCopies(root, (5, 10, 0)))
    assert set(first) <= set(again)
    other, _ = noisy(spoken(2), NoiseCopies(root, (10, 5), seed=1))
    assert set(first) != set(other)


def test_the_test_part_has_noises_of_its_own(tmp_path: Path) -> None:
    corpus = spoken(2, 30, "train") + [
        Utterance(id=f"t{n}", path="t.wav", speaker="t", corpus="made", split="test") for n in range(60)
    ]
    rows, notes = noisy(corpus, NoiseCopies(noises(tmp_path / "noise", 6), (5,)))
    test = {row.noise for row in rows if row.split == "test" and row.noise}
    rest = {row.noise for row in rows if row.split != "test" and row.noise}
    assert (len(test), len(rest), test & rest) == (2, 4, set())
    assert notes == ()
    _, notes = noisy(corpus, NoiseCopies(noises(tmp_path / "one", 1), (5,)))
    assert notes == ("there is one noise: the test part shares it with the training part",)


def test_without_an_official_split_speakers_have_noises_of_their_own(tmp_path: Path) -> None:
    root = noises(tmp_path / "noise", 6)
    rows, notes = noisy(spoken(3, 40), NoiseCopies(root, (5,)))
    by_speaker = [{r.noise for r in rows if r.speaker == f"s{n}" and r.noise} for n in range(3)]
    assert [len(own) for own in by_speaker] == [2, 2, 2]
    assert len(set.union(*by_speaker)) == 6
    assert notes == ()
    _, notes = noisy(spoken(7), NoiseCopies(root, (5,)))
    assert "6 noises for 7 speakers: some speakers share one" in notes[0]


def test_what_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--noise needs --snr"):
        NoiseCopies(tmp_path, ())
    with pytest.raises(ConfigError, match="one of them stands twice"):
        NoiseCopies(tmp_path, (5, 5.0))
    with pytest.raises(DataError, match="no such folder; a folder of noises has audio files"):
        noisy(spoken(1), NoiseCopies(tmp_path / "absent", (5,)))
    with pytest.raises(DataError, match="no audio found"):
        noisy(spoken(1), NoiseCopies(tmp_path, (5,)))
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    with pytest.raises(DataError, match=r"bad\.wav: a noise that cannot be decoded"):
        noisy(spoken(1), NoiseCopies(tmp_path, (5,)))


def test_a_speaker_may_be_called_rest(tmp_path: Path) -> None:
    corpus = [Utterance(id=f"{s}{n}", path="a.wav", speaker=s, corpus="made") for s in ("rest", "a", "b") for n in "12"]
    rows, notes = noisy(corpus, NoiseCopies(noises(tmp_path / "noise", 3), (5,)))
    assert notes == ()
    assert len({(row.speaker, row.noise) for row in rows if row.noise}) == 3
    assert len({row.noise for row in rows if row.noise}) == 3
