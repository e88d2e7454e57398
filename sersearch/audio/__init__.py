"""From a file to features: decoding, silence removal, spectrograms. Shared by `prep` and the Predictor."""

from __future__ import annotations

from sersearch.audio.decode import RATE, load_audio
from sersearch.audio.features import FEATURES, Extractor, extractor, extractor_from_card
from sersearch.audio.silence import remove_silence
from sersearch.audio.spectrogram import Spectrogram

__all__ = [
    "FEATURES",
    "RATE",
    "Extractor",
    "Spectrogram",
    "extractor",
    "extractor_from_card",
    "load_audio",
    "remove_silence",
]
