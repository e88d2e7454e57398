"""Items made in advance: the same ones, in their order, no more of them in memory than said."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.data.prefetch import prefetched


@given(items=st.lists(st.integers() | st.none(), max_size=20))
def test_order_and_number_stay(items: list[int | None]) -> None:
    assert list(prefetched(items)) == items


def test_they_are_made_while_the_present_one_is_used_and_not_all_at_once() -> None:
    made: list[int] = []
    third = threading.Event()

    def source() -> Iterator[int]:
        for number in range(10):
            made.append(number)
            if number == 2:
                third.set()
            yield number

    items = prefetched(source())
    assert next(items) == 0
    assert third.wait(120), "the third is made although nobody asked for the second"
    assert len(made) <= 4


def test_an_error_comes_where_its_item_would_have_come() -> None:
    def source() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("gone")

    items = prefetched(source())
    assert [next(items), next(items)] == [1, 2]
    with pytest.raises(OSError, match="gone"):
        next(items)


def test_who_stops_early_leaves_no_thread() -> None:
    before = threading.active_count()
    items = prefetched(range(100))
    next(items)
    items.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before
