"""From a file to features: decoding, silence removal, the papers' features. Shared by `prep` and the Predictor."""

from __future__ import annotations

from sersearch.audio.decode import RATE, load_audio
from sersearch.audio.features import FEATURES, Extractor, extractor, extractor_from_card
from sersearch.audio.functionals import Egemaps, Functionals
from sersearch.audio.lld import Lld, Lld3216
from sersearch.audio.mel import Mel, Mfb
from sersearch.audio.silence import remove_silence
from sersearch.audio.spectrogram import Spectrogram

__all__ = [
    "FEATURES",
    "RATE",
    "Egemaps",
    "Extractor",
    "Functionals",
    "Lld",
    "Lld3216",
    "Mel",
    "Mfb",
    "Spectrogram",
    "extractor",
    "extractor_from_card",
    "load_audio",
    "remove_silence",
]
