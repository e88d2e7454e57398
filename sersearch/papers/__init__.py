"""The papers' tables and figures, each as one command: `sersearch paper ladder/table1 --data ...`.

A table or figure is one file, `PAPER/NAME.py`, that declares it as `PIECE`; its file's name is its name here.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from sersearch.errors import ConfigError, one_of
from sersearch.papers.declaration import Figure, Piece, Table


def piece_names() -> list[str]:
    """All tables and figures, as PAPER/NAME."""
    found = Path(__file__).parent.glob("*/[!_]*.py")
    return sorted(f"{path.parent.name}/{path.stem}" for path in found if path.stem != "parts")


def get_piece(name: str) -> Piece:
    """The table or figure called `name`. Raises :class:`ConfigError` for one that isn't there."""
    if name not in piece_names():
        raise ConfigError(f"paper {name}: no such table or figure; {one_of(name, piece_names())}")
    piece: Piece = import_module(f"{__name__}.{name.replace('/', '.')}").PIECE
    return piece


__all__ = ["Figure", "Piece", "Table", "get_piece", "piece_names"]
