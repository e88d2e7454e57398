"""Which file of visual features belongs to which utterance: the one that is called as its audio is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from sersearch.audio.visual import SUFFIXES
from sersearch.data.schema import Utterance
from sersearch.errors import DataError

LAYOUT = "a folder of visual features has a .csv (OpenFace) or .npy file for each audio file, called as it is"


def with_visual(utterances: Sequence[Utterance], folder: Path) -> list[Utterance]:
    """The utterances with their files in `folder`, at any depth. Raises :class:`DataError` for two of one name."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            if path.stem in files:
                raise DataError(f"{folder}: {files[path.stem]} and {path} have one name; {LAYOUT}")
            files[path.stem] = path.resolve()
    if not files:
        raise DataError(f"{folder}: no visual features found; {LAYOUT}")
    named = ((row, files.get(PurePosixPath(row.path).stem)) for row in utterances)
    return [row if path is None else replace(row, visual=str(path)) for row, path in named]
