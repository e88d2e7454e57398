"""Audio as users have it: every format and rate comes out as 16 kHz mono, and what cannot be used says why."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.audio import load_audio
from sersearch.errors import AudioError

RATE = 16_000


def sine(seconds: float = 0.5, rate: int = RATE, frequency: float = 440.0) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(seconds * rate)) / rate)


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100, 48_000, 96_000])
def test_every_rate_comes_out_at_16_khz_with_its_tone(tmp_path: Path, rate: int) -> None:
    soundfile.write(tmp_path / "a.wav", sine(rate=rate), rate, subtype="FLOAT")
    samples = load_audio(tmp_path / "a.wav")
    assert samples.dtype == np.float32
    assert abs(len(samples) - RATE / 2) <= 1
    middle = slice(1000, 7000)  # the ends ring
    np.testing.assert_allclose(samples[middle], sine()[middle], atol=2e-3)


@pytest.mark.parametrize(
    ("subtype", "tolerance"), [("PCM_U8", 1e-2), ("PCM_16", 1e-4), ("PCM_24", 1e-6), ("FLOAT", 1e-7)]
)
def test_every_sample_format_is_scaled_to_one(tmp_path: Path, subtype: str, tolerance: float) -> None:
    soundfile.write(tmp_path / "a.wav", sine(), RATE, subtype=subtype)
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), sine(), atol=tolerance)


def test_flac_is_wav(tmp_path: Path) -> None:
    for name in ("a.wav", "a.flac"):
        soundfile.write(tmp_path / name, (sine() * 2**15).astype(np.int16), RATE, subtype="PCM_16")
    np.testing.assert_array_equal(load_audio(tmp_path / "a.wav"), load_audio(tmp_path / "a.flac"))


def test_channels_are_averaged(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", np.stack([sine(), np.zeros(8000)], axis=1), RATE, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav"), sine() / 2, atol=1e-6)


@settings(max_examples=30)
@given(start=st.integers(0, 6000), length=st.integers(960, 2000))
def test_a_span_is_its_samples(tmp_path_factory: pytest.TempPathFactory, start: int, length: int) -> None:
    path = tmp_path_factory.getbasetemp() / "ramp.wav"
    ramp = np.linspace(-1, 1, 8000, dtype=np.float32)
    if not path.exists():
        soundfile.write(path, ramp, RATE, subtype="FLOAT")
    np.testing.assert_array_equal(load_audio(path, start / RATE, (start + length) / RATE), ramp[start : start + length])


def written(path: Path, samples: np.ndarray, subtype: str = "FLOAT") -> Path:
    soundfile.write(path, samples, RATE, subtype=subtype)
    return path


def test_what_cannot_be_used_is_named_with_the_reason(tmp_path: Path) -> None:
    spoilt = sine()
    spoilt[10:13] = np.nan, np.inf, -np.inf
    noise = tmp_path / "noise.wav"
    noise.write_bytes(bytes(range(256)) * 8)
    empty = tmp_path / "empty.wav"
    empty.touch()
    cut = written(tmp_path / "cut.flac", np.random.default_rng(0).normal(size=20_000) / 10, "PCM_16")
    cut.write_bytes(cut.read_bytes()[:9000])
    cases = {
        written(tmp_path / "nan.wav", spoilt): "3 samples are NaN or infinite",
        written(tmp_path / "short.wav", sine(0.010)): "10 ms of audio; at least 60 ms",
        written(tmp_path / "none.wav", np.zeros(0)): "holds no samples",
        written(tmp_path / "silent.wav", np.zeros(8000)): "silent",
        noise: "cannot be decoded",
        empty: "empty (0 bytes)",
        cut: "cannot be decoded",
        tmp_path / "absent.wav": "no such file",
        tmp_path: "not a file",
    }
    for path, reason in cases.items():
        with pytest.raises(AudioError) as error:
            load_audio(path)
        assert str(error.value).startswith(str(path))
        assert reason in str(error.value)


@pytest.mark.parametrize("name", ["a.wav", "a.aiff"])
def test_a_copy_that_broke_off_is_no_shorter_utterance(tmp_path: Path, name: str) -> None:
    path = written(tmp_path / name, sine(3.0), "PCM_16")
    path.write_bytes(path.read_bytes()[:32_000])
    with pytest.raises(AudioError, match=rf"{name}: cut short: 1\.00 of 3\.00 s are there; copy it again"):
        load_audio(path)


@pytest.mark.parametrize("said", [0xFFFF_FFFF, 0x7FFF_FFFF, 0x7FFF_F000, 16_100])
def test_a_length_that_was_unknown_or_rounded_is_no_damage(tmp_path: Path, said: int) -> None:
    path = written(tmp_path / "a.wav", sine(), "PCM_16")
    content = bytearray(path.read_bytes())
    content[40:44] = said.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(load_audio(path)) == 8000


@settings(max_examples=150)
@given(
    name=st.sampled_from(["a.wav", "a.flac", "a.ogg", "a.aiff"]),
    changes=st.lists(st.tuples(st.integers(0, 80), st.integers(0, 255)), min_size=1, max_size=5),
    kept=st.floats(0.01, 1.0),
)
def test_damage_of_any_kind_is_an_audio_error_or_audio(
    tmp_path_factory: pytest.TempPathFactory, name: str, changes: list[tuple[int, int]], kept: float
) -> None:
    path = tmp_path_factory.getbasetemp() / f"whole_{name}"
    if not path.exists():
        soundfile.write(path, sine(), RATE)
    content = bytearray(path.read_bytes())
    for place, value in changes:
        content[place] = value
    damaged = path.with_name(f"damaged_{name}")
    damaged.write_bytes(content[: round(kept * len(content))])
    reason = ""
    try:
        assert np.isfinite(load_audio(damaged)).all()
    except AudioError as error:
        reason = str(error)
    assert not reason or reason.startswith(f"{damaged}: ")


def test_a_name_that_the_system_refuses(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"x\.wav: cannot be decoded \(File name too long\)"):
        load_audio(tmp_path / f"{'x' * 300}.wav")


@pytest.mark.parametrize("name", ["a.flac", "a.ogg", "a.mp3"])
def test_a_span_of_a_compressed_file_is_where_it_lies_in_the_whole(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).normal(size=3 * RATE) / 10
    soundfile.write(tmp_path / name, noise, RATE)
    whole, part = load_audio(tmp_path / name), load_audio(tmp_path / name, 1.2345, 2.5)
    np.testing.assert_allclose(part, whole[19_752:40_000], atol=1e-6)


@pytest.mark.parametrize("span", [(0.2, 0.9), (0.7, None), (0.3, 0.2), (-0.1, 0.2)])
def test_a_span_outside_the_file(tmp_path: Path, span: tuple[float, float | None]) -> None:
    with pytest.raises(AudioError, match=r"does not lie in the file, which lasts 0\.50 s"):
        load_audio(written(tmp_path / "a.wav", sine()), *span)


def test_what_16_khz_cannot_hold_does_not_come_back_as_another_tone(tmp_path: Path) -> None:
    rate = 48_000
    soundfile.write(tmp_path / "a.wav", sine(rate=rate) + sine(rate=rate, frequency=12_000.0), rate, subtype="FLOAT")
    np.testing.assert_allclose(load_audio(tmp_path / "a.wav")[1000:7000], sine()[1000:7000], atol=2e-3)


@pytest.mark.parametrize("name", ["a.ogg", "a.mp3"])
def test_lossy_formats_are_read(tmp_path: Path, name: str) -> None:
    soundfile.write(tmp_path / name, sine(2.0), RATE)
    samples = load_audio(tmp_path / name)
    assert len(samples) == 2 * RATE
    spectrum = np.abs(np.fft.rfft(samples))
    assert spectrum.argmax() * RATE / len(samples) == 440


def test_a_span_of_another_rate_is_cut_before_it_is_resampled(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", sine(1.0, 48_000), 48_000, subtype="FLOAT")
    samples = load_audio(tmp_path / "a.wav", 0.25, 0.75)
    assert len(samples) == RATE / 2
    np.testing.assert_allclose(samples[1000:7000], sine(1.0)[5000:11000], atol=2e-3)


def test_the_end_of_a_span_may_be_rounded_beyond_the_file(tmp_path: Path) -> None:
    assert len(load_audio(written(tmp_path / "a.wav", sine()), 0.1, 0.55)) == 0.4 * RATE


def test_one_bad_channel_spoils_the_file_and_loud_ones_do_not_overflow(tmp_path: Path) -> None:
    both = np.stack([sine(), sine()], axis=1)
    both[7, 1] = np.nan
    with pytest.raises(AudioError, match="1 samples are NaN or infinite"):
        load_audio(written(tmp_path / "a.wav", both))
    assert load_audio(written(tmp_path / "b.wav", np.full((8000, 2), 3e38))).max() == np.float32(3e38)
    with pytest.raises(AudioError, match=r"b\.wav: 8000 samples are NaN or infinite"):
        load_audio(written(tmp_path / "b.wav", np.full(8000, 1e300), "DOUBLE"))
    with pytest.raises(AudioError, match="silent"):
        load_audio(written(tmp_path / "c.wav", np.stack([sine(), -sine()], axis=1)))


def test_a_header_does_not_decide_how_much_memory_is_taken(tmp_path: Path) -> None:
    flac = bytearray(written(tmp_path / "a.flac", sine(), "PCM_16").read_bytes())
    for low, length in ((0x0, b"\0\0\0\0"), (0xF, b"\xff\xff\xff\xff")):  # unknown, as in a pipe; 68 billion samples
        flac[21] = flac[21] & 0xF0 | low
        flac[22:26] = length
        (tmp_path / "b.flac").write_bytes(flac)
        with pytest.raises(AudioError, match=r"b\.flac: its header does not tell its length; encode it again"):
            load_audio(tmp_path / "b.flac")
    wav = bytearray(written(tmp_path / "a.wav", sine(), "PCM_16").read_bytes())
    wav[24:28] = (1).to_bytes(4, "little")
    (tmp_path / "a.wav").write_bytes(wav)
    with pytest.raises(AudioError, match=r"a\.wav: a sampling rate of 1 Hz; expected 4000 to 768000 Hz"):
        load_audio(tmp_path / "a.wav")


def test_samples_without_a_header_are_not_guessed(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(4000))
    with pytest.raises(AudioError, match=r"a\.raw: raw samples without a header; convert it to WAV or FLAC"):
        load_audio(tmp_path / "a.raw")
