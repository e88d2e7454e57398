"""Suggestions and pruning: a function of the seed and of what happened, whether or not the driver was restarted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from ray.tune.search import Searcher

from sersearch.study import TrialRecord
from sersearch.tuning.asha import scheduler
from sersearch.tuning.search import StudySearcher, startup_trials
from sersearch.tuning.space import SearchSpace, load_space

STATES = {"complete": {"done_by_itself": True}, "pruned": {"done_by_itself": False}, "failed": {"failed": True}}


def small(**changes: Any) -> SearchSpace:
    return load_space("aae_alpha_beta").changed(**{"trials": 12, "epochs": 9, **changes})


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
        epochs = [{"epoch": e, "value": score(searched, e), "time": 10.0 * number + e} for e in (1, 2)]
        for epoch in epochs:
            searcher.on_trial_result(name, {"trial": number, "failed": False, **epoch})
        searcher.on_trial_complete(name, {"failed": False, **STATES[state]})
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


@pytest.mark.parametrize("method", ["tpe", "random", "grid"])
@pytest.mark.parametrize("killed_after", [1, 4, 9])
def test_a_restarted_search_suggests_what_the_undisturbed_does(tmp_path: Path, method: str, killed_after: int) -> None:
    space = small(method=method)
    whole = suggestions(space, tmp_path / "whole")
    (tmp_path / "killed").mkdir()
    history = list(run(StudySearcher(space, 0, [], tmp_path / "killed"), killed_after))
    rest = suggestions(space, tmp_path / "killed", history=history)
    assert [(t.number, t.searched) for t in history] + rest == whole


def test_unfinished_trials_come_first_with_their_checkpoint(tmp_path: Path) -> None:
    space = small()
    history = list(run(StudySearcher(space, 0, [], tmp_path), 3))
    (tmp_path / "c1").mkdir()
    history[1].state, history[1].folder, history[1].epochs[-1]["checkpoint"] = "interrupted", tmp_path, "c1"
    searcher = StudySearcher(space, 0, history, tmp_path)
    assert searcher.left == 12 - 3 + 1
    config = searcher.suggest("again")
    assert (config["trial"], config["searched"]) == (1, history[1].searched)
    assert config["checkpoint"] == str(tmp_path / "c1")
    assert searcher.suggest("next")["trial"] == 3


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
            epochs.append({"epoch": epoch, "value": value, "time": 100.0 * number + epoch})
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
