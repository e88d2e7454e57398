"""What runs in a trial's process, without Tune: what it reports, and what it goes on from."""

from __future__ import annotations

import csv
import json
import math
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sersearch.errors import DataError
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import FAMILY
from sersearch.study import Study
from sersearch.training import Engine, LaneState
from sersearch.tuning import trainable
from tests.synthetic import make_data, make_table, write_table
from tests.tuning.small import PARAMS, order, small_study


class Tune:
    """Stands in for `ray.tune` in the trial's process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports = folder, []  # type: tuple[Path, list[dict[str, Any]]]
        self.retried: Path | None = None
        self.Checkpoint = SimpleNamespace(from_directory=Path)

    def get_checkpoint(self) -> Any:
        return None if self.retried is None else SimpleNamespace(path=str(self.retried))

    def report(self, result: dict[str, Any], checkpoint: Path | None = None) -> None:
        self.reports.append(result)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder / f"epoch{result['epoch']}", dirs_exist_ok=True)


@pytest.fixture
def tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tune:
    made = Tune(tmp_path / "checkpoints")
    monkeypatch.setattr(trainable, "tune", made)
    return made


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path)


def told(study: Study, reports: list[dict[str, Any]]) -> None:
    """The reports as the driver's journal has them."""
    study.append("start", 0, params={}, searched={})
    for r in reports:
        fields = {name: r[name] for name in ("metrics", "value", "best", "seconds")}
        study.append("epoch", 0, epoch=r["epoch"], checkpoint=None, **fields)


def test_every_report_has_what_tune_and_asha_need(study: Study, tune: Tune) -> None:
    trainable.train(order(study))
    assert [r["epoch"] for r in tune.reports] == [1, 2, 3]
    for r in tune.reports:
        assert {"trial", "epoch", "value", "best", "metrics", "seconds", "failed", "done_by_itself", "reason"} <= set(r)
        assert r["value"] == r["metrics"]["dev_ua"]
    assert [r["done_by_itself"] for r in tune.reports] == [False, False, True]
    assert tune.reports[-1]["reason"] == "all epochs done"


def test_a_checkpoint_holds_a_lane_and_what_it_predicts(study: Study, tune: Tune) -> None:
    trainable.train(order(study))
    folder = tune.folder / "epoch3"
    assert sorted(p.name for p in folder.iterdir()) == [
        "dev_predictions.csv",
        "model.safetensors",
        "state.json",
        "state.safetensors",
    ]
    assert LaneState.load(folder).progress.epoch == 3
    with (folder / "dev_predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    classes = ["anger", "happiness", "neutral", "sadness"]
    assert list(rows[0]) == ["id", "label", "predicted", *classes]
    for row in rows:
        posteriors = {name: float(row[name]) for name in classes}
        assert row["label"] in classes
        assert row["predicted"] == max(posteriors, key=lambda name: posteriors[name])
        assert sum(posteriors.values()) == pytest.approx(1, abs=1e-5)


def test_a_trial_goes_on_from_its_checkpoint_as_if_nothing_had_been(study: Study, tune: Tune) -> None:
    trainable.train(order(study))
    whole = [(r["epoch"], r["metrics"]) for r in tune.reports]
    for checkpoint, retried in ((tune.folder / "epoch1", None), (None, tune.folder / "epoch1")):
        tune.reports, tune.retried = [], retried
        trainable.train(order(study, checkpoint=checkpoint))
        assert [(r["epoch"], r["metrics"]) for r in tune.reports] == whole[1:]


def test_a_trial_cut_off_between_its_last_epoch_and_its_end_tells_that_epoch_again(study: Study, tune: Tune) -> None:
    trainable.train(order(study))
    told(study, tune.reports)
    last, tune.reports = tune.reports[-1], []
    trainable.train(order(study, checkpoint=tune.folder / "epoch3"))
    assert tune.reports == [last], "Tune ends a search in which a trial ends without a report"


def test_a_trial_that_turns_nan_reports_its_failure_and_no_checkpoint(study: Study, tune: Tune) -> None:
    trainable.train(order(study, learning_rate=1e30))
    (only,) = tune.reports
    assert (only["failed"], only["done_by_itself"]) == (True, True)
    assert math.isnan(only["value"])
    assert "epoch 1" in only["reason"]
    assert not tune.folder.exists()


def test_a_trial_with_a_damaged_checkpoint_begins_anew(tmp_path: Path, study: Study, tune: Tune) -> None:
    trainable.train(order(study))
    whole = [(r["epoch"], r["value"], r["metrics"]) for r in tune.reports]
    tune.reports.clear()
    (tmp_path / "torn").mkdir()
    (tmp_path / "torn" / "state.json").write_text("{")
    trainable.train(order(study, checkpoint=tmp_path / "torn"))
    assert [(r["epoch"], r["value"], r["metrics"]) for r in tune.reports] == whole


def test_what_goes_wrong_in_a_trial_is_its_own_failure_in_one_line(
    study: Study, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainable.train(order(study, hidden=0))
    assert "hidden: 0 is outside" in tune.reports[0]["reason"]
    monkeypatch.setattr(trainable, "load_data", lambda *args: 1 / 0)
    trainable.train(order(study))
    assert tune.reports[1]["reason"] == "ZeroDivisionError: division by zero"
    assert all(r["failed"] and math.isnan(r["value"]) for r in tune.reports)


def test_trials_of_one_shape_start_from_one_pretraining(tmp_path: Path, study: Study, tune: Tune) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})
    short = {"pretrain_epochs": 1}
    trainable.train(order(study, alpha=0.1, **short))
    (path,) = study.folder.glob("pretrained-*.safetensors")
    written = path.stat().st_mtime_ns
    trainable.train(order(study, alpha=0.9, **short))
    assert [p.stat().st_mtime_ns for p in study.folder.glob("pretrained-*.safetensors")] == [written]
    trainable.train(order(study, **short, hidden=6))
    assert len(list(study.folder.glob("pretrained-*.safetensors"))) == 2, "another shape has weights of its own"
    assert not any(r["failed"] for r in tune.reports)


