"""Mel filter banks: the power mel spectrogram of DeepEmoCluster, and log energies for the ladder paper's CNN.

The filters are those of `librosa.filters.mel`, and the tests hold both sets to librosa; written out here because
librosa costs every process, `sersearch predict` included, seconds of imports and compilation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from sersearch.audio.card import make_card
from sersearch.audio.decode import RATE
from sersearch.errors import AudioError

BLOCK = 64  # frames transformed at once: they stay in the processor's cache


@dataclass(frozen=True)
class FilterBank:
    """What both sets have in common."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # goes up when the same parameters give other numbers
    dims: ClassVar[int]

    window: int
    shift: int

    def card(self) -> dict[str, Any]:
        """What decides the numbers, and under `versions` the libraries that they were made with: plain JSON."""
        return make_card(self, frame_rate=RATE / self.shift, dtype="float16", packages=("numpy", "soundfile", "soxr"))

    def _power(self, samples: NDArray[np.float32], weights: NDArray[np.float64], fft: int) -> NDArray[np.float32]:
        """Power in the bands (T, dims) of all whole windows of `samples` (n,), weighted by `weights` (window,)."""
        frames = np.lib.stride_tricks.sliding_window_view(samples, self.window)[:: self.shift]
        power = np.empty((fft // 2 + 1, len(frames)), np.float32)
        # Written over by each block: new arrays would cost as much as the arithmetic. Transformed in float64: what is
        # 70 dB below the loudest would drown in the rounding of float32.
        windowed, spectrum = np.zeros((BLOCK, fft)), np.empty((BLOCK, fft // 2 + 1), np.complex128)
        for i in range(0, len(frames), BLOCK):
            block = frames[i : i + BLOCK]
            np.multiply(block, weights, out=windowed[: len(block), : self.window])
            np.fft.rfft(windowed[: len(block)], out=spectrum[: len(block)])
            parts = spectrum[: len(block)].view(np.float64)
            np.multiply(parts, parts, out=parts)
            power[:, i : i + BLOCK] = (parts[:, ::2] + parts[:, 1::2]).T
        # A frequency lies in two bands at most: the rest of the filters is zeros.
        bands: NDArray[np.float32] = np.ascontiguousarray((_sparse_filters(self.dims, fft) @ power).T)
        return bands


@dataclass(frozen=True)
class Mel(FilterBank):
    """128-band power mel spectrogram: (n,) samples at 16 kHz -> (T, 128) float32, T = 1 + n // 256.

    DeepEmoCluster (ICASSP 2021, section 4.1) states 128 bands and windows of 32 ms with 16 ms of overlap; the authors'
    code adds that the waveform is divided by its peak, that it is the power, without a logarithm, and the defaults of
    librosa 0.7: Hann windows, centred on every 256th sample, the first and the last reaching beyond the ends, where
    the audio is mirrored. The normalisation and the clipping to 3 deviations belong to training.

    Stored as float16: a peak of 1 keeps values below 2000, and what float16 rounds (0.05% of a value; 3e-8 of small
    ones, where a band of speech deviates by 1e-3 or more) is 0.002 deviations at most within training's 3.
    """

    name: ClassVar[str] = "mel"
    dims: ClassVar[int] = 128

    window: int = 512  # samples
    shift: int = 256  # samples

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (T, 128) of `samples` (n,); :class:`AudioError` for less than one window, and for pure silence."""
        if len(samples) < self.window:
            raise AudioError(f"{1000 * len(samples) / RATE:.0f} ms of audio; at least 32 ms are needed")
        peak = max(samples.max(), -samples.min())
        if peak == 0:
            raise AudioError("silent (all samples are 0)")
        half = self.window // 2
        mirrored = np.empty(len(samples) + self.window, np.float32)
        np.divide(samples, np.float32(peak), out=mirrored[half:-half])
        mirrored[:half] = mirrored[self.window : half : -1]
        mirrored[-half:] = mirrored[-half - 2 : -self.window - 2 : -1]
        return self._power(mirrored, np.hanning(self.window + 1)[:-1], self.window)


@dataclass(frozen=True)
class Mfb(FilterBank):
    """Log energies of 40 mel bands: (n,) samples at 16 kHz -> (T, 40) float32, T = 1 + (n - 320) // 160.

    The input of the ladder paper's CNN (TASLP 2020, sections III-D and V-C) beside the descriptors of :class:`Lld`.
    Stated: 100 frames a second, and windows of 20 ms for the descriptors. Settled here: the same windows, Hamming's; a
    512-point transform; 40 triangles of unit area from 0 Hz to 8 kHz, as in :class:`Mel`; no padding; the natural
    logarithm, of 1e-10 where there is less, which is about what the rounding to 16 bits leaves in a band; and no
    reference to the loudest, so that loudness is in it, as in the descriptors.

    Stored as float16: values lie between -23 and 10, where steps are 0.016 or less, 0.07 dB.
    """

    name: ClassVar[str] = "mfb"
    dims: ClassVar[int] = 40

    window: int = 320  # samples
    shift: int = 160  # samples
    fft: int = 512  # points
    floor: float = 1e-10

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (T, 40) of `samples` (n,); :class:`AudioError` for less than one window."""
        if len(samples) < self.window:
            raise AudioError(f"{1000 * len(samples) / RATE:.0f} ms of audio; at least 20 ms are needed")
        power = self._power(samples, np.hamming(self.window + 1)[:-1], self.fft)
        logarithms: NDArray[np.float32] = np.log(np.maximum(power, np.float32(self.floor)))
        return logarithms


@cache
def _sparse_filters(bands: int, fft: int) -> csr_array:
    return csr_array(mel_filters(bands, fft).T)


@cache
def mel_filters(bands: int, fft: int) -> NDArray[np.float32]:
    """Weights (fft // 2 + 1, bands) of triangles of unit area, evenly spaced from 0 Hz to 8 kHz on Slaney's mel scale.

    That scale (Auditory Toolbox, 1998) is linear up to 1 kHz, at 15 mel, and logarithmic above, 27 mel for a factor
    of 6.4.
    """
    mels = np.linspace(0, 15 + 27 * np.log(RATE / 2000) / np.log(6.4), bands + 2)
    edges = np.where(mels < 15, mels * 1000 / 15, 1000 * 6.4 ** ((mels - 15) / 27))
    low, centre, high = edges[:-2], edges[1:-1], edges[2:]
    frequencies = np.fft.rfftfreq(fft, 1 / RATE)[:, None]
    triangles = np.minimum((frequencies - low) / (centre - low), (high - frequencies) / (high - centre))
    weights: NDArray[np.float32] = (np.maximum(triangles, 0) * 2 / (high - low)).astype(np.float32)
    return weights
