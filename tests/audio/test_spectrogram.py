"""The AAE paper's spectrogram against scipy, and the removal of silence against librosa."""

from __future__ import annotations

import json
from pathlib import Path

import librosa
import numpy as np
import pytest
import scipy.signal
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.audio import extractor, extractor_from_card, load_audio
from sersearch.audio.silence import remove_silence
from sersearch.audio.spectrogram import Spectrogram
from sersearch.errors import AudioError, BundleError, ConfigError

RATE = 16_000


def voice(seconds: float = 2.0, seed: int = 0) -> np.ndarray:
    """A voice-like buzz with noise, loud throughout."""
    rng = np.random.default_rng(seed)
    times = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 130 * k * times) / k for k in range(1, 30))
    return (0.2 * wave + 0.02 * rng.normal(size=len(times))).astype(np.float32)


def test_bands_are_scipy_s_power_spectrum_in_pairs() -> None:
    samples = voice()
    transform = scipy.signal.ShortTimeFFT(scipy.signal.get_window("hamming", 400), 160, RATE, mfft=512)
    count = 1 + (len(samples) - 400) // 160
    frames = np.stack([samples[160 * i : 160 * i + 400] for i in range(count)])
    power = np.abs(np.fft.rfft(frames.astype(np.float64) * transform.win, 512)) ** 2
    expected = librosa.power_to_db(power[:, 1::2] + power[:, 2::2], ref=np.max, top_db=80)
    found = Spectrogram(silence_db=200.0)(samples)
    assert found.shape == (count, 128)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=2e-3)


@pytest.mark.parametrize("frequency", [500.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_lies_in_its_band(frequency: float) -> None:
    samples = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE).astype(np.float32)
    loudest = extractor("spectrogram")(samples).mean(axis=0).argmax()
    assert abs(loudest * 62.5 - frequency) <= 62.5, "128 bands of 62.5 Hz, from 0 to 8 kHz"


def test_the_gain_of_a_recording_is_not_in_it() -> None:
    np.testing.assert_allclose(extractor("spectrogram")(voice()), extractor("spectrogram")(voice() / 16), atol=1e-4)


def test_a_frame_comes_every_10_ms() -> None:
    assert abs(len(Spectrogram(silence_db=200.0)(voice(3.0))) - 298) <= 1


def test_the_floor_holds_digital_silence() -> None:
    samples = voice(0.5)
    samples[4000:6000] = 0
    found = Spectrogram(silence_db=200.0)(samples)
    assert found.min() == -80
    assert np.isfinite(found).all()


def test_long_files_go_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = extractor("spectrogram")(voice(3.0))
    monkeypatch.setattr("sersearch.audio.spectrogram.BLOCK", 7)
    np.testing.assert_array_equal(extractor("spectrogram")(voice(3.0)), whole)


@pytest.mark.parametrize("seed", range(5))
def test_silence_goes_as_librosa_splits(seed: int) -> None:
    rng = np.random.default_rng(seed)
    pieces = [voice(rng.uniform(0.2, 0.6), seed) * rng.choice([1.0, 0.3, 1e-3, 0.0]) for _ in range(8)]
    samples = np.concatenate([voice(0.3, seed), *pieces])
    spans = librosa.effects.split(samples, top_db=30, frame_length=2048, hop_length=512)
    expected = np.concatenate([samples[a:b] for a, b in spans])
    np.testing.assert_array_equal(remove_silence(samples, 30.0), expected)


def test_real_speech_loses_its_pauses_as_librosa_splits(corpora: Path) -> None:
    path = min((corpora / "LibriSpeech").rglob("*.flac"))
    samples = load_audio(path)
    spans = librosa.effects.split(samples, top_db=30, frame_length=2048, hop_length=512)
    expected = np.concatenate([samples[a:b] for a, b in spans])
    np.testing.assert_array_equal(remove_silence(samples, 30.0), expected)
    assert len(expected) < len(samples)


def test_a_card_makes_the_extractor_that_wrote_it() -> None:
    made = Spectrogram(silence_db=25.0)
    assert extractor_from_card(made.card()) == made
    with pytest.raises(BundleError, match="version 1"):
        extractor_from_card({**made.card(), "version": 1})
    with pytest.raises(BundleError, match="unknown here"):
        extractor_from_card({**made.card(), "features": "wavelets"})
    with pytest.raises(BundleError, match="parameters unknown"):
        extractor_from_card({**made.card(), "parameters": {"hop": 3}})


def test_unusable_requests() -> None:
    with pytest.raises(ConfigError, match="did you mean spectrogram"):
        extractor("spectogram")
    with pytest.raises(AudioError, match="at least 25 ms"):
        extractor("spectrogram")(voice(0.01))


def by_librosa(samples: np.ndarray) -> np.ndarray:
    """The same features from librosa's own parts: pauses, transform and decibels."""
    spans = librosa.effects.split(samples, top_db=30, frame_length=2048, hop_length=512)
    voiced = np.concatenate([samples[a:b] for a, b in spans])
    padded = np.pad(voiced, (512 - 400) // 2)  # librosa centres a window of 400 in the 512 points
    transform = librosa.stft(padded, n_fft=512, hop_length=160, win_length=400, window="hamming", center=False)
    power = np.abs(transform[1:]) ** 2  # 31.25 Hz ... 8 kHz
    return librosa.power_to_db(power.reshape(128, 2, -1).sum(axis=1), ref=np.max, top_db=80).T


def test_real_speech_from_the_file_on_as_librosa_has_it(corpora: Path) -> None:
    paths = [
        *sorted((corpora / "nemo" / "samples").glob("*.flac"))[::600],
        min((corpora / "LibriSpeech").rglob("*.flac")),
    ]
    for path in paths:
        found = extractor("spectrogram")(load_audio(path))
        expected = by_librosa(soundfile.read(path, dtype="float32")[0])
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=5e-3)


@settings(max_examples=30)
@given(st.integers(400, 6000))
def test_every_whole_window_is_a_frame(length: int) -> None:
    found = Spectrogram(silence_db=200.0)(voice(1.0)[:length])
    assert found.shape == (1 + (length - 400) // 160, 128)
    assert found.max() == 0, "the loudest value is the reference"


def test_the_card_says_what_it_is_in_plain_json() -> None:
    card = extractor("spectrogram").card()
    assert json.loads(json.dumps(card)) == card
    assert (card["features"], card["dims"], card["rate"], card["frame_rate"]) == ("spectrogram", 128, 16_000, 100.0)
    assert (card["parameters"]["window"], card["parameters"]["shift"]) == (0.025 * RATE, 0.010 * RATE)
    assert set(card["versions"]) == {"numpy", "soundfile", "soxr"}
