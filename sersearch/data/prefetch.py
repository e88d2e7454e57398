"""Making the next items while the present one is used."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

AHEAD = 2
"""Items that are made in advance."""


def prefetched(items: Iterable[T]) -> Iterator[T]:
    """The items in their order, up to `AHEAD` of them made in advance by a thread of its own.

    For mini-batches from a table that is larger than memory, or than the GPU's: reading them goes on while the model
    computes. An error is raised where its item would have come.
    """
    source, end = iter(items), object()
    with ThreadPoolExecutor(1) as pool:
        coming = deque(pool.submit(next, source, end) for _ in range(AHEAD))
        while (item := coming.popleft().result()) is not end:
            coming.append(pool.submit(next, source, end))
            yield item  # type: ignore[misc]  # not the end
