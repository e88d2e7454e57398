"""Speech and noise at a given signal-to-noise ratio."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.decode import RATE
from sersearch.errors import AudioError


def mix(
    samples: NDArray[np.float32], noise: NDArray[np.float32], snr: float, start: float, rate: int = RATE
) -> NDArray[np.float32]:
    """`samples` (n,) with `noise` (m,), both at `rate` Hz, from its `start` (s) on, and over again where it ends.

    The SNR, in dB, is that of the mean powers over the utterance. A mixture that goes beyond full scale is scaled down
    as a whole, so that its SNR stays and nothing clips.

    Raises :class:`AudioError` for a piece of noise that is silent.
    """
    first = round(start * rate)
    piece = noise[np.arange(first, first + len(samples)) % len(noise)].astype(np.float64)
    power = np.mean(piece**2)
    if power == 0:
        raise AudioError(f"the noise is silent from {start:g} s on, for {len(samples) / rate:.2f} s")
    gain = np.sqrt(np.mean(samples.astype(np.float64) ** 2) / (power * 10 ** (snr / 10)))
    mixed = samples + gain * piece
    return np.asarray(mixed / max(1.0, np.abs(mixed).max()), np.float32)
