"""A figure of a report: its files, in formats that papers take, and what the page shows of it."""

from __future__ import annotations

import base64
import csv
import re
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sersearch.data.atomic import atomic
from sersearch.errors import SersearchError
from sersearch.figures import encoded, styled

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_KINDS = ("svg", "pdf", "png")


@dataclass(frozen=True)
class Picture:
    """A figure, drawn or as a PNG's bytes, or, without one, why it is missing."""

    name: str
    """Of its files."""
    title: str
    caption: str
    figure: Figure | bytes | None = None
    alt: str = ""
    """What is seen, for those who don't see it; the title by default."""
    rows: Sequence[Sequence[Any]] = ()
    """Heading and rows of the figures behind it: its CSV."""


@dataclass(frozen=True)
class Shown:
    """A picture as the page holds it."""

    name: str
    title: str
    caption: str
    alt: str
    source: str
    """A data URL; empty where there is no figure."""
    width: int
    """Pixels of CSS."""
    files: dict[str, str]
    """Links to its files by format."""


def picture(name: str, title: str, draw: Callable[[], Picture | None]) -> Picture | None:
    """What `draw` makes; a picture that says why, where it raises.

    A study's folder may be damaged in any way, and one figure is no reason to have no report.
    """
    try:
        return draw()
    except SersearchError as reason:
        return Picture(name, title, f"Not shown: {reason}.")
    except Exception as error:
        return Picture(name, title, f"Could not be drawn: {type(error).__name__}: {error}.")


def save(made: Picture, folder: Path, link: str) -> Shown:
    """Write a picture's files into `folder`, which the page finds at `link`; remove those of an earlier report."""
    files: dict[str, bytes] = {}
    if isinstance(made.figure, bytes):
        files["png"] = made.figure
    elif made.figure is not None:
        files = _rendered(made.figure)
    # A PNG's width is in its bytes 16 to 20; pictures have 150 dots an inch, a page 96.
    width = round(int.from_bytes(files["png"][16:20], "big") * 96 / 150) if files else 0
    for kind in (*_KINDS, "csv"):
        path = folder / f"{made.name}.{kind}"
        if kind in files:
            with atomic(path) as temporary:
                temporary.write_bytes(files[kind])
        elif kind == "csv" and made.rows:
            write_rows(path, made.rows)
        else:
            path.unlink(missing_ok=True)
    shown = "svg" if "svg" in files else "png"
    mime = {"svg": "image/svg+xml", "png": "image/png"}[shown]
    source = f"data:{mime};base64,{base64.b64encode(files[shown]).decode()}" if files else ""
    kinds = [*files, *(["csv"] if made.rows else [])]
    links = {kind.upper(): f"{link}{made.name}.{kind}" for kind in kinds}
    words = (_capital(made.title), _capital(made.caption), _capital(made.alt or made.title))
    return Shown(made.name, *words, source, width, links)


def _rendered(figure: Figure) -> dict[str, bytes]:
    """A figure's bytes by format, without the margins that it leaves empty."""
    with styled(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"Glyph \d+")  # a name in a script that the font hasn't: boxes
        figure.draw_without_rendering()
        figure.set_layout_engine(None)  # laid out once, not once a format
        box = figure.get_tightbbox().padded(0.05)
        return {kind: encoded(figure, kind, bbox_inches=box) for kind in _KINDS}


def write_rows(path: Path, rows: Sequence[Sequence[Any]]) -> None:
    """Write a heading and rows as CSV."""
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def slug(name: str) -> str:
    """A name as a file's."""
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)[:60]


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]
