"""Warm starts: what is taken from earlier studies, and what a sampler makes of it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, StudyError
from sersearch.study import Study
from sersearch.tuning import plan
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.search import StudySearcher
from sersearch.tuning.space import SearchSpace, load_space
from sersearch.tuning.warm import WARM, taken, warm_text
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS, kill_at, printed, search, start
from tests.tuning.test_run import SPACE, table
from tests.tuning.test_search import run, score

OBJECTIVES = [{"metric": "dev_ua", "mode": "max"}]


RECORDINGS = "developed on, 8 recordings that this study tests, such as made0_0; leave it out"
SPEAKER = "--warm-start old: it learnt from, or was developed on, 1 speaker that this study tests, such as made/s0"


def section(data: Path, protocol: Protocol) -> dict[str, Any]:
    """What a study says of its data, as far as a warm start looks at it."""
    plain = {"path": str(data), "features": "spectrogram", "cross": None, "target": "emotion"}
    return {**plain, "protocol": protocol.to_dict()}


def small(**changes: Any) -> SearchSpace:
    return load_space("aae_alpha_beta").changed(**{"trials": 12, "epochs": 9, **changes})


def earlier(root: Path, name: str = "old", count: int = 20, **meta: Any) -> Study:
    """A study whose trials lie on a grid of alpha and beta, and are as good as `score` says; the last one failed."""
    study = Study.create(name, {"family": "aae", "created": "then", "objective": OBJECTIVES[0], **meta}, root)
    for number in range(count):
        searched = {"alpha": round(0.1 + 0.2 * (number % 5), 1), "beta": round(0.2 + 0.2 * (number // 5), 1)}
        study.append("start", number, params={**small().config(searched).to_dict()}, searched=searched)
        for epoch in (1, 2):
            value = score(searched, epoch)
            study.append("epoch", number, epoch=epoch, value=value, metrics={"dev_ua": value}, seconds=1.0)
        state = "failed" if number == count - 1 else "pruned" if number % 4 == 3 else "complete"
        study.append("end", number, state=state, reason="")
    return study


def warmed(folder: Path, root: Path, space: SearchSpace, *names: str) -> Path:
    """A new study's folder with what was taken from others."""
    folder.mkdir()
    (folder / WARM).write_text(warm_text(taken(names, root, space, OBJECTIVES)))
    return folder


def suggested(space: SearchSpace, folder: Path, count: int = 12) -> list[dict[str, Any]]:
    return [trial.searched for trial in run(StudySearcher(space, 0, [], folder), count)]


def test_tpe_goes_where_the_earlier_study_was_good(tmp_path: Path) -> None:
    earlier(tmp_path)
    space = small(trials=24)
    (tmp_path / "cold").mkdir()
    cold = suggested(space, tmp_path / "cold")
    warm = suggested(space, warmed(tmp_path / "warm", tmp_path, space, "old"))
    assert warm[0] == cold[0] == {"alpha": 0.4, "beta": 0.6}, "the paper's point stays the first"
    assert warm[1] == {"alpha": 0.3, "beta": 0.8}, "then the best one of the earlier study"
    first = [sum(score(point, 0) for point in points[2:6]) / 4 for points in (cold, warm)]
    assert first[1] > first[0] + 0.05, "without it TPE has no model yet, and draws"


def test_the_best_point_is_the_first_where_the_paper_s_is_outside(tmp_path: Path) -> None:
    earlier(tmp_path)
    space = small(search={"alpha": {"low": 0.1, "high": 0.3, "step": 0.1}, "beta": {"choices": [0.2, 0.4]}})
    found = suggested(space, warmed(tmp_path / "warm", tmp_path, space, "old"))
    assert space.paper_point() is None
    assert found[0] == {"alpha": 0.3, "beta": 0.4}


def test_two_studies_give_their_best_points_in_turn(tmp_path: Path) -> None:
    earlier(tmp_path)
    earlier(tmp_path, "short", count=4)
    folder = warmed(tmp_path / "warm", tmp_path, small(method="random"), "old", "short")
    assert suggested(small(method="random"), folder)[:3] == [
        {"alpha": 0.4, "beta": 0.6},
        {"alpha": 0.3, "beta": 0.8},
        {"alpha": 0.3, "beta": 0.2},
    ]


