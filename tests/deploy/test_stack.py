"""The real parts together: MLflow's server on PostgreSQL and an object store, and a Ray cluster of three nodes.

The nodes are network namespaces; the servers and whoever submits the search are on another machine of their network.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.nodes import Cluster, may_make_networks
from tests.services import Postgres, Server, Store

pytestmark = pytest.mark.slow

NAME = "stack-search"
TRIALS, EPOCHS = 4, 6
SPACE = f"""
name: stack
doc: a search through all parts of a cluster
family: aae
features: spectrogram
search:
  alpha: {{choices: [0.2, 0.4, 0.6, 0.8]}}
fixed: {{channels: [8, 16, 16], hidden: 16, batch_size: 8, segment_frames: 32, learning_rate: 0.003}}
objective: {{metric: dev_ua}}
method: grid
pruning: {{kind: none}}
trials: {TRIALS}
epochs: {EPOCHS}
time: seconds
"""
SECONDS = 600


@dataclass
class Stack:
    """All of it."""

    folder: Path
    cluster: Cluster
    server: Server
    store: Store

    @property
    def dashboard(self) -> str:
        return f"http://{self.cluster.host(0)}:8265"

    def on_head(self, *args: str) -> str:
        """What `sersearch ARGS` prints there."""
        done = subprocess.run(
            self.cluster.inside(0, sys.executable, "-m", "sersearch", *args),
            cwd=self.folder,
            env={**os.environ, **self.cluster.env},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def submit(self, *args: str, **environment: str) -> Submitted:
        """`sersearch submit`, from a machine that isn't the cluster's and has its token alone."""
        return Submitted(self, [*args], environment)


class Submitted:
    """A `sersearch submit` that runs."""

    def __init__(self, stack: Stack, args: list[str], environment: dict[str, str]) -> None:
        self._output = stack.folder / f"submitted-{time.monotonic_ns()}.out"
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "AWS_", "MLFLOW_"))}
        env = {**clean, "HOME": str(stack.folder), "RAY_AUTH_TOKEN": stack.cluster.env["RAY_AUTH_TOKEN"]}
        with self._output.open("w") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "sersearch", "submit", "--address", stack.dashboard, "--", *args],
                cwd=stack.folder,
                env={**env, **environment},
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def told(self) -> str:
        return self._output.read_text()

    def until(self, text: str) -> None:
        """Wait until it has printed `text`."""
        deadline = time.monotonic() + SECONDS
        while text not in self.told:
            assert self._process.poll() is None, self.told
            assert time.monotonic() < deadline, self.told
            time.sleep(0.1)

    def interrupt(self) -> None:
        """Ctrl-C."""
        self._process.send_signal(signal.SIGINT)

    def end(self, code: int = 0) -> str:
        """What was printed by the end, of which this must be the exit code."""
        assert self._process.wait(SECONDS) == code, self.told
        assert "Traceback" not in self.told
        return self.told


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    if not may_make_networks():
        pytest.skip("nodes are network namespaces, which root may make where the system lets it")
    folder = Path(tempfile.mkdtemp(prefix="ss", dir="/tmp"))
    (folder / "r").mkdir()
    work = tmp_path_factory.mktemp("stack")
    (work / "mine.yaml").write_text(SPACE)
    database, cluster = Postgres(), Cluster(folder / "r")
    store = server = None
    try:
        here = cluster.join()
        store = Store(work / "moto.log", host=here)
        database.control("start")
        database.create()
        backend = database.uri.replace("postgresql://", "postgresql+psycopg://")
        server = Server(backend, work, "s3://bucket/mlflow", here, store.env).start()
        # What a node's Ray starts has the node's environment: there the credentials are, and the way to `sersearch`.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        cluster.env.update(store.env, PATH=path)
        cluster.start(0, "--include-dashboard=true", f"--dashboard-host={cluster.host(0)}")
        made = Stack(work, cluster, server, store)
        _wait_for(made.dashboard)
        for node in (1, 2):
            cluster.start(node)
        yield made
    finally:
        cluster.close()
        if server is not None:
            server.stop()
        if store is not None:
            store.close()
        database.remove()
        shutil.rmtree(folder, ignore_errors=True)


def _wait_for(address: str) -> None:
    """Until somebody answers there, if only that a token is needed."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        try:
            urllib.request.urlopen(f"{address}/api/version", timeout=2).close()
            return
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError(f"nobody answers at {address}")


@pytest.fixture(scope="module")
def data(stack: Stack) -> str:
    """The demo corpus, prepared by the cluster's nodes into the store."""
    out = "s3://bucket/data/demo"
    args = ["prep", "demo", str(stack.folder / "corpus"), "--out", out, "--address", stack.cluster.address]
    assert f"{out}: demo (synthetic), spectrogram: " in stack.on_head(*args)
    return out


def _search(stack: Stack, data: str, name: str = NAME) -> list[str]:
    where = ["--storage", "s3://bucket/studies", "--tracking-uri", stack.server.uri]
    return ["tune", "--space", "mine.yaml", "--data", data, "--protocol", "official", "--name", name, *where]


@dataclass(frozen=True)
class Searched:
    """What the submitted search came to."""

    left: str
    """What was printed until Ctrl-C."""
    told: str
    """What was printed by the same command, typed again."""
    page: str
    """The address of its run's page."""


@pytest.fixture(scope="module")
def searched(stack: Stack, data: str) -> Searched:
    """A search that is submitted, left alone, and followed again to its end."""
    first = stack.submit(*_search(stack, data))
    first.until("epoch 1")
    first.interrupt()
    left = first.end(130)
    told = stack.submit(*_search(stack, data)).end()
    return Searched(left, told, told.strip().splitlines()[-1].removeprefix("MLflow: "))


