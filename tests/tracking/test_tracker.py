"""MLflow writing: structure, repeats, a server that is away, URIs that cannot work."""

from __future__ import annotations

import csv
import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import TrackingError
from sersearch.provenance import git_commit, versions
from sersearch.tracking import Tracker, check_uri, default_uri, page, store
from sersearch.tracking import tracker as module
from sersearch.tracking.spool import Spool

# MLflow's own use of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")

META = {
    "name": "first",
    "created": "2026-01-02T03:04:05",
    "sersearch": "0.1.0",
    "git_commit": "0" * 40,
    "method": "tpe",
    "seed": 7,
    "data": {"path": "data/demo", "protocol": {"name": "official"}, "aux": None},
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One folder with one SQLite store for all tests, whose tables take seconds to make."""
    return tmp_path_factory.mktemp("root with space")


@pytest.fixture(scope="module")
def client(root: Path) -> Any:
    """A client that reads what trackers have written; made first, so that MLflow's tables exist."""
    from mlflow.tracking.client import MlflowClient

    return MlflowClient(tracking_uri=default_uri(root))


def tracker(root: Path, study: str, uri: str | None = None) -> Tracker:
    return Tracker(uri or default_uri(root), "space", study, root / "studies" / study / "mlflow_spool.jsonl")


def children(client: Any, of: Tracker) -> dict[int, Any]:
    runs = client.search_runs([of.experiment_id], f"tags.`mlflow.parentRunId` = '{of.run_id}'")
    return {int(run.data.tags["sersearch.trial"]): run for run in runs}


def until_sent(subject: Tracker) -> None:
    while len(subject._spool):
        threading.Event().wait(0.05)


def predictions(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "predicted", "anger", "joy"])
        writer.writerows([["a", "anger", "anger", 1, 0], ["b", "anger", "joy", 0, 1], ["c", "joy", "joy", 0, 1]])
    return path


