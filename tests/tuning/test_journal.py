"""What Tune's events become: lines in the study's journal, and runs in MLflow."""

from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sersearch.study import Study
from sersearch.tuning.journal import Journal


class Tracker:
    """Writes down what MLflow is told."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []

    def trial_start(self, number: int, params: dict[str, Any]) -> None:
        self.told.append(("start", number, params))

    def epoch(self, number: int, epoch: int, metrics: dict[str, float], time_ms: int) -> None:
        self.told.append(("epoch", number, epoch, metrics, time_ms))

    def trial_end(self, number: int, state: str, reason: str, artifacts: list[Path]) -> None:
        self.told.append(("end", number, state, reason, [path.name for path in artifacts]))


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.create("one", {}, tmp_path)


@pytest.fixture
def tracker() -> Tracker:
    return Tracker()


def trial(study: Study, number: int = 0, run: str = "run-1", **fields: Any) -> Any:
    folder = study.folder / "ray" / run / f"trial-{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trial": number, "params": {"alpha": 0.4, "hidden": 5}, "searched": {"alpha": 0.4}}
    storage = SimpleNamespace(trial_fs_path=str(folder.resolve()))
    return SimpleNamespace(config=config, storage=storage, last_result={}, error_file=None, **fields)


def report(journal: Journal, of: Any, epoch: int, value: float = 0.5, **fields: Any) -> None:
    """An epoch as Tune reports it, with its checkpoint on disk."""
    name = f"checkpoint_{epoch:06d}"
    folder = Path(of.storage.trial_fs_path) / name
    folder.mkdir()
    for file in ("model.safetensors", "state.safetensors", "state.json", "dev_predictions.csv", "clusters.png"):
        (folder / file).touch()
    result = {
        "trial": of.config["trial"],
        "epoch": epoch,
        "value": value,
        "best": True,
        "failed": False,
        "done_by_itself": False,
        "reason": "",
        "seconds": 2.0,
        "metrics": {"dev_ua": value},
        "checkpoint_dir_name": name,
        "timestamp": 1_000 + epoch,
        **fields,
    }
    of.last_result = result
    journal.on_trial_result(0, [], of, result)


def lines(study: Study) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study.folder / "trials.jsonl").read_text().splitlines()]


def test_a_trial_from_start_to_end(study: Study, tracker: Tracker) -> None:
    seen: list[tuple[str, int]] = []
    journal = Journal(study, tracker, lambda event, number, fields: seen.append((event, number)))
    own = trial(study, 3)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    report(journal, own, 2, value=0.7, done_by_itself=True, reason="all epochs done")
    journal.on_trial_complete(0, [], own)
    (record,) = study.trials()
    assert (record.number, record.state, record.reason) == (3, "complete", "all epochs done")
    assert (record.params, record.searched) == ({"alpha": 0.4, "hidden": 5}, {"alpha": 0.4})
    assert [(e["epoch"], e["value"], e["seconds"]) for e in record.epochs] == [(1, 0.5, 2.0), (2, 0.7, 2.0)]
    assert record.checkpoint == study.folder / "ray/run-1/trial-0003/checkpoint_000002"
    assert seen == [("start", 3), ("epoch", 3), ("epoch", 3), ("end", 3)]
    assert [call[0] for call in tracker.told] == ["start", "epoch", "epoch", "end"]
    assert tracker.told[1][3:] == ({"dev_ua": 0.5}, 1_001_000), "in ms, as MLflow wants it"
    assert tracker.told[-1][1:4] == (3, "complete", "all epochs done")
    sent = {"model.safetensors", "state.json", "dev_predictions.csv", "clusters.png"}
    assert set(tracker.told[-1][4]) == sent, "what only a resume needs stays"


def test_a_trial_that_asha_stopped_is_pruned(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    journal.on_trial_complete(0, [], own)
    assert (study.trial(0).state, study.trial(0).reason) == ("pruned", "stopped by ASHA after epoch 1")


def test_a_failed_trial_keeps_its_reason_and_its_good_epochs(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    reason = "train_loss_emotion is nan in epoch 2"
    own.last_result = {"trial": 0, "epoch": 2, "value": math.nan, "failed": True, "reason": reason, "metrics": {}}
    journal.on_trial_result(0, [], own, own.last_result)
    journal.on_trial_complete(0, [], own)
    record = study.trial(0)
    assert (record.state, record.reason, len(record.epochs)) == ("failed", reason, 1)
    assert [call[0] for call in tracker.told] == ["start", "epoch", "end"]


def test_winners_by_further_metrics_go_to_mlflow_too(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, done_by_itself=True, reason="all epochs done")
    checkpoint = study.trial(0).checkpoint
    assert checkpoint is not None
    (checkpoint / "model-dev_ccc_valence.safetensors").touch()
    journal.on_trial_complete(0, [], own)
    assert "model-dev_ccc_valence.safetensors" in tracker.told[-1][4]


def test_a_number_that_json_lacks_is_null(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, metrics={"dev_ua": 0.5, "learning_rate": math.nan})
    assert study.trial(0).epochs[0]["metrics"] == {"dev_ua": 0.5, "learning_rate": None}


def test_a_trial_that_starts_again_after_its_process_died_starts_once(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    for _ in range(2):
        journal.on_trial_start(0, [], own)
    assert [line["event"] for line in lines(study)] == ["start"]


@pytest.mark.parametrize("text", ["Traceback\nRayActorError: killed\n", "", None])
def test_a_process_that_died_too_often_is_a_failure_with_its_last_words(
    study: Study, tracker: Tracker, tmp_path: Path, text: str | None
) -> None:
    journal = Journal(study, tracker, None)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    if text is not None:
        (tmp_path / "error.txt").write_text(text)
        own.error_file = str(tmp_path / "error.txt")
    journal.on_trial_error(0, [], own)
    said = "RayActorError: killed" if text else "no message"
    assert (study.trial(0).state, study.trial(0).reason) == ("failed", f"the trial's process died: {said}")


def test_after_a_resume_an_old_checkpoint_goes_once_a_newer_one_is_there(study: Study, tracker: Tracker) -> None:
    first = Journal(study, tracker, None)
    own = trial(study)
    first.on_trial_start(0, [], own)
    report(first, own, 1)
    old = study.trial(0).checkpoint
    second = Journal(study, tracker, None)
    again = trial(study, run="run-2")
    second.on_trial_start(0, [], again)
    assert old is not None
    assert study.trial(0).checkpoint == old
    assert old.is_dir()
    report(second, again, 2)
    assert not old.exists()
    assert study.trial(0).checkpoint == study.folder / "ray/run-2/trial-0000/checkpoint_000002"
    report(second, again, 3)
    assert study.trial(0).checkpoint is not None, "of its own run, Tune keeps what is to be kept"


def test_tune_saves_nothing_of_it(study: Study, tracker: Tracker) -> None:
    journal = Journal(study, tracker, lambda *event: None)
    assert pickle.loads(pickle.dumps(journal)).__dict__ == {}
