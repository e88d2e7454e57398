"""openSMILE's functionals against bare opensmile; what it would do silently is refused."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import opensmile
import pytest

from sersearch.audio import FEATURES, Egemaps, Functionals, extractor, extractor_from_card, functionals, load_audio
from sersearch.errors import AudioError

RATE = 16_000
SETS = {"functionals": opensmile.FeatureSet.ComParE_2016, "egemaps": opensmile.FeatureSet.eGeMAPSv02}


def voice(seconds: float = 1.0, gain: float = 0.1) -> np.ndarray:
    """A voice-like buzz with noise; at a gain of 0.1 its peak is below 1."""
    times = np.arange(round(seconds * RATE)) / RATE
    wave = sum(np.sin(2 * np.pi * 130 * k * times) / k for k in range(1, 30))
    return (gain * (wave + 0.1 * np.random.default_rng(0).normal(size=len(times)))).astype(np.float32)


@pytest.mark.parametrize(("name", "dims"), [("functionals", 6373), ("egemaps", 88)])
def test_real_speech_as_bare_opensmile_has_it(corpora: Path, name: str, dims: int) -> None:
    bare = opensmile.Smile(SETS[name], opensmile.FeatureLevel.Functionals)
    for path in sorted((corpora / "nemo" / "samples").glob("*.flac"))[::1500]:
        samples = load_audio(path)
        found = extractor(name)(samples)
        assert found.shape == (1, dims)
        assert found.dtype == np.float32
        np.testing.assert_array_equal(found, bare.process_signal(samples, RATE).to_numpy())


def test_what_is_too_loud_is_clipped_and_does_not_wrap() -> None:
    loud = voice(gain=0.6)
    assert loud.max() > 1
    clipped = np.clip(loud, -1, 32767 / 32768)
    bare = opensmile.Smile(SETS["egemaps"], opensmile.FeatureLevel.Functionals)
    np.testing.assert_array_equal(Egemaps()(loud), bare.process_signal(clipped, RATE).to_numpy())
    assert not np.array_equal(Egemaps()(loud), bare.process_signal(loud, RATE).to_numpy()), "openSMILE alone wraps"


@pytest.mark.parametrize("name", ["functionals", "egemaps", "lld", "lld_32_16"])
def test_60_ms_are_the_least(name: str) -> None:
    assert np.isfinite(extractor(name)(voice()[:960])).all()
    with pytest.raises(AudioError, match="60 ms of audio; openSMILE needs at least 60 ms"):
        extractor(name)(voice()[:959])


def test_values_that_are_not_finite_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.zeros((1, 88, 1), np.float32)
    values[0, :3, 0] = [np.nan, np.inf, -np.inf]
    monkeypatch.setattr(functionals, "_functionals", lambda feature_set: lambda samples, rate: values)
    with pytest.raises(AudioError, match="3 of 88 egemaps features are NaN or infinite"):
        Egemaps()(voice())


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_a_used_extractor_pickles_as_its_parameters_and_gives_the_same_again(name: str) -> None:
    used = extractor(name)
    first = used(voice(0.3))
    data = pickle.dumps(used)
    assert len(data) < 300
    np.testing.assert_array_equal(pickle.loads(data)(voice(0.3)), first)


@pytest.mark.parametrize("name", sorted(FEATURES))
def test_the_card_of_each_feature_set_makes_it_again_and_is_plain_json(name: str) -> None:
    made = extractor(name)
    card = made.card()
    assert json.loads(json.dumps(card)) == card
    assert (card["features"], card["dims"], card["rate"]) == (name, made.dims, RATE)
    assert extractor_from_card(card) == made
    rows = made(voice())
    assert rows.shape[1] == made.dims
    assert rows.dtype == np.float32
    assert np.isfinite(rows.astype(card["dtype"])).all()
    if card["frame_rate"]:
        assert abs(len(rows) - card["frame_rate"]) <= 4, "one second"
    else:
        assert len(rows) == 1


def test_the_instance_is_made_once_a_process() -> None:
    assert Functionals()._smile() is Functionals()._smile()
    assert Functionals()._smile() is not Egemaps()._smile()


def test_opensmile_is_imported_when_it_is_used_not_before() -> None:
    code = "import sys, sersearch.audio as audio; audio.extractor('lld').card(); assert 'opensmile' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
