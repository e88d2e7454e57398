"""Noise at a given SNR: against the definition, and at its edges."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.audio import mix
from sersearch.errors import AudioError

RNG = np.random.default_rng(0)
SPEECH = (RNG.normal(size=4000) / 20).astype(np.float32)
NOISE = (RNG.normal(size=16_000) / 7).astype(np.float32)


def power(samples: np.ndarray) -> float:
    return float(np.mean(samples.astype(np.float64) ** 2))


@given(snr=st.floats(-20, 40), start=st.floats(0, 2))
def test_the_snr_is_that_of_the_mean_powers(snr: float, start: float) -> None:
    mixed = mix(SPEECH, NOISE, snr, start)
    assert mixed.dtype == np.float32
    # Where it was scaled down, speech and noise were alike: the noise's own share of the mixture tells by how much.
    piece = NOISE[(round(start * 16_000) + np.arange(4000)) % 16_000].astype(np.float64)
    a, b = np.linalg.lstsq(np.stack([SPEECH, piece], axis=1), mixed, rcond=None)[0]
    assert 10 * np.log10(a**2 * power(SPEECH) / (b**2 * power(piece))) == pytest.approx(snr, abs=0.01)
    assert np.abs(mixed).max() <= 1
    assert a == pytest.approx(1) or np.abs(mixed).max() == pytest.approx(1)


def test_it_begins_where_it_is_told_and_goes_round() -> None:
    speech = np.zeros(4000, np.float32)
    speech[0] = 1e-3
    noise = np.arange(1, 101, dtype=np.float32)
    added = mix(speech, noise, 0, 90 / 16_000)[1:] / mix(speech, noise, 0, 90 / 16_000)[1]
    assert added[:10] == pytest.approx(np.array([92, 93, 94, 95, 96, 97, 98, 99, 100, 1]) / 92, rel=1e-4)


def test_silent_noise_has_no_snr() -> None:
    noise = NOISE.copy()
    noise[:8000] = 0
    with pytest.raises(AudioError, match=r"the noise is silent from 0\.1 s on, for 0\.25 s"):
        mix(SPEECH, noise, 10, 0.1)
