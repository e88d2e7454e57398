"""Trials of several seeds, and of several development folds: what they report, keep and go on from."""

from __future__ import annotations

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import pytest

from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError
from sersearch.study import Study
from sersearch.training import LaneState, MembersState
from sersearch.tuning import plan
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS, kill_at, order, printed, search, small_study, start
from tests.tuning.test_run import SPACE, table
from tests.tuning.test_trainable import Tune, figures, flip, train, tune

__all__ = ["tune"]


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """Trials of three seeds."""
    made = small_study(tmp_path)
    made.write_meta(space={**made.meta["space"], "repeats": 3})
    return made


def alone(study: Study, tune: Tune, **changes: Any) -> list[dict[str, Any]]:
    """The reports of a trial of one training."""
    single = Study(study.folder, {**study.meta, "space": {**study.meta["space"], "repeats": 1}, **changes})
    before, tune.reports = tune.reports, []
    train(single, order(single))
    reports, tune.reports = tune.reports, before
    return reports


def test_a_trial_reports_the_means_over_its_seeds(study: Study, tune: Tune) -> None:
    singles = [alone(study, tune, seed=seed) for seed in (0, 1, 2)]
    train(study, order(study))
    assert [r["epoch"] for r in tune.reports] == [1, 2, 3]
    for epoch, told in enumerate(tune.reports):
        values = [single[epoch]["value"] for single in singles]
        assert told["value"] == told["metrics"]["dev_ua"] == fmean(values)
        assert told["metrics"]["dev_ua_std"] == stdev(values)
        assert told.keys() == singles[0][epoch].keys(), "ASHA and Tune have what they need"
    assert [r["done_by_itself"] for r in tune.reports] == [False, False, True]


def test_a_trial_of_one_seed_is_told_and_kept_as_ever(study: Study, tune: Tune) -> None:
    reports = alone(study, tune)
    assert "dev_ua_std" not in reports[-1]["metrics"]
    assert LaneState.load(tune.checkpoint(3)).seed == 0
    assert not (tune.checkpoint(3) / "members.json").exists()


def test_a_trial_of_several_seeds_goes_on_from_its_checkpoint_as_if_nothing_had_been(study: Study, tune: Tune) -> None:
    train(study, order(study))
    whole = figures(tune.reports)
    content = {path.name: path.read_bytes() for path in tune.checkpoint(3).iterdir()}
    for checkpoint, retried in ((tune.checkpoint(1), None), (None, tune.checkpoint(1))):
        tune.reports, tune.retried = [], retried
        train(study, order(study, checkpoint=checkpoint))
        assert figures(tune.reports) == whole[1:]
    again = {path.name: path.read_bytes() for path in tune.checkpoint(3).iterdir()}
    timed = {"report.json", "members.json", "SHA256SUMS"}
    assert {n: c for n, c in again.items() if n not in timed} == {n: c for n, c in content.items() if n not in timed}
    last, tune.reports, tune.retried = whole[-1], [], None
    train(study, order(study, checkpoint=tune.checkpoint(3)))
    assert figures(tune.reports) == [last], "cut off before its end, it tells the last epoch again"


def test_a_damaged_checkpoint_falls_back_to_the_one_before(study: Study, tune: Tune) -> None:
    train(study, order(study))
    whole, tune.reports = figures(tune.reports), []
    flip(tune.checkpoint(2) / "member-2.state.safetensors")
    names = [tune.checkpoint(epoch).relative_to(study.home).as_posix() for epoch in (2, 1)]
    train(study, {**order(study), "checkpoints": names})
    assert figures(tune.reports) == whole[1:]
    assert any("the checkpoint before it is taken" in record["message"] for record in tune.reports[0]["log"])


def test_a_seed_that_turns_nan_fails_its_trial(study: Study, tune: Tune) -> None:
    train(study, order(study, learning_rate=1e30))
    (only,) = tune.reports
    assert only["failed"]
    assert only["reason"].startswith("seed 0: ")
    assert not tune.folder.exists()


def test_each_seed_has_its_own_pretraining(tmp_path: Path, study: Study, tune: Tune) -> None:
    aux = write_table(tmp_path / "aux", make_table(speakers=3, seed=1, corpus="other"))
    study.write_meta(data={**study.meta["data"], "aux": str(aux)})
    single = alone(study, tune)
    train(study, order(study, pretrain_epochs=1))
    assert len(list(study.folder.glob("pretrained-*/*.safetensors"))) == 1 + 3
    assert not any(r["failed"] for r in [*tune.reports, *single])


