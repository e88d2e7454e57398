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
from sersearch.tuning import client, trainable
from sersearch.tuning.data import device, load_data
from tests.synthetic import make_data, make_table, write_table
from tests.tuning.small import PARAMS, order, shared, small_study


class Tune:
    """Stands in for `ray.tune` in the trial's process."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.reports = folder, []  # type: tuple[Path, list[dict[str, Any]]]
        self.retried: Path | None = None
        self.Checkpoint = SimpleNamespace(from_directory=Path)

    def checkpoint(self, epoch: int) -> Path:
        """Where Tune keeps an epoch's checkpoint; it counts from 0."""
        return self.folder / f"checkpoint_{epoch - 1:06d}"

    def get_checkpoint(self) -> Any:
        return None if self.retried is None else SimpleNamespace(path=str(self.retried))

    def report(self, result: dict[str, Any], checkpoint: Path | None = None) -> None:
        self.reports.append(result)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.checkpoint(result["epoch"]), dirs_exist_ok=True)


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path)


@pytest.fixture
def tune(study: Study, monkeypatch: pytest.MonkeyPatch) -> Tune:
    made = Tune(study.home / "ray" / "run-1" / "trial-0000")
    monkeypatch.setattr(trainable, "tune", made)
    monkeypatch.setattr(client, "tune", made)
    return made


def train(study: Study, own: dict[str, Any]) -> None:
    trainable.train(own, shared(study))


