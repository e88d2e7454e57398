"""The driver: killed, asked to end, doubled, on a machine whose clock is set."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from contextlib import closing, suppress
from itertools import pairwise
from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.matrix import OPTIONS, Search, assert_nothing_lost, stopped, table
from tests.tuning.small import descendants

KILLS = 10


@pytest.mark.slow
def test_killed_at_ten_random_moments(work: Path, whole: Study) -> None:
    """By turns at any moment of its start, and somewhere in the two epochs after some more were recorded."""
    rng, recovery, start = random.Random(0), [], 4.0
    seconds = [event["seconds"] for event in whole.events() if event["event"] == "epoch"]
    running = Search.new(work, "killed")
    for number in range(KILLS):
        if number % 2:
            recovery.append(start := running.until(running.epochs + 1))
            running.until(running.epochs + rng.randrange(5))
        time.sleep(rng.uniform(0, 2 * max(seconds)) if number % 2 else rng.uniform(0.1, 1) * start)
        running.kill()
        begun = (running.folder / "study.json").is_file()
        running = Search.again(work, "killed") if begun else Search.new(work, "killed")
    running.end()
    assert_nothing_lost("kill -9 of the driver", KILLS, whole, running.study, sum(recovery) / len(recovery))


def test_what_a_killed_driver_left_running_is_ended_by_itself(work: Path, whole: Study) -> None:
    """Nobody resumes it, and yet MLflow has no run that is RUNNING."""
    running = Search.new(work, "left")
    running.until(3)
    running.kill()
    began = time.monotonic()
    while running.study.meta["state"] != "interrupted" or running.study.driver is not None:
        assert time.monotonic() - began < 60
        time.sleep(0.1)
    assert [t.state for t in running.study.trials()][-1] == "interrupted"
    assert_none_runs(work, "left")
    again = Search.again(work, "left")
    again.end()
    assert_nothing_lost("driver killed, settled by itself", 1, whole, again.study, time.monotonic() - began)


def assert_none_runs(work: Path, name: str) -> None:
    """The study and trials of it are in MLflow, and all have ended there."""
    with closing(sqlite3.connect(work / "mlflow.db")) as database:
        found = database.execute(
            "select status from runs join tags using (run_uuid) where tags.key = 'sersearch.study' and value = ?",
            (name,),
        ).fetchall()
    assert len(found) >= 2
    assert all(status in ("FINISHED", "FAILED", "KILLED") for (status,) in found), found


def test_sigterm_to_all_processes(work: Path, whole: Study) -> None:
    """As `systemctl stop`, `scancel` and `timeout` have it: Ray's processes are asked, and the one that settles."""
    running = Search.new(work, "everyone", "--grace", "60")
    running.until(3)
    began, before = time.monotonic(), running.epochs
    for pid, _ in [(running.process.pid, ""), *descendants(running.process.pid)]:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    assert "goes on" in running.end(130).splitlines()[-1]
    assert running.epochs > before or running.study.trials()[-1].epochs == [], "the epoch in training was waited for"
    assert running.study.meta["state"] == "interrupted"
    assert_none_runs(work, "everyone")
    before, running = running.epochs, Search.again(work, "everyone")
    running.until(before + 1)
    seconds = time.monotonic() - began
    running.end()
    assert_nothing_lost("SIGTERM to all of its processes", 1, whole, running.study, seconds)


def test_sigterm_lets_the_epoch_end_and_leaves(work: Path, whole: Study) -> None:
    running = Search.new(work, "asked", "--grace", "60")
    seconds = []
    for epochs in (2, 12):
        running.until(epochs)
        began, before = time.monotonic(), running.epochs
        os.kill(running.process.pid, signal.SIGTERM)
        told = running.end(130)
        assert "goes on" in told.splitlines()[-1]
        assert running.epochs > before or running.study.trials()[-1].epochs == [], (
            "the epoch in training was waited for"
        )
        assert [t.state for t in running.study.trials() if t.state in ("running", "interrupted")] in (
            ["interrupted"],
            [],
        )
        assert running.study.meta["state"] == "interrupted"
        before, running = running.epochs, Search.again(work, "asked", "--grace", "60")
        running.until(before + 1)
        seconds.append(time.monotonic() - began)
    running.end()
    assert_nothing_lost("SIGTERM with a grace period", 2, whole, running.study, sum(seconds) / 2)


def test_a_second_driver_is_refused(work: Path, whole: Study) -> None:
    first = Search.new(work, "two")
    first.until(1)
    trial = stopped(first)  # for as long as it takes
    began = time.monotonic()
    for second in [Search.again(work, "two"), Search.new(work, "two")]:
        assert f"study two is being run by process {first.process.pid}" in second.end(2)
    seconds = time.monotonic() - began
    os.kill(trial, signal.SIGCONT)
    first.end()
    assert_nothing_lost("two drivers on one study", 2, whole, first.study, seconds)


@pytest.mark.slow
def test_a_clock_that_is_set(work: Path, whole: Study, tmp_path: Path) -> None:
    """Back by an hour and forward by two days, three times a second, in all of the search's processes."""
    (tmp_path / "sitecustomize.py").write_text(
        "import time\n"
        "_time, _from = time.time, time.monotonic()\n"
        "def _set():\n"
        "    return _time() + (0, -3600, 172800)[int(3 * (time.monotonic() - _from)) % 3]\n"
        "time.time = _set\n"
    )
    running = Search.new(work, "clock", env={"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    running.until(4)
    running.kill()  # so that ASHA's rungs are made of the journal's events
    again = Search.again(work, "clock")
    seconds = again.until(running.epochs + 1)
    again.end()
    times = [event["time"] for event in again.study.events()]
    assert min(b - a for a, b in pairwise(times)) < -1000, "the clock was set back"
    assert_nothing_lost("clock set back and forward", 2, whole, again.study, seconds)


def test_the_same_command_goes_on_and_fresh_begins_anew(work: Path, whole: Study) -> None:
    running = Search.new(work, "same")
    running.until(3)
    running.kill()
    began = time.monotonic()
    again = Search.new(work, "same")
    again.until(running.epochs + 1)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("the same command after a kill", 1, whole, again.study, seconds)
    Search.new(work, "same").end()  # finished: it says so once more
    told = Search(work, "same", *OPTIONS, "--name", "same", "--seed", "1").end(2)
    assert "study same exists and is another search: seed was 0, now 1" in told
    Search.new(work, "same", "--fresh").end()
    kept = list((work / "studies").glob("same-until-*"))
    assert len(kept) == 1
    assert table(Study.open(kept[0])) == table(whole)
    assert table(Study.open(work / "studies" / "same")) == table(whole)


@pytest.mark.parametrize("number", [signal.SIGINT])
def test_ctrl_c_leaves_at_once(work: Path, whole: Study, number: signal.Signals) -> None:
    running = Search.new(work, "interrupted")
    running.until(2)
    began = time.monotonic()
    os.kill(running.process.pid, number)
    running.end(130)
    again = Search.again(work, "interrupted")
    again.until(running.epochs + 1)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("Ctrl-C", 1, whole, again.study, seconds)
