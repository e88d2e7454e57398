"""Asynchronous successive halving: who stops at which rung, and rungs that outlive their driver."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers import TrialScheduler

from sersearch.study import TrialRecord
from sersearch.tuning.asha import ReplayedASHA, overdue, scheduler
from sersearch.tuning.space import SearchSpace, load_space


def space(grace: int = 1, factor: float = 3, epochs: int = 9) -> SearchSpace:
    pruning = {"kind": "asha", "grace_epochs": grace, "reduction_factor": factor}
    return load_space("aae_alpha_beta").changed(epochs=epochs, pruning=pruning)


class Search:
    """A search under ASHA as Tune drives it: one report at a time, in any order of trials."""

    def __init__(self, settings: SearchSpace, history: list[TrialRecord] | None = None) -> None:
        self.settings, self.records = settings, {r.number: r for r in history or []}
        self.rule = ReplayedASHA(settings, history or [])
        self.rule.set_search_properties("value", "max")
        self.added: set[int] = set()
        self.clock = 1000 * len(self.records) + sum(len(r.epochs) for r in self.records.values())

    def report(self, number: int, value: float, last: bool = False, failed: bool = False) -> bool:
        """Trial `number` ends an epoch; whether it stops."""
        trial = SimpleNamespace(trial_id=f"{id(self)}-{number}", config={"trial": number})
        if number not in self.added:
            self.added.add(number)
            self.rule.on_trial_add(None, trial)
        record = self.records.setdefault(number, TrialRecord(number, {}, {}))
        epoch = len(record.epochs) + 1
        last = last or epoch == self.settings.epochs
        result = {"trial": number, "epoch": epoch, "value": value, "failed": failed, "done_by_itself": last or failed}
        stop = bool(self.rule.on_trial_result(None, trial, result) == TrialScheduler.STOP)
        if not failed:
            self.clock += 1
            record.epochs.append({"epoch": epoch, "value": value, "done": last, "order": self.clock})
        if stop or last or failed:
            self.rule.on_trial_complete(None, trial, result)
            record.state = "complete" if last else "pruned"
        return stop


def test_at_a_rung_the_best_third_goes_on() -> None:
    search = Search(space(grace=1, factor=3))
    stops = [search.report(number, value) for number, value in enumerate((0.5, 0.6, 0.55, 0.4, 0.7, 0.58))]
    # Cut-offs by hand, the 2/3 quantile of what came before: none, 0.5, 0.567, 0.567, 0.55, 0.583.
    assert stops == [False, False, True, True, False, True]


@pytest.mark.parametrize(
    ("grace", "factor", "epochs", "rungs"),
    [(1, 3, 20, {1, 3, 9}), (2, 2, 12, {2, 4, 8}), (5, 3, 60, {5, 15, 45}), (4, 1.5, 10, {4, 6, 9})],
)
def test_rungs_are_the_grace_times_powers_of_the_factor(
    grace: int, factor: float, epochs: int, rungs: set[int]
) -> None:
    def stopped_at(bad_from: int) -> int | None:
        """Where a trial stops that is worse than three others from an epoch on."""
        search = Search(space(grace, factor, epochs))
        for number in range(3):
            for _ in range(epochs):
                search.report(number, 0.5)
        for epoch in range(1, epochs + 1):
            if search.report(3, 0.5 if epoch < bad_from else 0.1):
                return epoch
        return None

    found = {stopped_at(epoch) for epoch in range(1, epochs + 1)}
    assert found - {None} == rungs, "a trial is judged at rungs and nowhere else"


def test_a_failed_report_stops_nothing_and_sets_no_mark() -> None:
    search = Search(space())
    assert not search.report(0, math.nan, failed=True)
    assert not search.report(1, 0.1), "nobody was there before"
    assert not search.report(2, 0.2)


def test_what_a_finished_trial_reached_counts_for_the_rest() -> None:
    search = Search(space(grace=1, factor=3))
    search.report(0, 0.9, last=True)
    assert search.report(1, 0.5), "the finished one stands at the first rung"


def test_a_resumed_trial_is_not_judged_twice_at_its_rung() -> None:
    def record(number: int, value: float) -> TrialRecord:
        return TrialRecord(number, {}, {}, epochs=[{"epoch": 1, "value": value, "done": False, "order": number}])

    # Trial 0 passed its first rung, being the first; better ones came after it. It goes on.
    search = Search(space(), [record(0, 0.1), record(1, 0.8), record(2, 0.9)])
    assert not search.report(0, 0.1), "epoch 2"
    assert not search.report(0, 0.1), "epoch 3, where it is the first"


@pytest.mark.parametrize("state", ["running", "interrupted"])
def test_a_trial_that_was_stopped_but_killed_before_its_end_is_overdue(state: str) -> None:
    search = Search(space(grace=1, factor=3))
    assert not search.report(0, 0.5)
    assert search.report(1, 0.4)
    assert overdue(search.settings, list(search.records.values())) == [], "it has ended"
    search.records[1].state = state
    assert overdue(search.settings, list(search.records.values())) == [search.records[1]]
    assert overdue(search.settings.changed(pruning={"kind": "none"}), list(search.records.values())) == []


def test_a_trial_that_ended_by_itself_at_a_rung_is_not_overdue() -> None:
    search = Search(space(grace=1, factor=3))
    search.report(0, 0.5)
    search.report(1, 0.4, last=True)
    search.records[1].state = "running"
    assert overdue(search.settings, list(search.records.values())) == []


def test_epochs_without_a_value_are_no_rung_s_business() -> None:
    history = [TrialRecord(0, {}, {}, "failed", epochs=[{"epoch": 1, "value": None, "order": 0}])]
    assert not Search(space(), history).report(1, 0.1)


VALUES = st.floats(0, 1).map(lambda v: round(v, 3))


@given(
    curves=st.lists(st.lists(VALUES, min_size=9, max_size=9), min_size=2, max_size=6),
    order=st.lists(st.integers(0, 5), max_size=60),
    killed_after=st.integers(0, 60),
)
def test_replayed_rungs_decide_as_the_live_ones(curves: list[list[float]], order: list[int], killed_after: int) -> None:
    def go(search: Search, turns: list[int]) -> list[Any]:
        decisions = []
        for turn in turns:
            number = turn % len(curves)
            record = search.records.get(number)
            if record is None or record.state == "running":
                epoch = len(record.epochs) if record else 0
                decisions.append((number, epoch + 1, search.report(number, curves[number][epoch])))
        return decisions

    turns = [*order, *(n for n in range(len(curves)) for _ in range(9))]
    whole = go(Search(space()), turns)
    killed = Search(space())
    before = go(killed, turns[:killed_after])
    after = go(Search(space(), [killed.records[n] for n in sorted(killed.records)]), turns[killed_after:])
    assert before + after == whole


def test_without_pruning_nothing_is_stopped() -> None:
    none = load_space("aae_alpha_beta").changed(pruning={"kind": "none"})
    assert not isinstance(scheduler(none, []), ReplayedASHA)
    assert isinstance(scheduler(space(), []), ReplayedASHA)
