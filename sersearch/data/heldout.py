"""The test part, apart from everything that tuning may import: `sersearch.evaluation` alone asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sersearch.data.protocols import Protocol, _parts

if TYPE_CHECKING:
    import numpy as np

    from sersearch.data.table import FeatureTable


def test_rows(protocol: Protocol, table: FeatureTable, target: str) -> np.ndarray:
    """Labelled test rows of `table`, sorted. Raises :class:`DataError` as :meth:`Protocol.split` does."""
    return _parts(protocol, table, target)[1]["test"]
