"""Ending a search before its time: running trials tell the epoch that they are at, and nothing new begins."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from ray.tune.search import Searcher

from sersearch.tuning import leaving as module
from sersearch.tuning.leaving import Leaving
from sersearch.tuning.search import StudySearcher
from sersearch.tuning.space import load_space


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The time, in s, as a test sets it."""
    now = SimpleNamespace(at=1000.0)
    monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=lambda: now.at))
    return now


def leaving(*running: int, grace: float = 20.0) -> Leaving:
    made = Leaving(grace)
    made.running.update(running)
    return made


def tells(of: Leaving, trial: int) -> bool:
    """Trial `trial` reports an epoch; whether it is stopped."""
    return of(f"t{trial}", {"trial": trial, "epoch": 1})


def test_a_search_that_nobody_asked_goes_on(clock: SimpleNamespace) -> None:
    going = leaving(0, 1)
    assert not tells(going, 0)
    clock.at += 1e6
    assert (going.stop_all(), going.reason, going.left) == (False, None, 20.0)


def test_each_running_trial_is_waited_for_until_its_next_epoch(clock: SimpleNamespace) -> None:
    asked = leaving(0, 1)
    asked.ask("the process was asked to end")
    assert not asked.stop_all()
    assert tells(asked, 1)
    assert not asked.stop_all(), "trial 0 has an epoch in training"
    clock.at += 19
    assert tells(asked, 0)
    assert asked.stop_all()


def test_when_the_grace_is_over_nobody_is_waited_for(clock: SimpleNamespace) -> None:
    asked = leaving(0, 1, grace=5.0)
    asked.ask("the process was asked to end")
    clock.at += 4.9
    assert (asked.stop_all(), asked.left) == (False, pytest.approx(0.1))
    clock.at += 0.2
    assert (asked.stop_all(), asked.left) == (True, 0.0)


def test_trials_that_end_meanwhile_are_not_waited_for(clock: SimpleNamespace) -> None:
    asked = leaving(0, 1)
    asked.ended(0)
    asked.ask("the process was asked to end")
    assert not asked.stop_all()
    asked.ended(1)
    assert asked.stop_all()
    assert asked.running == set()


def test_without_running_trials_it_ends_at_once(clock: SimpleNamespace) -> None:
    asked = leaving()
    asked.ask("the process was asked to end")
    assert asked.stop_all()


def test_the_first_reason_and_its_time_stand(clock: SimpleNamespace) -> None:
    asked = leaving(0, grace=5.0)
    asked.ask("trial 3: no space left")
    clock.at += 4
    asked.ask("the process was asked to end")
    assert asked.reason == "trial 3: no space left"
    clock.at += 2
    assert asked.stop_all()


def test_a_search_that_leaves_begins_nothing_new(tmp_path: Path) -> None:
    going = leaving()
    searcher = StudySearcher(load_space("aae_alpha_beta").changed(trials=4), 0, [], tmp_path, going)
    assert searcher.suggest("t0")["trial"] == 0
    going.ask("the process was asked to end")
    assert searcher.suggest("t1") == Searcher.FINISHED
