"""A command line as a job of a Ray cluster: what is checked before, followed, and said at the end."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.job_submission import JobStatus

from sersearch import submission
from sersearch.tuning.space import load_space
from tests.faults.matrix import SPACE
from tests.test_cli import run
from tests.test_cluster import refusal

HEAD = "http://head.example:8265"
TUNE = ("tune", "--space", "aae_alpha_beta", "--name", "sm0", "--storage", "s3://bucket/studies")
LINK = f"http://mlflow:5000/#/experiments/1/runs/{'0a' * 16}"
LOG = ["trial 0 begins\n", f"MLflow: {LINK}\n", "trial 0 epoch 1\n", "trial 0 ends\n"]


def details(job: str, entrypoint: str, status: JobStatus, code: int | None = None, message: str = "") -> Any:
    return SimpleNamespace(
        submission_id=job, entrypoint=entrypoint, status=status, driver_exit_code=code, message=message
    )


class Cluster:
    """Ray's job client, of a cluster where each job prints :data:`LOG`."""

    def __init__(self) -> None:
        self.jobs: list[Any] = []
        self.environment: dict[str, str] = {}
        self.streams: list[Callable[[], AsyncIterator[str]]] = []
        """What each connection to the log gives, in order; then the whole log."""
        self.end: dict[str, Any] = {"status": JobStatus.SUCCEEDED, "code": 0}
        self.away = 0
        """Requests that nobody answers."""

    def submit_job(self, entrypoint: str, runtime_env: dict[str, Any]) -> str:
        self.environment = runtime_env["env_vars"]
        self.jobs.append(details(f"job{len(self.jobs)}", entrypoint, JobStatus.RUNNING))
        return f"job{len(self.jobs) - 1}"

    def list_jobs(self) -> list[Any]:
        return [details("", "", JobStatus.RUNNING), *self.jobs]  # the first is somebody's own driver

    def get_job_info(self, job: str) -> Any:
        if self.away:
            self.away -= 1
            raise ConnectionError("no route to host")
        return next(each for each in self.jobs if each.submission_id == job)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        async for text in self.streams.pop(0)() if self.streams else self.whole():
            yield text

    async def whole(self) -> AsyncIterator[str]:
        for text in LOG:
            yield text
        self.jobs = [details(j.submission_id, j.entrypoint, **self.end) for j in self.jobs]

    @property
    def command(self) -> list[str]:
        """What the shell makes of the last job's command line."""
        return shlex.split(self.jobs[-1].entrypoint)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Cluster:
    made = Cluster()
    monkeypatch.setattr(submission, "_connect", lambda address: made)
    monkeypatch.setattr(submission, "PAUSE_S", 0.01)
    return made


Capture = pytest.CaptureFixture[str]


def test_a_search_is_run_and_followed_and_its_run_in_mlflow_is_linked(cluster: Cluster, capsys: Capture) -> None:
    code, out, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE, "--set", "hidden=a b;c")
    assert (code, err) == (0, "")
    assert cluster.command == ["sersearch", *TUNE, "--set", "hidden=a b;c"]
    assert out.splitlines() == [f"Job job0 on {HEAD}", *(line.rstrip() for line in LOG), f"MLflow: {LINK}"]


def test_a_stopped_search_has_time_to_leave_in(cluster: Cluster, capsys: Capture) -> None:
    run(capsys, "submit", "--address", HEAD, "--", *TUNE, "--grace", "45")
    assert int(cluster.environment["RAY_JOB_STOP_WAIT_TIME_S"]) > 45


@pytest.mark.parametrize("form", [("--space", "mine.yaml"), ("--space=mine.yaml",)])
def test_a_space_of_one_s_own_travels_with_the_job(
    cluster: Cluster, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SPACE)
    rest = ("--name", "sm0", "--storage", "s3://bucket/studies")
    assert run(capsys, "submit", "--address", HEAD, "--", "tune", *form, *rest)[0] == 0
    (written,) = [word.removeprefix("--space=") for word in cluster.command if "{" in word]
    assert load_space(written) == load_space("mine.yaml")
    assert cluster.command[-4:] == list(rest)