@pytest.mark.parametrize("method", ["tpe", "random"])
@pytest.mark.parametrize("killed_after", [1, 5])
def test_a_restarted_warm_search_suggests_what_the_undisturbed_does(
    tmp_path: Path, method: str, killed_after: int
) -> None:
    earlier(tmp_path)
    space = small(method=method, constraint="alpha + beta <= 1.5")
    folder = warmed(tmp_path / "warm", tmp_path, space, "old")
    whole = suggested(space, folder)
    shutil.rmtree(tmp_path / "old")
    history = list(run(StudySearcher(space, 0, [], folder), killed_after))
    searcher = StudySearcher(space, 0, history, folder)
    assert searcher.left == 12 - killed_after, "the earlier trials are none of the budget"
    rest = list(run(searcher, 12))
    assert [t.searched for t in history + rest] == whole
    assert [t.number for t in history + rest] == list(range(12))
    assert len(searcher._mirror.trials) == 12, "the dashboard shows this study"


def test_what_lies_outside_the_space_is_passed_over_and_counted(tmp_path: Path) -> None:
    earlier(tmp_path)
    (start,) = taken(["old"], tmp_path, small(search={"alpha": {"low": 0.2, "high": 0.6, "step": 0.1}}), OBJECTIVES)
    assert start.told() == {"name": "old", "created": "then", "trials": 8, "skipped": 11}
    assert start.note() == (
        "The search is told of 8 finished trials of study old; 11 lie outside the space, and are passed over."
    )
    assert {trial.searched["alpha"] for trial in start.trials} == {0.3, 0.5}
    (start,) = taken(["old"], tmp_path, small(constraint="alpha + beta <= 0.5"), OBJECTIVES)
    assert all(sum(trial.searched.values()) <= 0.5 + 1e-9 for trial in start.trials)


def test_what_the_earlier_study_fixed_can_be_searched(tmp_path: Path) -> None:
    earlier(tmp_path)
    space = small(search={"alpha": {"low": 0.1, "high": 1.0}, "hidden": {"choices": [64, 128]}})
    (start,) = taken(["old"], tmp_path, space, OBJECTIVES)
    assert {trial.searched["hidden"] for trial in start.trials} == {128}


@pytest.mark.parametrize(
    ("space", "meta", "message"),
    [
        ({}, {"family": "ladder"}, "--warm-start old: it is of family ladder, not aae; leave it out"),
        ({}, {"objective": {"metric": "dev_wa"}}, "--warm-start old: its objective is dev_wa, not dev_ua"),
        ({"method": "grid"}, {}, "--warm-start: a grid runs all of its points"),
        (
            {"search": {"hidden": {"choices": [3, 5]}}},
            {},
            "--warm-start old: of its 19 finished trials none lies in the space; leave it out",
        ),
    ],
)
def test_a_study_of_something_else_is_refused(
    tmp_path: Path, space: dict[str, Any], meta: dict[str, Any], message: str
) -> None:
    earlier(tmp_path, **meta)
    with pytest.raises(ConfigError) as error:
        taken(["old"], tmp_path, small(**space), OBJECTIVES)
    assert message in str(error.value)


def test_a_damaged_copy_is_said_and_not_passed_over(tmp_path: Path) -> None:
    earlier(tmp_path)
    folder = warmed(tmp_path / "warm", tmp_path, small(), "old")
    (folder / WARM).write_text('{"study": "old"')
    with pytest.raises(StudyError, match=r"warm\.jsonl: cannot be read"):
        StudySearcher(small(), 0, [], folder)


