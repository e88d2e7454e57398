"""An epoch, or what comes before it, that never ends: its process does, and says what it was at."""

from __future__ import annotations

import faulthandler
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from sersearch.training import engine
from sersearch.tuning import lanes, trainable
from sersearch.tuning import watchdog as module
from sersearch.tuning.watchdog import FIRST_S, LEAST_S, Watchdog
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS, order, shared, small_study

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


@pytest.mark.parametrize("named", [True, False])
def test_an_epoch_that_holds_python_s_lock_ends_its_process_which_leaves_its_stack(tmp_path: Path, named: bool) -> None:
    stack, began = tmp_path / "trial-0000.stack", time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", HANGING, *([str(stack)] if named else [])], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert time.monotonic() - began < 250, "a sleep of 300 s was not waited for"
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
    assert watchdog.seconds == FIRST_S, "there is nothing to tell by"
    for seconds, limit in ((1.0, 600.0), (40.0, 800.0), (2.0, 800.0), (100.0, 2000.0)):
        took(watchdog, monkeypatch, seconds)
        assert watchdog.seconds == limit


def test_a_limit_that_was_asked_for_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    watchdog = Watchdog(30.0)
    took(watchdog, monkeypatch, 100.0)
    assert watchdog.seconds == 30.0


@pytest.fixture
def armed(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Seconds after which the process is ended, while it is watched."""
    seconds: list[float] = []
    monkeypatch.setattr(faulthandler, "dump_traceback_later", lambda limit, **options: seconds.append(limit))
    monkeypatch.setattr(faulthandler, "cancel_dump_traceback_later", seconds.clear)
    return seconds


def test_data_that_never_open_and_a_pretraining_that_never_ends_are_watched(
    tmp_path: Path, armed: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    study, seen = small_study(tmp_path), []
    aux = write_table(tmp_path / "aux", make_table(speakers=3, seed=1, corpus="other"))
    study.write_meta(data={**study.meta["data"], "aux": str(aux)}, epoch_limit=1.0)

    def watched(where: ModuleType, name: str) -> None:
        real = getattr(where, name)

        def told(*args: Any) -> Any:
            seen.append((name, list(armed)))
            return real(*args)

        monkeypatch.setattr(where, name, told)

    watched(trainable, "load_data")
    watched(trainable, "auxiliary_data")
    watched(engine, "train_epoch")
    trainable.begin(order(study, pretrain_epochs=2), shared(study), "cpu")
    first = [(name, [FIRST_S]) for name in ("load_data", "auxiliary_data", "train_epoch")]
    assert seen == [*first, ("train_epoch", [LEAST_S])], "--epoch-limit is for epochs of a trial"
    assert armed == []


def test_the_measuring_of_lanes_is_watched(tmp_path: Path, armed: list[float], monkeypatch: pytest.MonkeyPatch) -> None:
    study, seen = small_study(tmp_path), []

    def opened(*args: object) -> None:
        seen.extend(armed)
        raise LookupError("enough")

    monkeypatch.setattr(lanes, "load_data", opened)
    with pytest.raises(LookupError, match="enough"):
        lanes.measured_lanes(study.meta, [PARAMS])
    assert seen == [FIRST_S]
    assert armed == []
