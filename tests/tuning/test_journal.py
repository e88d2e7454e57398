"""What Tune's events become: lines in the study's journal, and runs in MLflow."""

from __future__ import annotations

import errno
import json
import math
import pickle
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import EndpointConnectionError

from sersearch.study import Study, TrialRecord
from sersearch.tuning.journal import Journal, OnEvent
from sersearch.tuning.leaving import Leaving
from sersearch.tuning.storage import Storage


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


@pytest.fixture
def leaving() -> Leaving:
    return Leaving(20.0)


@pytest.fixture
def journal(study: Study, tracker: Tracker, leaving: Leaving) -> Journal:
    return Journal(study, tracker, leaving, None)


def reopened(study: Study, tracker: Tracker, on_event: OnEvent | None = None) -> Journal:
    """The journal of another run of the study."""
    return Journal(study, tracker, Leaving(20.0), on_event)


def trial(study: Study, number: int = 0, run: str = "run-1", **fields: Any) -> Any:
    folder = study.folder / "ray" / run / f"trial-{number:04d}"
    folder.mkdir(parents=True, exist_ok=True)
    config = {"trial": number, "params": {"alpha": 0.4, "hidden": 5}, "searched": {"alpha": 0.4}}
    storage = SimpleNamespace(trial_fs_path=str(folder.resolve()))
    told = {"last_result": {}, "error_file": None, "num_failures": 0, **fields}
    return SimpleNamespace(config=config, storage=storage, **told)


def report(
    journal: Journal, of: Any, epoch: int, value: float = 0.5, name: str | None = None, **fields: Any
) -> dict[str, Any]:
    """An epoch as Tune reports it, with its checkpoint on disk."""
    name = name or f"checkpoint_{epoch:06d}"
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
        "machine": False,
        "done_by_itself": False,
        "reason": "",
        "seconds": 2.0,
        "log": [],
        "metrics": {"dev_ua": value},
        "checkpoint_dir_name": name,
        "timestamp": 1_000 + epoch,
        **fields,
    }
    of.last_result = result
    journal.on_trial_result(0, [], of, result)
    return result


def failed(journal: Journal, of: Any, epoch: int, reason: str, machine: bool = False) -> None:
    """A trial's report that it failed."""
    of.last_result = {
        "trial": of.config["trial"],
        "epoch": epoch,
        "value": math.nan,
        "failed": True,
        "machine": machine,
        "done_by_itself": True,
        "reason": reason,
        "metrics": {},
        "log": [],
    }
    journal.on_trial_result(0, [], of, of.last_result)


def logged(study: Study, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study.folder / "logs" / name).read_text().splitlines()]


def lines(study: Study) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (study.folder / "trials.jsonl").read_text().splitlines()]


def test_a_trial_from_start_to_end(study: Study, tracker: Tracker) -> None:
    seen: list[tuple[str, int]] = []
    journal = reopened(study, tracker, lambda event, number, fields: seen.append((event, number)))
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
    assert [told for told in seen if told[0] != "log"] == [("start", 3), ("epoch", 3), ("epoch", 3), ("end", 3)]
    assert [call[0] for call in tracker.told] == ["start", "epoch", "epoch", "end"]
    assert tracker.told[1][3:] == ({"dev_ua": 0.5}, 1_001_000), "in ms, as MLflow wants it"
    assert tracker.told[-1][1:4] == (3, "complete", "all epochs done")
    sent = {"model.safetensors", "state.json", "dev_predictions.csv", "clusters.png"}
    assert set(tracker.told[-1][4]) == sent, "what only a resume needs stays"