def journal(folder: Path, *events: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    meta = {**META, "state": "interrupted", "objective": {"metric": "dev_ua", "mode": "max"}}
    (folder / "study.json").write_text(json.dumps(meta))
    (folder / "trials.jsonl").write_text("".join(json.dumps({"time": 1.0, **event}) + "\n" for event in events))


def start(trial: int) -> dict[str, Any]:
    return {"event": "start", "trial": trial, "params": {"alpha": 0.5}, "searched": {"alpha": 0.5}}


def test_a_study_is_a_parent_run_with_a_child_run_a_trial(root: Path, client: Any, tmp_path: Path) -> None:
    space = tmp_path / "space.yaml"
    space.write_text("name: space\n")
    subject = tracker(root, "first")
    subject.begin(META, [space])
    subject.trial_start(0, {"alpha": 0.5, "widths": [32, 64], "long": "x" * 9000})
    subject.trial_start(1, {"alpha": 0.1})
    for epoch in (1, 2, 3):
        metrics = {"dev_ua": 0.1 * epoch, "train_loss_reconstruction": 1.0 / epoch}
        subject.epoch(0, epoch, metrics, 1000 * epoch)
    subject.epoch(1, 1, {"dev_ua": float("nan")}, 1000)
    subject.trial_end(0, "complete", "epochs", [predictions(tmp_path / "dev_predictions.csv")])
    subject.trial_end(1, "failed", "loss is NaN in epoch 1", [])
    epochs = [
        {"event": "epoch", "trial": 0, "epoch": e, "metrics": {}, "value": 0.1 * e, "seconds": 1.0} for e in (1, 2, 3)
    ]
    journal(root / "studies" / "first", start(0), *epochs, start(1))
    subject.finish("finished")
    subject.close()

    assert subject.warnings == []
    assert not (root / "studies" / "first" / "mlflow_spool.jsonl").exists()
    parent = client.get_run(subject.run_id)
    assert client.get_experiment(subject.experiment_id).name == "space"
    assert (parent.info.status, parent.info.run_name) == ("FINISHED", "first")
    assert parent.data.params["data.protocol.name"] == "official"
    assert parent.data.params["seed"] == "7"
    assert parent.data.metrics == pytest.approx({"best_dev_ua": 0.3})
    assert parent.data.tags["mlflow.source.git.commit"] == "0" * 40
    assert {file.path for file in client.list_artifacts(subject.run_id)} == {"space.yaml", "versions.json"}

    runs = children(client, subject)
    assert {number: run.info.status for number, run in runs.items()} == {0: "FINISHED", 1: "FAILED"}
    assert runs[0].data.params["widths"] == "[32, 64]"
    assert len(runs[0].data.params["long"]) == 500
    assert runs[1].data.tags["sersearch.reason"] == "loss is NaN in epoch 1"
    history = client.get_metric_history(runs[0].info.run_id, "dev_ua")
    assert [(m.step, m.timestamp, round(m.value, 3)) for m in history] == [
        (1, 1000, 0.1),
        (2, 2000, 0.2),
        (3, 3000, 0.3),
    ]
    files = {file.path for file in client.list_artifacts(runs[0].info.run_id)}
    assert files == {"dev_predictions.csv", "confusion.csv", "confusion.png"}
    assert (root / "mlruns").is_dir()


def test_attributes_get_a_picture_of_predicted_and_true_values(root: Path, client: Any, tmp_path: Path) -> None:
    path = tmp_path / "dev_predictions.csv"
    path.write_text("id,valence,valence_predicted\na,1.5,2\nb,3,3.5\n")
    subject = tracker(root, "attributes")
    subject.begin(META, [])
    subject.trial_start(0, {"alpha": 0.5})
    subject.trial_end(0, "complete", "epochs", [path])
    subject.close()
    assert subject.warnings == []
    (run,) = children(client, subject).values()
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    assert files == {"dev_predictions.csv", "scatter.png"}


def test_a_resumed_study_goes_on_in_the_same_runs_and_repeats_count_once(root: Path, client: Any) -> None:
    before = tracker(root, "resumed")
    before.begin(META, [])
    before.trial_start(0, {"alpha": 0.5})
    before.epoch(0, 1, {"dev_ua": 0.4}, 1000)
    before.finish("interrupted")
    before.close()
    assert children(client, before)[0].info.status == "KILLED"

    after = tracker(root, "resumed")
    after.begin(META, [])
    after.trial_start(0, {"alpha": 0.5})
    after.epoch(0, 1, {"dev_ua": 0.4}, 1000)
    after.epoch(0, 2, {"dev_ua": 0.5}, 2000)
    after.close()
    assert after.run_id == before.run_id
    assert client.get_run(after.run_id).info.status == "RUNNING"
    (run,) = children(client, after).values()
    assert run.info.status == "RUNNING"
    assert [metric.step for metric in client.get_metric_history(run.info.run_id, "dev_ua")] == [1, 2]


def test_a_namesake_study_gets_runs_of_its_own(root: Path) -> None:
    run_ids = set()
    for created in ("2026-01-01", "2026-02-02"):
        subject = tracker(root, "namesake")
        subject.begin({**META, "created": created}, [])
        subject.close()
        run_ids.add(subject.run_id)
    assert len(run_ids) == 2


def test_runs_left_running_are_ended_as_the_journal_says(root: Path, client: Any) -> None:
    before = tracker(root, "killed")
    before.begin(META, [])
    for number in range(3):
        before.trial_start(number, {"alpha": 0.5})
    before.close()  # as after a kill: nothing says how the trials ended
    journal(
        root / "studies" / "killed",
        *[start(number) for number in range(3)],
        {"event": "end", "trial": 0, "state": "complete", "reason": "epochs"},
        {"event": "end", "trial": 1, "state": "pruned", "reason": "asha"},
    )
    after = tracker(root, "killed")
    after.begin(META, [])
    after.close()
    runs = children(client, after)
    assert {number: run.info.status for number, run in runs.items()} == {0: "FINISHED", 1: "KILLED", 2: "RUNNING"}
    assert runs[1].data.tags["sersearch.state"] == "pruned"


def test_a_study_that_was_ended_elsewhere_meanwhile_is_finished_by_the_process_that_runs_it(
    root: Path, client: Any
) -> None:
    """Another machine, which had run it, settles what it has left there long after."""
    subject = tracker(root, "late")
    subject.begin(META, [])
    subject.trial_start(0, {"alpha": 0.5})
    epoch = {"event": "epoch", "trial": 0, "epoch": 1, "metrics": {}, "value": 0.4, "seconds": 1.0}
    journal(root / "studies" / "late", start(0), epoch)
    until_sent(subject)
    late = Tracker(default_uri(root), "space", "late", root / "elsewhere" / "late" / "mlflow_spool.jsonl")
    assert late.settle({**META, "state": "running"}) == 2
    subject.trial_end(0, "complete", "epochs", [])
    subject.finish("finished")
    subject.close()
    parent = client.get_run(subject.run_id)
    assert (parent.info.status, parent.data.metrics) == ("FINISHED", {"best_dev_ua": 0.4})
    assert children(client, subject)[0].info.status == "FINISHED"


def test_while_the_server_is_away_events_are_kept_and_sent_later(root: Path, client: Any) -> None:
    spool = root / "studies" / "away" / "mlflow_spool.jsonl"
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    away = tracker(root, "away", f"http://me:secret@127.0.0.1:{port}")
    away.begin(META, [])
    away.trial_start(0, {"alpha": 0.5})
    away.epoch(0, 1, {"dev_ua": 0.4}, 1000)
    away.trial_end(0, "complete", "epochs", [])
    away.finish("finished")
    away.close()
    assert away.run_id is None
    assert len(away.warnings) == 2
    assert f"MLflow at http://***@127.0.0.1:{port} is away; events are kept in {spool}" in away.warnings[0]
    assert f"`sersearch tune --resume '{spool.parent}'` sends them" in away.warnings[1]
    assert "secret" not in str(away.warnings) + away.uri + spool.read_text()

    spool.write_text(spool.read_text() + '{"event": "epo')  # torn by the process's death
    back = tracker(root, "away")
    back.begin(META, [])
    back.close()
    assert back.warnings == []
    assert not spool.exists()
    (run,) = children(client, back).values()
    assert (run.info.status, run.data.metrics["dev_ua"]) == ("FINISHED", 0.4)


def test_a_server_that_comes_back_gets_everything(root: Path, client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)
    real, failures = store.Store.send, iter([ConnectionError("refused"), OSError(28, "No space left on device")])

    def send(self: Any, events: Any) -> None:
        for failure in failures:
            raise failure
        real(self, events)

    monkeypatch.setattr(store.Store, "send", send)
    subject = tracker(root, "flaky")
    subject.begin(META, [])
    subject.trial_start(0, {"alpha": 0.5})
    subject.epoch(0, 1, {"dev_ua": 0.4}, 1000)
    until_sent(subject)
    subject.close()
    assert len(subject.warnings) == 1
    assert "is away" in subject.warnings[0]
    assert "No space left" in subject.warnings[0]  # of the second failure: the first may be a hiccup
    assert children(client, subject)[0].data.metrics == {"dev_ua": 0.4}


def test_the_thread_ends_with_the_event_that_it_sends_when_there_is_no_more_time(
    root: Path, client: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would go on while Python ends, which code beneath Python doesn't bear."""
    real = store.Store._trial_start

    def slowly(self: Any, event: Any) -> None:
        time.sleep(0.1)
        real(self, event)

    monkeypatch.setattr(store.Store, "_trial_start", slowly)
    subject = tracker(root, "slow")
    subject.begin(META, [])
    for number in range(100):
        subject.trial_start(number, {"alpha": 0.5})
    subject.close(most=1)
    assert not subject._thread.is_alive()
    assert re.fullmatch(r"[1-9]\d* MLflow events wait in .*", subject.warnings[-1])
    monkeypatch.undo()
    rest = tracker(root, "slow")
    rest.begin(META, [])
    rest.close()
    assert len(children(client, rest)) == 100


def test_what_mlflow_refuses_does_not_hold_up_the_rest(root: Path, client: Any, tmp_path: Path) -> None:
    subject = tracker(root, "refused")
    subject.begin(META, [tmp_path / "gone.yaml"])
    subject.trial_start(0, {"alpha": 0.5})
    subject.trial_start(0, {"alpha": 0.6})  # MLflow never changes a parameter
    subject.epoch(0, 1, {"dev_ua": 0.4, "odd {name}": 1.0}, 1000)
    subject.close()
    assert len(subject.warnings) == 2
    assert "the artifact gone.yaml is missing" in subject.warnings[0]
    assert "MLflow refused a trial_start event, which is left out" in subject.warnings[1]
    assert children(client, subject)[0].data.metrics == {"dev_ua": 0.4, "odd _name_": 1.0}


def test_a_disk_that_is_full_keeps_events_in_memory(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "file" / "spool.jsonl")
    (tmp_path / "file").write_text("not a folder")
    spool.start([{"event": "begin"}])
    spool.add({"event": "epoch"})
    assert spool.disk_error is not None
    assert [event["event"] for event in spool.first(10)] == ["begin", "epoch"]


def test_importing_tracking_imports_neither_mlflow_nor_matplotlib() -> None:
    code = (
        "import sys, sersearch.tracking; print({'mlflow', 'matplotlib', 'torch', 'ray', 'pandas'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- URIs -------------------------------------------------------------------------------------------------------------


class Answer(BaseHTTPRequestHandler):
    """A server with one answer: an MLflow server's, a web page, or a refusal."""

    def do_GET(self) -> None:
        kind = self.path.split("/")[1]
        status = {"locked": 401, "broken": 500}.get(kind, 200)
        if kind == "locked" and self.headers.get("Authorization") == "Basic bWU6c2VjcmV0":
            status = 200
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if kind == "page" else "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *args: Any) -> None:
        """Silence."""


@pytest.fixture
def server() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answer) as httpd:
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"127.0.0.1:{httpd.server_port}"
        httpd.shutdown()
        thread.join()


def test_uris_that_work(tmp_path: Path, server: str) -> None:
    check_uri(default_uri(tmp_path))
    check_uri(f"http://{server}")
    check_uri(f"http://me:secret@{server}/locked/")
    assert default_uri(tmp_path) == f"sqlite:///{tmp_path}/mlflow.db"


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("", r"tracking URI '' is malformed.*leave --tracking-uri out"),
        ("http://a b", r"'http://a b' is malformed"),
        ("http://", r"names no host"),
        ("http://h:port", r"malformed \(Port could not be cast"),
        ("htp://127.0.0.1:5000", r"MLflow knows no scheme 'htp'; did you mean http\?"),
        ("127.0.0.1:5000", r"MLflow knows no scheme '127.0.0.1'|is a folder"),
        ("mlruns", r"no longer keeps runs in folders; give sqlite:///"),
        ("file:///tmp/mlruns", r"no longer keeps runs in folders"),
        ("sqlite://mlflow.db", r"names no file; write sqlite:///mlflow.db"),
        ("sqlite:///:memory:", r"names no file"),
        ("sqlite:////no/such/folder/mlflow.db", r"there is no folder /no/such/folder; make it"),
        ("mysql://me:secret@127.0.0.1/runs", r"'mysql://\*\*\*@127.0.0.1/runs' needs the Python package MySQLdb"),
        ("postgresql+nosuch://127.0.0.1/runs", r"Can't load plugin.*postgresql.nosuch; leave --tracking-uri out"),
        ("http://***@127.0.0.1:5000", r"passwords are not kept with a study; give --tracking-uri again"),
    ],
)
def test_uris_that_cannot_work(uri: str, message: str) -> None:
    with pytest.raises(TrackingError, match=message):
        check_uri(uri)


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    with pytest.raises(TrackingError) as raised:
        check_uri(f"http://me:secret@127.0.0.1:{port}/")
    assert f"no MLflow server answers at http://127.0.0.1:{port}" in str(raised.value)
    assert f"mlflow server --port {port}" in str(raised.value)
    assert "leave --tracking-uri out" in str(raised.value)
    assert "secret" not in str(raised.value)


