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
    """The utterances with their files in `folder`: those with most of the audio's path, `ann/001` before `001`.

    Raises :class:`DataError` where that isn't clear, and for a file that would be of two audio files.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    files: dict[str, list[Path]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in SUFFIXES and not path.name.startswith("."):
            parts = path.relative_to(folder).with_suffix("").parts
            for start in range(len(parts)):
                files.setdefault("/".join(parts[start:]), []).append(path.resolve())
    if not files:
        raise DataError(f"{folder}: no visual features found; {LAYOUT}")
    owners: dict[Path, str] = {}
    return [_with_its_own(row, files, owners) for row in utterances]


def _with_its_own(row: Utterance, files: dict[str, list[Path]], owners: dict[Path, str]) -> Utterance:
    parts = PurePosixPath(row.path).with_suffix("").parts
    names = ["/".join(parts[start:]) for start in range(len(parts))]
    found = next((files[name] for name in names if name in files), [])
    if not found:
        return row
    if len(found) > 1:
        raise DataError(f"{found[0]} and {found[1]} may both be of {row.path}; {LAYOUT}")
    if owners.setdefault(found[0], row.path) != row.path:
        raise DataError(f"{found[0]} may be of {owners[found[0]]} and of {row.path}; {LAYOUT}, in the same folders")
    return replace(row, visual=str(found[0]))
