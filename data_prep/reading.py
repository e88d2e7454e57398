"""What a corpus reader returns, and what readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sersearch.data.schema import Rejected, Utterance
from sersearch.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Reading:
    """A corpus as found on disk. What is in `rejected` counts against `prep --max-rejected`."""

    root: Path  # the folder that the utterances' paths start from
    utterances: list[Utterance]
    rejected: list[Rejected]
    attribute_scale: tuple[float, float] | None = None  # lowest and highest of activation, valence, dominance
    synthetic: bool = False


@dataclass(frozen=True)
class Corpus:
    """A reader: a module of `data_prep.corpora`, found by its file's name.

    The module has `SUMMARY`, one line for `sersearch corpora`, and `read(root)`, which raises DataError when `root`
    does not hold the corpus. A module that can also make its corpus has `write(root)`.
    """

    name: str
    summary: str
    read: Callable[[Path], Reading]
    write: Callable[[Path], None] | None = None


def audio_below(root: Path, pattern: str, layout: str) -> list[str]:
    """The files below `root` that match `pattern`, as sorted posix paths; DataError, with the `layout`, for none.

    Hidden files are left out: corpora come with macOS's `._` twins of their files, which hold no audio.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder; {layout}")
    files = [path for path in root.glob(pattern) if path.is_file() and not path.name.startswith(".")]
    found = sorted(path.relative_to(root).as_posix() for path in files)
    if not found:
        raise DataError(f"{root}: no audio found; {layout}")
    return found


def wavs_below(folder: Path, layout: str) -> list[str]:
    """The wav files at any depth below `folder`, as sorted posix paths from it; DataError, with the `layout`, for none.

    For folders of hundreds of thousands of files: it lists folders, and asks for nothing about a file. Hidden files
    and folders are left out.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {layout}")
    found: list[str] = []
    for parent, folders, files in os.walk(folder, onerror=_stop):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).as_posix()
        prefix = "" if below == "." else f"{below}/"
        found += [prefix + name for name in files if name.lower().endswith(".wav") and not name.startswith(".")]
    if not found:
        raise DataError(f"{folder}: no audio found; {layout}")
    return sorted(found)


def _stop(error: OSError) -> None:
    """What `os.walk` does about a folder that cannot be listed, which it would pass over."""
    raise DataError(f"{error.filename}: cannot be listed ({error.strerror})") from error


def is_below(path: str | PurePosixPath) -> bool:
    """Whether a name from a list leads to what lies below the list's folder, as far as names tell."""
    path = PurePosixPath(path)
    return not path.is_absolute() and ".." not in path.parts


def required_file(path: Path, layout: str) -> Path:
    """`path`, which must be there: the corpus's labels, say."""
    if not path.is_file():
        raise DataError(f"{path.parent}: no {path.name} found; {layout}")
    return path


def label_lines(path: Path) -> list[str]:
    """The lines of a label file. Labels are ASCII; remarks and names between them may be in any encoding."""
    return path.read_text("utf-8", errors="replace").splitlines()


def match_labels(
    labelled: Iterable[Utterance], audio: Iterable[str], labels: str
) -> tuple[list[Utterance], list[Rejected]]:
    """The utterances that have audio, and what has no counterpart: labels for missing files, files without labels."""
    files = set(audio)
    utterances, rejected, seen = [], [], set()
    for utterance in labelled:
        seen.add(utterance.path)
        if utterance.path in files:
            utterances.append(utterance)
        else:
            rejected.append(Rejected(utterance.id, utterance.path, f"no such file, though {labels} labels it"))
    for path in sorted(files - seen):
        rejected.append(Rejected(Path(path).stem, path, f"no label in {labels}"))
    return utterances, rejected
