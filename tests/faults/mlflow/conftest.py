"""MLflow's tables made once, and servers that are ended with their test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sersearch.tracking import tracker as module
from sersearch.tracking.store import Store
from tests.faults.mlflow.streams import for_others, undisturbed
from tests.services import Server


@pytest.fixture(scope="session")
def tables(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with MLflow's tables, which take seconds to make."""
    from mlflow.tracking.client import MlflowClient

    path = tmp_path_factory.mktemp("tables") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture(scope="session")
def reference(tables: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[Any, Any]:
    """What MLflow has of a study that nothing disturbed."""
    folder = tmp_path_factory.mktemp("reference")
    shutil.copy(tables, folder / "mlflow.db")
    return undisturbed(folder, f"sqlite:///{folder / 'mlflow.db'}")


@pytest.fixture
def local(tables: Path, tmp_path: Path) -> str:
    """The URI of a SQLite file of its own."""
    path = tmp_path / "local" / "mlflow.db"
    path.parent.mkdir()
    shutil.copy(tables, path)
    return f"sqlite:///{path}"


@pytest.fixture
def server(tables: Path, tmp_path: Path) -> Iterator[Server]:
    """A server on a SQLite file of its own, not yet started."""
    folder = tmp_path / "server"
    folder.mkdir()
    shutil.copy(tables, folder / "mlflow.db")
    made = Server(f"sqlite:///{folder / 'mlflow.db'}", folder)
    yield made
    made.stop()


@pytest.fixture(autouse=True)
def who_tells_waits_for_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of MLflow and the disk, only the tracker's thread has to wait."""
    for owner, name in ((Store, "send"), (os, "fsync")):
        monkeypatch.setattr(owner, name, for_others(getattr(owner, name)))


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trackers that wait a hundredth of what they do, so that a minute without a server passes at once."""
    monkeypatch.setattr(module, "_FIRST_WAIT", 0.01)
    monkeypatch.setattr(module, "_LONGEST_WAIT", 0.6)
