"""MLflow servers and PostgreSQL, started, stopped, killed and frozen by tests."""

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
    """`mlflow server` on one port, whose runs lie in `backend` and whose artifacts lie in `folder`."""

    def __init__(self, backend: str, folder: Path) -> None:
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.artifacts = folder / "artifacts"
        self._command = [
            *(sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.port)),
            *("--workers", "1", "--backend-store-uri", backend, "--artifacts-destination", str(self.artifacts)),
        ]
        self._log = folder / "server.log"
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
                self._command, env=os.environ | settings, start_new_session=True, stdout=log, stderr=subprocess.STDOUT
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