def test_a_trial_that_asha_stopped_is_pruned(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    journal.on_trial_complete(0, [], own)
    assert (study.trial(0).state, study.trial(0).reason) == ("pruned", "stopped by ASHA after epoch 1")


def test_a_failed_trial_keeps_its_reason_and_its_good_epochs(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    reason = "train_loss_emotion is nan in epoch 2"
    failed(journal, own, 2, reason)
    journal.on_trial_complete(0, [], own)
    record = study.trial(0)
    assert (record.state, record.reason, len(record.epochs)) == ("failed", reason, 1)
    assert [call[0] for call in tracker.told] == ["start", "epoch", "end"]


def test_winners_by_further_metrics_go_to_mlflow_too(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, done_by_itself=True, reason="all epochs done")
    checkpoint = study.trial(0).checkpoint
    assert checkpoint is not None
    (checkpoint / "model-dev_ccc_valence.safetensors").touch()
    journal.on_trial_complete(0, [], own)
    assert "model-dev_ccc_valence.safetensors" in tracker.told[-1][4]


def test_a_number_that_json_lacks_is_null(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, metrics={"dev_ua": 0.5, "learning_rate": math.nan})
    assert study.trial(0).epochs[0]["metrics"] == {"dev_ua": 0.5, "learning_rate": None}


def test_a_trial_that_starts_again_after_its_process_died_starts_once(
    study: Study, tracker: Tracker, journal: Journal
) -> None:
    own = trial(study)
    for _ in range(2):
        journal.on_trial_start(0, [], own)
    assert [line["event"] for line in lines(study)] == ["start"]


@pytest.mark.parametrize("text", ["Failure # 1 (occurred at noon)\nRayActorError: killed\n", "", None])
def test_a_process_that_died_too_often_is_a_failure_with_its_last_words(
    study: Study, journal: Journal, tmp_path: Path, text: str | None
) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    if text is not None:
        (tmp_path / "error.txt").write_text(text)
        own.error_file = str(tmp_path / "error.txt")
    for _ in range(2):
        journal.on_trial_recover(0, [], own)
    assert study.trial(0).state == "running"
    journal.on_trial_error(0, [], own)
    said = "RayActorError: killed" if text else "no message"
    reason = f"its process died 3 times in epoch 2: {said}"
    assert (study.trial(0).state, study.trial(0).reason) == ("failed", reason)
    told = [record for record in logged(study, "trial-0000.jsonl") if said in record["message"]]
    assert [record["level"] for record in told[:3]] == ["WARNING", "WARNING", "ERROR"]
    assert [record.get("traceback", "") for record in told[:3]] == ["RayActorError: killed" if text else ""] * 3


@pytest.mark.parametrize("again", [True, False])
def test_a_trial_whose_machine_is_lost_moves_and_does_not_fail(study: Study, journal: Journal, again: bool) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    path = study.folder / "error.txt"
    why = "The actor 17 is unavailable: RpcError" if again else "The actor is dead because its worker process has died."
    path.write_text(f"Failure # 1 (occurred at noon)\nanother\nFailure # 2 (occurred at one)\nDied.\n{why}\n")
    own.error_file = str(path)
    moved: list[TrialRecord] = []
    journal.again = moved.append
    own.max_failures = before = 2
    journal.on_trial_recover(0, [], own)
    assert own.max_failures - before == again, "it is no fault of the trial's"
    journal.on_trial_error(0, [], own)
    assert [record.number for record in moved] == ([0] if again else [])
    assert study.trial(0).state == ("running" if again else "failed")


def test_a_process_that_took_too_long_for_an_epoch_left_its_stack(study: Study, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    stack = study.home / "logs" / "trial-0000.stack"
    stack.parent.mkdir()
    stack.write_text('Timeout (0:10:00)!\n  File "aae.py", line 7 in loss\n')
    journal.on_trial_recover(0, [], own)
    (record,) = logged(study, "trial-0000.jsonl")
    assert record["message"] == "the trial's process died: it took longer than it may"
    assert "line 7 in loss" in record["traceback"]
    assert not stack.exists(), "it isn't told again of the next death"


def test_every_epoch_has_its_own_retries(study: Study, journal: Journal) -> None:
    own = trial(study, num_failures=2)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    assert own.max_failures == 4, "two deaths so far, two more from now on"


# --- what was trained again -------------------------------------------------------------------------------------------


def test_an_epoch_that_is_reported_twice_is_recorded_once(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, value=0.5)
    report(journal, own, 2, value=0.6)
    report(journal, own, 2, value=0.1, name="checkpoint_000003")  # its process died, and its checkpoint was damaged
    report(journal, own, 3, value=0.7, name="checkpoint_000004")
    assert [line["event"] for line in lines(study)] == ["start", "epoch", "epoch", "again", "epoch"]
    record = study.trial(0)
    assert [(e["epoch"], e["value"]) for e in record.epochs] == [(1, 0.5), (2, 0.6), (3, 0.7)]
    names = [path.name for path in record.checkpoints()]
    assert names == ["checkpoint_000004", "checkpoint_000003", "checkpoint_000001"]
    assert [call[2] for call in tracker.told if call[0] == "epoch"] == [1, 2, 3]


def test_what_a_run_before_recorded_is_not_recorded_again(study: Study, tracker: Tracker) -> None:
    first, own = reopened(study, tracker), trial(study)
    first.on_trial_start(0, [], own)
    report(first, own, 1)
    report(first, own, 2)
    second, again = reopened(study, tracker), trial(study, run="run-2")
    second.on_trial_start(0, [], again)
    report(second, again, 2)
    assert [line["event"] for line in lines(study)] == ["start", "epoch", "epoch", "start", "again"]
    assert study.trial(0).checkpoint == study.folder / "ray/run-2/trial-0000/checkpoint_000002"


def test_after_a_resume_two_checkpoints_are_always_kept(study: Study, tracker: Tracker) -> None:
    first, own = reopened(study, tracker), trial(study)
    first.on_trial_start(0, [], own)
    report(first, own, 1)
    report(first, own, 2)
    second, again = reopened(study, tracker), trial(study, run="run-2")
    second.on_trial_start(0, [], again)

    def there() -> list[str]:
        return [path.relative_to(study.folder / "ray").as_posix() for path in study.trial(0).checkpoints()]

    old, new = "run-1/trial-0000/checkpoint", "run-2/trial-0000/checkpoint"
    assert there() == [f"{old}_000002", f"{old}_000001"]
    report(second, again, 3)
    assert there() == [f"{new}_000003", f"{old}_000002"]
    report(second, again, 4)
    assert there() == [f"{new}_000004", f"{new}_000003"]
    report(second, again, 5)
    assert there()[:2] == [f"{new}_000005", f"{new}_000004"], "of its own run, Tune keeps what is to be kept"


def test_only_a_trial_that_goes_on_is_asked_for_its_checkpoints(
    study: Study, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a request to an object store: hundreds of them once kept a resume waiting."""
    first = reopened(study, tracker)
    for number in (0, 1):
        own = trial(study, number)
        first.on_trial_start(0, [], own)
        report(first, own, 1, done_by_itself=number == 0, reason="all epochs done")
        first.on_trial_complete(0, [], own)
    asked, ask = list[int](), TrialRecord.checkpoints

    def counted(record: TrialRecord) -> Iterator[Path]:
        asked.append(record.number)
        return ask(record)

    monkeypatch.setattr(TrialRecord, "checkpoints", counted)
    second, again = reopened(study, tracker), trial(study, 1, run="run-2")
    second.on_trial_start(0, [], again)
    for epoch in (2, 3, 4):
        report(second, again, epoch)
    assert asked == [1]


def test_checkpoints_that_cannot_be_asked_for_stay_and_the_search_goes_on(
    study: Study, tracker: Tracker, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, own = reopened(study, tracker), trial(study)
    first.on_trial_start(0, [], own)
    report(first, own, 1)

    def away(record: TrialRecord) -> Iterator[Path]:
        raise EndpointConnectionError(endpoint_url="http://away")

    second, again = reopened(study, tracker), trial(study, run="run-2")
    second.on_trial_start(0, [], again)
    with monkeypatch.context() as patch:
        patch.setattr(TrialRecord, "checkpoints", away)
        for epoch in (2, 3):
            report(second, again, epoch)
    assert len(list(study.trial(0).checkpoints())) == 3


def test_checkpoints_of_trials_that_are_over_stay(study: Study, tracker: Tracker) -> None:
    first, own = reopened(study, tracker), trial(study)
    first.on_trial_start(0, [], own)
    report(first, own, 1, done_by_itself=True, reason="all epochs done")
    first.on_trial_complete(0, [], own)
    second, other = reopened(study, tracker), trial(study, 1, run="run-2")
    second.on_trial_start(0, [], other)
    for epoch in (1, 2, 3):
        report(second, other, epoch)
    assert len(list(study.trial(0).checkpoints())) == 1


# --- how a trial ends -------------------------------------------------------------------------------------------------


ASKED = "the process was asked to end"
NO_ROOM = "OSError: [Errno 28] No space left on device"


@pytest.mark.parametrize(
    ("last", "asked", "state", "reason"),
    [
        ({}, False, "pruned", "stopped by ASHA after epoch 1"),
        ({}, True, "interrupted", ASKED),
        ({"done_by_itself": True, "reason": "all epochs done"}, False, "complete", "all epochs done"),
        ({"done_by_itself": True, "reason": "all epochs done"}, True, "complete", "all epochs done"),
        ({"failed": True, "done_by_itself": True, "reason": "loss is nan"}, False, "failed", "loss is nan"),
        ({"failed": True, "done_by_itself": True, "reason": "loss is nan"}, True, "failed", "loss is nan"),
    ],
)
def test_a_trial_s_end_is_told_apart(
    study: Study, journal: Journal, leaving: Leaving, last: dict[str, Any], asked: bool, state: str, reason: str
) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    if asked:
        leaving.ask(ASKED)
    own.last_result = {**own.last_result, **last}
    journal.on_trial_complete(0, [], own)
    assert (study.trial(0).state, study.trial(0).reason) == (state, reason)


def test_a_machine_that_fails_ends_the_search_and_fails_no_trial(
    study: Study, journal: Journal, leaving: Leaving
) -> None:
    first, second = trial(study, 0), trial(study, 1)
    for own in (first, second):
        journal.on_trial_start(0, [], own)
        report(journal, own, 1)
    failed(journal, first, 2, NO_ROOM, machine=True)
    assert leaving.reason == f"trial 0: {NO_ROOM}"
    for own in (first, second):
        journal.on_trial_complete(0, [], own)
    assert [t.state for t in study.trials()] == ["interrupted", "interrupted"]
    assert leaving.stop_all(), "there is nobody left to wait for"


def test_a_trial_that_had_no_room_yet_has_no_end(study: Study, tracker: Tracker, journal: Journal) -> None:
    journal.on_trial_complete(0, [], trial(study))
    assert not study.journal.exists()
    assert tracker.told == []


def test_trials_that_were_cut_off_are_interrupted(study: Study, tracker: Tracker, journal: Journal) -> None:
    for number in (0, 1):
        journal.on_trial_start(0, [], trial(study, number))
    own = trial(study, 2)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1, done_by_itself=True, reason="all epochs done")
    journal.on_trial_complete(0, [], own)
    journal.settle()
    assert [t.state for t in study.trials()] == ["interrupted", "interrupted", "complete"]
    assert study.trial(0).reason == "the search was interrupted"
    ends = [call[:3] for call in tracker.told if call[0] == "end"]
    assert ends == [("end", 2, "complete"), ("end", 0, "interrupted"), ("end", 1, "interrupted")]


def test_an_interrupted_trial_sends_no_model(study: Study, tracker: Tracker, journal: Journal) -> None:
    own = trial(study)
    journal.on_trial_start(0, [], own)
    report(journal, own, 1)
    journal.settle()
    assert tracker.told[-1][-1] == [], "it isn't its last"


# --- logs -------------------------------------------------------------------------------------------------------------


def test_what_a_trial_logs_goes_to_its_file_and_to_whoever_watches(study: Study, tracker: Tracker) -> None:
    seen: list[tuple[str, int, Any]] = []
    journal = reopened(
        study, tracker, lambda event, number, fields: seen.append((event, number, fields.get("message")))
    )
    own = trial(study, 4)
    journal.on_trial_start(0, [], own)
    record = {"time": 1.0, "level": "INFO", "logger": "sersearch", "message": "goes on", "host": "h", "pid": 1}
    report(journal, own, 1, log=[record])
    journal.log(None, [{**record, "message": "24 trials to run"}])
    assert record in logged(study, "trial-0004.jsonl")
    assert [told["message"] for told in logged(study, "search.jsonl")] == ["24 trials to run"]
    assert {("log", 4, "goes on"), ("log", -1, "24 trials to run")} <= set(seen)
    assert "log" not in lines(study)[-1], "the journal stays small"


# --- a disk that is full ----------------------------------------------------------------------------------------------


def full(*args: Any, **fields: Any) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


class Elsewhere(Storage):
    """A storage that can be away."""

    def __init__(self) -> None:
        self.events: dict[int, dict[str, Any]] = {}
        self.lost, self.away = threading.Event(), False

    def add(self, event: dict[str, Any], number: int) -> bool:
        if self.away:
            full()
        if not self.lost.is_set():
            self.events[number] = event
        return not self.lost.is_set()


@pytest.mark.parametrize("event", ["start", "epoch", "end"])
def test_a_journal_that_can_t_be_written_ends_the_search_and_raises_nothing(
    study: Study, journal: Journal, leaving: Leaving, monkeypatch: pytest.MonkeyPatch, event: str
) -> None:
    own = trial(study)
    steps: dict[str, Callable[[], Any]] = {
        "start": lambda: journal.on_trial_start(0, [], own),
        "epoch": lambda: report(journal, own, 1, done_by_itself=True),
        "end": lambda: journal.on_trial_complete(0, [], own),
    }
    for name, step in steps.items():
        if name == event:
            monkeypatch.setattr(study, "append", full)
        step()
    assert leaving.reason == "the journal can't be written ([Errno 28] No space left on device)"
    monkeypatch.undo()
    known = [line["event"] for line in lines(study)] if study.journal.exists() else []
    assert known == list(steps)[: list(steps).index(event)], "what is not written happens again in a resume"


def test_a_log_that_can_t_be_written_ends_the_search_and_raises_nothing(
    study: Study, journal: Journal, leaving: Leaving, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sersearch.tuning.journal.write", full)
    journal.log(3, [{"message": "x"}])
    assert leaving.reason is not None
    assert "trial-0003.jsonl can't be written (No space left on device)" in leaving.reason


def test_an_event_that_the_shared_storage_doesn_t_take_ends_the_search(
    study: Study, tracker: Tracker, leaving: Leaving
) -> None:
    storage = Elsewhere()
    journal = Journal(study, tracker, leaving, None, storage)
    own = trial(study)
    journal.on_trial_start(0, [], own)
    storage.away = True
    report(journal, own, 1)
    assert leaving.reason is not None
    assert "No space left" in leaving.reason
    storage.away = False
    journal.on_trial_complete(0, [], own)
    assert [line["event"] for line in lines(study)] == ["start", "end"], "what is nowhere written happens again"
    assert storage.events == dict(enumerate(lines(study))), "under the number that it has here"


def test_trials_are_interrupted_here_though_the_shared_storage_is_away(
    study: Study, tracker: Tracker, leaving: Leaving
) -> None:
    storage = Elsewhere()
    journal = Journal(study, tracker, leaving, None, storage)
    journal.on_trial_start(0, [], trial(study))
    storage.away = True
    journal.settle()
    assert study.trial(0).state == "interrupted"
    assert [event["event"] for event in storage.events.values()] == ["start"]


def test_a_driver_that_lost_the_study_records_nothing_more_and_tells_mlflow_nothing(
    study: Study, tracker: Tracker, leaving: Leaving
) -> None:
    storage = Elsewhere()
    journal = Journal(study, tracker, leaving, None, storage)
    first, second = trial(study, 0), trial(study, 1)
    for own in (first, second):
        journal.on_trial_start(0, [], own)
    storage.lost.set()
    leaving.ask("process 42 on elsewhere has taken it over")
    report(journal, first, 1)
    journal.on_trial_complete(0, [], first)
    journal.settle()
    assert [t.state for t in study.trials()] == ["interrupted", "interrupted"]
    assert [len(t.epochs) for t in study.trials()] == [0, 0]
    assert [event["event"] for event in storage.events.values()] == ["start", "start"]
    assert [call[:2] for call in tracker.told if call[0] == "end"] == [], "the other driver's trials go on"


def test_tune_saves_nothing_of_it(journal: Journal) -> None:
    assert pickle.loads(pickle.dumps(journal)).__dict__ == {}
