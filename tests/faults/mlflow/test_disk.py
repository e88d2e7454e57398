"""The spool on a disk that is full, or has no room for more, and what it holds then."""

from __future__ import annotations

import os
import resource
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from sersearch.tracking import Tracker
from sersearch.tracking.spool import Spool
from tests.faults.mlflow.streams import Teller, calls, runs, sent, study
from tests.services import Server

# MLflow's own use of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@contextmanager
def no_file_beyond(size: int) -> Iterator[None]:
    """Files cannot grow beyond `size` bytes: a write goes as far as there is room, and the next one fails."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def fill(path: Path) -> None:
    """Leave no byte on the disk that `path` is on."""
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(b"0" * 1000)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a tmpfs needs to be root and CAP_SYS_ADMIN")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def numbers(events: list[dict[str, Any]]) -> list[int]:
    return [event["number"] for event in events]


def event(number: int) -> dict[str, Any]:
    return {"event": "epoch", "number": number, "text": "x" * 50}


def test_a_line_that_does_not_fit_is_written_whole_once_there_is_room(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.start([event(0), event(1)])
    with no_file_beyond(spool.path.stat().st_size + 120):  # room for one event and a half
        for number in (2, 3, 4):
            spool.add(event(number))
        assert spool.disk_error is not None
        assert spool.path.stat().st_size == 300 or spool.path.read_bytes()[-1:] != b"}"
        assert numbers(Spool(spool.path).load()) == [0, 1, 2]
        assert numbers(spool.first(9)) == [0, 1, 2, 3, 4]
        spool.remove(1)
    spool.add(event(5))
    assert spool.disk_error is None
    assert numbers(Spool(spool.path).load()) == [0, 1, 2, 3, 4, 5]
    spool.remove(5)
    assert not spool.path.exists()


def test_beginning_on_a_full_disk_loses_nothing_that_is_there(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.start([event(0), event(1)])
    spool.close()
    again = Spool(spool.path)
    left = again.load()
    with no_file_beyond(100):
        again.start([*left, event(2)])
        assert numbers(again.first(9)) == [0, 1, 2]
        assert numbers(Spool(spool.path).load()) == [0, 1]
    assert [path.name for path in tmp_path.iterdir()] == ["spool.jsonl"]
    again.add(event(3))
    assert numbers(Spool(spool.path).load())[-4:] == [0, 1, 2, 3]
    again.close()


def test_a_steady_stream_does_not_fill_the_disk(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool.jsonl")
    spool.start([event(0)])
    largest = 0
    for number in range(1, 20_000):
        spool.add(event(number))
        spool.remove(1)
        largest = max(largest, spool.path.stat().st_size) if number % 100 == 0 else largest
    assert largest < 1100 * len(str(event(19_999)))
    assert numbers(Spool(spool.path).load())[-1] == 19_999
    spool.remove(1)
    assert not spool.path.exists()


@pytest.mark.usefixtures("impatient")
def test_a_full_disk_costs_no_event(
    small_disk: Path, server: Server, reference: dict[Any, Any], tmp_path: Path
) -> None:
    of = study(tmp_path)
    spool, filler = small_disk / "mlflow_spool.jsonl", small_disk / "filler"
    for name in ("study.json", "trials.jsonl"):  # only the spool is on the disk that is full
        (small_disk / name).symlink_to(of.folder / name)
    subject = Tracker(server.uri, "space", of.name, spool)
    subject.begin(of.meta, [of.folder / "space.yaml"])
    teller, told = Teller(of, subject), calls(of)
    teller.tell(told, most=15)
    fill(filler)
    teller.tell(told, most=30)
    there = Spool(spool).load()
    assert there == subject._spool.first(len(there))
    assert len(there) < len(subject._spool)
    assert [warning for warning in subject.warnings if "cannot be written" in warning] == [
        f"{spool} cannot be written; MLflow events stay in memory: [Errno 28] No space left on device"
    ]
    filler.unlink()
    teller.tell(told)
    assert Spool(spool).load() == subject._spool.first(10**6)
    server.start()
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert not spool.exists()
    assert runs(server.uri) == reference
