"""The test part, apart from everything that tuning may import: `sersearch.evaluation` alone asks for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sersearch.data.rules import parts

if TYPE_CHECKING:
    import numpy as np

    from sersearch.data.protocols import Protocol
    from sersearch.data.table import FeatureTable


def test_rows(protocol: Protocol, table: FeatureTable, target: str) -> np.ndarray:
    """Labelled test rows of `table`, sorted. Raises :class:`DataError` as :meth:`Protocol.split` does."""
    return parts(protocol, table, target)[1]["test"]