def figures(reports: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What reports say of their epochs."""
    return [(r["epoch"], r["value"], r["metrics"], r["best"], r["done_by_itself"], r["reason"]) for r in reports]


def flip(path: Path) -> None:
    """Alter a bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def test_every_report_has_what_tune_and_asha_need(study: Study, tune: Tune) -> None:
    train(study, order(study))
    assert [r["epoch"] for r in tune.reports] == [1, 2, 3]
    for r in tune.reports:
        assert {"trial", "epoch", "value", "best", "metrics", "seconds", "failed", "done_by_itself", "reason"} <= set(r)
        assert r["value"] == r["metrics"]["dev_ua"]
    assert [r["done_by_itself"] for r in tune.reports] == [False, False, True]
    assert tune.reports[-1]["reason"] == "all epochs done"


def test_a_checkpoint_holds_a_lane_and_what_it_predicts(study: Study, tune: Tune) -> None:
    train(study, order(study))
    folder = tune.checkpoint(3)
    assert sorted(p.name for p in folder.iterdir()) == [
        "SHA256SUMS",
        "dev_predictions.csv",
        "model.safetensors",
        "report.json",
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
    train(study, order(study))
    whole = [(r["epoch"], r["metrics"]) for r in tune.reports]
    for checkpoint, retried in ((tune.checkpoint(1), None), (None, tune.checkpoint(1))):
        tune.reports, tune.retried = [], retried
        train(study, order(study, checkpoint=checkpoint))
        assert [(r["epoch"], r["metrics"]) for r in tune.reports] == whole[1:]


def test_a_trial_cut_off_between_its_last_epoch_and_its_end_tells_that_epoch_again(study: Study, tune: Tune) -> None:
    train(study, order(study))
    last, tune.reports = tune.reports[-1], []
    train(study, order(study, checkpoint=tune.checkpoint(3)))
    assert figures(tune.reports) == figures([last]), "Tune ends a search in which a trial ends without a report"
    assert tune.reports[0].keys() == last.keys()


def test_a_trial_that_turns_nan_reports_its_failure_and_no_checkpoint(study: Study, tune: Tune) -> None:
    train(study, order(study, learning_rate=1e30))
    (only,) = tune.reports
    assert (only["failed"], only["done_by_itself"]) == (True, True)
    assert math.isnan(only["value"])
    assert "epoch 1" in only["reason"]
    assert not tune.folder.exists()


@pytest.mark.parametrize("damage", ["model.safetensors", "state.json", "SHA256SUMS"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(study: Study, tune: Tune, damage: str) -> None:
    train(study, order(study))
    whole, tune.reports = figures(tune.reports), []
    flip(tune.checkpoint(2) / damage)
    names = [tune.checkpoint(epoch).relative_to(study.home).as_posix() for epoch in (2, 1)]
    train(study, {**order(study), "checkpoints": names})
    assert figures(tune.reports) == whole[1:], "epoch 2 once more, with the same figures"
    (warning,) = [record for record in tune.reports[0]["log"] if record["level"] == "WARNING"]
    assert damage in warning["message"]
    assert "the checkpoint before it is taken" in warning["message"]


def test_a_trial_whose_process_died_falls_back_likewise(study: Study, tune: Tune) -> None:
    train(study, order(study))
    whole, tune.reports, tune.retried = figures(tune.reports), [], tune.checkpoint(2)
    (tune.checkpoint(2) / "state.safetensors").unlink()
    train(study, order(study))
    assert figures(tune.reports) == whole[1:]


def test_a_trial_without_an_intact_checkpoint_begins_anew(study: Study, tune: Tune) -> None:
    train(study, order(study))
    whole, tune.reports = figures(tune.reports), []
    for epoch in (1, 2):
        (tune.checkpoint(epoch) / "state.json").write_text("{")
    names = [tune.checkpoint(epoch).relative_to(study.home).as_posix() for epoch in (2, 1)]
    train(study, {**order(study), "checkpoints": names})
    assert figures(tune.reports) == whole


def test_what_goes_wrong_in_a_trial_is_its_own_failure_in_one_line(
    study: Study, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(study, order(study, hidden=0))
    assert "hidden: 0 is outside" in tune.reports[0]["reason"]
    monkeypatch.setattr(trainable, "load_data", lambda *args: 1 / 0)
    train(study, order(study))
    assert tune.reports[1]["reason"] == "ZeroDivisionError: division by zero"
    assert all(r["failed"] and math.isnan(r["value"]) for r in tune.reports)


def test_trials_of_one_shape_start_from_one_pretraining(tmp_path: Path, study: Study, tune: Tune) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})
    short = {"pretrain_epochs": 1}
    train(study, order(study, alpha=0.1, **short))
    (path,) = study.folder.glob("pretrained-*/*.safetensors")
    written = path.stat().st_mtime_ns
    train(study, order(study, alpha=0.9, **short))
    assert [p.stat().st_mtime_ns for p in study.folder.glob("pretrained-*/*.safetensors")] == [written]
    train(study, order(study, **short, hidden=6))
    assert len(list(study.folder.glob("pretrained-*/*.safetensors"))) == 2, "another shape has weights of its own"
    assert not any(r["failed"] for r in tune.reports)


def test_pretrained_weights_that_are_damaged_are_made_again(tmp_path: Path, study: Study, tune: Tune) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})
    train(study, order(study, pretrain_epochs=1))
    (path,) = study.folder.glob("pretrained-*/*.safetensors")
    whole = path.read_bytes()
    path.write_bytes(whole[:100])
    train(study, order(study, pretrain_epochs=1))
    assert path.read_bytes() == whole
    assert not any(r["failed"] for r in tune.reports)


def test_a_pretraining_that_diverges_fails_its_trial_and_ends_no_search(
    tmp_path: Path, study: Study, tune: Tune, monkeypatch: pytest.MonkeyPatch
) -> None:
    aux = make_table(speakers=3, seed=1, corpus="other")
    study.write_meta(data={**study.meta["data"], "aux": str(write_table(tmp_path / "aux", aux))})

    def diverge(*args: object, **kwargs: object) -> None:
        raise DataError("pre-training diverged in epoch 1; lower params.learning_rate")

    monkeypatch.setattr(trainable, "pretrain", diverge)
    train(study, order(study))
    (only,) = tune.reports
    assert (only["failed"], only["reason"]) == (True, "pre-training diverged in epoch 1; lower params.learning_rate")
    assert not only["machine"], "a resume would come to the same point again, and trials of another shape may not"


@pytest.mark.parametrize(
    ("error", "machine"),
    [
        (OSError(28, "No space left on device"), True),
        (DataError("data: 3 clusters, and 2 segments"), False),
        (MemoryError("no memory"), False),
        (OSError(12, "Cannot allocate memory"), False),
        (RuntimeError("no such thing"), False),
    ],
)
def test_what_ails_the_machine_is_told_apart_from_a_trial_s_own_failure(
    study: Study, tune: Tune, monkeypatch: pytest.MonkeyPatch, error: Exception, machine: bool
) -> None:
    def broken(*args: object) -> None:
        raise error

    monkeypatch.setattr(trainable, "load_data", broken)
    train(study, order(study))
    (only,) = tune.reports
    assert (only["failed"], only["machine"]) == (True, machine)
    assert str(error) in only["reason"], "its own, as the data can be read"
    (record,) = only["log"]
    assert (record["level"], record["message"]) == ("ERROR", "epoch 1 failed")
    assert type(error).__name__ in record["traceback"]


def test_data_are_opened_once_a_process(study: Study, tune: Tune) -> None:
    family = trainable.get_family("aae")
    own = family.config.from_dict(PARAMS)
    section = json.loads(json.dumps(study.meta["data"]))
    assert load_data(section, own, "aae") is load_data(dict(section), own, "aae")


def test_a_cpu_trial_has_one_thread() -> None:
    if torch.cuda.is_available():
        pytest.skip("this process has a GPU")
    assert device() == "cpu"
    assert torch.get_num_threads() == 1


def test_a_picture_that_can_t_be_drawn_loses_no_trial(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(engine: Engine, lane: int) -> dict[str, bytes]:
        raise RuntimeError("no font")

    monkeypatch.setattr(Engine, "artifacts", broken)
    engine = Engine(FAMILY, make_data())
    lane = engine.join(AAEConfig.from_dict(PARAMS), seed=0, epochs=1)
    list(engine.epochs())
    with pytest.warns(UserWarning, match="no pictures of the trial: RuntimeError: no font"):
        files = trainable.checkpoint_files(engine, lane, {"epoch": 1})
    assert {"dev_predictions.csv", "model.safetensors", "state.safetensors", "state.json"} < files.keys()
    assert not any(name.endswith(".png") for name in files)


def test_data_that_are_gone_on_this_machine_ail_the_machine(tmp_path: Path, study: Study, tune: Tune) -> None:
    shutil.move(tmp_path / "data", tmp_path / "elsewhere")
    train(study, order(study))
    (only,) = tune.reports
    assert (only["failed"], only["machine"]) == (True, True)
    assert "no such folder" in only["reason"]
