"""MLflow servers, PostgreSQL and an object store, started, stopped, killed and frozen by tests."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import pytest

SECONDS = 120
"""For a server to start, on a busy machine."""


def free_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


class Server:
    """`mlflow server` on one port, whose runs lie in `backend`, and whose artifacts in `folder` or in a store."""

    def __init__(
        self,
        backend: str,
        folder: Path,
        artifacts: str | None = None,
        host: str = "127.0.0.1",
        env: Mapping[str, str] = {},
    ) -> None:
        """`artifacts` is their URL in a store that `env` has the credentials of; `host` the address to listen on."""
        self.port = free_port()
        self.uri = f"http://{host}:{self.port}"
        self.artifacts = folder / "artifacts"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", host, "--port", str(self.port), "--workers", "1"),
            *("--backend-store-uri", backend, "--artifacts-destination", artifacts or str(self.artifacts)),
            *("--allowed-hosts", f"{host}:{self.port}", "--cors-allowed-origins", self.uri),
        ]
        self._log, self._env = folder / "server.log", env
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Server:
        """Return when it answers."""
        self.begin_to_start()
        until = time.monotonic() + SECONDS
        while not self.answers():
            assert self._process is not None
            assert self._process.poll() is None, self._log.read_text()
            assert time.monotonic() < until, self._log.read_text()
            time.sleep(0.1)
        return self

    def begin_to_start(self) -> None:
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env={**os.environ, **settings, **self._env},
                start_new_session=True,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self.uri}/health", timeout=2) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """End the server and its workers."""
        if self._process is not None:
            self.signal(signal.SIGCONT)
            self.signal(how)
            self._process.wait(SECONDS)
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server and its workers."""
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, number)


class Postgres:
    """A PostgreSQL cluster of its own on a loopback port; run as an unprivileged user, as it refuses to be root's."""

    def __init__(self) -> None:
        if find_spec("psycopg") is None:
            pytest.skip("no psycopg; pip install 'sersearch[postgres]'")
        paths = {name: _binary(name) for name in ("initdb", "pg_ctl", "createdb")}
        if missing := [name for name, path in paths.items() if path is None]:
            pytest.skip(f"no {', '.join(missing)} of PostgreSQL in PATH or /usr/lib/postgresql; install postgresql")
        self._paths = paths
        self.folder = Path(tempfile.mkdtemp(prefix="postgres-"))
        self._user = "nobody" if os.geteuid() == 0 else None
        if self._user is not None:
            shutil.chown(self.folder, self._user)
        self.port = free_port()
        self.uri = f"postgresql://tester@127.0.0.1:{self.port}/runs"
        self._do("initdb", "--auth=trust", "--username=tester", "--no-sync", "--locale=C", "--encoding=UTF8")

    def control(self, action: str, *options: str) -> None:
        """`pg_ctl`: start, or stop and restart with `-m`, waiting until it's done."""
        settings = f"-p {self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories= -c fsync=off"
        if action in ("start", "restart"):
            options = (*options, "-o", settings)
        self._do("pg_ctl", action, "-w", "-t", str(SECONDS), "-l", str(self.folder / "log"), *options)

    def create(self) -> None:
        """Make the database of :attr:`uri`."""
        address = ["--host", "127.0.0.1", "--port", str(self.port), "--username", "tester"]
        subprocess.run([str(self._paths["createdb"]), *address, "runs"], check=True)

    def remove(self) -> None:
        """Stop it, and leave nothing."""
        self.control("stop", "-m", "immediate")
        shutil.rmtree(self.folder)

    def _do(self, name: str, *arguments: str) -> None:
        command = [str(self._paths[name]), "--pgdata", str(self.folder / "data"), *arguments]
        # Not through pipes, which the server that pg_ctl starts would hold open.
        with (self.folder / "control.log").open("ab") as log:
            subprocess.run(
                command, user=self._user, cwd=self.folder, stdout=log, stderr=log, stdin=subprocess.DEVNULL, check=True
            )


def _binary(name: str) -> Path | None:
    there = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    path = shutil.which(name)
    return Path(path) if path else (there[-1] if there else None)


class Store:
    """moto's S3 with an empty bucket, a process on a port of one interface. What it holds ends with it."""

    def __init__(self, log: Path, port: int | None = None, host: str = "127.0.0.1") -> None:
        self.port, self._host = port or free_port(), host
        self.env = {
            "AWS_ACCESS_KEY_ID": "tester",
            "AWS_SECRET_ACCESS_KEY": "tester-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": f"http://{host}:{self.port}",
            # What the store's package tries again, and for how long it waits: an outage is to be noticed in a test.
            "AWS_MAX_ATTEMPTS": "2",
        }
        command = [sys.executable, "-m", "moto.server", "-H", host, "-p", str(self.port)]
        with log.open("ab") as output:
            self.process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 60
        while not self._answers():
            assert time.monotonic() < deadline, log.read_text()
            time.sleep(0.1)
        self.ask("fs.mkdir('bucket')")

    def _answers(self) -> bool:
        with socket.socket() as tried:
            return tried.connect_ex((self._host, self.port)) == 0

    def ask(self, code: str) -> str:
        """What Python `code` prints that has the bucket's file system as `fs`: in a process with the credentials."""
        done = subprocess.run(
            [sys.executable, "-c", f"import s3fs; fs = s3fs.S3FileSystem(); {code}"],
            env={**os.environ, **self.env},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
