"""Suggestions and pruning: a function of the seed and of what happened, whether or not the driver was restarted."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.search import Searcher

from sersearch.errors import ConfigError
from sersearch.study import TrialRecord
from sersearch.tuning.asha import scheduler
from sersearch.tuning.search import StudySearcher, most_at_once, startup_trials
from sersearch.tuning.space import SearchSpace, load_space

STATES = {"complete": {"done_by_itself": True}, "pruned": {"done_by_itself": False}, "failed": {"failed": True}}


def small(**changes: Any) -> SearchSpace:
    return load_space("aae_alpha_beta").changed(**{"trials": 12, "epochs": 9, **changes})


def constrained(**changes: Any) -> SearchSpace:
    tenths = {"low": 0.0, "high": 1.0, "step": 0.1}
    return small(**{"search": {"alpha": tenths, "beta": tenths}, "constraint": "alpha + beta <= 1", **changes})


def score(searched: dict[str, Any], epoch: int) -> float:
    return 1 - (searched["alpha"] - 0.3) ** 2 - (searched["beta"] - 0.8) ** 2 + epoch / 100


def run(searcher: StudySearcher, count: int) -> Iterator[TrialRecord]:
    """Take `count` suggestions, one after the other, and report two epochs and an end of each."""
    for n in range(count):
        name = f"t{n}"
        config = searcher.suggest(name)
        if config == Searcher.FINISHED:
            return
        number, searched = config["trial"], config["searched"]
        state = ("complete", "complete", "pruned", "failed")[number % 4]
        epochs = [{"epoch": e, "value": score(searched, e), "order": 10 * number + e} for e in (1, 2)]
        last = {"trial": number, "failed": False, "done_by_itself": False, **epochs[-1], **STATES[state]}
        searcher.on_trial_result(name, {"trial": number, "failed": False, **epochs[0]})
        if state != "pruned":  # Tune tells the searcher of every epoch but that at which the scheduler stops
            searcher.on_trial_result(name, {"trial": number, "failed": False, **epochs[1]})
        searcher.on_trial_complete(name, last)
        yield TrialRecord(number, config["params"], searched, state, "", epochs)


def suggestions(space: SearchSpace, folder: Path, seed: int = 0, history: list[TrialRecord] | None = None) -> list[Any]:
    folder.mkdir(exist_ok=True)
    return [(t.number, t.searched) for t in run(StudySearcher(space, seed, history or [], folder), 100)]


@pytest.mark.parametrize("method", ["tpe", "random"])
def test_the_same_seed_suggests_the_same(tmp_path: Path, method: str) -> None:
    first = suggestions(small(method=method), tmp_path / "a")
    assert first == suggestions(small(method=method), tmp_path / "b")
    assert first != suggestions(small(method=method), tmp_path / "c", seed=1)
    assert [number for number, _ in first] == list(range(12))
    assert first[0][1] == {"alpha": 0.4, "beta": 0.6}, "the paper's own configuration comes first"
    steps = [round(10 * v, 6) for _, searched in first for v in searched.values()]
    assert all(step == round(step) and 1 <= step <= 10 for step in steps)


def test_tpe_goes_where_it_is_good_and_random_does_not(tmp_path: Path) -> None:
    def late(method: str) -> float:
        space = small(method=method, trials=40)
        values = [score(searched, 0) for _, searched in suggestions(space, tmp_path / method)]
        return sum(values[20:]) / 20

    assert late("tpe") > late("random") + 0.1


@pytest.mark.parametrize("make", [small, constrained])
@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
@pytest.mark.parametrize("killed_after", [1, 4, 9])
def test_a_restarted_search_suggests_what_the_undisturbed_does(
    tmp_path: Path, make: Callable[..., SearchSpace], method: str, killed_after: int
) -> None:
    space = make(method=method)
    whole = suggestions(space, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    history = list(run(StudySearcher(space, 0, [], tmp_path / "killed"), killed_after))
    rest = suggestions(space, tmp_path / "killed", history=history)
    assert [(t.number, t.searched) for t in history] + rest == whole


def test_unfinished_trials_come_first_with_their_checkpoint(tmp_path: Path) -> None:
    space = small()
    history = list(run(StudySearcher(space, 0, [], tmp_path), 3))
    history[1].state, history[1].home = "interrupted", tmp_path
    for epoch in history[1].epochs:
        (tmp_path / f"c{epoch['epoch']}").mkdir()
        epoch["checkpoint"] = f"c{epoch['epoch']}"
    searcher = StudySearcher(space, 0, history, tmp_path)
    assert searcher.left == 12 - 3 + 1
    config = searcher.suggest("again")
    assert (config["trial"], config["searched"]) == (1, history[1].searched)
    assert config["checkpoints"] == ["c2", "c1"], "the last first, should it be damaged"
    assert searcher.suggest("next")["trial"] == 3


@pytest.mark.timeout(300)
def test_the_lock_that_a_kill_left_holds_nobody_up(tmp_path: Path) -> None:
    (tmp_path / "optuna.log").touch()
    (tmp_path / "optuna.log.lock").symlink_to(tmp_path / "optuna.log")
    searcher = StudySearcher(small(), 0, [], tmp_path)
    assert searcher.suggest("first")["trial"] == 0
    assert not (tmp_path / "optuna.log.lock").is_symlink()


def test_the_grid_is_run_once_each(tmp_path: Path) -> None:
    space = small(method="grid")
    found = [searched for _, searched in suggestions(space, tmp_path)]
    assert found == space.grid()


def test_a_small_budget_still_has_modelled_trials() -> None:
    assert [startup_trials(n) for n in (4, 12, 24, 100)] == [2, 3, 6, 10]


def test_the_mirror_shows_every_trial_as_it_ended(tmp_path: Path) -> None:
    trials = list(run(StudySearcher(small(), 0, [], tmp_path), 6))
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
    shown = optuna.load_study(study_name=tmp_path.name, storage=optuna.storages.JournalStorage(backend)).trials
    assert [t.state.name for t in shown] == ["COMPLETE", "COMPLETE", "PRUNED", "FAIL", "COMPLETE", "COMPLETE"]
    assert [t.params for t in shown] == [pytest.approx(t.searched) for t in trials]
    assert shown[2].intermediate_values == {e["epoch"]: e["value"] for e in trials[2].epochs}


def curve(number: int) -> list[float]:
    """A learning curve; later trials are worse, but the fifth."""
    return [0.3 + 0.01 * e - 0.02 * number + (0.2 if number == 5 else 0) for e in range(1, 10)]


def asha(space: SearchSpace, numbers: range, history: list[TrialRecord]) -> tuple[dict[int, int], list[TrialRecord]]:
    """Run trials one after the other under ASHA; the epoch at which each ended, and their records."""
    rule, ends = scheduler(space, history), {}
    rule.set_search_properties("value", "max")
    records = list(history)
    for number in numbers:
        trial = SimpleNamespace(trial_id=f"t{number}", config={"trial": number})
        rule.on_trial_add(None, trial)
        epochs: list[dict[str, Any]] = []
        for epoch, value in enumerate(curve(number), start=1):
            last = epoch == space.epochs
            result = {"trial": number, "epoch": epoch, "value": value, "failed": False, "done_by_itself": last}
            epochs.append({"epoch": epoch, "value": value, "done": last, "order": 100 * number + epoch})
            ends[number] = epoch
            if last:
                rule.on_trial_complete(None, trial, result)
            elif rule.on_trial_result(None, trial, result) == "STOP":
                break
        records.append(TrialRecord(number, {}, {}, "complete", "", epochs))
    return ends, records


def test_asha_stops_the_worse_two_thirds_at_its_rungs() -> None:
    space = small(pruning={"kind": "asha", "grace_epochs": 1, "reduction_factor": 3})
    ends, _ = asha(space, range(8), [])
    assert ends[0] == 9, "the first has nothing to be compared with"
    assert ends[5] == 9, "the best goes on to the end"
    assert {ends[n] for n in (3, 4, 6, 7)} == {1}


def test_rungs_survive_a_restart() -> None:
    space = small(pruning={"kind": "asha", "grace_epochs": 1, "reduction_factor": 3})
    whole, _ = asha(space, range(8), [])
    before, records = asha(space, range(4), [])
    after, _ = asha(space, range(4, 8), records)
    assert before | after == whole


def test_no_pruning_stops_nothing() -> None:
    ends, _ = asha(small(pruning={"kind": "none"}), range(4), [])
    assert set(ends.values()) == {9}


# --- whole numbers, lists, continua ----------------------------------------------------------------------------------


MIXED = {
    "hidden": {"low": 8, "high": 32, "step": 8},
    "channels": {"choices": [[2, 3, 4], [4, 5, 6]]},
    "learning_rate": {"low": 1e-12, "high": 1e-2, "log": True},
}


def mixed(**changes: Any) -> SearchSpace:
    return small(search=MIXED, trials=16, **changes)


def blend(searched: dict[str, Any], epoch: int) -> float:
    return searched["hidden"] / 100 - abs(math.log10(searched["learning_rate"]) + 5) + epoch / 100


def test_values_are_as_their_fields_hold_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "score", blend)
    for _, searched in suggestions(mixed(), tmp_path / "a"):
        assert type(searched["hidden"]) is int
        assert searched["hidden"] in (8, 16, 24, 32)
        assert searched["channels"] in MIXED["channels"]["choices"]
        assert 1e-12 <= searched["learning_rate"] <= 1e-2
        mixed().config(searched)


@pytest.mark.parametrize("killed_after", [3, 8])
def test_a_restart_through_json_keeps_every_digit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_after: int
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "score", blend)
    whole = suggestions(mixed(), tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    history = list(run(StudySearcher(mixed(), 0, [], tmp_path / "killed"), killed_after))
    for record in history:
        record.searched = json.loads(json.dumps(record.searched))
    rest = suggestions(mixed(), tmp_path / "killed", history=history)
    assert [(t.number, t.searched) for t in history] + rest == whole


# --- several trials at a time -----------------------------------------------------------------------------------------


class Driver:
    """Drives a searcher with trials that run at the same time and report in a given order."""

    def __init__(self, space: SearchSpace, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        self.searcher = StudySearcher(space, 0, [], folder)
        self.running: list[dict[str, Any]] = []
        self.found: list[tuple[int, dict[str, Any]]] = []

    def start(self) -> bool:
        config = self.searcher.suggest(f"t{len(self.found)}")
        if config in (None, Searcher.FINISHED):
            return False
        self.running.append(config)
        self.found.append((config["trial"], config["searched"]))
        return True

    def finish(self, which: int) -> None:
        config = self.running.pop(which % len(self.running))
        result = {"trial": config["trial"], "epoch": 1, "value": score(config["searched"], 1), "failed": False}
        self.searcher.on_trial_result(f"t{config['trial']}", result)
        self.searcher.on_trial_complete(f"t{config['trial']}", {**result, "done_by_itself": True})


def concurrent(space: SearchSpace, folder: Path, order: list[int], at_a_time: int) -> list[tuple[int, Any]]:
    driver, turns = Driver(space, folder), iter([*order, *[0] * 200])
    while True:
        more = True
        while more and len(driver.running) < at_a_time:
            more = driver.start()
        if not driver.running:
            return driver.found
        driver.finish(next(turns))


ORDERS = st.lists(st.integers(0, 5), max_size=12)


@pytest.mark.parametrize("method", ["grid", "random"])
@given(order=ORDERS, at_a_time=st.integers(1, 4))
@settings(max_examples=10)
def test_grid_and_random_suggest_the_same_in_whatever_order_results_arrive(
    tmp_path_factory: pytest.TempPathFactory, method: str, order: list[int], at_a_time: int
) -> None:
    tenths = {"alpha": {"low": 0.1, "high": 0.3, "step": 0.1}, "beta": {"choices": [0.2, 0.8]}}
    space = small(method=method, search=tenths, trials=6)
    folder = tmp_path_factory.mktemp("order")
    found = concurrent(space, folder / "a", order, at_a_time)
    assert found == suggestions(space, folder / "b")
    if method == "grid":
        assert [searched for _, searched in found] == space.grid()


@given(order=ORDERS, at_a_time=st.integers(2, 4))
@settings(max_examples=10)
def test_tpe_suggests_the_same_when_results_arrive_alike(
    tmp_path_factory: pytest.TempPathFactory, order: list[int], at_a_time: int
) -> None:
    folder = tmp_path_factory.mktemp("alike")
    first, second = (concurrent(small(), folder / name, order, at_a_time) for name in "ab")
    assert first == second
    assert [number for number, _ in first] == list(range(12)), "each number once, the budget kept"


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_a_trial_killed_before_the_journal_knew_it_is_run_after_all(tmp_path: Path, method: str) -> None:
    space = small(method=method)
    whole = list(run(StudySearcher(space, 0, [], tmp_path), 12))
    history = [t for t in whole[:5] if t.number not in (1, 3)]
    searcher = StudySearcher(space, 0, history, tmp_path)
    assert searcher.left == searcher.budget - 3
    numbers = [searcher.suggest(f"again{n}")["trial"] for n in range(4)]
    assert numbers == [1, 3, 5, 6]
    if method != "tpe":  # which depends on what has ended by then
        again = {t.number: t.searched for t in run(StudySearcher(space, 0, history, tmp_path), 9)}
        assert again == {t.number: t.searched for t in whole if t not in history}


# --- what Tune keeps to itself ----------------------------------------------------------------------------------------


def test_the_epoch_at_which_asha_stops_a_trial_is_told(tmp_path: Path) -> None:
    searcher = StudySearcher(small(), 0, [], tmp_path)
    history = list(run(searcher, 3))
    told = searcher.study.trials[2]
    assert history[2].state == "pruned"
    assert told.state.name == "PRUNED"
    assert sorted(told.intermediate_values) == [1, 2]
    again = StudySearcher(small(), 0, history, tmp_path).study.trials[2]
    assert again.intermediate_values == told.intermediate_values, "a resume knows the same"


def test_a_trial_stopped_at_its_first_epoch_is_pruned_and_not_failed(tmp_path: Path) -> None:
    searcher = StudySearcher(small(), 0, [], tmp_path)
    searcher.suggest("t0")
    result = {"trial": 0, "epoch": 1, "value": 0.3, "failed": False, "done_by_itself": False}
    searcher.on_trial_complete("t0", result)
    (only,) = searcher.study.trials
    assert (only.state.name, only.intermediate_values) == ("PRUNED", {1: 0.3})


def test_a_trial_whose_process_died_is_failed_and_its_end_is_told_once(tmp_path: Path) -> None:
    searcher = StudySearcher(small(), 0, [], tmp_path)
    searcher.suggest("t0")
    for _ in range(2):
        searcher.on_trial_complete("t0", error=True)
    assert searcher.suggest("t1")["trial"] == 1
    assert [t.state.name for t in searcher._mirror.trials] == ["FAIL", "RUNNING"]


def test_a_trial_whose_machine_was_lost_comes_again_also_as_the_last(tmp_path: Path) -> None:
    searcher = StudySearcher(small(trials=2), 0, [], tmp_path)
    first, last = (searcher.suggest(name) for name in ("t0", "t1"))
    searcher.on_trial_complete("t0", error=True)
    assert searcher.suggest("t2") is None, "there is none to suggest, but one of those may come again"
    assert [t.state.name for t in searcher._mirror.trials] == ["FAIL", "RUNNING"]
    searcher.on_trial_complete("t1", error=True)
    searcher.again(TrialRecord(1, last["params"], last["searched"]))
    again = searcher.suggest("t3")
    assert {**again, "try": 1} == last
    assert again["try"] == 2, "its folder is another one"
    searcher.on_trial_complete("t3", {"trial": 1, "epoch": 1, "value": 0.5, "failed": False, "done_by_itself": True})
    assert searcher.suggest("t4") == Searcher.FINISHED
    assert [t.state.name for t in searcher._mirror.trials] == ["FAIL", "COMPLETE"]
    assert first["trial"] == 0


@pytest.mark.parametrize("restarted", [False, True])
def test_tpe_keeps_away_from_where_trials_failed(tmp_path: Path, restarted: bool) -> None:
    space = small(search={"learning_rate": {"choices": [0.01, 0.1, 1e30]}}, trials=40)
    searcher, history, chosen = StudySearcher(space, 0, [], tmp_path), [], []
    for number in range(40):
        if restarted:
            searcher = StudySearcher(space, 0, history, tmp_path)
        rate = searcher.suggest(f"t{number}")["searched"]["learning_rate"]
        chosen.append(rate)
        failed, result = rate == 1e30, {"trial": number, "epoch": 1, "value": 0.5 + rate, "done_by_itself": True}
        searcher.on_trial_result(f"t{number}", {**result, "failed": False})
        searcher.on_trial_complete(f"t{number}", {**result, "epoch": 2, "failed": failed})
        epochs = [{"epoch": epoch, "value": 0.5 + rate} for epoch in ((1,) if failed else (1, 2))]
        state = "failed" if failed else "complete"
        history.append(TrialRecord(number, {}, {"learning_rate": rate}, state, "NaN" * failed, epochs))
    assert 1e30 in chosen, "or nothing is shown"
    assert chosen[20:].count(1e30) <= 5, "told as FAIL, all 20 would go there"


def test_the_paper_s_configuration_is_no_first_trial_where_it_is_outside(tmp_path: Path) -> None:
    space = small(search={"alpha": {"low": 0.5, "high": 1.0, "step": 0.1}})
    first = StudySearcher(space, 0, [], tmp_path).suggest("t0")["searched"]
    assert space.paper_point() is None
    assert 0.5 <= first["alpha"] <= 1.0


def test_the_fixed_and_the_searched_make_the_configuration(tmp_path: Path) -> None:
    config = StudySearcher(small(fixed={"hidden": 7}), 0, [], tmp_path).suggest("t0")
    assert config["params"]["hidden"] == 7
    assert {name: config["params"][name] for name in ("alpha", "beta")} == config["searched"]
    assert config["checkpoints"] == []


# --- constraints ------------------------------------------------------------------------------------------------------


DIMENSIONS = st.sampled_from(
    [
        {"low": 0.0, "high": 1.0},
        {"low": 0.0, "high": 1.0, "step": 0.1},
        {"choices": [0.9, 0.1, 0.5]},
        {"low": 1e-3, "high": 1.0, "log": True},
    ]
)


@pytest.mark.parametrize("method", ["tpe", "random"])
@given(alpha=DIMENSIONS, beta=DIMENSIONS, bound=st.floats(0.21, 1.5), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=10)
def test_no_proposal_breaks_the_constraint(
    tmp_path_factory: pytest.TempPathFactory, method: str, alpha: Any, beta: Any, bound: float, seed: int
) -> None:
    space = constrained(search={"alpha": alpha, "beta": beta}, constraint=f"alpha + beta <= {bound}", method=method)
    found = suggestions(space, tmp_path_factory.mktemp("kept"), seed)
    assert len(found) == 12
    for _, searched in found:
        assert searched["alpha"] + searched["beta"] <= bound + 1e-9


def test_the_study_holds_what_ran_and_nothing_that_broke_the_constraint(tmp_path: Path) -> None:
    searcher = StudySearcher(constrained(), 0, [], tmp_path)
    ran = list(run(searcher, 12))
    assert [t.params for t in searcher.study.trials] == [pytest.approx(t.searched) for t in ran]
    assert len(searcher._mirror.trials) == 12


def test_tpe_goes_where_it_is_good_under_a_constraint(tmp_path: Path) -> None:
    space = constrained(trials=40)
    values = [score(searched, 0) for _, searched in suggestions(space, tmp_path)]
    best = max(score(point, 0) for point in space.grid())
    assert sum(values[20:]) / 20 > sum(values[:20]) / 20
    assert max(values) > best - 0.03


def test_a_best_point_beyond_the_constraint_ends_no_search(tmp_path: Path) -> None:
    space = constrained(trials=40, constraint="alpha + beta <= 0.5")  # it is at 0.3, 0.8
    found = [searched for _, searched in suggestions(space, tmp_path)]
    assert len(found) == 40
    assert sum(searched["beta"] >= 0.4 for searched in found[20:]) >= 8, "it goes as near as it may"


def test_a_constraint_that_hardly_a_point_keeps_is_an_error_and_no_endless_search(tmp_path: Path) -> None:
    continuum = {"low": 0.0, "high": 1.0}
    space = constrained(search={"alpha": continuum, "beta": continuum}, constraint="alpha + beta <= 1e-9")
    with pytest.raises(ConfigError, match=r"of 1000 points that tpe suggested none keeps alpha \+ beta <= 1e-09"):
        StudySearcher(space, 0, [], tmp_path).suggest("t0")


def test_tpe_runs_no_more_trials_at_a_time_than_it_can_learn_from() -> None:
    space = load_space("aae_alpha_beta")
    found = [most_at_once(space.changed(trials=n)) for n in (4, 12, 24, 200)]
    assert found == [2, 3, 6, 50]


# --- failed trials once more ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
def test_a_retry_runs_the_failed_trials_and_no_others(tmp_path: Path, method: str) -> None:
    space = small(method=method)
    history = list(run(StudySearcher(space, 0, [], tmp_path), 10))
    failed = [t for t in history if t.state == "failed"]
    assert [t.number for t in failed] == [3, 7], "two trials of the budget have not begun"
    history[5].state = "interrupted"
    searcher = StudySearcher(space, 0, history, tmp_path, retry=True)
    assert (searcher.left, searcher.begun) == (2, 2)
    found = [searcher.suggest(f"again{n}") for n in range(3)]
    assert found[2] is None
    assert [(c["trial"], c["searched"]) for c in found[:2]] == [(t.number, t.searched) for t in failed]


def test_a_retried_trial_ends_under_its_own_number(tmp_path: Path) -> None:
    history = list(run(StudySearcher(small(), 0, [], tmp_path), 12))
    searcher = StudySearcher(small(), 0, history, tmp_path, retry=True)
    assert searcher.suggest("again")["trial"] == 3
    result = {"trial": 3, "epoch": 1, "value": 0.9, "failed": False, "done_by_itself": True}
    searcher.on_trial_result("again", result)
    searcher.on_trial_complete("again", result)
    trials = searcher.study.get_trials()
    assert len(trials) == 12
    assert (trials[3].state.name, trials[3].value) == (
        "COMPLETE",
        pytest.approx(max(score(history[3].searched, 2), 0.9)),
    )
    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "optuna.log"))
    shown = optuna.load_study(study_name=tmp_path.name, storage=optuna.storages.JournalStorage(backend)).trials
    assert [t.state.name for t in shown][3] == "COMPLETE"
    assert [t.state.name for t in shown].count("RUNNING") == 2, "those whose turn is still to come"


def test_a_trial_that_fails_again_counts_as_failed(tmp_path: Path) -> None:
    history = list(run(StudySearcher(small(), 0, [], tmp_path), 12))
    searcher = StudySearcher(small(), 0, history, tmp_path, retry=True)
    for n in range(3):
        number = searcher.suggest(f"again{n}")["trial"]
        result = {"trial": number, "epoch": 3, "value": math.nan, "failed": True, "done_by_itself": True}
        searcher.on_trial_complete(f"again{n}", result)
    assert searcher.suggest("none") == Searcher.FINISHED
    assert [t.state.name for t in searcher._mirror.trials].count("FAIL") == 3
    assert [t.state.name for t in searcher.study.trials][3] == "PRUNED", "so that TPE keeps away"


def test_after_a_retry_the_rest_of_the_budget_is_run_by_a_resume(tmp_path: Path) -> None:
    space = small(method="random")
    whole = list(run(StudySearcher(space, 0, [], tmp_path), 12))
    history = whole[:9]
    history[3].state = history[7].state = "complete"
    searcher = StudySearcher(space, 0, history, tmp_path)
    assert searcher.left == 3
    assert [(t.number, t.searched) for t in run(searcher, 12)] == [(t.number, t.searched) for t in whole[9:]]
