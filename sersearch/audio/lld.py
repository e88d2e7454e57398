"""Low-level descriptors by openSMILE, frame by frame."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

from sersearch.audio.decode import RATE
from sersearch.audio.functionals import OpenSmile

CONFIG = Path(__file__).with_name("lld.conf")


@dataclass(frozen=True)
class Lld(OpenSmile):
    """ComParE 2016 low-level descriptors and their deltas: (n,) samples at 16 kHz -> (T, 65 + 65) float32.

    The ladder paper (TASLP 2020, section IV-B): 130 features, windows of 20 ms, 100 frames a second; openSMILE's own
    framing of the set. F0, jitter, shimmer, harmonics-to-noise ratio and zero crossings look at 60 ms all the same.
    The deltas come from the same pass over the audio.

    What openSMILE does at the ends: nothing is padded; row i looks at the audio from i * shift on, whichever its
    window. The 60 ms windows decide how many rows there are: 1 + (n - 960) // shift of them fit, and the smoothing
    over three rows, which repeats the first and the last row beyond the ends, adds one: T = 2 + (n - 960) // shift.
    Deltas are the slope over five rows, the ends repeated likewise; openSMILE has two more of them than descriptors,
    and these are left out. Where there is no voice, F0 and its delta are 0.

    Stored as float32: the spectral variance goes beyond 1e7 Hz^2, float16's values to 65504.
    """

    name: ClassVar[str] = "lld"
    dims: ClassVar[int] = 130

    window: int = 320  # samples
    shift: int = 160  # samples

    @property
    def frame_rate(self) -> float:
        """Frames a second."""
        return RATE / self.shift

    def _smile(self) -> Any:
        return _descriptors(self.window, self.shift)


@dataclass(frozen=True)
class Lld3216(Lld):
    """The same 130 descriptors with windows of 32 ms and a shift of 16 ms: T = 2 + (n - 960) // 256 rows.

    The framing of the multimodal ladder (ICASSP 2023, section 4.1). Settled here: what openSMILE takes from 20 ms it
    takes from 32 ms, and what it takes from 60 ms stays, since F0 from 52 Hz on needs several periods in a window.
    """

    name: ClassVar[str] = "lld_32_16"

    window: int = 512  # samples
    shift: int = 256  # samples


@cache
def _descriptors(window: int, shift: int) -> Any:
    import opensmile  # here, because it takes most of a second, and most commands need none

    installed = Path(opensmile.__file__).parent / "core" / "config" / "compare" / "ComParE_2016_core.lld.conf.inc"
    options = {"descriptors": str(installed), "window": window / RATE, "shift": shift / RATE}
    return opensmile.Smile(str(CONFIG), "rows", options=options)
