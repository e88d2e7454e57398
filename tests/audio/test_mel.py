"""Mel filter banks against librosa, on real speech."""

from __future__ import annotations

from pathlib import Path

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.audio import Mel, Mfb, extractor, load_audio
from sersearch.audio.mel import mel_filters
from sersearch.errors import AudioError

RATE = 16_000


@pytest.fixture(scope="module")
def utterances(corpora: Path) -> list[np.ndarray]:
    """Real speech: acted, short and clean; read, long and once compressed."""
    acted = sorted((corpora / "nemo" / "samples").glob("*.flac"))[::600]
    read = sorted((corpora / "LibriSpeech").rglob("*.flac"))[::200]
    return [load_audio(path) for path in [*acted, *read]]


def noise(length: int) -> np.ndarray:
    return (0.1 * np.random.default_rng(length).normal(size=length)).astype(np.float32)


def by_librosa(samples: np.ndarray) -> np.ndarray:
    """The authors' features, as librosa 0.7, which they name, computed them: it mirrored the ends."""
    return librosa.feature.melspectrogram(
        y=samples / np.abs(samples).max(), sr=RATE, n_fft=512, hop_length=256, n_mels=128, pad_mode="reflect"
    ).T


@pytest.mark.parametrize(("bands", "fft"), [(128, 512), (40, 512), (26, 1024)])
def test_filters_are_librosa_s(bands: int, fft: int) -> None:
    expected = librosa.filters.mel(sr=RATE, n_fft=fft, n_mels=bands).T
    np.testing.assert_allclose(mel_filters(bands, fft), expected, rtol=1e-5, atol=1e-9)
    assert (mel_filters(bands, fft).max(axis=0) > 0).all(), "no band is empty"


def test_mel_of_real_speech_is_librosa_s_to_a_ten_thousandth_of_each_value(utterances: list[np.ndarray]) -> None:
    for samples in utterances:
        found = Mel()(samples)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, by_librosa(samples), rtol=1e-4, atol=1e-14)


def test_mfb_of_real_speech_is_the_logarithm_of_librosa_s_power(utterances: list[np.ndarray]) -> None:
    for samples in utterances:
        frames = librosa.util.frame(samples, frame_length=320, hop_length=160, axis=0)
        windowed = frames.astype(np.float64) * librosa.filters.get_window("hamming", 320)
        power = np.abs(np.fft.rfft(windowed, 512)) ** 2
        bands = librosa.feature.melspectrogram(S=power.T, sr=RATE, n_mels=40).T
        found = Mfb()(samples)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, np.log(np.maximum(bands, 1e-10)), atol=1e-3)


@pytest.mark.parametrize(("name", "half"), [("mel", 40.0), ("mfb", 100.0)])
@pytest.mark.parametrize("frequency", [300.0, 1000.0, 3000.0, 7000.0])
def test_a_tone_lies_in_its_band(name: str, half: float, frequency: float) -> None:
    samples = np.sin(2 * np.pi * frequency * np.arange(RATE) / RATE).astype(np.float32)
    loudest = extractor(name)(samples).mean(axis=0).argmax()
    centre = librosa.mel_frequencies(extractor(name).dims + 2, fmax=RATE / 2)[1 + loudest]
    assert abs(centre - frequency) <= max(half, 0.05 * frequency)


def test_the_gain_of_a_recording_is_in_mfb_and_not_in_mel(utterances: list[np.ndarray]) -> None:
    loud = utterances[0] / np.abs(utterances[0]).max()
    np.testing.assert_allclose(Mel()(loud / 8), Mel()(loud), rtol=1e-6)
    audible = Mfb()(loud) > -10
    np.testing.assert_allclose((Mfb()(loud) - Mfb()(loud / 8))[audible], 2 * np.log(8), atol=1e-4)


def test_float16_which_the_cards_ask_for_loses_nothing_that_training_sees(utterances: list[np.ndarray]) -> None:
    for name in ("mel", "mfb"):
        assert extractor(name).card()["dtype"] == "float16"
        rows = np.concatenate([extractor(name)(samples) for samples in utterances]).astype(np.float64)
        stored = rows.astype(np.float16).astype(np.float64)
        mean, std = rows.mean(axis=0), rows.std(axis=0)
        seen, exact = (np.clip((matrix - mean) / std, -3, 3) for matrix in (stored, rows))
        np.testing.assert_allclose(seen, exact, atol=0.003)  # of a standard deviation


def test_the_loudest_that_there_can_be_fits_float16() -> None:
    tones = [np.sin(2 * np.pi * f * np.arange(4096) / RATE) for f in (50.0, 100.0, 117.0, 1000.0)]
    for samples in [*tones, *(np.sign(tone) for tone in tones)]:
        assert Mel()(samples.astype(np.float32)).max() < 2000


def test_digital_silence_has_the_floor_of_mfb_and_no_mel_at_all() -> None:
    np.testing.assert_array_equal(Mfb()(np.zeros(RATE, np.float32)), np.float32(np.log(1e-10)))
    with pytest.raises(AudioError, match="silent"):
        Mel()(np.zeros(RATE, np.float32))


def test_less_than_one_window_is_refused() -> None:
    assert Mel()(noise(512)).shape == (3, 128)
    assert Mfb()(noise(320)).shape == (1, 40)
    with pytest.raises(AudioError, match="at least 32 ms"):
        Mel()(noise(511))
    with pytest.raises(AudioError, match="at least 20 ms"):
        Mfb()(noise(319))


@settings(max_examples=30)
@given(st.integers(512, 80_000))
def test_frames_come_every_16_and_10_ms(length: int) -> None:
    assert Mel()(noise(length)).shape == (1 + length // 256, 128)
    assert Mfb()(noise(length)).shape == (1 + (length - 320) // 160, 40)


def test_long_files_go_in_blocks_with_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Mel()(noise(50_000))
    monkeypatch.setattr("sersearch.audio.mel.BLOCK", 7)
    np.testing.assert_allclose(Mel()(noise(50_000)), whole, rtol=1e-5)