def test_a_study_says_what_it_was_told_and_is_the_same_search_only_with_it(tmp_path: Path) -> None:
    root = tmp_path / "studies"
    data = write_table(tmp_path / "data", make_table())
    earlier(root, data=section(data, Protocol("loso", "s0")))
    request = TuneRequest(
        space=small(fixed=PARAMS),
        data=data,
        protocol=Protocol("loso", "s0"),
        name="new",
        root=root,
        warm_start=("old",),
    )
    study = plan.create(request, "sqlite:///mlflow.db")
    assert study.meta["warm_start"] == [{"name": "old", "created": "then", "trials": 19, "skipped": 0}]
    notes = json.loads((study.folder / "split.json").read_text())["notes"]
    assert "The search is told of 19 finished trials of study old." in notes
    plan.check_same(study, request)
    with pytest.raises(StudyError, match=r'warm_start was \["old"\], now \[\]'):
        plan.check_same(study, dataclasses.replace(request, warm_start=()))


@pytest.mark.parametrize(
    ("rule", "target", "tested", "message"),
    [
        (Protocol("loso", "s3", dev_speaker="s0"), "emotion", Protocol("loso", "s0"), SPEAKER),
        (Protocol("loso", "s3", dev_speaker="s1"), "emotion", Protocol("loso", "s0"), SPEAKER),
        (Protocol("loso", "s3", dev_folds=2), "emotion", Protocol("loso", "s0", dev_folds=2), SPEAKER),
        (Protocol("kfold", fold=1, folds=4), "emotion", Protocol("kfold", fold=2, folds=4), RECORDINGS),
        (Protocol("loso", "s0"), "emotion4", Protocol("loso", "s0"), "its target is emotion4, not emotion; leave"),
    ],
)
def test_a_study_that_knows_what_is_tested_is_refused(
    tmp_path: Path, rule: Protocol, target: str, tested: Protocol, message: str
) -> None:
    """Trained on it or developed on it: its figures would choose by the test part."""
    root, data = tmp_path / "studies", write_table(tmp_path / "data", make_table())
    earlier(root, data={**section(data, rule), "target": target})
    request = TuneRequest(space=small(fixed=PARAMS), data=data, protocol=tested, name="new", root=root)
    with pytest.raises(ConfigError) as error:
        plan.create(dataclasses.replace(request, warm_start=("old",)), "sqlite:///mlflow.db")
    assert message in str(error.value)
    assert not (root / "new").exists()


def test_a_study_of_other_speakers_may_be_of_any_protocol(tmp_path: Path) -> None:
    """Speakers of corpora of other names are others; where the corpus is gone, that can't be told."""
    root, data = tmp_path / "studies", write_table(tmp_path / "data", make_table())
    other = write_table(tmp_path / "other", make_table(corpus="other", seed=1))
    earlier(root, data=section(other, Protocol("loso", "s3")))
    request = TuneRequest(space=small(fixed=PARAMS), data=data, protocol=Protocol("loso", "s0"), name="new", root=root)
    request = dataclasses.replace(request, warm_start=("old",))
    assert plan.create(request, "sqlite:///mlflow.db").meta["warm_start"][0]["trials"] == 19
    shutil.rmtree(other)
    with pytest.raises(ConfigError, match=r"--warm-start old: .*other.*; leave it out"):
        plan.create(dataclasses.replace(request, name="newer"), "sqlite:///mlflow.db")


@pytest.mark.slow
@pytest.mark.fault
def test_a_killed_warm_search_resumes_to_the_undisturbed_result(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    (tmp_path / "small.yaml").write_text(SPACE.replace("trials: 8", "trials: 5"))
    printed(search(tmp_path, "first", "--concurrency", "1"))
    options = ["--warm-start", "first", "--seed", "1", "--concurrency", "1"]
    assert "Note: The search is told of" in printed(search(tmp_path, "undisturbed", *options))
    kill_at(tmp_path / "studies" / "killed", search(tmp_path, "killed", *options), "end", 2)
    shutil.rmtree(tmp_path / "studies" / "first")
    printed(start(tmp_path, "--resume", "killed", "--concurrency", "1"))
    found, whole = (Study.open(name, tmp_path / "studies") for name in ("killed", "undisturbed"))
    assert table(found) == table(whole)
