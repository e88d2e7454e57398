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
SLOWEST, FASTEST = 4_000, 768_000  # Hz
LONGEST = 24 * 3600  # s
MOST = 2**29  # samples of a span, 2 GiB decoded: 9 h at 16 kHz, 3 h at 48 kHz. Of silence 100 kB of FLAC hold as many
BLOCK = 2**20  # samples of all channels that are decoded at once
# A WAV or AIFF file that holds less than its header says: libsndfile reads what is there, and notes this, in bytes.
CUT = re.compile(r"^ *(?:data|SSND) : (\d+) \(should be (\d+)\)$", re.MULTILINE)
PIPED = 0x7FFF_0000  # bytes: from here on it is what programs say that cannot know, as they write to a pipe


def load_audio(
    path: Path | str, start: float | None = None, end: float | None = None, rate: int = RATE
) -> NDArray[np.float32]:
    """The samples of `path` from `start` to `end` (seconds; None: the file's own ends), shape (n,), at `rate` Hz.

    Channels are averaged, then resampled by soxr (HQ). Integer formats are scaled to -1 ... 1; nothing is clipped.

    Raises :class:`AudioError` for a file that is missing, empty, no audio or cut short (where its format tells), a
    span outside the file, less than 60 ms or more than 2^29 samples, NaN or infinite samples, and silence (a peak below
    -80 dBFS).
    """
    path = Path(path)
    mono, source_rate = _read(path, start, end)
    if len(mono) < SHORTEST * source_rate:
        raise AudioError(f"{path}: {1000 * len(mono) / source_rate:.0f} ms of audio; at least 60 ms are needed")
    if np.abs(mono).max() < SILENT_PEAK:
        raise AudioError(f"{path}: silent (no sample above -80 dBFS)")
    if source_rate == rate:
        return mono
    return cast("NDArray[np.float32]", np.ascontiguousarray(soxr.resample(mono, source_rate, rate, "HQ")))


def _read(path: Path, start: float | None, end: float | None) -> tuple[NDArray[np.float32], int]:
    """The span's samples (n,), the mean of the channels, at the file's rate, and that rate."""
    try:
        _check_file(path)
        with soundfile.SoundFile(path) as file:
            rate = int(file.samplerate)
            if not SLOWEST <= rate <= FASTEST:
                raise AudioError(f"{path}: a sampling rate of {rate} Hz; expected {SLOWEST} to {FASTEST} Hz")
            if file.frames > LONGEST * rate:
                raise AudioError(f"{path}: its header does not tell its length; encode it again, to a file, not a pipe")
            first, last = _span(path, file.frames / rate, file, start, end)
            _check_whole(path, file)
            if last - first > MOST:
                hours = f"{(last - first) / rate / 3600:.1f} h at {rate} Hz"
                raise AudioError(f"{path}: {hours} at once; expected at most {MOST / rate / 3600:.1f} h: cut it")
            file.seek(first)
            samples = _mono(path, file, last - first)
    except UnicodeError as error:
        raise AudioError(f"{path}: its name is not in UTF-8; rename it") from error
    except (soundfile.LibsndfileError, OSError) as error:
        reason = getattr(error, "error_string", None) or getattr(error, "strerror", None) or str(error)
        raise AudioError(f"{path}: cannot be decoded ({reason.rstrip('.')})") from error
    if len(samples) < last - first:
        raise AudioError(f"{path}: cut short: {len(samples)} of {last - first} samples could be read")
    return samples, rate


def _mono(path: Path, file: soundfile.SoundFile, count: int) -> NDArray[np.float32]:
    """The next `count` samples, the mean of the channels; fewer where the file ends before."""
    mono, done, wrong = np.empty(count, np.float32), 0, 0
    for block in file.blocks(max(BLOCK // file.channels, 1), frames=count, dtype="float32", always_2d=True):
        wrong += int((~np.isfinite(block)).sum())
        if not wrong:
            mono[done : done + len(block)] = block.mean(axis=1, dtype=np.float64)
        done += len(block)
    if wrong:
        raise AudioError(f"{path}: {wrong} samples are NaN or infinite")
    return mono[:done]


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