def test_a_trial_of_nested_loso_develops_in_each_fold(study: Study, tune: Tune) -> None:
    nested = Protocol("loso", "s0", dev_folds=3)
    study.write_meta(space={**study.meta["space"], "repeats": 1})
    folds = [Protocol("loso", "s0", dev_folds=3, dev_fold=fold) for fold in (1, 2, 3)]
    data = study.meta["data"]
    singles = [alone(study, tune, data={**data, "protocol": fold.to_dict()}) for fold in folds]
    study.write_meta(data={**data, "protocol": nested.to_dict()})
    train(study, order(study))
    assert [r["value"] for r in tune.reports] == [fmean(s[e]["value"] for s in singles) for e in range(3)]
    with (tune.checkpoint(3) / "dev_predictions.csv").open() as file:
        ids = [row["id"] for row in csv.DictReader(file)]
    assert len(ids) == len(set(ids)) == 3 * 4 * 2, "three speakers who aren't tested, each utterance once"
    assert len(MembersState.load(tune.checkpoint(3)).lasts) == 3


# --- the study --------------------------------------------------------------------------------------------------------


@pytest.fixture
def request_(tmp_path: Path) -> TuneRequest:
    space = load_space("aae_alpha_beta").changed(fixed=PARAMS, trials=6, epochs=7, method="random", repeats=2)
    data, protocol = write_table(tmp_path / "data", make_table()), Protocol("loso", "s0", dev_folds=3)
    return TuneRequest(space=space, data=data, protocol=protocol, name="one", root=tmp_path / "studies")


def test_a_nested_study_says_who_develops_in_which_fold(request_: TuneRequest) -> None:
    study = plan.create(request_, "sqlite:///mlflow.db")
    card = json.loads((study.folder / "split.json").read_text())
    assert card["caption"] == "LOSO, test speaker s0, the other speakers develop in 3 folds"
    assert "each fold developing in turn (1: s1; 2: s2; 3: s3)" in card["notes"][0]
    assert card["parts"]["dev"]["speakers"] == ["s1"]
    assert study.meta["data"]["protocol"]["dev_fold"] is None
    context = json.loads((study.folder / "context.json").read_text())
    assert len(context["rotations"]) == 3
    assert context["normaliser"] == context["rotations"][0]["normaliser"] != context["rotations"][1]["normaliser"]


def test_a_dry_run_counts_all_trainings(request_: TuneRequest) -> None:
    whole = plan.dry_run(request_)
    one = plan.dry_run(
        dataclasses.replace(
            request_, space=request_.space.changed(repeats=1), protocol=Protocol("loso", "s0", dev_folds=3, dev_fold=1)
        )
    )
    assert (whole.members, one.members) == (6, 1)
    assert whole.disk_bytes == 6 * one.disk_bytes


def test_members_and_lanes_are_told_apart(request_: TuneRequest) -> None:
    with pytest.raises(ConfigError, match=r"--lanes 8: each configuration is trained 6 times.*leave --lanes out"):
        plan.create(dataclasses.replace(request_, lanes=8), "sqlite:///runs.db")


# --- through the command line -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.fault
def test_a_killed_search_of_several_seeds_resumes_to_the_undisturbed_result(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    (tmp_path / "small.yaml").write_text(SPACE.replace("1.0e+30", "0.01").replace("trials: 8", "trials: 4"))
    options = ["--repeats", "2", "--concurrency", "1"]
    assert "±" in printed(search(tmp_path, "undisturbed", *options))
    kill_at(tmp_path / "studies" / "killed", search(tmp_path, "killed", *options), "epoch", 4)
    printed(start(tmp_path, "--resume", "killed", "--concurrency", "1"))
    found, whole = (Study.open(name, tmp_path / "studies") for name in ("killed", "undisturbed"))
    assert table(found) == table(whole)
    assert all("dev_ua_std" in event["metrics"] for trial in found.trials() for event in trial.epochs)
    for command in (["export", "killed", "--out", "model"], ["evaluate", "killed"], ["report", "killed"]):
        done = run(tmp_path, *command)
        assert done.returncode == 0, done.stderr
    checkpoint = found.best().checkpoint
    assert checkpoint is not None
    card = json.loads((tmp_path / "model" / "bundle.json").read_text())
    assert card["epoch"] == found.best().best_epoch


@pytest.mark.slow
def test_a_nested_search_runs_and_its_study_can_be_used(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    (tmp_path / "small.yaml").write_text(SPACE.replace("1.0e+30", "0.01").replace("trials: 8", "trials: 2"))
    output = printed(search(tmp_path, "nested", "--dev-folds", "3"))
    assert "each fold developing in turn (1: s1; 2: s2; 3: s3)" in " ".join(output.split())
    for command in (["export", "nested", "--out", "model"], ["evaluate", "nested"], ["report", "nested"]):
        done = run(tmp_path, *command)
        assert done.returncode == 0, done.stderr


def run(work: Path, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "sersearch", *args], cwd=work, capture_output=True, text=True, timeout=300
    )