def test_servers_that_are_not_mlflow_or_refuse(server: str) -> None:
    with pytest.raises(TrackingError, match=r"refuses this user \(401 .*MLFLOW_TRACKING_USERNAME"):
        check_uri(f"http://{server}/locked")
    with pytest.raises(TrackingError, match=r"not a working MLflow server \(500"):
        check_uri(f"http://{server}/broken")
    with pytest.raises(TrackingError, match="is no MLflow server"):
        check_uri(f"http://{server}/page")


def test_sqlite_files_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_text("this is no database")
    with pytest.raises(TrackingError, match=r"text.db is not a SQLite database"):
        check_uri(f"sqlite:///{tmp_path}/text.db")
    with pytest.raises(TrackingError, match="is a folder; name a file in it"):
        check_uri(f"sqlite:///{tmp_path}")


# --- versions ---------------------------------------------------------------------------------------------------------


def test_versions_and_commit(tmp_path: Path) -> None:
    assert versions()["python"] == ".".join(map(str, sys.version_info[:3]))
    assert {"torch", "ray", "optuna", "mlflow"} <= set(versions())
    assert git_commit(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run(["git", "init", "-q", tmp_path], check=True)
    (tmp_path / "file").write_text("1")
    subprocess.run(["git", "-C", tmp_path, "add", "file"], check=True)
    subprocess.run(["git", "-C", tmp_path, *identity, "commit", "-q", "-m", "one"], check=True)
    commit = git_commit(tmp_path)
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("http://mlflow:5000", "http://mlflow:5000/#/experiments/1/runs/0a"),
        ("https://***@example.org/mlflow/", "https://example.org/mlflow/#/experiments/1/runs/0a"),
        ("sqlite:////runs/mlflow.db", None),
        ("postgresql://db:5432/runs", None),
    ],
)
def test_a_server_has_a_page_for_a_run(uri: str, shown: str | None) -> None:
    assert page(uri, "1", "0a") == shown
    assert page(uri, None, None) is None
