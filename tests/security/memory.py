"""How much memory a block takes, of this process."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def at_most(mebibytes: float) -> Iterator[None]:
    """Fail unless the block took at most so much memory, at its worst, beyond what there was before it."""
    try:
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    except OSError:
        pytest.skip("the peak of memory can be read on Linux alone")
    before = _status("VmRSS")
    yield
    grown = (_status("VmHWM") - before) / 1024
    assert grown <= mebibytes, f"{grown:.0f} MiB"


def _status(name: str) -> int:
    """A line of /proc/self/status, kB."""
    found = re.search(rf"{name}:\s*(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1])
