"""A search through Ray Tune: failures stay where they are, and a killed one goes on as if nothing had been."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import optuna
import pytest

from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, DataError, StudyError, TrackingError
from sersearch.study import Study
from sersearch.tracking import Tracker, default_uri
from sersearch.tuning import run
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.space import load_space
from sersearch.tuning.storage import Storage, fetch
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS, search, start, until

SPACE = """
name: small
doc: a small search
family: aae
features: spectrogram
search:
  alpha: {low: 0.1, high: 1.0, step: 0.1}
  learning_rate: {choices: [0.03, 0.1, 1.0e+30]}
fixed: {channels: [2, 3, 4], hidden: 5, batch_size: 8, segment_frames: 32, segment_hop: 32}
objective: {metric: dev_ua}
method: tpe
pruning: {kind: asha, grace_epochs: 1, reduction_factor: 3}
trials: 8
epochs: 6
time: seconds
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_table(folder / "data", make_table())
    other = make_table(corpus="other")
    write_table(folder / "other", dataclasses.replace(other, card={**other.card, "parameters": {"top_db": 60}}))
    vectors = make_table(vectors=True, attributes=True)
    write_table(folder / "vectors", dataclasses.replace(vectors, card={**vectors.card, "features": "functionals"}))
    (folder / "small.yaml").write_text(SPACE)
    return folder


def command(work: Path, *args: str) -> list[str]:
    return [sys.executable, "-m", "sersearch", "tune", *args]


def table(study: Study) -> list[tuple[object, ...]]:
    """What a trial was and gave, epoch by epoch, without times and places."""
    return [
        (t.number, t.params, t.state, t.reason, [(e["epoch"], e["metrics"], e["value"], e["best"]) for e in t.epochs])
        for t in study.trials()
    ]


def mirrored(study: Study) -> list[tuple[object, ...]]:
    """Trials as optuna-dashboard shows them."""
    backend = optuna.storages.journal.JournalFileBackend(str(study.folder / "optuna.log"))
    shown = optuna.load_study(study_name=study.name, storage=optuna.storages.JournalStorage(backend))
    names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
    return [(pytest.approx(t.params), names[t.state.name]) for t in shown.trials]


@pytest.fixture(scope="module")
def whole(work: Path) -> Study:
    """A search that nothing disturbed."""
    undisturbed = search(work, "undisturbed", "--concurrency", "1")
    output, _ = undisturbed.communicate(timeout=300)
    assert undisturbed.returncode == 0, output
    return Study.open("undisturbed", work / "studies")


@pytest.mark.slow
def test_a_killed_search_resumes_to_the_undisturbed_result(work: Path, whole: Study) -> None:
    assert len(whole.trials()) == 8
    assert {t.state for t in whole.trials()} >= {"complete", "failed", "pruned"}, "a NaN trial must not end the study"
    failed = [t for t in whole.trials() if t.state == "failed"]
    assert all(t.params["learning_rate"] == 1e30 and "epoch" in t.reason for t in failed)

    assert mirrored(whole) == [(t.searched, t.state) for t in whole.trials()]

    killed = search(work, "killed", "--concurrency", "1")
    for lines in (8, 20):  # in the middle of a trial, twice
        until(work / "studies" / "killed", killed, lambda events, lines=lines: len(events) >= lines)
        os.killpg(killed.pid, signal.SIGKILL)
        killed.communicate()
        killed = start(work, "--resume", "killed", "--concurrency", "1")
    output, _ = killed.communicate(timeout=300)
    assert killed.returncode == 0, output
    assert table(Study.open("killed", work / "studies")) == table(whole)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_search_is_settled_and_says_how_to_go_on(work: Path, number: signal.Signals) -> None:
    name = number.name.lower()
    running = search(work, name, "--concurrency", "1", "--epochs", "300")  # so that it is within a trial
    until(work / "studies" / name, running, lambda events: any(event["event"] == "epoch" for event in events))
    os.kill(running.pid, number)
    output, _ = running.communicate(timeout=300)
    assert running.returncode == 130, output
    assert output.splitlines()[-1] == f"Interrupted. `sersearch tune --resume {name} --concurrency 1` goes on"
    assert "Traceback" not in output
    study = Study.open(name, work / "studies")
    assert study.meta["state"] == "interrupted"
    assert study.trials()[-1].state == "interrupted"
    assert not [t for t in study.trials() if t.state == "running"]


