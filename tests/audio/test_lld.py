"""openSMILE's descriptors: in its own framing against bare opensmile, in both against values by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import opensmile
import pytest

from sersearch.audio import Lld, Lld3216, extractor, load_audio

RATE = 16_000
RMS, CROSSINGS = 8, 9  # columns


@pytest.fixture(scope="module")
def speech(corpora: Path) -> np.ndarray:
    """4.3 s of real speech."""
    return load_audio(min((corpora / "LibriSpeech").rglob("*.flac")))[:68_890]


def smoothed(raw: np.ndarray, rows: int) -> np.ndarray:
    """Means over three rows (`rows`,); beyond the ends the first and the last are repeated."""
    padded = np.pad(raw, (1, 2), mode="edge")
    return ((padded[:-2] + padded[1:-1] + padded[2:]) / 3)[:rows]


def by_hand(samples: np.ndarray, window: int, shift: int, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """RMS energy in `window`, and zero crossings a sample in 60 ms, smoothed (rows,)."""
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), window)[::shift]
    long = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), 960)[::shift]
    crossings = ((long[:, :-2] * long[:, 1:-1] < 0) | (long[:, 1:-1] == 0)).sum(axis=1) / 960
    return smoothed(np.sqrt(np.square(frames).mean(axis=1)), rows), smoothed(crossings, rows)


def test_descriptors_and_deltas_are_those_of_bare_opensmile(speech: np.ndarray) -> None:
    descriptors, deltas = (
        opensmile.Smile(opensmile.FeatureSet.ComParE_2016, level).process_signal(speech, RATE)
        for level in (
            opensmile.FeatureLevel.LowLevelDescriptors,
            opensmile.FeatureLevel.LowLevelDescriptors_Deltas,
        )
    )
    found = Lld()(speech)
    np.testing.assert_array_equal(found[:, :65], descriptors.to_numpy())
    np.testing.assert_array_equal(found[:, 65:], deltas.to_numpy()[: len(found)])
    assert list(descriptors)[RMS : CROSSINGS + 1] == ["pcm_RMSenergy_sma", "pcm_zcr_sma"]


@pytest.mark.parametrize("name", ["lld", "lld_32_16"])
def test_windows_and_shift_are_those_of_the_paper(name: str, speech: np.ndarray) -> None:
    window, shift = {"lld": (320, 160), "lld_32_16": (512, 256)}[name]
    found = extractor(name)(speech)
    energy, crossings = by_hand(speech, window, shift, len(found))
    np.testing.assert_allclose(found[:, RMS], energy, atol=2e-5)
    np.testing.assert_allclose(found[:, CROSSINGS], crossings, atol=1.1 / 960)
    assert extractor(name).card()["frame_rate"] == RATE / shift


@pytest.mark.parametrize("length", [960, 961, 1119, 1120, 1215, 1216, 16_000])
def test_rows_are_the_windows_of_60_ms_and_one(length: int, speech: np.ndarray) -> None:
    assert Lld()(speech[:length]).shape == (2 + (length - 960) // 160, 130)
    assert Lld3216()(speech[:length]).shape == (2 + (length - 960) // 256, 130)


@pytest.mark.parametrize("name", ["lld", "lld_32_16"])
def test_deltas_are_the_slope_over_five_rows(name: str, speech: np.ndarray) -> None:
    found = extractor(name)(speech).astype(np.float64)
    values = np.pad(found[:, :65], ((2, 2), (0, 0)), mode="edge")
    slopes = (values[3:-1] - values[1:-3] + 2 * (values[4:] - values[:-4])) / 10
    inside = slice(0, -2)  # after the last row openSMILE still has descriptors with short windows
    np.testing.assert_allclose(found[inside, 65 + 6 :], slopes[inside, 6:], rtol=1e-3, atol=1e-3 * values[:, 6:].std())


@pytest.mark.parametrize("name", ["lld", "lld_32_16"])
@pytest.mark.parametrize("pitch", [110.0, 220.0])
def test_f0_is_found_in_both_framings(name: str, pitch: float) -> None:
    times = np.arange(RATE) / RATE
    buzz = sum(np.sin(2 * np.pi * pitch * k * times) / k for k in range(1, 20))
    found = extractor(name)((0.1 * buzz).astype(np.float32))
    assert np.median(found[:, 0]) == pytest.approx(pitch, rel=0.02)


def test_the_end_of_the_file_does_not_change_what_lies_before(speech: np.ndarray) -> None:
    whole, part = Lld()(speech), Lld()(speech[:32_000])
    before = len(part) - 40  # the path of F0 is decided 30 rows later
    np.testing.assert_allclose(part[:before], whole[:before], rtol=1e-4, atol=1e-5)
