"""A study in a storage that nodes share: another machine goes on with it, and one at a time."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import s3fs
from botocore.exceptions import EndpointConnectionError
from moto.server import ThreadedMotoServer

from sersearch.data.place import place
from sersearch.errors import ConfigError, StudyError
from sersearch.study import Study
from sersearch.tuning import storage as module
from sersearch.tuning.journal import Journal
from sersearch.tuning.leaving import Leaving
from sersearch.tuning.reaper import INTERRUPTED, interrupt
from sersearch.tuning.storage import Storage, fetch, local_copies, relative, remove

BEAT_S = 0.05


@pytest.fixture(params=["folder", "file", "memory"])
def shared(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A storage that nodes share: a folder of a network file system, or what fsspec knows."""
    folder = str(tmp_path / "shared")
    return {"folder": folder, "file": f"file://{folder}", "memory": f"memory://{uuid.uuid4().hex}"}[request.param]


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """An empty bucket of an object store, as this process reaches it."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    with pytest.MonkeyPatch.context() as environment:
        for name, value in (("ACCESS_KEY_ID", "x"), ("SECRET_ACCESS_KEY", "y"), ("DEFAULT_REGION", "us-east-1")):
            environment.setenv(f"AWS_{name}", value)
        host, port = server.get_host_and_port()
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        s3fs.S3FileSystem.clear_instance_cache()
        s3fs.S3FileSystem().mkdir("bucket")
        yield "s3://bucket"
        s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


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
    whole = {"event": event, "trial": trial, **fields, "time": time.time()}
    if storage.add(whole, len(list(study.events()))):
        study.append(**whole)


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
def test_a_second_driver_is_refused_while_the_first_lives(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MISSED", 600)  # on a busy machine some beats come late
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

    with Storage(study).driven(on_lost, ignore):
        until(lambda: taken_over(study) and lost.is_set())
        time.sleep(3 * BEAT_S)
        assert told == ["process 7 on b has taken it over"], "once"
        assert driver(study)["driver"] == "another"
    assert driver(study)["driver"] == "another"


@pytest.mark.usefixtures("quick")
def test_a_damaged_sign_is_nobody_s(tmp_path: Path, shared: str) -> None:
    study = begun(tmp_path, shared)
    module._write(study.home / "driver.json", b"{")
    with Storage(study).driven(ignore, ignore):
        assert driver(study)["beats"] >= 0


def taken_over(study: Study) -> bool:
    """Have another driver say that it is the one; again, should the first have said so in between."""
    module._write(study.home / "driver.json", b'{"driver": "another", "host": "b", "pid": 7, "beats": 1}')
    return True


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


def test_a_machine_whose_driver_was_killed_goes_on_after_another_did(tmp_path: Path, shared: str) -> None:
    """It was refused once: what ended its trials there had told nobody."""
    first, storage = started(tmp_path / "here", shared)
    epoch(first, storage, 1)
    interrupt(first, INTERRUPTED)
    assert fetch("one", shared, tmp_path / "there")
    second = Study.open("one", tmp_path / "there")
    storage = Storage(second)
    storage.catch_up()
    storage.publish()
    told(second, storage, "start", 0, params={}, searched={})
    epoch(second, storage, 2)
    Storage(first).catch_up()
    same(first, second)
    assert (first.trial(0).state, len(first.trial(0).epochs)) == ("running", 2)


def test_a_machine_whose_driver_was_killed_goes_on_where_no_other_did(tmp_path: Path, shared: str) -> None:
    study, storage = started(tmp_path / "here", shared)
    interrupt(study, INTERRUPTED)
    storage.catch_up()
    storage.publish()
    assert study.trial(0).state == "interrupted"
    assert fetch("one", shared, tmp_path / "there")
    same(Study.open("one", tmp_path / "there"), study)


def test_copies_that_went_different_ways_are_not_mixed(tmp_path: Path, shared: str) -> None:
    first = begun(tmp_path / "here", shared)
    Storage(first).publish()
    assert fetch("one", shared, tmp_path / "there")
    second = Study.open("one", tmp_path / "there")
    told(first, Storage(first), "start", 0, params={}, searched={})
    second.append("start", 1, params={}, searched={})
    with pytest.raises(StudyError, match="have gone different ways; move one of them away"):
        Storage(second).catch_up()


@pytest.mark.usefixtures("quick")
def test_the_place_of_another_study_of_that_name_is_left_as_it_is(tmp_path: Path, shared: str) -> None:
    """It was taken for this one's, brought by another machine: its search would have been run."""
    other = begun(tmp_path / "other", shared)
    other.write_meta(created="2026-01-01")
    storage = Storage(other)
    storage.publish()
    told(other, storage, "start", 0, params={}, searched={})
    mine = begun(tmp_path / "mine", shared)
    mine.write_meta(created="2026-02-02")
    with pytest.raises(StudyError, match=r"is another study's place.*--name or --storage names another"):
        Storage(mine).catch_up()
    with pytest.raises(StudyError, match="is another study's place"), Storage(mine).driven(ignore, ignore):
        pass
    assert driver(mine) == {}
    assert fetch("one", shared, tmp_path / "there")
    same(Study.open("one", tmp_path / "there"), other)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("written", [["driver.json"], ["driver.json", "space.yaml", ".split.json.12-ab.tmp"]])
