"""What a feature set says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from sersearch.audio.decode import RATE


def make_card(
    made: Any, *, frame_rate: float | None, dtype: str, packages: Sequence[str], rate: int | None = RATE
) -> dict[str, Any]:
    """The card of a set: its name, its version, its dimensions and its parameters, which are the fields of `made`.

    `frame_rate` is in frames a second, None for one vector an utterance; `rate` in Hz, None for what isn't audio.
    Under `versions` stand the libraries that the numbers were made with. Plain JSON.
    """
    return {
        "features": made.name,
        "version": made.version,
        "dims": made.dims,
        "rate": rate,
        "frame_rate": frame_rate,
        "dtype": dtype,
        "parameters": asdict(made),
        "versions": {package: version(package) for package in packages},
    }
