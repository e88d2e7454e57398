"""One preparation at a time, in object stores, too."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from data_prep.lock import NAME, STALE, hold
from sersearch.data.place import place
from sersearch.errors import DataError


@pytest.fixture(params=["disk", "store"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    if request.param == "disk":
        yield tmp_path
        return
    store = place(f"memory://locks/{time.time_ns()}")
    yield store
    for path in store.glob("*"):
        path.unlink()


def test_a_second_one_is_refused_and_a_later_one_is_not(out: Path) -> None:
    with hold(out) as alive:
        alive()
        with pytest.raises(DataError, match="another `sersearch prep` is writing there"), hold(out):
            pass
    with hold(out):
        pass


def test_a_lock_without_a_sign_of_life_is_its_holder_s_no_more() -> None:
    store = place("memory://locks/stale")
    (store / NAME).write_text(json.dumps({"holder": "a dead one", "time": time.time() - STALE + 60}))
    with pytest.raises(DataError, match=r"\(a dead one, 840 s ago\)"), hold(store):
        pass
    (store / NAME).write_text(json.dumps({"holder": "a dead one", "time": time.time() - STALE - 1}))
    with hold(store):
        assert json.loads((store / NAME).read_text())["holder"] != "a dead one"
    assert not (store / NAME).exists()
