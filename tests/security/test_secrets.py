"""Passwords and keys of the environment and of the tracking URI stand in nothing that a search leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.synthetic import make_table, write_table
from tests.tuning.test_run import SPACE

SECRETS = {
    "MLFLOW_TRACKING_USERNAME": "ann-of-the-lab",
    "MLFLOW_TRACKING_PASSWORD": "open-sesame-51f0",
    "MLFLOW_TRACKING_TOKEN": "token-7c2ab-of-mlflow",
    "AWS_ACCESS_KEY_ID": "AKIAQ7Z3EXAMPLE51",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI+K7MDENG",
    "HF_TOKEN": "hf_qqqqq0123456789",
}
USER, PASSWORD = "bob-of-the-lab", "p4ss%2Fw0rd-93be"  # with a slash, as a URI writes it
HIDDEN = [*SECRETS.values(), USER, PASSWORD, "p4ss/w0rd-93be"]


class Away(BaseHTTPRequestHandler):
    """An MLflow server that answers when it is asked for experiments, and fails at all else."""

    seen: list[str]

    def do_GET(self) -> None:
        self.seen.append(self.headers.get("Authorization", ""))
        known = self.path.startswith("/api/2.0/mlflow/experiments/search")
        self.send_response(200 if known else 503)
        self.send_header("Content-Type", "application/json")
        self.end_headers()
        self.wfile.write(b"{}")

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), type("Own", (Away,), {"seen": []})) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield httpd
        httpd.shutdown()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    write_table(tmp_path / "data", make_table())
    (tmp_path / "small.yaml").write_text(SPACE)
    return tmp_path


@pytest.fixture
def ray() -> Iterator[Path]:
    """A folder for Ray's own files, whose sockets want a short name."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def run(work: Path, ray: Path, *args: str) -> str:
    """`sersearch ARGS` in `work` with the secrets in its environment; what it printed."""
    done = subprocess.run(
        [sys.executable, "-m", "sersearch", *args],
        cwd=work,
        env={**os.environ, **SECRETS, "RAY_TMPDIR": str(ray)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def search(work: Path, ray: Path, *args: str) -> str:
    """A search of two trials, its report, its test result and its model."""
    options = ["--space", "small.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "s0", "--name", "one"]
    options += ["--method", "random", "--trials", "2", "--epochs", "2", "--set", "learning_rate=0.03"]
    printed = run(work, ray, "tune", *options, "--concurrency", "1", *args)
    for command in (["report", "one"], ["evaluate", "one"], ["export", "one", "--out", "model"]):
        printed += run(work, ray, *command)
    return printed


def leaks(*folders: Path) -> list[str]:
    """Where a secret stands, in a file's name or in its bytes."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        held = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        found += [f"{path}: {secret}" for secret in HIDDEN if secret in str(path) or secret.encode() in held]
    return found


@pytest.mark.slow
def test_secrets_of_the_environment_are_written_nowhere(work: Path, ray: Path) -> None:
    (work / "small.yaml").write_text(SPACE.replace("  learning_rate: {choices: [0.03, 0.1, 1.0e+30]}\n", ""))
    printed = search(work, ray)
    assert leaks(work, ray) == []
    assert not [secret for secret in HIDDEN if secret in printed]
    made = {path.relative_to(work).as_posix() for path in work.rglob("*")}
    expected = {"mlflow.db", "studies/one/trials.jsonl", "studies/one/report/index.html", "model/bundle.json"}
    assert made >= {*expected, "studies/one/study.json", "studies/one/evaluation/test.json"}


@pytest.mark.slow
def test_the_password_of_a_tracking_server_is_sent_to_it_and_written_nowhere(
    work: Path, ray: Path, server: ThreadingHTTPServer
) -> None:
    (work / "small.yaml").write_text(SPACE.replace("  learning_rate: {choices: [0.03, 0.1, 1.0e+30]}\n", ""))
    place = f"127.0.0.1:{server.server_address[1]}"
    printed = search(work, ray, "--tracking-uri", f"http://{USER}:{PASSWORD}@{place}")
    assert any(seen.startswith("Basic ") for seen in server.RequestHandlerClass.seen), "it was asked, with a password"
    assert leaks(work, ray) == []
    assert not [secret for secret in HIDDEN if secret in printed]
    assert json.loads((work / "studies/one/study.json").read_text())["tracking"]["uri"] == f"http://***@{place}"
    spool = (work / "studies/one/mlflow_spool.jsonl").read_text()
    assert "trial_end" in spool, "what waits to be sent is looked at, too"
