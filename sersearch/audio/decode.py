"""Decode one utterance: any format that libsndfile reads -> mono float32 at one rate."""

from __future__ import annotations

import re
from pathlib import Path
from typing import cast

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from sersearch.errors import AudioError

RATE = 16_000  # Hz: the rate of all features
SHORTEST = 0.060  # s: openSMILE's functionals are NaN below this, and a spectrogram has too few frames to mean anything
SILENT_PEAK = 1e-4  # -80 dBFS: three steps of a 16-bit sample
SLACK = 0.1  # s: label files round the ends of spans, and some programs the lengths in headers
# What only damaged headers claim, and headers of FLAC that was written to a pipe: they must not decide on memory.
SLOWEST = 4_000  # Hz
LONGEST = 24 * 3600  # s
# A WAV or AIFF file that holds less than its header says: libsndfile reads what is there, and notes this, in bytes.
CUT = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)$", re.MULTILINE)
PIPED = 0x7FFF_0000  # bytes: from here on it is what programs say that cannot know, as they write to a pipe


def load_audio(
    path: Path | str, start: float | None = None, end: float | None = None, rate: int = RATE
) -> NDArray[np.float32]:
    """The samples of `path` from `start` to `end` (seconds; None: the file's own ends), shape (n,), at `rate` Hz.

    Channels are averaged, then resampled by soxr (HQ). Integer formats are scaled to -1 ... 1; nothing is clipped.

    Raises :class:`AudioError` for a file that is missing, empty, no audio or cut short (where its format tells), a
    span outside the file, less than 60 ms, NaN or infinite samples, and silence (a peak below -80 dBFS).
    """
    path = Path(path)
    samples, source_rate = _read(path, start, end)
    if not np.isfinite(samples).all():
        raise AudioError(f"{path}: {int((~np.isfinite(samples)).sum())} samples are NaN or infinite")
    mono: NDArray[np.float32] = samples.mean(axis=1, dtype=np.float64).astype(np.float32)
    if len(mono) < SHORTEST * source_rate:
        raise AudioError(f"{path}: {1000 * len(mono) / source_rate:.0f} ms of audio; at least 60 ms are needed")
    if np.abs(mono).max() < SILENT_PEAK:
        raise AudioError(f"{path}: silent (no sample above -80 dBFS)")
    if source_rate == rate:
        return mono
    return cast("NDArray[np.float32]", np.ascontiguousarray(soxr.resample(mono, source_rate, rate, "HQ")))


def _read(path: Path, start: float | None, end: float | None) -> tuple[NDArray[np.float32], int]:
    """The span's samples (n, channels) as they are in the file, and the file's rate."""
    try:
        _check_file(path)
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            if rate < SLOWEST:
                raise AudioError(f"{path}: a sampling rate of {rate} Hz; at least {SLOWEST} Hz are needed")
            if file.frames > LONGEST * rate:
                raise AudioError(f"{path}: its header does not tell its length; encode it again, to a file, not a pipe")
            first, last = _span(path, file.frames / rate, file, start, end)
            _check_whole(path, file)
            file.seek(first)
            samples = file.read(last - first, dtype="float32", always_2d=True)
    except UnicodeError as error:
        raise AudioError(f"{path}: its name is not in UTF-8; rename it") from error
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{path}: cannot be decoded ({reason.rstrip('.')})") from error
    if len(samples) < last - first:
        raise AudioError(f"{path}: cut short: {len(samples)} of {last - first} samples could be read")
    return samples, rate


def _check_file(path: Path) -> None:
    """Refuse what libsndfile would not tell apart."""
    if not path.exists():
        raise AudioError(f"{path}: no such file")
    if not path.is_file():
        raise AudioError(f"{path}: not a file")
    if path.stat().st_size == 0:
        raise AudioError(f"{path}: the file is empty (0 bytes)")
    if path.suffix.lower() == ".raw":
        raise AudioError(f"{path}: raw samples without a header; convert it to WAV or FLAC")


def _check_whole(path: Path, file: soundfile.SoundFile) -> None:
    """Refuse a WAV or AIFF file whose end is missing, as a broken copy leaves it."""
    found = CUT.search(file.extra_info)
    if not found or int(found[1]) >= PIPED:
        return
    there = file.frames / file.samplerate
    whole = there * int(found[1]) / max(int(found[2]), 1)
    if whole > there + SLACK:
        raise AudioError(f"{path}: cut short: {there:.2f} of {whole:.2f} s are there; copy it again")


def _span(
    path: Path, seconds: float, file: soundfile.SoundFile, start: float | None, end: float | None
) -> tuple[int, int]:
    """The span as sample numbers of the file."""
    if file.frames == 0:
        raise AudioError(f"{path}: the file holds no samples")
    begin, stop = start or 0.0, seconds if end is None else end
    if not 0 <= begin < stop <= seconds + SLACK or begin >= seconds:
        raise AudioError(f"{path}: the span {begin:g}-{stop:g} s does not lie in the file, which lasts {seconds:.2f} s")
    return round(begin * file.samplerate), min(round(stop * file.samplerate), file.frames)
