"""A study in a storage that nodes share: another machine goes on with it, and one at a time."""

from __future__ import annotations

import json
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from sersearch.data.place import place
from sersearch.errors import StudyError
from sersearch.study import Study
from sersearch.tuning import storage as module
from sersearch.tuning.storage import Storage, fetch, local_copies, relative, remove

BEAT_S = 0.05


@pytest.fixture(params=["folder", "file", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage that nodes share: a folder of a network file system, or what fsspec knows."""
    folder = str(tmp_path / "shared")
    return {"folder": folder, "file": f"file://{folder}", "memory": f"memory://{uuid.uuid4().hex}"}[request.param]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "BEAT_S", BEAT_S)


def begun(root: Path, shared: str, name: str = "one") -> Study:
    study = Study.create(name, {"state": "running", "storage": shared}, root)
    for file in ("space.yaml", "split.json", "context.json"):
        (study.folder / file).write_text(f"{file} of {name}")
    return study


def told(study: Study, storage: Storage, event: str, trial: int, **fields: Any) -> None:
    """An event as the journal records it."""
    number = len(list(study.events()))
    storage.add(study.append(event, trial, **fields), number)


def epoch(study: Study, storage: Storage, number: int, **fields: Any) -> None:
    plain = {"metrics": {"dev_ua": number / 10}, "best": True, "seconds": 1.0, "checkpoint": f"c{number}"}
    told(study, storage, "epoch", 0, epoch=number, value=number / 10, **{**plain, **fields})


def started(root: Path, shared: str) -> tuple[Study, Storage]:
    """A study in the storage, of which a trial has begun."""
    study = begun(root, shared)
    storage = Storage(study)
    storage.publish()
    told(study, storage, "start", 0, params={}, searched={})
    return study, storage


def same(one: Study, other: Study) -> None:
    def plain(study: Study) -> list[Any]:
        return [(t.number, t.state, t.reason, t.epochs, t.searched) for t in study.trials()]

    assert plain(one) == plain(other)
    assert one.meta == other.meta
    for file in ("space.yaml", "split.json", "context.json"):
        assert (one.folder / file).read_text() == (other.folder / file).read_text()


def test_another_machine_gets_every_event_that_the_journal_got(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path / "here", shared)
    storage = Storage(study)
    storage.publish()
    told(study, storage, "start", 0, params={}, searched={"alpha": 0.1})
    for number in range(1, 13):
        epoch(study, storage, number)
    fetch("one", shared, tmp_path / "there")
    there = Study.open("one", tmp_path / "there")
    same(there, study)
    assert [e["epoch"] for e in there.trial(0).epochs] == list(range(1, 13))
    assert there.home == study.home


def test_a_second_driver_goes_on_where_the_first_died_and_a_third_after_it(tmp_path: Path, shared: str) -> None:
    study, storage = started(tmp_path / "a", shared)
    epoch(study, storage, 1)
    for root, number in (("b", 2), ("c", 3)):
        fetch("one", shared, tmp_path / root)
        study = Study.open("one", tmp_path / root)
        storage = Storage(study)
        storage.publish()
        told(study, storage, "start", 0, params={}, searched={})
        epoch(study, storage, number)
    told(study, storage, "end", 0, state="complete", reason="all epochs done")
    study.write_meta(state="finished")
    storage.publish()
    fetch("one", shared, tmp_path / "d")
    last = Study.open("one", tmp_path / "d")
    same(last, study)
    assert [e["epoch"] for e in last.trial(0).epochs] == [1, 2, 3]
    assert (last.meta["state"], last.trial(0).state) == ("finished", "complete")


def test_checkpoints_in_the_storage_are_found_from_everywhere(tmp_path: Path, shared: str) -> None:
    study, storage = started(tmp_path / "here", shared)
    for number in (1, 2):
        module._write(study.home / f"ray/c{number}" / "state.json", b"{}")
        epoch(study, storage, number, checkpoint=f"ray/c{number}")
    fetch("one", shared, tmp_path / "there")
    (trial,) = Study.open("one", tmp_path / "there").trials()
    assert [path.name for path in trial.checkpoints()] == ["c2", "c1"]
    (last, before) = trial.checkpoints()
    remove(last)
    assert list(study.trial(0).checkpoints()) == [before]
    remove(last)


def test_a_study_that_is_here_is_not_fetched_over(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path / "here", shared)
    Storage(study).publish()
    study.append("start", 0, params={}, searched={})
    fetch("one", shared, tmp_path / "here")
    assert len(Study.open("one", tmp_path / "here").trials()) == 1


def test_a_study_that_is_nowhere(tmp_path: Path, shared: str) -> None:
    assert not fetch("two", shared, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_study_begun_anew_under_its_old_name_has_nothing_of_the_old_one(tmp_path: Path, shared: str) -> None:
    old = begun(tmp_path / "studies", shared)
    storage = Storage(old)
    told(old, storage, "start", 0, params={}, searched={"alpha": 0.1})
    storage.publish()
    old.folder.rename(tmp_path / "studies" / "one-until-20260101")
    new = begun(tmp_path / "studies", shared)
    storage = Storage(new)
    storage.publish()
    told(new, storage, "start", 0, params={}, searched={"alpha": 0.9})
    fetch("one", shared, tmp_path / "there")
    assert [t.searched for t in Study.open("one", tmp_path / "there").trials()] == [{"alpha": 0.9}]


def test_names_and_copies_of_what_tune_wrote(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path / "here", shared)
    module._write(study.home / "ray/run-1/trial-0000/model.safetensors", b"weights")
    arguments = module.tune_storage(study.home)
    tunes = f"{arguments['storage_path']}/run-1/trial-0000"
    assert relative(study.home, tunes) == "ray/run-1/trial-0000", "as the journal has it"
    if "storage_filesystem" in arguments:
        with arguments["storage_filesystem"].open_input_stream(f"{tunes}/model.safetensors") as file:
            assert file.read() == b"weights"
    (copy,) = local_copies([study.home / "ray/run-1/trial-0000/model.safetensors"], tmp_path / "copies")
    assert isinstance(copy, Path)
    assert copy.read_bytes() == b"weights"


# --- one driver at a time ---------------------------------------------------------------------------------------------


def driver(study: Study) -> dict[str, Any]:
    path = study.home / "driver.json"
    told: dict[str, Any] = json.loads(path.read_bytes()) if path.is_file() else {}
    return told


def ignore(reason: str) -> None:
    raise AssertionError(reason)


@pytest.mark.usefixtures("quick")
def test_a_second_driver_is_refused_while_the_first_lives(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path / "here", shared)
    fetched, waits = begun(tmp_path / "there", shared), list[str]()
    with Storage(study).driven(ignore, ignore):
        pid = driver(study)["pid"]
        with (
            pytest.raises(StudyError, match=rf"study one is being run by process {pid} on .*; wait for it or end it"),
            Storage(fetched).driven(ignore, waits.append),
        ):
            pass
        assert len(waits) == 1
        assert waits[0].startswith(f"process {pid} on ")
        assert driver(study), "who was refused leaves the first one's sign alone"
    assert driver(study) == {}
    with Storage(fetched).driven(ignore, ignore):  # there is none, so nobody waits
        assert driver(study)


@pytest.mark.usefixtures("quick")
def test_a_driver_shows_that_it_lives(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path, shared)
    with Storage(study).driven(ignore, ignore):
        first = driver(study)["beats"]
        until(lambda: driver(study).get("beats", 0) > first + 2)


@pytest.mark.usefixtures("quick")
def test_a_dead_driver_is_taken_over_after_a_while(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path, shared)
    module._write(study.home / "driver.json", b'{"driver": "dead", "host": "other", "pid": 1, "beats": 7}')
    began, waits = time.monotonic(), list[str]()
    with Storage(study).driven(ignore, waits.append):
        assert waits == ["process 1 on other ran this study: up to 0 s to see whether it still does"]
        assert time.monotonic() - began >= module.MISSED * BEAT_S
        assert driver(study)["driver"] != "dead"


@pytest.mark.usefixtures("quick")
def test_a_driver_that_lost_its_place_is_told_and_leaves_the_other_s_sign(tmp_path: Path, shared: str) -> None:
    study, told, lost = begun(tmp_path, shared), [], threading.Event()

    def on_lost(reason: str) -> None:
        told.append(reason)
        lost.set()

    other = {"driver": "other", "host": "elsewhere", "pid": 42, "beats": 1}
    with Storage(study).driven(on_lost, ignore):
        module._write(study.home / "driver.json", json.dumps(other).encode())
        assert lost.wait(30)
        time.sleep(3 * BEAT_S)
        assert told == ["process 42 on elsewhere has taken it over"], "once"
        assert driver(study) == other
    assert driver(study) == other


@pytest.mark.usefixtures("quick")
def test_a_damaged_sign_is_nobody_s(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path, shared)
    module._write(study.home / "driver.json", b"{")
    with Storage(study).driven(ignore, ignore):
        assert driver(study)["beats"] >= 0


def until(holds: Any) -> None:
    deadline = time.monotonic() + 30
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_what_is_not_there_is_no_error_to_remove(shared: str) -> None:
    remove(place(shared) / "nothing")


def test_a_machine_whose_copy_is_old_takes_over_what_is_newer(tmp_path: Path, shared: str) -> None:
    """It was refused once, when it had fetched the study already; what the other did since isn't overwritten."""
    first, storage = started(tmp_path / "here", shared)
    epoch(first, storage, 1)
    assert fetch("one", shared, tmp_path / "there")
    for number in (2, 3):
        epoch(first, storage, number)
    second = Study.open("one", tmp_path / "there")
    assert len(second.trial(0).epochs) == 1
    Storage(second).catch_up()
    same(second, first)
    Storage(second).publish()
    Storage(first).catch_up()
    assert len(first.trial(0).epochs) == 3


def test_copies_that_went_different_ways_are_not_mixed(tmp_path: Path, shared: str) -> None:
    first = begun(tmp_path / "here", shared)
    Storage(first).publish()
    assert fetch("one", shared, tmp_path / "there")
    second = Study.open("one", tmp_path / "there")
    told(first, Storage(first), "start", 0, params={}, searched={})
    second.append("start", 1, params={}, searched={})
    with pytest.raises(StudyError, match="have gone different ways; move one of them away"):
        Storage(second).catch_up()


def test_events_keep_their_order_when_the_clock_is_set(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    study, storage = started(tmp_path / "here", shared)
    for number, hours in enumerate((0, -1, 48, 0), start=1):
        monkeypatch.setattr(time, "time_ns", lambda hours=hours: 10**18 + hours * 3600 * 10**9)
        epoch(study, storage, number)
    assert fetch("one", shared, tmp_path / "there")
    same(Study.open("one", tmp_path / "there"), study)


def test_a_driver_that_has_lost_the_study_writes_nothing_more_there(tmp_path: Path, shared: str, quick: None) -> None:
    old = begun(tmp_path / "here", shared)
    storage, lost = Storage(old), []
    with storage.driven(lost.append, ignore):
        storage.publish()
        told(old, storage, "start", 0, params={}, searched={})
        path = old.home / "driver.json"
        path.write_text('{"driver": "another", "host": "b", "pid": 7, "beats": 1}')
        until = time.monotonic() + 10
        while not lost:
            assert time.monotonic() < until
            time.sleep(0.01)
        told(old, storage, "end", 0, state="interrupted", reason="lost")
        storage.publish()
    assert fetch("one", shared, tmp_path / "there")
    assert Study.open("one", tmp_path / "there").trial(0).state == "running", "as the other driver has it"
    assert "process 7 on b has taken it over" in lost[0]