def test_a_first_driver_that_was_killed_before_it_had_brought_the_study_is_taken_over(
    tmp_path: Path, shared: str, written: list[str]
) -> None:
    study = begun(tmp_path, shared)
    for name in written:
        module._write(study.home / name, b"{}")
    with Storage(study).driven(ignore, ignore):
        Storage(study).catch_up()


def test_a_storage_under_another_name_is_refused_before_anything_is_brought(tmp_path: Path) -> None:
    """Such as a folder that is mounted elsewhere here: trials look for their checkpoints where the study says."""
    Storage(begun(tmp_path / "here", str(tmp_path / "shared"))).publish()
    (tmp_path / "shared").rename(tmp_path / "mounted")
    with pytest.raises(ConfigError, match=r"study one was begun with .*/shared; its checkpoints are found"):
        fetch("one", str(tmp_path / "mounted"), tmp_path / "there")
    assert not (tmp_path / "there").exists()


def test_events_of_a_long_search_do_not_lie_one_by_one(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is a request to an object store: those of a thousand trials took minutes at the beginning of a resume."""
    monkeypatch.setattr("sersearch.tuning.journal.APART", 5)
    study, deaf = begun(tmp_path / "here", shared), SimpleNamespace(trial_end=lambda *told: None)
    Storage(study).publish()
    journal = Journal(study, deaf, Leaving(1.0), None, Storage(study))
    journal._append("start", 0, params={}, searched={})
    for number in range(1, 13):
        journal._append("epoch", 0, epoch=number, value=0.5, metrics={}, best=False, seconds=1.0, checkpoint=None)
        assert len(module._parts(study.home)) == (number + 1) % 5
    assert fetch("one", shared, tmp_path / "there")
    same(Study.open("one", tmp_path / "there"), study)


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
        until(lambda: taken_over(old) and lost)
        told(old, storage, "end", 0, state="interrupted", reason="lost")
        storage.publish()
    assert fetch("one", shared, tmp_path / "there")
    assert Study.open("one", tmp_path / "there").trial(0).state == "running", "as the other driver has it"
    assert "process 7 on b has taken it over" in lost[0]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize(
    "sign", [None, '{"driver": "another", "host": "b", "pid": 7, "beats": 1}'], ids=["ended", "runs"]
)
def test_a_driver_that_slept_overwrites_nothing_of_who_came_after_it(
    tmp_path: Path, shared: str, monkeypatch: pytest.MonkeyPatch, sign: str | None
) -> None:
    """A machine that is suspended for hours: the other may have come to its end and gone, with its sign."""
    old, lost = begun(tmp_path / "here", shared), list[str]()
    monkeypatch.setattr(Storage, "_beat", lambda self, ended: None)
    storage = Storage(old)
    with storage.driven(lost.append, ignore):
        storage.publish()
        assert fetch("one", shared, tmp_path / "there")
        new = Study.open("one", tmp_path / "there")
        told(new, Storage(new), "start", 0, params={}, searched={})
        Storage(new).publish()
        module._unlink(old.home / "driver.json")
        if sign is not None:
            module._write(old.home / "driver.json", sign.encode())
        storage.publish()
    assert lost == [f"{'process 7 on b' if sign else 'another process'} has taken it over"]
    assert not storage.add({}, 0), "it has nothing to write down any more"
    storage.catch_up()
    same(old, new)


@pytest.mark.usefixtures("quick")
def test_a_driver_whose_sign_was_removed_leaves(tmp_path: Path, shared: str) -> None:
    study, lost = begun(tmp_path, shared), list[str]()
    with Storage(study).driven(lost.append, ignore):
        # Again, should it have said in between that it lives.
        until(lambda: module._unlink(study.home / "driver.json") or lost)  # type: ignore[func-returns-value]
    assert driver(study) == {}
    assert lost == ["another process has taken it over"]


def test_an_event_that_lacks_is_nowhere_skipped(tmp_path: Path, shared: str) -> None:
    """What came after it is brought again by the machine that has it, and belongs to nothing for another."""
    study, storage = started(tmp_path / "here", shared)
    for number in (1, 2, 3):
        epoch(study, storage, number)
    module._unlink(study.home / "journal" / "000000002.jsonl")
    assert fetch("one", shared, tmp_path / "there")
    assert len(Study.open("one", tmp_path / "there").trial(0).epochs) == 1
    storage.catch_up()
    storage.publish()
    assert fetch("one", shared, tmp_path / "third")
    same(Study.open("one", tmp_path / "third"), study)


# --- kills and failed requests ----------------------------------------------------------------------------------------


class Killed(BaseException):
    """In place of a SIGKILL."""


def killed_at(patch: pytest.MonkeyPatch, number: int, refused: int) -> list[str]:
    """The write of that `number`, from 0, isn't done, nor any after it, and `refused` raises; what was tried."""
    tried: list[str] = []

    def counted(name: str, write: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **fields: Any) -> Any:
            tried.append(name)
            if len(tried) > number:
                raise Killed
            if len(tried) == refused + 1:
                raise OSError("away")
            return write(*args, **fields)

        return call

    for holder, name in ((module, "_write"), (module, "_unlink"), (Study, "append"), (Study, "write_meta")):
        patch.setattr(holder, name, counted(name, getattr(holder, name)))
    return tried


def drive(root: Path, shared: str, written: list[Any]) -> None:
    """Be a driver from beginning to end, of a trial that trains two epochs more; `written` gets what was written."""
    if not fetch("one", shared, root):
        return
    study = Study.open("one", root)
    storage, deaf = Storage(study), SimpleNamespace(trial_end=lambda *told: None)
    storage.catch_up()
    study.write_meta(state="running")
    storage.publish()
    journal = Journal(study, deaf, Leaving(1.0), None, storage)
    records = journal._records

    def tell(event: str, **fields: Any) -> None:
        before = records.taken
        journal._append(event, 0, **fields)
        written.extend([(event, fields.get("epoch"))] * (records.taken - before))

    tell("start", params={}, searched={})
    for _ in range(2):
        number = len(records[0].epochs) + 1 if records else 1
        tell("epoch", epoch=number, value=0.5, metrics={}, best=False, seconds=1.0, checkpoint=None)
    journal.settle()
    study.write_meta(state="interrupted")
    storage.publish()


@pytest.mark.parametrize("reaped", [True, False])
@pytest.mark.parametrize("before", [None, 1, 2, 3], ids=lambda n: f"{n}-writes-after-a-refused-one" if n else "alone")
def test_wherever_drivers_are_killed_the_next_goes_on_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, reaped: bool, before: int | None
) -> None:
    """On two machines in turn: between any two writes, there and here, of each."""
    monkeypatch.setattr(os, "fsync", lambda file: None)  # no disk is lost here
    for number in count():
        shared, written, first = str(tmp_path / f"shared-{number}"), list[Any](), number - (before or 0)
        roots, reached = {name: tmp_path / f"{name}-{number}" for name in "ab"}, 0
        begun(roots["a"], shared)
        for name in "abab":
            with pytest.MonkeyPatch.context() as patch, suppress(Killed, OSError):
                tried = killed_at(patch, number, first if before else -1)
                drive(roots[name], shared, written)
            reached = max(reached, len(tried))
            if reaped and (roots[name] / "one" / "study.json").is_file():
                interrupt(Study.open("one", roots[name]), INTERRUPTED)
        for name in "aba":
            drive(roots[name], shared, written)
        told = [(e["event"], e.get("epoch")) for e in Study.open("one", roots["a"]).events() if e["event"] != "end"]
        rest = iter(told)
        assert all(event in rest for event in written), f"killed at write {number}: {told} lacks some of {written}"
        assert fetch("one", shared, tmp_path / f"c-{number}")
        same(Study.open("one", tmp_path / f"c-{number}"), Study.open("one", roots["a"]))
        if reached <= first:
            return


