"""The removal of pauses is that of `librosa.effects.split`, at any length and loudness."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sersearch.audio import load_audio, remove_silence

RATE = 16_000


def noise(length: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=length) / 10).astype(np.float32)


def by_librosa(samples: np.ndarray, top_db: float) -> np.ndarray:
    spans = librosa.effects.split(samples, top_db=top_db, frame_length=2048, hop_length=512)
    return np.concatenate([samples[a:b] for a, b in spans])


@settings(max_examples=60)
@given(
    pieces=st.lists(st.tuples(st.integers(1, 4000), st.sampled_from([0.0, 1e-4, 0.02, 0.3, 1.0])), min_size=1),
    seed=st.integers(0, 99),
    top_db=st.sampled_from([20.0, 30.0, 60.0]),
)
@example(pieces=[(1, 1.0)], seed=0, top_db=30.0)
@example(pieces=[(512, 1.0), (2048, 0.0), (511, 1.0)], seed=0, top_db=30.0)
def test_it_removes_what_librosa_does(pieces: list[tuple[int, float]], seed: int, top_db: float) -> None:
    samples = np.concatenate([gain * noise(length, seed) for length, gain in [*pieces, (700, 1.0)]])
    samples = samples.astype(np.float32)
    np.testing.assert_array_equal(remove_silence(samples, top_db), by_librosa(samples, top_db))


def test_on_emotional_speech_too(corpora: Path) -> None:
    for path in sorted((corpora / "nemo" / "samples").glob("*.flac"))[::400]:
        samples = load_audio(path)
        np.testing.assert_array_equal(remove_silence(samples, 30.0), by_librosa(samples, 30.0))


def test_a_pause_goes_but_for_its_edges() -> None:
    speech, pause = noise(RATE), np.zeros(RATE, np.float32)
    remaining = remove_silence(np.concatenate([pause, speech, pause, speech, pause]), 30.0)
    assert 2.0 <= len(remaining) / RATE <= 2.0 + 4 * 0.128, "at most a frame is left at each edge"
    assert (remaining != 0).sum() == (speech != 0).sum() * 2, "no speech is lost"


@pytest.mark.parametrize("gain", [1e-3, 1.0, 30.0])
def test_loudness_is_relative_and_what_is_loud_throughout_stays(gain: float) -> None:
    samples = (gain * noise(20_001)).astype(np.float32)
    np.testing.assert_array_equal(remove_silence(samples, 30.0), samples)