def test_a_space_that_is_wrong_is_said_here(
    cluster: Cluster, capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.yaml").write_text(SPACE.replace("alpha:", "alfa:"))
    code, _, err = run(capsys, "submit", "--address", HEAD, "--", "tune", "--space", "mine.yaml", *TUNE[3:])
    assert code == 2
    assert "mine.yaml: search.alfa" in err
    assert not cluster.jobs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("tun", "--space", "x"), "tun: isn't a command for a cluster; did you mean tune?"),
        (("data", "chek", "s3://bucket/data"), "data chek: isn't a command for a cluster; did you mean check?"),
        (("data",), "data: isn't a command for a cluster; expected one of check, show"),
        (("submit", "--address", HEAD, "--", "spaces"), "submit: isn't a command for a cluster"),
        (("tune", "--spce", "x"), "No such option: --spce"),
        (("tune", "--space", "aae_alpha_beta", "--storage", "s3://bucket/studies"), "needs --name NAME"),
        (
            ("tune", "--space", "aae_alpha_beta", "--name", "sm0"),
            "tune on a cluster needs --storage, a URL or the full path",
        ),
        ((*TUNE[:-1], "studies"), "tune on a cluster needs --storage, a URL or the full path"),
        (("tune", "--resume", "sm0"), "tune on a cluster needs --storage, a URL or the full path"),
        ((*TUNE, "--data", "here"), "--data here: lies on this machine"),
        (("prep", "nemo", "/corpora/nemo"), "prep on a cluster needs --out, a URL or the full path of a folder"),
        (
            ("prep", "nemo", "/corpora/nemo", "--out", "data/nemo"),
            "prep on a cluster needs --out, a URL or the full path",
        ),
        (("prep", "nemo", "here", "--out", "s3://bucket/nemo"), "root here: lies on this machine"),
        (("predict", "s3://bucket/model", "here/some.wav"), "files here/some.wav: lies on this machine"),
        ((*TUNE, "--space", "mine.yaml"), "--space mine.yaml: no such space or file"),
        ((*TUNE, "--tracking-uri", "http://ann:hush-hush@mlflow:5000"), "http://***@mlflow:5000: everyone who sees"),
        ((*TUNE, "--tracking-uri=http://mlflow:5000?token=hush-hush"), "can read a job's command line"),
    ],
)
def test_what_could_not_run_there_is_a_sentence_and_no_job(
    cluster: Cluster,
    capsys: Capture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    Path("here", "some.wav").touch()
    code, _, err = run(capsys, "submit", "--address", HEAD, "--", *words)
    assert code == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert "hush-hush" not in err
    assert not cluster.jobs


def test_a_study_may_lie_in_a_folder_that_all_nodes_have(cluster: Cluster, capsys: Capture, tmp_path: Path) -> None:
    words = ("tune", "--space", "aae_alpha_beta", "--name", "sm0", "--studies", str(tmp_path), "--data", str(tmp_path))
    assert run(capsys, "submit", "--address", HEAD, "--", *words)[0] == 0
    assert cluster.command == ["sersearch", *words]


@pytest.mark.parametrize("out", ["s3://bucket/nemo", "/shared/data/nemo"])
def test_features_may_go_to_a_store_or_a_folder_that_all_nodes_have(
    cluster: Cluster, capsys: Capture, out: str
) -> None:
    words = ("prep", "nemo", "/corpora/nemo", "--out", out)
    assert run(capsys, "submit", "--address", HEAD, "--", *words)[0] == 0
    assert cluster.command == ["sersearch", *words]


def test_the_same_command_follows_the_job_that_runs(cluster: Cluster, capsys: Capture) -> None:
    entrypoint = shlex.join(["sersearch", *TUNE])
    cluster.jobs = [
        details("over", entrypoint, JobStatus.FAILED, 2),
        details("other", entrypoint + "1", JobStatus.RUNNING),
        details("same", entrypoint, JobStatus.PENDING),
    ]
    code, out, _ = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert code == 0
    assert len(cluster.jobs) == 3
    assert out.startswith(f"Job same on {HEAD}, which runs already\n{LOG[0]}")


def test_of_a_log_nothing_is_lost_or_told_twice_when_connections_are(
    cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    import aiohttp

    async def cut() -> AsyncIterator[str]:
        yield LOG[0]
        yield LOG[1][:9]
        cluster.away = 3
        raise aiohttp.ServerDisconnectedError

    async def closed() -> AsyncIterator[str]:
        yield "".join(LOG[:2])

    async def hangs() -> AsyncIterator[str]:
        yield "".join(LOG[:3])
        await asyncio.sleep(60)

    monkeypatch.setattr(submission, "QUIET_S", 0.1)
    cluster.streams = [cut, closed, hangs]
    code, out, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert code == 0
    assert out == f"Job job0 on {HEAD}\n" + "".join(LOG) + f"MLflow: {LINK}\n"
    assert err.count("The connection is lost") == 1


def test_a_cluster_that_stays_away_is_a_sentence(
    cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(submission, "PATIENCE_S", 0.1)
    cluster.away = 10**6
    code, _, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert code == 2
    assert f"the cluster at {HEAD} hasn't answered for" in err
    assert "job job0 may be running: the same command follows it again" in err


def test_a_head_that_was_started_anew_has_forgotten_the_job(
    cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(job: str) -> Any:
        raise RuntimeError(f"Request failed with status code 404: Job {job} does not exist.")

    monkeypatch.setattr(cluster, "get_job_info", unknown)
    code, _, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert code == 2
    assert "has no job job0 any more: its head was started anew; the same command begins another job" in err


def test_a_cluster_that_takes_no_job_says_why(
    cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(**how: Any) -> str:
        raise RuntimeError(
            "Request failed with status code 500: Traceback (most recent call last):\nOSError: disk full"
        )

    monkeypatch.setattr(cluster, "submit_job", full)
    code, _, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert (code, err) == (2, "Error: the cluster took no job: OSError: disk full; its dashboard's logs say more\n")


def test_ctrl_c_leaves_the_job_running_and_says_how_to_go_on(
    cluster: Cluster, capsys: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted() -> AsyncIterator[str]:
        yield LOG[1]
        raise KeyboardInterrupt

    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    cluster.streams = [interrupted]
    code, out, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert code == 130
    assert cluster.jobs[0].status == JobStatus.RUNNING
    assert out.endswith(f"MLflow: {LINK}\n")
    assert "Interrupted. Job job0 goes on: the same command follows it again, " in err
    assert f"`RAY_AUTH_MODE=token ray job stop --address {HEAD} job0` ends it" in err


@pytest.mark.parametrize(
    ("end", "code", "said"),
    [
        ({"status": JobStatus.FAILED, "code": 2}, 2, ""),
        ({"status": JobStatus.FAILED, "code": 130}, 130, ""),
        ({"status": JobStatus.FAILED, "code": 127}, 127, "has no sersearch in its PATH"),
        ({"status": JobStatus.FAILED, "code": -9}, 137, "was ended by signal 9; the same command goes on"),
        ({"status": JobStatus.FAILED, "message": "its node was lost\x1b[2J"}, 1, "failed: its node was lost\\x1b[2J"),
        ({"status": JobStatus.STOPPED}, 130, "was stopped; the same command goes on"),
    ],
)
def test_the_job_s_end_is_the_command_s(
    cluster: Cluster, capsys: Capture, end: dict[str, Any], code: int, said: str
) -> None:
    cluster.end = end
    found, _, err = run(capsys, "submit", "--address", HEAD, "--", *TUNE)
    assert found == code
    assert said in err


@pytest.fixture
def answering() -> Iterator[Callable[[int, str], str]]:
    """Web servers that answer all requests alike; each one's address."""
    servers: list[ThreadingHTTPServer] = []

    def start(status: int, text: str) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(status)
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: Any) -> None:
                """In no test's output."""

        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), Answer))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{servers[-1].server_port}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def refused(tmp_path: Path, address: str, **environment: str) -> str:
    """What `sersearch submit` says at `address`, for which it must not need long."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        [sys.executable, "-m", "sersearch", "submit", "--address", address, "--", "spaces"],
        env={**clean, "HOME": str(tmp_path), **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert environment.get("RAY_AUTH_TOKEN", "no token") not in done.stderr
    return refusal(done)


TOKEN = "0123456789abcdef" * 4


@pytest.mark.parametrize("address", ["head:8265", "ray://head:10001", "http://", "http://ann:hush-hush@head:8265"])
def test_an_address_is_that_of_a_dashboard(tmp_path: Path, address: str) -> None:
    said = refused(tmp_path, address)
    assert "expected the URL of the cluster's dashboard, such as http://head:8265" in said
    assert "hush-hush" not in said


def test_no_cluster_and_no_dashboard(tmp_path: Path) -> None:
    # RAY_ADDRESS isn't what was asked for, and Ray would take it.
    said = refused(tmp_path, "http://127.0.0.1:1", RAY_AUTH_TOKEN=TOKEN, RAY_ADDRESS="http://127.0.0.1:2")
    assert said.startswith("Error: --address http://127.0.0.1:1: no job server of Ray answers there")
    assert "ray[default]" in said


def test_a_token_that_is_missing_or_wrong(tmp_path: Path, answering: Callable[[int, str], str]) -> None:
    for environment in ({}, {"RAY_AUTH_TOKEN": TOKEN}):
        said = refused(tmp_path, answering(403, "Forbidden: Invalid authentication token"), **environment)
        assert "the cluster doesn't let this machine in, which has another token or none" in said
        assert "RAY_AUTH_TOKEN" in said


@pytest.mark.parametrize(
    ("status", "text"),
    [(404, "?"), (200, "<html>"), (200, json.dumps({})), (200, "[]"), (502, "no"), (200, '{"ray_version": "1"}')],
)
def test_another_server_isn_t_a_cluster(
    tmp_path: Path, answering: Callable[[int, str], str], status: int, text: str
) -> None:
    said = refused(tmp_path, answering(status, text), RAY_AUTH_TOKEN=TOKEN)
    assert "what answers there isn't the job server of a Ray cluster" in said
