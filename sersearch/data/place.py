"""Folders by name: a path, or a URL of any storage that fsspec knows (`s3://bucket/folder`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.errors import ConfigError


def place(name: str | Path) -> Path:
    """The folder or file called `name`. What a URL names has a `Path`'s methods, without being one.

    Raises :class:`ConfigError` for storage that no installed package knows.
    """
    if not isinstance(name, str) or "://" not in name:
        return Path(name) if isinstance(name, str) else name
    if name.startswith(("file://", "local://")):
        return Path(name.partition("://")[2])
    from upath import UPath

    try:
        made = UPath(name)
        _ = made.fs  # imports the package that knows this storage
    except (ValueError, ImportError) as error:
        raise ConfigError(f"{name}: {error}; expected a path, or a URL of storage that fsspec knows") from None
    return cast("Path", made)


def is_local(path: Path) -> bool:
    """Whether `path` lies in the machine's own file system."""
    return isinstance(path, Path)


def full_name(path: Path) -> str:
    """A name of `path` by which another process, wherever it runs, finds it with :func:`place`."""
    return str(path.resolve()) if is_local(path) else str(path)


def read_parquet(path: Path, columns: list[str] | None = None) -> pa.Table:
    """A Parquet file, wherever it lies."""
    with path.open("rb") as file:
        return pq.read_table(cast("Any", file), columns=columns)
