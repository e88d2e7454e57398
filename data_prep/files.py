"""Files of a prepared corpus: a damaged one is as if it were not there, one that is right is not written again."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from sersearch.data.atomic import atomic


def json_object(path: Path) -> dict[str, Any] | None:
    """The object in a JSON file; None where it is missing or damaged."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def write_table(path: Path, table: pa.Table, row_group_size: int | None = None) -> None:
    """Write a table, unless the file holds it already."""
    groups = 1 if row_group_size is None else math.ceil(len(table) / row_group_size)
    try:
        if path.is_file():
            with path.open("rb") as file:
                there = pq.ParquetFile(file)
                if there.num_row_groups == groups and there.read().equals(table):
                    return
    except (OSError, ValueError, pa.ArrowException):
        pass  # damaged
    with atomic(path) as temporary:
        pq.write_table(table, temporary, row_group_size=row_group_size)


__all__ = ["json_object", "write_table"]
