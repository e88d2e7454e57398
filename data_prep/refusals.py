"""What `prepare` refuses: options, folders that hold something else, and corpora of which too much can't be used."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa

from data_prep.files import json_object, write_table
from sersearch.data.place import read_parquet
from sersearch.data.schema import Rejected, rejected_table
from sersearch.errors import ConfigError, DataError

SHOWN = 10  # rejected utterances in an error


def check_options(max_rejected: float, shard_size: int, workers: int | None) -> None:
    """Refuse numbers that make no sense."""
    if not 0 <= max_rejected <= 1:
        raise ConfigError(f"max_rejected is {max_rejected}; it is a fraction, 0 to 1 (0.05: one in twenty)")
    if shard_size < 1:
        raise ConfigError(f"shard_size is {shard_size}; a shard holds at least one utterance")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers is {workers}; at least one process must extract")


def check_out(out: Path, corpus: str) -> None:
    """Refuse a folder that holds another corpus."""
    if out.exists() and not out.is_dir():
        raise DataError(f"{out}: a file; --out is the folder of a prepared corpus")
    if not (out / "corpus.json").is_file():
        return
    try:
        held = json.loads((out / "corpus.json").read_text("utf-8"))["corpus"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{out / 'corpus.json'}: cannot be read ({error}); delete {out} or choose another --out"
        ) from error
    if held != corpus:
        raise DataError(f"{out}: holds the corpus {held}, not {corpus}; choose another --out")


def check_names(out: Path, names: set[str]) -> None:
    """Refuse a folder that holds another corpus of the same reader: another CSV file's, say."""
    held = set((json_object(out / "corpus.json") or {}).get("names", names))
    if names and not held & names:
        raise DataError(
            f"{out}: holds the corpus {', '.join(sorted(held))}, not {', '.join(sorted(names))}; choose another --out"
        )


def rejected_earlier(out: Path, features: Sequence[str]) -> list[Rejected]:
    """What other feature sets in `out` than `features` could not use."""
    others = {path.parent.name for path in out.glob("*/card.json")} - set(features)
    try:
        rows = read_parquet(out / "rejected.parquet").to_pylist()
        return [Rejected(**row) for row in rows if row["features"] in others]
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException):
        return []  # missing or damaged


def check_rejected(
    rejected: list[Rejected], usable: int, max_rejected: float, out: Path, features: Sequence[str]
) -> None:
    """Fail, with the list in `out`/rejected.parquet, when too many utterances cannot be used."""
    everyone = rejected
    rejected = list({(row.id, row.path): row for row in reversed(everyone)}.values())[::-1]
    total = len(rejected) + usable
    if usable and len(rejected) <= max_rejected * total:
        return
    write_table(out / "rejected.parquet", rejected_table(everyone + rejected_earlier(out, features)))
    first = "\n  ".join(f"{row.id or row.path}: {row.reason}" for row in rejected[:SHOWN])
    more = f"\n  and {len(rejected) - SHOWN} more" if len(rejected) > SHOWN else ""
    limit = f"more than --max-rejected {max_rejected:g} allows" if usable else "so nothing is left"
    raise DataError(
        f"{len(rejected)} of {total} utterances cannot be used, {limit}:\n  {first}{more}\n"
        f"The list is in {out / 'rejected.parquet'}"
    )


__all__ = ["check_names", "check_options", "check_out", "check_rejected", "rejected_earlier"]
