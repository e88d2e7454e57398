"""From a file to features: decoding, silence removal, the papers' features. Shared by `prep` and the Predictor."""

from __future__ import annotations

from sersearch.audio.decode import RATE, load_audio
from sersearch.audio.features import FEATURES, VISUAL, Extractor, extractor, extractor_from_card, visual_from_card
from sersearch.audio.functionals import Egemaps, Functionals
from sersearch.audio.lld import Lld, Lld3216
from sersearch.audio.mel import Mel, Mfb
from sersearch.audio.noise import mix
from sersearch.audio.silence import remove_silence
from sersearch.audio.spectrogram import Spectrogram
from sersearch.audio.visual import Embeddings, OpenFace, Visual

__all__ = [
    "FEATURES",
    "RATE",
    "VISUAL",
    "Egemaps",
    "Embeddings",
    "Extractor",
    "Functionals",
    "Lld",
    "Lld3216",
    "Mel",
    "Mfb",
    "OpenFace",
    "Spectrogram",
    "Visual",
    "extractor",
    "extractor_from_card",
    "load_audio",
    "mix",
    "remove_silence",
    "visual_from_card",
]