@pytest.mark.slow
def test_a_search_cut_off_between_a_trial_s_last_epoch_and_its_end_ends_as_the_undisturbed(work: Path) -> None:
    options = ["--space", "small.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "s0"]
    options += ["--name", "short", "--concurrency", "1", "--trials", "2", "--epochs", "2"]
    for args in (options, ["--resume", "short", "--concurrency", "1"]):
        done = subprocess.run(command(work, *args), cwd=work, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        study = Study.open("short", work / "studies")
        if args is options:
            whole = table(study)
            assert [t.state for t in study.trials()][-1] == "complete"
            journal = study.folder / "trials.jsonl"
            journal.write_text("".join(journal.read_text().splitlines(keepends=True)[:-1]))
            study.write_meta(state="interrupted")
    assert table(study) == whole
    assert mirrored(study) == [(t.searched, t.state) for t in study.trials()]


@pytest.mark.slow
def test_a_search_killed_between_a_stop_by_asha_and_the_trial_s_end_ends_as_the_undisturbed(
    work: Path, whole: Study
) -> None:
    shutil.copytree(whole.folder, work / "studies" / "stopped")
    study = Study.open("stopped", work / "studies")
    journal = study.folder / "trials.jsonl"
    lines = journal.read_text().splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if '"state": "pruned"' in line)
    journal.write_text("".join(lines[:end]))
    study.write_meta(name="stopped", state="running", created="another")
    done = subprocess.run(
        command(work, "--resume", "stopped", "--concurrency", "1"),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert table(study) == table(whole)
    assert mirrored(study) == [(t.searched, t.state) for t in study.trials()]


@pytest.mark.slow
def test_a_finished_search_is_told_of_again_and_mlflow_gets_what_it_has_not_got(work: Path, whole: Study) -> None:
    before = table(whole)
    event = {"event": "trial_start", "trial": 0, "time": 0, "params": {"alpha": 1}}
    (whole.folder / "mlflow_spool.jsonl").write_text(json.dumps(event) + "\n")
    for _ in range(2):
        again = subprocess.run(command(work, "--resume", "undisturbed"), cwd=work, capture_output=True, text=True)
        assert again.returncode == 0, again.stderr
        assert f"Best: trial {whole.best().number}" in again.stdout
        assert not (whole.folder / "mlflow_spool.jsonl").exists()
        assert table(whole) == before


@pytest.mark.slow
def test_a_killed_search_is_settled_without_anybody_s_doing_and_goes_on_by_the_same_command(
    work: Path, whole: Study
) -> None:
    folder = work / "studies" / "settled"
    killed = search(work, "settled", "--concurrency", "1")
    until(folder, killed, lambda events: len(events) >= 8 and events[-1]["event"] == "epoch")
    os.killpg(killed.pid, signal.SIGKILL)
    killed.communicate()
    deadline = time.monotonic() + 300
    while Study.open(folder).meta["state"] == "running" or Study.open(folder).driver is not None:
        assert time.monotonic() < deadline, "the reaper has not settled it"
        time.sleep(0.2)
    study = Study.open(folder)
    assert study.meta["state"] == "interrupted"
    assert {t.state for t in study.trials()} <= {"complete", "pruned", "failed", "interrupted"}
    assert {t.reason for t in study.trials() if t.unfinished} <= {"the search was interrupted"}
    again = search(work, "settled", "--concurrency", "1")
    output, _ = again.communicate(timeout=300)
    assert again.returncode == 0, output
    assert table(Study.open(folder)) == table(whole)


@pytest.mark.slow
def test_asked_to_end_a_search_keeps_the_epoch_that_is_being_trained(work: Path) -> None:
    folder = work / "studies" / "asked"
    options = ["--set", "hidden=64", "--epochs", "300"]  # so that it is within a trial
    running = search(work, "asked", "--concurrency", "1", *options, "--grace", "300")
    until(folder, running, lambda events: any(event["event"] == "epoch" for event in events))
    os.kill(running.pid, signal.SIGTERM)
    asked = time.monotonic()
    output, _ = running.communicate(timeout=400)
    assert running.returncode == 130, output
    assert time.monotonic() - asked < 200, "it waits for an epoch, and not for the grace"
    study = Study.open(folder)
    (last,) = [t for t in study.trials() if t.state == "interrupted"]
    assert last.reason == "the process was asked to end"
    assert last.checkpoint is not None
    assert json.loads((last.checkpoint / "report.json").read_text())["epoch"] == len(last.epochs)


@pytest.mark.slow
def test_failed_trials_are_run_again_and_no_others(work: Path, whole: Study) -> None:
    shutil.copytree(whole.folder, work / "studies" / "retried")
    study = Study.open("retried", work / "studies")
    study.write_meta(name="retried", created="another")
    failed = [t.number for t in study.trials() if t.state == "failed"]
    lines = len(study.journal.read_text().splitlines())
    done = subprocess.run(
        command(work, "--retry-failed", "retried", "--concurrency", "1"),
        cwd=work,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    new = [json.loads(line) for line in study.journal.read_text().splitlines()[lines:]]
    assert [event["trial"] for event in new if event["event"] == "start"] == failed
    assert table(study) == table(whole), "what fails by itself fails again, and the rest is untouched"
    assert Study.open("retried", work / "studies").meta["state"] == "finished"


# --- what becomes of a study that is there, without a search ----------------------------------------------------------


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[Study]:
    """Studies that would have been run."""
    studies: list[Study] = []

    def go(study: Study, *args: object) -> Study:
        studies.append(study)
        study.write_meta(state="interrupted")
        return study

    monkeypatch.setattr(run, "_run", go)
    return studies


@pytest.fixture
def request_(tmp_path: Path) -> TuneRequest:
    data = write_table(tmp_path / "data", make_table())
    space = load_space("aae_alpha_beta").changed(fixed=PARAMS, trials=6, epochs=7, method="random")
    return TuneRequest(space=space, data=data, protocol=Protocol("loso", "s0"), name="one", root=tmp_path / "studies")


def test_the_same_command_begins_a_search_and_goes_on_with_it(ran: list[Study], request_: TuneRequest) -> None:
    first = run.tune(request_)
    first.append("start", 0, params={}, searched={})
    second = run.tune(request_)
    assert (len(ran), second.folder, len(second.trials())) == (2, first.folder, 1)


def test_a_fresh_study_leaves_the_old_one_aside(ran: list[Study], request_: TuneRequest) -> None:
    first = run.tune(request_)
    first.append("start", 0, params={}, searched={})
    second = run.tune(dataclasses.replace(request_, seed=3), fresh=True)
    assert (second.meta["seed"], second.trials()) == (3, [])
    (aside,) = request_.root.glob("one-until-*")
    assert len(Study.open(aside).trials()) == 1
    assert len(ran) == 2


# MLflow's own use of SQLAlchemy
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_a_fresh_study_leaves_nothing_of_the_old_one_running_in_mlflow(ran: list[Study], request_: TuneRequest) -> None:
    """As after a power cut, which also took the process that would have settled it."""
    old = run.tune(request_)
    old.write_meta(state="running")
    old.append("start", 0, params={}, searched={})
    uri = default_uri(request_.root.parent)
    tracker = Tracker(uri, old.meta["space"]["name"], old.name, old.spool)
    tracker.begin(old.meta, [])
    tracker.trial_start(0, {})
    tracker.close()
    run.tune(request_, fresh=True)
    from mlflow.tracking.client import MlflowClient

    assert tracker.experiment_id is not None
    runs = MlflowClient(tracking_uri=uri).search_runs([tracker.experiment_id])
    assert [found.info.status for found in runs] == ["KILLED", "KILLED"]
    (aside,) = request_.root.glob("one-until-*")
    assert (Study.open(aside).meta["state"], Study.open(aside).trial(0).state) == ("interrupted", "interrupted")


def test_a_fresh_study_leaves_the_old_one_aside_in_the_storage_too(
    ran: list[Study], request_: TuneRequest, tmp_path: Path
) -> None:
    request = dataclasses.replace(request_, storage=str(tmp_path / "shared"))
    first = run.tune(request)
    Storage(first).publish()
    first.append("start", 0, params={}, searched={})
    second = run.tune(dataclasses.replace(request, seed=3), fresh=True)
    assert not second.home.exists()
    (aside,) = (tmp_path / "shared").glob("one-until-*")
    assert json.loads((aside / "study.json").read_text())["seed"] == 0
    assert [path.name for path in request.root.glob("one-until-*")] == [aside.name]


def test_a_fresh_study_whose_place_in_the_storage_is_another_s_is_not_begun(
    ran: list[Study], request_: TuneRequest, tmp_path: Path
) -> None:
    """A namesake of another machine: it would have been run in place of the new one."""
    shared = str(tmp_path / "shared")
    Storage(run.tune(dataclasses.replace(request_, storage=shared, root=tmp_path / "theirs", seed=9))).publish()
    run.tune(request_)
    with pytest.raises(StudyError, match="is another study's place"):
        run.tune(dataclasses.replace(request_, storage=shared, seed=5), fresh=True)
    assert [path.name for path in request_.root.iterdir()] == ["one"]


def test_a_fresh_study_that_another_machine_runs_stays(
    ran: list[Study], request_: TuneRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sersearch.tuning.storage.BEAT_S", 0.05)
    monkeypatch.setattr("sersearch.tuning.storage.MISSED", 600)  # on a busy machine some beats come late
    request = dataclasses.replace(request_, storage=str(tmp_path / "shared"))
    first, waits = run.tune(request), list[str]()
    with Storage(first).driven(waits.append, waits.append), pytest.raises(StudyError, match="is being run by process"):
        run.tune(request, on_event=lambda event, trial, fields: waits.append(fields["why"]), fresh=True)
    assert [why.partition(" ran this study")[1] for why in waits] == [" ran this study"]
    assert [path.name for path in request.root.iterdir()] == ["one"]


def test_a_gpu_that_cannot_come_is_refused_before_anything_is_written(
    ran: list[Study], request_: TuneRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ConfigError, match="--gpu: this machine has no GPU"):
        run.tune(request_, run.How(gpu=True))
    assert not request_.root.exists()
    run.tune(request_, run.How(gpu=True, address="auto"))


def test_a_fresh_study_that_is_held_is_left_where_it_is(ran: list[Study], request_: TuneRequest) -> None:
    first = run.tune(request_)
    with first.hold(), pytest.raises(StudyError, match="is being run by process"):
        run.tune(request_, fresh=True)
    assert [path.name for path in request_.root.iterdir()] == ["one"]


def test_a_fresh_study_that_cannot_be_leaves_the_old_one(ran: list[Study], request_: TuneRequest) -> None:
    run.tune(request_)
    with pytest.raises(DataError):
        run.tune(dataclasses.replace(request_, protocol=Protocol("loso", "s9")), fresh=True)
    assert [path.name for path in request_.root.iterdir()] == ["one"]


def test_what_another_machine_did_meanwhile_is_known_before_a_study_is_judged(
    ran: list[Study], request_: TuneRequest, tmp_path: Path
) -> None:
    """Here it is finished, without a failure; there is none to retry, and nothing to go on with, by this copy."""
    request = dataclasses.replace(request_, storage=str(tmp_path / "shared"))
    here = run.tune(request)
    here.append("start", 0, params={}, searched={})
    here.append("end", 0, state="complete", reason="all epochs done")
    here.write_meta(state="finished")
    Storage(here).publish()
    run.resume("one", request.root)
    assert len(ran) == 1, "it is only told of"
    assert fetch("one", str(tmp_path / "shared"), tmp_path / "there")
    there = Study.open("one", tmp_path / "there")
    there.append("start", 1, params={}, searched={})
    there.append("end", 1, state="failed", reason="loss is nan")
    there.write_meta(state="interrupted")
    Storage(there).publish()
    for retry in (True, False):
        run.resume("one", request.root, retry=retry)
        assert ran[-1].trial(1).state == "failed"
    assert len(ran) == 3


def test_how_a_study_is_run_is_written_down_as_it_begins(
    request_: TuneRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a kill or a power cut, `status` and the next command know it from study.json alone."""
    monkeypatch.setattr(run, "prepare", lambda *args: None)
    monkeypatch.setattr(run, "_search", lambda *args: None)
    monkeypatch.setattr("sersearch.tuning.reaper.watch", lambda *args: None)
    monkeypatch.setattr(Tracker, "begin", lambda *args: None)
    run.tune(request_, run.How(concurrency=1, address="auto"))
    study = Study.open("one", request_.root)
    assert study.again() == f"sersearch tune --resume {study.folder} --concurrency 1 --address auto"
    study.write_meta(tracking={**study.meta["tracking"], "experiment_id": "1", "run_id": "0a"})
    run.resume("one", request_.root)
    study = Study.open("one", request_.root)
    assert study.again() == f"sersearch tune --resume {study.folder}"
    assert study.meta["tracking"]["run_id"] == "0a"
    other = default_uri(request_.root)
    run.resume("one", request_.root, run.How(tracking_uri=other))
    assert Study.open("one", request_.root).meta["tracking"] == {"uri": other}, "the next one writes there, too"


def test_a_resume_needs_the_password_that_is_not_written_down(
    ran: list[Study], request_: TuneRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sersearch.tracking.check_uri", lambda uri: None)
    study = run.tune(request_, run.How(tracking_uri="https://me:hunter2@host"))
    assert "hunter2" not in study.journal.parent.joinpath("study.json").read_text()
    monkeypatch.undo()
    with pytest.raises(TrackingError):
        run.resume("one", request_.root)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--space", "aae_alpha_bta"], "did you mean aae_alpha_beta"),
        (["--space", "small.yaml", "--data", "nowhere"], "nowhere: no such folder"),
        (
            ["--space", "small.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "x"],
            "expected one of s0",
        ),
        (["--space", "small.yaml", "--data", "data", "--protocol", "los"], "did you mean loso"),
        (["--space", "small.yaml", "--data", "data", "--set", "gama=1"], "gama: unknown hyperparameter"),
        (["--space", "small.yaml", "--data", "data", "--tracking-uri", "http://127.0.0.1:9"], "http://127.0.0.1:9"),
        (["--space", "small.yaml", "--data", "data", "--objective", "dev_us"], "objective dev_us: no such metric"),
        (["--space", "small.yaml", "--data", "data", "--aux", "other"], "prepare both with the same sersearch"),
        (["--space", "small.yaml", "--data", "data", "--seed", "-1"], "--seed"),
        (["--space", "small.yaml", "--data", "data", "--set", "hidden=100000000000"], "params: the model of"),
        (["--space", "small.yaml", "--data", "data", "--method", "grid", "--trials", "2"], "a grid runs all of its"),
        (["--space", "small.yaml", "--data", "data", "--set", "hidden=2020-13-45"], "is not a YAML value"),
        (
            ["--space", "ladder_alpha_beta", "--data", "vectors", "--target", "valence", "--protocol", "speaker"],
            "search.alpha: with target valence alpha and beta change nothing of a ladder",
        ),
        (["--resume", "nothing"], "isn't a study"),
        ([], "needs --space"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(work: Path, args: list[str], message: str) -> None:
    before = sorted((work / "studies").glob("*")) if (work / "studies").exists() else []
    done = subprocess.run(command(work, *args), cwd=work, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert (sorted((work / "studies").glob("*")) if (work / "studies").exists() else []) == before
