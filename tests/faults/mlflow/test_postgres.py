"""An MLflow server whose PostgreSQL is restarted, or away for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.mlflow.streams import Teller, begin, calls, runs, sent, study, until
from tests.services import Postgres, Server

# MLflow's own use of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.fixture(scope="module")
def postgres() -> Iterator[Postgres]:
    made = Postgres()
    try:
        made.control("start")
        made.create()
        yield made
    finally:
        made.remove()


@pytest.fixture(scope="module")
def server(postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    made = Server(postgres.uri, tmp_path_factory.mktemp("server")).start()
    yield made
    made.stop()


@pytest.mark.usefixtures("impatient")
def test_a_database_that_crashes_again_and_again(
    server: Server, postgres: Postgres, reference: dict[Any, Any], tmp_path: Path
) -> None:
    of = study(tmp_path, "crashes")
    subject = begin(of, server.uri)
    teller, told = Teller(of, subject, pause=0.02), calls(of)
    for _ in range(6):
        teller.tell(told, most=9)
        postgres.control("restart", "-m", "immediate")
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert not any("MLflow refused" in warning for warning in subject.warnings), subject.warnings
    assert runs(server.uri, "crashes") == reference


@pytest.mark.usefixtures("impatient")
def test_a_database_that_is_away_for_a_while(
    server: Server, postgres: Postgres, reference: dict[Any, Any], tmp_path: Path
) -> None:
    of = study(tmp_path, "away")
    subject = begin(of, server.uri)
    teller, told = Teller(of, subject, pause=0.02), calls(of)
    teller.tell(told, most=20)
    postgres.control("stop", "-m", "immediate")
    teller.tell(told, most=20)
    until(subject, lambda: len(subject.warnings) > 0)
    time.sleep(5)
    postgres.control("start")
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert len(subject.warnings) == 1
    assert "is away" in subject.warnings[0]
    assert runs(server.uri, "away") == reference


@pytest.mark.usefixtures("impatient")
def test_runs_in_a_database_without_a_server(
    postgres: Postgres, reference: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # where MLflow puts artifacts then
    of = study(tmp_path, "direct", space={"name": "direct"})
    subject = begin(of, postgres.uri)
    teller, told = Teller(of, subject, pause=0.02), calls(of)
    teller.tell(told, most=30)
    postgres.control("restart", "-m", "immediate")
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert not any("MLflow refused" in warning for warning in subject.warnings), subject.warnings
    assert runs(postgres.uri, "direct", "direct") == reference
