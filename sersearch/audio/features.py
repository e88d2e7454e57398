"""The feature sets by name, and an extractor from the card that one wrote."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.functionals import Egemaps, Functionals
from sersearch.audio.lld import Lld, Lld3216
from sersearch.audio.mel import Mel, Mfb
from sersearch.audio.spectrogram import Spectrogram
from sersearch.audio.visual import Embeddings, OpenFace, Visual
from sersearch.errors import BundleError, ConfigError, one_of


class Extractor(Protocol):
    """Features of one utterance. What it does to the audio after decoding, silence removal included, is in its card."""

    @property
    def name(self) -> str:
        """Its name in FEATURES and of its folder in a prepared corpus."""

    @property
    def dims(self) -> int:
        """Features a frame."""

    def card(self) -> dict[str, Any]:
        """Name, version, dims, frame rate, dtype, parameters and library versions: plain JSON.

        The frame rate is None where an utterance is one row. The dtype is what loses nothing that matters when rows
        are stored; the extractor itself returns float32.
        """

    def __call__(self, samples: NDArray[np.float32]) -> NDArray[np.float32]:
        """Samples (n,) at 16 kHz -> features (T, dims) float32. Raises AudioError."""


FEATURES: dict[str, Callable[..., Extractor]] = {
    made.name: made for made in (Spectrogram, Functionals, Egemaps, Lld, Lld3216, Mel, Mfb)
}


NEAR = 4
"""Factor by which a parameter of a card may differ from the standard one."""

VISUAL: dict[str, type[Visual]] = {made.name: made for made in (OpenFace, Embeddings)}
"""Sets that are read from files beside the audio."""


def extractor(name: str) -> Extractor:
    """The extractor of the feature set `name` with its standard parameters; ConfigError for an unknown name."""
    if name not in FEATURES:
        raise ConfigError(f"no features called {name!r}: {one_of(name, [*FEATURES, *VISUAL])}")
    return FEATURES[name]()


def visual_from_card(card: Mapping[str, Any]) -> Visual | None:
    """The visual set that wrote `card`; None for an audio extractor's.

    Raises :class:`BundleError` when this version of sersearch knows no such set.
    """
    made = VISUAL.get(str(card.get("features")))
    if made is None:
        return None
    try:
        visual = made(**card["parameters"])
        _check_near(visual, made(dims=card["dims"]))
    except (TypeError, KeyError) as error:
        raise BundleError(f"the model's {made.name} features have parameters unknown here ({error})") from None
    return visual


def extractor_from_card(card: Mapping[str, Any]) -> Extractor:
    """The extractor that wrote `card`, so that a model meets the features that it was trained on.

    Raises :class:`BundleError` when this version of sersearch cannot make exactly those features. The versions of
    libraries that the card names may differ.
    """
    name = str(card.get("features"))
    if name not in FEATURES:
        raise BundleError(f"the model needs features called {name!r}, unknown here: {one_of(name, FEATURES)}")
    try:
        made = FEATURES[name](**card.get("parameters", {}))
    except TypeError as error:
        raise BundleError(f"the model's {name} features have parameters unknown here ({error})") from None
    _check_near(made, FEATURES[name]())
    ours = made.card()
    for key in ("version", "dims", "rate", "frame_rate"):
        if card.get(key) != ours[key]:
            raise BundleError(
                f"the model needs {name} features with {key} {card.get(key)}, and this sersearch makes {key} "
                f"{ours[key]}: use the sersearch that exported the model, or train it anew"
            )
    return made


def _check_near(made: Any, standard: Any) -> None:
    """Refuse parameters far from the standard ones: a window of a terabyte is none that a model was trained on."""
    for name, value in asdict(standard).items():
        seen = getattr(made, name)
        if type(seen) is not type(value) or not value / NEAR <= seen <= value * NEAR:
            raise BundleError(
                f"the model's {made.name} features have {name} {seen!r}; expected {value}, or not far from it"
            )