def failing_at(patch: pytest.MonkeyPatch, number: int) -> list[str]:
    """From now on, the request of that `number` to the object store fails, and no other one; the requests so far."""
    asked, ask = list[str](), s3fs.S3FileSystem._call_s3

    async def counted(self: Any, method: str, *args: Any, **fields: Any) -> Any:
        asked.append(method)
        if len(asked) == number + 1:
            raise EndpointConnectionError(endpoint_url="http://away")
        return await ask(self, method, *args, **fields)

    patch.setattr(s3fs.S3FileSystem, "_call_s3", counted)
    return asked


def test_whichever_request_fails_what_another_driver_wrote_stays(tmp_path: Path, bucket: str) -> None:
    """What couldn't be asked for once was taken for what isn't there, and overwritten."""
    shared = f"{bucket}/{uuid.uuid4().hex}"
    first, _ = started(tmp_path / "first", shared)
    assert fetch("one", shared, tmp_path / "there")
    new = Study.open("one", tmp_path / "there")
    for number in count():
        epoch(new, Storage(new), number + 1)
        old = Study.open(shutil.copytree(first.folder, tmp_path / f"here-{number}" / "one"))
        with pytest.MonkeyPatch.context() as patch, suppress(OSError):
            asked = failing_at(patch, number)
            Storage(old).catch_up()
            Storage(old).publish()
        assert fetch("one", shared, tmp_path / f"third-{number}")
        same(Study.open("one", tmp_path / f"third-{number}"), new)
        Storage(old).catch_up()
        same(old, new)
        Storage(old).publish()
        if len(asked) <= number:
            return


def test_what_others_wrote_to_an_object_store_since_it_was_read_is_seen(tmp_path: Path, bucket: str) -> None:
    shared = f"{bucket}/{uuid.uuid4().hex}"
    study, storage = started(tmp_path / "here", shared)
    epoch(study, storage, 1)
    assert fetch("one", shared, tmp_path / "there")
    other = s3fs.S3FileSystem(skip_instance_cache=True)  # as another machine's process
    event = {"event": "end", "trial": 0, "state": "complete", "reason": "all epochs done", "time": 1.0}
    other.pipe_file(f"{shared}/one/journal/000000002.jsonl", json.dumps(event).encode())
    there = Study.open("one", tmp_path / "there")
    Storage(there).catch_up()
    assert there.trial(0).state == "complete"
