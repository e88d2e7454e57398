"""The AAE paper's spectrogram (Latif et al., TAFFC 2020, section 4.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.card import make_card
from sersearch.audio.decode import RATE
from sersearch.audio.silence import remove_silence
from sersearch.errors import AudioError

BLOCK = 8192  # frames transformed at once: bounds the memory that an hour-long file takes


@dataclass(frozen=True)
class Spectrogram:
    """Silence removal, then 128 linear bands of 0-8 kHz in dB: (n,) samples at 16 kHz -> (T, 128) float32.

    Stated by the paper: a Hamming window of 25 ms with a 10 ms shift, a height of 128 for 0-8 kHz, silence removed.
    Not stated, and settled here: a 512-point transform whose power bins 1-256 (31.25 Hz apart, without the constant
    one) are summed in pairs, so that a band is 62.5 Hz wide; the periodic window; no padding, so that
    T = 1 + (n - 400) // 160; the logarithm, relative to the utterance's loudest value, with a floor 80 dB below it
    (as `librosa.power_to_db(ref=np.max)`): the gain of a recording says who sat how near to the microphone, and a
    model that hears it fails on new speakers; and that a pause is what lies 30 dB below the loudest 128 ms.
    """

    name: ClassVar[str] = "spectrogram"
    version: ClassVar[int] = 2  # goes up when the same parameters give other numbers
    dims: ClassVar[int] = 128

    window: int = 400  # samples
    shift: int = 160  # samples
    fft: int = 512  # points
    top_db: float = 80.0
    silence_db: float = 30.0

    def card(self) -> dict[str, Any]:
        """What decides the numbers, and under `versions` the libraries that they were made with: plain JSON."""
        return make_card(self, frame_rate=RATE / self.shift, dtype="float32", packages=("numpy", "soundfile", "soxr"))

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (T, 128) of `samples` (n,); :class:`AudioError` for less than one window after silence removal."""
        voiced = remove_silence(samples, self.silence_db)
        if len(voiced) < self.window:
            raise AudioError(f"{1000 * len(voiced) / RATE:.0f} ms remain without silence; at least 25 ms are needed")
        frames = np.lib.stride_tricks.sliding_window_view(voiced, self.window)[:: self.shift]
        decibels = np.concatenate([self._bands(frames[i : i + BLOCK]) for i in range(0, len(frames), BLOCK)])
        relative: NDArray[np.float32] = np.maximum(decibels - decibels.max(), np.float32(-self.top_db))
        return relative

    def _bands(self, frames: NDArray[np.float32]) -> NDArray[np.float32]:
        """Frames (T, window) -> bands in dB of full scale (T, 128)."""
        hamming = np.hamming(self.window + 1)[:-1]
        spectrum = np.fft.rfft(frames * hamming, self.fft)[:, 1:]
        power = spectrum.real**2 + spectrum.imag**2
        bands = power.reshape(len(frames), self.dims, -1).sum(axis=2)
        decibels: NDArray[np.float32] = 10 * np.log10(np.maximum(bands, np.finfo(np.float32).tiny))
        return decibels.astype(np.float32)
