"""Statistics of a whole utterance by openSMILE, and what all feature sets by openSMILE have in common."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.card import make_card
from sersearch.audio.decode import RATE
from sersearch.errors import AudioError

WINDOW = 960  # samples: 60 ms, openSMILE's longest window; it gives NaNs for less audio
LOUDEST = 1 - 2**-15  # openSMILE takes 16-bit integers, and what is louder comes out with the other sign


@dataclass(frozen=True)
class OpenSmile:
    """A feature set by openSMILE (Eyben et al., ACM MM 2010). Nothing is stored but parameters, so that it pickles."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # goes up when the same parameters give other numbers
    dims: ClassVar[int]

    @property
    def frame_rate(self) -> float | None:
        """Frames a second; None for one row an utterance."""
        return None

    def card(self) -> dict[str, Any]:
        """What decides the numbers, and under `versions` the libraries that they were made with: plain JSON."""
        return make_card(
            self, frame_rate=self.frame_rate, dtype="float32", packages=("numpy", "opensmile", "soundfile", "soxr")
        )

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Features (T, dims) of `samples` (n,), clipped to what 16 bits hold.

        Raises :class:`AudioError` for less than 60 ms, and for features that are NaN or infinite.
        """
        if len(samples) < WINDOW:
            raise AudioError(f"{1000 * len(samples) / RATE:.0f} ms of audio; openSMILE needs at least 60 ms")
        rows: NDArray[np.float32] = self._smile()(np.clip(samples, -1.0, LOUDEST), RATE)[0].T
        wrong = int((~np.isfinite(rows)).sum())
        if wrong:
            raise AudioError(f"{wrong} of {rows.size} {self.name} features are NaN or infinite")
        return np.ascontiguousarray(rows)

    def _smile(self) -> Any:
        """The configured `opensmile.Smile`, one a process."""
        raise NotImplementedError


@dataclass(frozen=True)
class Functionals(OpenSmile):
    """ComParE 2016 functionals: (n,) samples at 16 kHz -> (1, 6373) float32.

    The high-level descriptors of the ladder paper (TASLP 2020, section IV-B) and of the decoupled ladder (Interspeech
    2021): the set of the Interspeech 2013 challenge, here in its edition of 2016, which has the same features with
    numerical faults mended. Stored as float32: values go beyond 1e11, float16's to 65504.
    """

    name: ClassVar[str] = "functionals"
    dims: ClassVar[int] = 6373
    feature_set: ClassVar[str] = "ComParE_2016"

    def _smile(self) -> Any:
        return _functionals(self.feature_set)


@dataclass(frozen=True)
class Egemaps(Functionals):
    """eGeMAPSv02 functionals (Eyben et al., TAFFC 2016): (n,) samples at 16 kHz -> (1, 88) float32.

    No paper's input here: a small set that can be read by name, for comparison. Stored as float32 as the larger set.
    """

    name: ClassVar[str] = "egemaps"
    dims: ClassVar[int] = 88
    feature_set: ClassVar[str] = "eGeMAPSv02"


@cache
def _functionals(feature_set: str) -> Any:
    import opensmile  # here, because it takes most of a second, and most commands need none

    return opensmile.Smile(opensmile.FeatureSet[feature_set], opensmile.FeatureLevel.Functionals)
