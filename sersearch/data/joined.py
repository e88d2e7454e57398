"""Two prepared corpora as one table: the one that is learnt from, then the one that is tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from sersearch.data.table import FeatureTable
from sersearch.data.targets import ATTRIBUTES, affine


@dataclass(frozen=True, eq=False)
class Joined(FeatureTable):
    """The utterances of `source`, then those of `tested`: what protocol `cross` divides.

    Its labels are those that both can have. Attributes of `source` are mapped onto the scale of `tested`, where both
    scales are known (`attribute_scale` of corpus.json): :func:`~sersearch.data.targets.affine`. An emotion that only
    one of the corpora has is no label, as it can't be learnt or can't be tested.
    """

    source: FeatureTable
    tested: FeatureTable

    @property
    def unshared(self) -> dict[str, int]:
        """Utterances by emotion, of emotions that only one of the corpora has: here they have none."""
        counts = [table.utterances["emotion"].value_counts() for table in parts(self)]
        return {str(name): int(n) for own in counts for name, n in own.items() if any(name not in c for c in counts)}

    def check_shards(self) -> None:
        """Raise :class:`DataError` where the shards of one of the tables are no more what its map was made of."""
        for table in parts(self):
            table.check_shards()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the names of the two tables."""
        return joined, (self.source, self.tested)


def joined(source: FeatureTable, tested: FeatureTable) -> Joined:
    """Both tables as one, on whose labels see :class:`Joined`; nothing but the list of utterances is copied.

    Raises :class:`DataError` where their features were not made alike.
    """
    source.check_like(tested.card)
    old, new = (_scale(table) for table in (source, tested))
    common = set.intersection(*(set(table.utterances["emotion"].dropna()) for table in (source, tested)))
    first = source.utterances
    if old is not None and new is not None and old != new:
        rated = {name: first[name].to_numpy(np.float64, na_value=np.nan) for name in ATTRIBUTES}
        first = first.assign(**{name: affine(v, old, new).astype(np.float32) for name, v in rated.items()})
    utterances = pd.concat([first, tested.utterances], ignore_index=True)
    utterances["emotion"] = utterances["emotion"].where(utterances["emotion"].isin(common), None)
    digest = hashlib.sha256((source.card["hash"] + tested.card["hash"]).encode()).hexdigest()
    return Joined(
        root=source.root,
        card={**source.card, "hash": digest},
        corpus={
            "corpus": f"{source.corpus['corpus']}, {tested.corpus['corpus']}",
            "synthetic": source.corpus["synthetic"] or tested.corpus["synthetic"],
            "attribute_scale": None if old is None or new is None else list(new),
        },
        utterances=utterances,
        frames=cast("NDArray[Any]", _Frames(source.frames, tested.frames)),
        offsets=np.concatenate([source.offsets, source.offsets[-1] + tested.offsets[1:]]),
        source=source,
        tested=tested,
    )


def open_table(path: Path | str, features: str, cross: Path | str | None = None) -> FeatureTable:
    """The feature set of a prepared corpus; with `cross`, joined with that of another, which is tested on."""
    table = FeatureTable.open(path, features)
    return table if cross is None else joined(table, FeatureTable.open(cross, features))


def parts(table: FeatureTable) -> tuple[FeatureTable, ...]:
    """The tables that `table` is made of: two, or itself."""
    return (table.source, table.tested) if isinstance(table, Joined) else (table,)


def _scale(table: FeatureTable) -> tuple[float, float] | None:
    """The ends of the scale on which attributes were rated."""
    scale = table.corpus.get("attribute_scale")
    return None if scale is None else (float(scale[0]), float(scale[1]))


class _Frames:
    """Two memory maps, read as if one lay behind the other."""

    def __init__(self, first: NDArray[Any], second: NDArray[Any]) -> None:
        self._first, self._second = first, second

    def __getitem__(self, key: slice | NDArray[np.int64]) -> NDArray[Any]:
        """A slice, which is a view where it doesn't go over the edge, or single frames (n, D)."""
        edge = len(self._first)
        if isinstance(key, slice):
            start, stop, _ = key.indices(edge + len(self._second))
            if stop <= edge:
                return self._first[start:stop]
            behind = self._second[max(start - edge, 0) : stop - edge]
            return behind if start >= edge else np.concatenate([self._first[start:], behind])
        before = key < edge
        frames = np.empty((len(key), self._first.shape[1]), np.result_type(self._first, self._second))
        frames[before], frames[~before] = self._first[key[before]], self._second[key[~before] - edge]
        return frames


__all__ = ["Joined", "joined", "open_table", "parts"]
