"""Noisy copies of a corpus: every utterance once more for each SNR, its labels carried over."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from data_prep.reading import audio_below
from sersearch.data.schema import Utterance
from sersearch.errors import ConfigError, DataError

LAYOUT = "a folder of noises has audio files, WAV or FLAC"


@dataclass(frozen=True)
class NoiseCopies:
    """What `prep` is asked for: noises in the folder `root`, mixed at each of `snr` (dB)."""

    root: Path
    snr: tuple[float, ...]
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.snr:
            raise ConfigError("--noise needs --snr, such as --snr 10 5 0")
        if len(set(self.snr)) < len(self.snr):
            raise ConfigError(f"--snr {', '.join(f'{s:g}' for s in self.snr)}: one of them stands twice")


def noisy(utterances: Sequence[Utterance], copies: NoiseCopies) -> tuple[list[Utterance], tuple[str, ...]]:
    """The utterances, now of condition `clean`, with their copies (`snr10`, ...), and what the user should know.

    Test utterances of an official split get noises that no other has; without one, speakers do, as far as there are
    noises enough. Which of them an utterance gets, and from where in it, depends on the seed, its id and the SNR alone.
    """
    lengths = _lengths(copies.root)
    official = any(utterance.split == "test" for utterance in utterances)
    groups, notes = (_by_part if official else _by_speaker)(utterances, sorted(lengths))
    made = []
    for utterance in utterances:
        made.append(replace(utterance, condition="clean"))
        files = groups[str(utterance.split == "test") if official else utterance.speaker]
        for snr in copies.snr:
            digest = hashlib.sha256(f"{copies.seed}/{utterance.id}/{snr:g}".encode()).digest()
            rng = np.random.default_rng(list(digest))
            noise = files[rng.integers(len(files))]
            made.append(
                replace(
                    utterance,
                    id=f"{utterance.id}_snr{snr:g}",
                    condition=f"snr{snr:g}",
                    noise=noise,
                    noise_start=round(rng.uniform(0, lengths[noise]), 3),
                    snr=float(snr),
                )
            )
    return made, notes


def _lengths(root: Path) -> dict[str, float]:
    """Seconds of each noise below `root`."""
    lengths = {}
    for name in audio_below(root, "**/*.[wf][al]*", LAYOUT):
        try:
            lengths[name] = float(soundfile.info(root / name).duration)
        except soundfile.LibsndfileError as error:
            raise DataError(f"{root / name}: a noise that cannot be decoded ({error.error_string})") from error
    return lengths


def _by_part(utterances: Sequence[Utterance], files: list[str]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Noises of the test part (True) and of the rest, and a remark where they aren't disjoint."""
    if len(files) == 1:
        return {"True": files, "False": files}, ("there is one noise: the test part shares it with the training part",)
    share = max(1, len(files) // 3)
    return {"True": files[:share], "False": files[share:]}, ()


def _by_speaker(utterances: Sequence[Utterance], files: list[str]) -> tuple[dict[str, list[str]], tuple[str, ...]]:
    """Noises by speaker, and a remark where they aren't disjoint."""
    speakers = sorted({u.speaker for u in utterances})
    count = min(len(speakers), len(files))
    groups = {speaker: files[number % count :: count] for number, speaker in enumerate(speakers)}
    if count == len(speakers):
        return groups, ()
    one = "one noise" if len(files) == 1 else f"{len(files)} noises"
    return groups, (
        f"{one} for {len(speakers)} speakers: some speakers share one, so a split by speakers may have "
        "the same noise in training and test; add noises to have them apart",
    )