def test_a_submitted_search_goes_on_without_whoever_submitted_it(stack: Stack, searched: Searched) -> None:
    (job,) = re.findall(r"^Job (\w+) on", searched.left, re.MULTILINE)
    assert f"Interrupted. Job {job} goes on: the same command follows it again" in searched.left
    assert searched.told.startswith(f"Job {job} on {stack.dashboard}, which runs already\n")
    assert f"{TRIALS} of {TRIALS} trials done" in searched.told
    assert searched.page.startswith(f"{stack.server.uri}/#/experiments/")
    assert f"MLflow: {searched.page}" in searched.left
    assert "sdk.py" not in searched.told, "what Ray's client has to say of itself"


def test_the_same_command_after_the_end_finds_the_study_finished(stack: Stack, data: str, searched: Searched) -> None:
    told = stack.submit(*_search(stack, data)).end()
    assert f"Study {NAME}: development" in told
    assert "epoch 1 " not in told
    assert told.strip().endswith(searched.page)


def test_the_job_s_exit_code_is_the_command_s(stack: Stack, data: str) -> None:
    told = stack.submit(*_search(stack, data), "--epochs", str(EPOCHS + 1)).end(2)
    assert "Error: " in told


def test_secrets_stand_neither_in_jobs_nor_in_what_is_printed(stack: Stack, searched: Searched) -> None:
    request = urllib.request.Request(
        f"{stack.dashboard}/api/jobs/", headers={"Authorization": f"Bearer {stack.cluster.env['RAY_AUTH_TOKEN']}"}
    )
    with urllib.request.urlopen(request) as answer:
        jobs = answer.read().decode()
    assert NAME in jobs
    for secret in (stack.cluster.env["RAY_AUTH_TOKEN"], stack.store.env["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in jobs + searched.left + searched.told


def test_another_token_is_refused(stack: Stack) -> None:
    told = stack.submit("spaces", RAY_AUTH_TOKEN="0" * 64).end(2)
    assert "the cluster doesn't let this machine in" in told


def test_mlflow_holds_every_trial_and_the_store_its_files(
    stack: Stack, searched: Searched, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.client import MlflowClient

    found = re.fullmatch(r".*/#/experiments/(\d+)/runs/(\w+)", searched.page)
    assert found is not None
    experiment, parent = found.groups()
    client = MlflowClient(tracking_uri=stack.server.uri)
    runs = client.search_runs([experiment], f"tags.`sersearch.study` = '{NAME}'")
    assert len(runs) == TRIALS + 1
    assert {run.info.status for run in runs} == {"FINISHED"}
    study = client.get_run(parent)
    assert study.info.run_name == NAME
    for trial in runs:
        if trial.info.run_id != parent:
            assert len(client.get_metric_history(trial.info.run_id, "dev_ua")) == EPOCHS
    # Through the server, which alone has the store's credentials.
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    card = json.loads(Path(client.download_artifacts(parent, "split.json", str(tmp_path))).read_text())
    assert card
    kept = json.loads(stack.store.ask("import json; print(json.dumps(fs.find('bucket')))"))
    assert any(name.startswith("bucket/mlflow/") and name.endswith("split.json") for name in kept)
    assert f"bucket/studies/{NAME}/study.json" in kept


def test_a_job_that_is_stopped_leaves_in_order_and_goes_on(stack: Stack, data: str) -> None:
    search = [*_search(stack, data, "stopped"), "--epochs", "12"]  # so that it has not ended when `ray` is loaded
    running = stack.submit(*search)
    running.until("epoch 2")
    (job,) = re.findall(r"^Job (\w+) on", running.told, re.MULTILINE)
    stop = [str(Path(sys.executable).with_name("ray")), "job", "stop", "--address", stack.dashboard, job]
    subprocess.run(stop, env={**os.environ, **stack.cluster.env}, capture_output=True, check=True, timeout=SECONDS)
    told = running.end(130)
    assert "Interrupted. `sersearch tune --resume" in told, "it had the time to say so"
    assert f"Job {job} was stopped; the same command goes on" in told
    again = stack.submit(*search).end()
    assert f"{TRIALS} of {TRIALS} trials done" in again
    assert "epoch 1 " not in again.partition("trial 2")[0], "the first two went on"


@pytest.fixture(scope="module")
def browser() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no chromium; install it to see MLflow's pages")
    return found


def test_a_browser_shows_the_study(stack: Stack, searched: Searched, browser: str, tmp_path: Path) -> None:
    """The pictures are kept below `artifacts/` of the folder that SERSEARCH_BUILD names, build/ by default."""
    kept = Path(os.environ.get("SERSEARCH_BUILD", "build")) / "artifacts"
    kept.mkdir(parents=True, exist_ok=True)
    experiment = searched.page.partition("/runs/")[0] + "/runs"
    pages = {"mlflow-study": (searched.page, f"{NAME} trial 0"), "mlflow-experiment": (experiment, NAME)}
    for name, (page, text) in pages.items():
        picture = kept / f"{name}.png"
        picture.unlink(missing_ok=True)
        shown = _browse(browser, tmp_path, "--dump-dom", page)
        assert text in shown, shown[-2000:]
        _browse(browser, tmp_path, f"--screenshot={picture.resolve()}", page)
        assert picture.stat().st_size > 10_000
        assert picture.read_bytes().startswith(b"\x89PNG")


def _browse(browser: str, folder: Path, *args: Any) -> str:
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
    settings = [f"--user-data-dir={folder}", "--window-size=1500,1100", "--virtual-time-budget=60000"]
    done = subprocess.run([*command, *settings, *args], capture_output=True, text=True, timeout=180, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout
