"""An epoch that never ends: its process does, and says what it was at."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sersearch.tuning import watchdog as module
from sersearch.tuning.watchdog import Watchdog

HANGING = """
import ctypes, sys
from pathlib import Path
from sersearch.tuning.watchdog import Watchdog

def hangs_with_the_lock():
    ctypes.PyDLL(None).sleep(300)

watchdog = Watchdog(2.0)
stack = Path(sys.argv[1]) if len(sys.argv) > 1 else None
with watchdog.epoch(stack):
    pass
with watchdog.epoch(stack):
    hangs_with_the_lock()
"""


@pytest.mark.timeout(120)
@pytest.mark.parametrize("named", [True, False])
def test_an_epoch_that_holds_python_s_lock_ends_its_process_which_leaves_its_stack(tmp_path: Path, named: bool) -> None:
    stack, began = tmp_path / "trial-0000.stack", time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, *([str(stack)] if named else [])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert time.monotonic() - began < 100, "a sleep of 300 s was not waited for"
    said = stack.read_text() if named else done.stderr
    assert "in hangs_with_the_lock" in said
    assert "0:00:02" in said, "the limit"


def test_an_epoch_in_time_leaves_nothing(tmp_path: Path) -> None:
    with Watchdog(60.0).epoch(tmp_path / "stack"):
        assert (tmp_path / "stack").exists()
    assert list(tmp_path.iterdir()) == []


def test_an_error_in_an_epoch_ends_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cancelled: list[bool] = []
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", lambda: cancelled.append(True))
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda *args, **options: None)
    with pytest.raises(ValueError, match="nan"), Watchdog(60.0).epoch(tmp_path / "stack"):
        raise ValueError("nan")
    assert cancelled == [True]
    assert list(tmp_path.iterdir()) == []


def took(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """An epoch of so many seconds."""
    times = iter((100.0, 100.0 + seconds))
    with monkeypatch.context() as patched:
        patched.setattr(module, "time", SimpleNamespace(monotonic=lambda: next(times)))
        patched.setattr(faulthandler, "dump_traceback_later", lambda *args, **options: None)
        with watchdog.epoch(None):
            pass


def test_the_slowest_epoch_so_far_says_what_the_next_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(None)
    assert watchdog.seconds is None, "there is nothing to tell by"
    for seconds, limit in ((1.0, 600.0), (40.0, 800.0), (2.0, 800.0), (100.0, 2000.0)):
        took(watchdog, monkeypatch, seconds)
        assert watchdog.seconds == limit


def test_a_limit_that_was_asked_for_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(30.0)
    took(watchdog, monkeypatch, 100.0)
    assert watchdog.seconds == 30.0
