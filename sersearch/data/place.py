"""Folders by name: a path, or a URL of any storage that fsspec knows (`s3://bucket/folder`)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.errors import ConfigError
from sersearch.redaction import redact

VALUES_A_BYTE, FREE_VALUES = 100, 2**22
"""Of a Parquet file, what it may hold: ours have less than 5 values a byte, small ones of constant columns more."""


def place(name: str | Path) -> Path:
    """The folder or file called `name`. What a URL names has a `Path`'s methods, without being one.

    Raises :class:`ConfigError` for storage that no installed package knows.
    """
    if not isinstance(name, str) or "://" not in name:
        return Path(name) if isinstance(name, str) else name
    if name.startswith(("file://", "local://")):
        return Path(name.partition("://")[2])
    if urlsplit(name).password:
        raise ConfigError(
            f"{redact(name)}: a password in it would be written into studies; leave it out and give it in the "
            "environment, or in fsspec's configuration"
        )
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
    """A Parquet file, wherever it lies. Raises what :func:`parquet_table` raises."""
    with path.open("rb") as file:
        return parquet_table(cast("Any", file), columns)


def parquet_table(file: Any, columns: list[str] | None = None) -> pa.Table:
    """The table in an open Parquet file.

    Raises :class:`pa.ArrowException` for a damaged one, and for one that would become far more than it is: a few bytes
    can stand for a billion equal values.
    """
    with pq.ParquetFile(file) as parquet:
        values, size = _values(parquet.metadata), file.seek(0, os.SEEK_END)
        if values > VALUES_A_BYTE * size + FREE_VALUES:
            raise pa.ArrowInvalid(f"{size} bytes that stand for {values} values")
        return parquet.read(columns=columns)


def _values(footer: pq.FileMetaData) -> int:
    """How many values a Parquet file holds."""
    groups = [footer.row_group(number) for number in range(footer.num_row_groups)]
    lists = [n for n in range(footer.num_columns) if footer.schema.column(n).max_repetition_level]
    flat = footer.num_columns * sum(group.num_rows for group in groups)
    return int(flat + sum(group.column(n).num_values for group in groups for n in lists))
