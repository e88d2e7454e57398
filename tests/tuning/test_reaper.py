"""What is left of a study whose driver was killed is settled: its trials, and its state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sersearch import tracking
from sersearch.study import Study
from sersearch.tuning.reaper import reap


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """What MLflow would have been told to end."""
    calls: list[tuple[Any, ...]] = []

    class Tracker:
        def __init__(self, *args: object) -> None:
            self.args, self.warnings = args, ["as MLflow is now"]

        def settle(self, meta: dict[str, Any]) -> None:
            calls.append((*self.args, meta["created"]))

    monkeypatch.setattr(tracking, "Tracker", Tracker)
    return calls


@pytest.fixture
def study(tmp_path: Path) -> Study:
    made = Study.create("one", {"state": "running", "created": "2026-01-01", "space": {"name": "small"}}, tmp_path)
    for number in range(3):
        made.append("start", number, params={}, searched={})
    made.append("end", 0, state="complete", reason="all epochs done")
    made.append("end", 2, state="failed", reason="loss is nan")
    return made


def test_trials_that_ran_are_interrupted_and_the_others_stay(study: Study, told: list[tuple[Any, ...]]) -> None:
    assert reap(study, "http://me:secret@host")
    assert [t.state for t in study.trials()] == ["complete", "interrupted", "failed"]
    assert study.trial(1).reason == "the search was interrupted"
    assert Study.open(study.folder).meta["state"] == "interrupted"
    assert told == [("http://me:secret@host", "small", "one", study.spool, "2026-01-01")]
    assert Study.open(study.folder).meta["warnings"] == ["as MLflow is now"]
    assert "secret" not in "".join(path.read_text() for path in study.folder.iterdir())


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_a_search_that_ended_in_order_is_left_as_it_is(study: Study, told: list[tuple[Any, ...]], state: str) -> None:
    study.write_meta(state=state)
    before = study.journal.read_bytes()
    assert not reap(study, "sqlite:///mlflow.db")
    assert (study.journal.read_bytes(), told) == (before, [])


@pytest.mark.parametrize("state", ["finished", "interrupted"])
def test_what_a_search_that_ended_in_order_could_not_send_is_sent(
    study: Study, told: list[tuple[Any, ...]], state: str
) -> None:
    study.write_meta(state=state, warnings=["2 MLflow events wait"])
    study.spool.write_text('{"event": "trial_start"}\n{"event": "finish"}\n')
    before = study.journal.read_bytes()
    assert reap(study, "sqlite:///mlflow.db")
    assert len(told) == 1
    assert (study.journal.read_bytes(), Study.open(study.folder).meta["state"]) == (before, state)
    assert Study.open(study.folder).meta["warnings"] == ["as MLflow is now"], "nothing waits any more"
