"""Whole searches that log to a server: what it lacks, and what the search's own table does, is lost."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.matrix import Search, assert_nothing_lost
from tests.faults.mlflow.streams import runs
from tests.services import Postgres, Server

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
]

AWAY_S = 60


def assert_all_sent(uri: str, study: Study) -> None:
    """Each trial has its run, which has ended, and each of its epochs once."""
    found = runs(uri, study.name, "small")
    assert found.keys() == {None, *(trial.number for trial in study.trials())}
    for trial in study.trials():
        run = found[trial.number]
        assert run["tags"]["state"] == trial.state
        assert run["status"] == {"complete": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}[trial.state]
        told = [(step, value) for step, value, _ in run["metrics"].get("dev_ua", [])]
        assert told == [(epoch["epoch"], pytest.approx(epoch["metrics"]["dev_ua"])) for epoch in trial.epochs]
    assert found[None]["status"] == "FINISHED"


def ended(running: Search, work: Path) -> None:
    """Wait for the end; where the search was over before the server was back, the next command sends what is left."""
    if "events wait in" in running.end():
        Search.again(work, running.folder.name).end()


def test_server_away_for_a_minute(work: Path, whole: Study, server: Server) -> None:
    running = Search.new(work, "away", "--tracking-uri", server.start().uri)
    running.until(2)
    server.stop(signal.SIGKILL)
    began = time.monotonic()
    running.until(6)
    time.sleep(max(0.0, AWAY_S - (time.monotonic() - began)))
    server.start()
    seconds = time.monotonic() - began - AWAY_S
    ended(running, work)
    assert_all_sent(server.uri, running.study)
    assert_nothing_lost(f"MLflow server away for {AWAY_S} s", 1, whole, running.study, seconds)


def test_server_restarted(work: Path, whole: Study, server: Server) -> None:
    running, seconds = Search.new(work, "restarted", "--tracking-uri", server.start().uri), []
    for epochs in (2, 14):
        running.until(epochs)
        server.stop(signal.SIGKILL)
        began = time.monotonic()
        server.start()
        seconds.append(time.monotonic() - began)
    ended(running, work)
    assert_all_sent(server.uri, running.study)
    assert_nothing_lost("MLflow server restarted", 2, whole, running.study, sum(seconds) / 2)


def test_server_never_back(work: Path, whole: Study, server: Server) -> None:
    """The search ends without it; a day later, another command sends all."""
    running = Search.new(work, "never", "--tracking-uri", server.start().uri)
    running.until(2)
    server.stop(signal.SIGKILL)
    told = running.end()
    assert "MLflow events wait in" in told
    assert running.study.meta["state"] == "finished"
    server.start()
    began = time.monotonic()
    Search.again(work, "never").end()
    assert_all_sent(server.uri, running.study)
    assert_nothing_lost("MLflow server never back in the search", 1, whole, running.study, time.monotonic() - began)


@pytest.fixture
def database() -> Iterator[Postgres]:
    made = Postgres()
    try:
        made.control("start")
        made.create()
        yield made
    finally:
        made.remove()


def test_postgresql_restarted(work: Path, whole: Study, database: Postgres, tmp_path: Path) -> None:
    server = Server(database.uri, tmp_path).start()
    try:
        running, seconds = Search.new(work, "postgres", "--tracking-uri", server.uri), []
        for epochs in (2, 10, 20):
            running.until(epochs)
            began = time.monotonic()
            database.control("restart", "-m", "immediate")
            seconds.append(time.monotonic() - began)
        ended(running, work)
        assert_all_sent(server.uri, running.study)
    finally:
        server.stop()
    assert_nothing_lost("MLflow's PostgreSQL restarted", 3, whole, running.study, sum(seconds) / 3)
