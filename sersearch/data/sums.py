"""Checksums beside files: what a disk, a copy or a hand has altered is seen before it is used.

The format is that of sha256sum, so that `sha256sum -c SHA256SUMS` checks a folder, too. Formats of weights have no
checksum of their own: with a bit flipped they are read like any others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from sersearch.data.atomic import atomic
from sersearch.errors import DataError

SUMS = "SHA256SUMS"


def with_sums(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """`files`, name to content, and, last, SHA256SUMS, which vouches for them: a folder without it is unfinished."""
    lines = [f"{hashlib.sha256(content).hexdigest()}  {name}\n" for name, content in files.items()]
    return {**files, SUMS: "".join(lines).encode()}


def write_with_sums(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` into `folder`, each whole or not at all, and, last, their checksums."""
    for name, content in with_sums(files).items():
        with atomic(folder / name) as temporary:
            temporary.write_bytes(content)


def check_sums(folder: Path) -> dict[str, bytes]:
    """The files of `folder` that its SHA256SUMS lists, name to content, each as it was written.

    `folder` may lie in an object store (:func:`~sersearch.data.place.place`). Files that are not listed are not looked
    at. Raises :class:`DataError`, with the file's name, when one is missing, cut off or altered, or SHA256SUMS is.
    """
    files = {}
    for line in _read(folder / SUMS).decode("utf-8", "replace").removesuffix("\n").split("\n"):
        entry = re.fullmatch(r"([0-9a-f]{64})  ([^/]+)", line)
        if entry is None:
            raise DataError(f"{folder / SUMS}: cut off or altered since it was written; restore the folder from a copy")
        digest, name = entry.groups()
        files[name] = _read(folder / name)
        if hashlib.sha256(files[name]).hexdigest() != digest:
            raise DataError(
                f"{folder / name}: cut off or altered since it was written (another hash than in {SUMS}); restore the "
                "folder from a copy"
            )
    return files


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = "missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error.strerror or error})"
        raise DataError(f"{path}: {reason}; restore the folder from a copy") from error
