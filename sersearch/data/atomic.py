"""Files that are there whole or not at all."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, cast

from sersearch.data.place import is_local


@contextmanager
def atomic(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; rename it to `path` once the block ends and the bytes are on disk.

    The folder is made where it is missing. When the block raises, nothing is left, and an OSError that tells no file,
    such as a full disk's, or the temporary one names `path`. Object stores know no renaming, but an object is there
    whole or not at all: there the temporary file is a local one, and put in its place by one call.
    """
    if not is_local(path):
        with tempfile.TemporaryDirectory() as folder:
            yield Path(folder) / path.name
            cast("Any", path).fs.put_file(str(Path(folder) / path.name), cast("Any", path).path)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{uuid.uuid4().hex[:8]}.tmp")
    try:
        yield temporary
        _sync(temporary)
        temporary.replace(path)
        _sync(path.parent)
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error
    finally:
        with suppress(OSError):  # it was renamed, or is on a disk that has become read-only
            temporary.unlink()


def write_json(path: Path, content: Any) -> None:
    """Write `content` as indented JSON, atomically."""
    with atomic(path) as temporary:
        temporary.write_text(as_json(content), "utf-8")


def as_json(content: Any) -> str:
    """`content` as indented JSON."""
    return json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def no_links(name: str, flags: int) -> int:
    """Open a file, and not what a link leads to: an `opener` for what stands in folders that are handed on."""
    return os.open(name, flags | os.O_NOFOLLOW, 0o666)


def _sync(path: Path) -> None:
    """Ask the system to bring a file, or a folder's names, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
