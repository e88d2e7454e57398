"""Normalisation by the moments of the training rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from sersearch.errors import DataError

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable

CHUNK_FRAMES = 16384
"""Frames that are held in float64 at once: 16 MiB at 128 dimensions."""


@dataclass(frozen=True, eq=False)
class Normaliser:
    """Per dimension, the mean and the (population) standard deviation over frames; a constant dimension gets 1."""

    mean: np.ndarray
    """(D,) float32."""
    std: np.ndarray
    """(D,) float32, without zeros."""

    @classmethod
    def fit(cls, table: FeatureTable, rows: np.ndarray) -> Normaliser:
        """The moments of all frames of `rows`, in one pass over the memory map, accumulated in float64.

        Chunks are merged by the update of Chan, Golub and LeVeque (1979), in the order of the rows: the same rows
        give the same bits. Raises :class:`DataError` for no rows, and for features that are not finite.
        """
        count, mean, squares = 0, np.zeros(table.dims), np.zeros(table.dims)
        for chunk in _chunks(table, np.unique(rows)):
            frames = table.frames[chunk].astype(np.float64)
            chunk_mean = frames.mean(axis=0)
            delta, total = chunk_mean - mean, count + len(frames)
            squares += np.square(frames - chunk_mean).sum(axis=0) + np.square(delta) * (count * len(frames) / total)
            mean += delta * (len(frames) / total)
            count = total
        if count == 0:
            raise DataError(
                "normalisation needs at least one training utterance with frames; the training part is empty"
            )
        if not np.isfinite(squares).all():
            raise DataError(f"{_not_finite(table, rows)}; run `sersearch prep` on the corpus again")
        std = np.sqrt(squares / count)
        # float32 resolves 6e-8 of a value: less spread than that is rounding, not variation.
        std[std <= 1e-7 * np.abs(mean)] = 1.0
        return cls(mean.astype(np.float32), std.astype(np.float32))

    def __call__(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """`x` (..., D) with zero mean and unit deviation in each dimension, as float32; written to `out`, if given."""
        normalised: np.ndarray = np.subtract(x, self.mean, dtype=np.float32, out=out)
        normalised /= self.std
        return normalised

    def to_dict(self) -> dict[str, list[float]]:
        """Plain lists, for JSON: `from_dict` gives the same bits back."""
        return {"mean": self.mean.tolist(), "std": self.std.tolist()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[float]]) -> Normaliser:
        """The inverse of :meth:`to_dict`."""
        return cls(np.asarray(values["mean"], np.float32), np.asarray(values["std"], np.float32))


def _chunks(table: FeatureTable, rows: np.ndarray) -> Iterator[slice]:
    """Slices of at most `CHUNK_FRAMES` frames that cover the sorted `rows`; neighbours are read together."""
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        if len(run):
            first, end = int(table.offsets[run[0]]), int(table.offsets[run[-1] + 1])
            for start in range(first, end, CHUNK_FRAMES):
                yield slice(start, min(start + CHUNK_FRAMES, end))


def _not_finite(table: FeatureTable, rows: np.ndarray) -> str:
    bad = [row for row in np.unique(rows) if not np.isfinite(table[int(row)]).all()]
    what = f"utterance {table.utterances['id'].iloc[bad[0]]}" if bad else "the training part"
    return f"{what} has features that are not finite or overflow ({len(bad)} such utterances)"