def test_pretrained_weights_that_are_damaged_are_made_again(tmp_path: Path, study: Study, tune: Tune) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})
    trainable.train(order(study, pretrain_epochs=1))
    (path,) = study.folder.glob("pretrained-*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    trainable.train(order(study, pretrain_epochs=1))
    assert path.read_bytes() == whole
    assert not any(r["failed"] for r in tune.reports)


def test_a_pretraining_that_failed_is_not_tried_by_every_trial(
    tmp_path: Path, study: Study, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})
    calls = []

    def diverge(*args: object, **kwargs: object) -> None:
        calls.append(args)
        raise DataError("pre-training diverged in epoch 1; lower params.learning_rate")

    monkeypatch.setattr(trainable, "pretrain", diverge)
    for alpha in (0.1, 0.9):
        trainable.train(order(study, alpha=alpha))
    assert [r["reason"] for r in tune.reports] == ["pre-training diverged in epoch 1; lower params.learning_rate"] * 2
    assert len(calls) == 1


def test_data_are_opened_once_a_process(study: Study, tune: Tune) -> None:
    family = trainable.get_family("aae")
    own = family.config.from_dict(PARAMS)
    section = json.loads(json.dumps(study.meta["data"]))
    assert trainable.load_data(section, own, "aae") is trainable.load_data(dict(section), own, "aae")


def test_a_cpu_trial_has_one_thread() -> None:
    if torch.cuda.is_available():
        pytest.skip("this process has a GPU")
    assert trainable.device() == "cpu"
    assert torch.get_num_threads() == 1


def test_a_picture_that_can_t_be_drawn_loses_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(engine: Engine, lane: int) -> dict[str, bytes]:
        raise RuntimeError("no font")

    monkeypatch.setattr(Engine, "artifacts", broken)
    engine = Engine(FAMILY, make_data())
    lane = engine.join(AAEConfig.from_dict(PARAMS), seed=0, epochs=1)
    list(engine.epochs())
    with pytest.warns(UserWarning, match="no pictures of the trial: RuntimeError: no font"):
        files = trainable.checkpoint_files(engine, lane)
    assert files.keys() == {"dev_predictions.csv", "model.safetensors", "state.safetensors", "state.json"}
