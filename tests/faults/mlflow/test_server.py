"""A server that goes away, hangs, comes back, or never does."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import TrackingError
from sersearch.tracking.store import Store
from tests.faults.mlflow.streams import Teller, begin, calls, runs, sent, study, tracker, undisturbed, until
from tests.services import Server

# MLflow's own use of SQLAlchemy
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_server_that_is_restarted_gets_everything_once(
    server: Server, reference: dict[Any, Any], tmp_path: Path, how: signal.Signals
) -> None:
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    teller, told = Teller(of, subject, pause=0.005), calls(of)
    sent(subject)
    teller.tell(told, most=20)
    server.stop(how)
    teller.tell(told, most=20)
    until(subject, lambda: len(subject.warnings) > 0)
    server.begin_to_start()
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert len(subject.warnings) == 1
    assert "is away" in subject.warnings[0]
    assert not of.spool.exists()
    assert runs(server.uri) == reference


@pytest.mark.slow
def test_a_server_that_is_away_for_a_minute_gets_everything_once(server: Server, local: str, tmp_path: Path) -> None:
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    teller, told = Teller(of, subject, pause=0.5), calls(of, trials=9, epochs=20)
    teller.tell(told, most=20)
    server.stop()
    away = time.monotonic() + 60
    teller.tell(told, until=lambda: time.monotonic() > away)
    server.begin_to_start()
    teller.pause = 0.05
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    assert runs(server.uri) == undisturbed(tmp_path, local, trials=9, epochs=20)


@pytest.mark.usefixtures("impatient")
def test_a_server_that_hangs_holds_up_no_one_and_makes_no_run_twice(
    server: Server, reference: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    teller, told = Teller(of, subject), calls(of)
    sent(subject)
    # What is asked of a stopped process waits in its socket, and is done when it goes on.
    for _ in range(3):
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
        server.signal(signal.SIGSTOP)
        teller.tell(told, most=11)
        time.sleep(2.5)
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "600")  # a busy machine's server needs its time
        server.signal(signal.SIGCONT)
        sent(subject)
    server.signal(signal.SIGSTOP)
    teller.tell(told)
    teller.call("finish", "finished")
    began = time.monotonic()
    subject.close(seconds=1)
    assert 1 <= time.monotonic() - began < 60, "an answer may take ten minutes"
    waiting = of.spool.read_bytes()
    assert f"`sersearch tune --resume {of.folder}` sends them" in subject.warnings[-1]
    server.signal(signal.SIGCONT)
    assert subject._thread is not None
    subject._thread.join(300)
    assert not subject._thread.is_alive()
    assert of.spool.read_bytes() == waiting, "the closed tracker's thread touched it"
    of.write_meta(state="finished")
    tracker(of, server.uri).settle(of.meta)
    assert runs(server.uri) == reference


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("owner", "name"), [(Store, "send"), (os, "fsync")])
def test_all_can_be_told_while_the_thread_waits_for_mlflow_or_the_disk(
    server: Server, reference: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str
) -> None:
    """What the thread does ends when all is told: who had to wait for it, if only for a lock, would wait for ever."""
    of = study(tmp_path)
    subject = begin(of, server.uri)
    waits, begun, told, in_time = getattr(owner, name), threading.Event(), threading.Event(), list[bool]()

    def waiting(*args: Any) -> Any:
        if threading.current_thread() is subject._thread and not begun.is_set():
            begun.set()
            in_time.append(told.wait(60))
        return waits(*args)

    monkeypatch.setattr(owner, name, waiting)
    assert begun.wait(300)
    teller = Teller(of, subject)
    teller.tell(calls(of))
    teller.call("finish", "finished")
    told.set()
    server.start()
    sent(subject)
    subject.close()
    assert in_time == [True]
    assert runs(server.uri) == reference


@pytest.mark.usefixtures("impatient")
def test_what_was_done_but_not_answered_is_not_done_twice(
    server: Server, reference: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.client import MlflowClient

    asked = 0

    def losing(name: str) -> Any:
        real = getattr(MlflowClient, name)

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            nonlocal asked
            asked += 1
            answer = real(self, *args, **kwargs)
            if asked == 20:
                server.stop(signal.SIGKILL)
                server.begin_to_start()
            if asked % 5 == 0:
                raise ConnectionError("the answer is lost")
            return answer

        return call

    server.start()
    for name in ("create_run", "update_run", "log_batch", "log_artifact", "set_terminated"):
        monkeypatch.setattr(MlflowClient, name, losing(name))
    of = study(tmp_path)
    subject = begin(of, server.uri)
    Teller(of, subject, pause=0.02).tell(calls(of))
    subject.finish("finished")
    sent(subject)
    subject.close()
    monkeypatch.undo()
    assert asked > 40
    assert runs(server.uri) == reference


@pytest.mark.usefixtures("impatient")
def test_what_is_done_after_it_was_given_up_leaves_no_second_run(
    local: str, reference: dict[Any, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from mlflow.tracking.client import MlflowClient

    create, given_up = MlflowClient.create_run, set()

    def late(self: Any, *args: Any, run_name: str, **kwargs: Any) -> Any:
        if run_name not in given_up:
            given_up.add(run_name)
            raise ConnectionError("timed out")
        made = create(self, *args, run_name=run_name, **kwargs)
        create(self, *args, run_name=run_name, **kwargs)  # what was asked for first
        return made

    monkeypatch.setattr(MlflowClient, "create_run", late)
    of = study(tmp_path)
    subject = begin(of, local)
    Teller(of, subject).tell(calls(of))
    subject.finish("finished")
    subject.close(60)
    assert len(given_up) == 7
    assert runs(local) == reference


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("later", ["resumed", "settled"])
def test_without_a_server_the_study_ends_and_is_sent_later(
    server: Server, reference: dict[Any, Any], tmp_path: Path, later: str
) -> None:
    of = study(tmp_path)
    spool = of.spool
    subject = begin(of, server.uri)
    teller = Teller(of, subject)
    teller.tell(calls(of))
    teller.call("finish", "finished")
    began = time.monotonic()
    subject.close(seconds=300)
    assert time.monotonic() - began < 200
    of.write_meta(state="finished")
    assert subject.run_id is None
    assert spool.is_file()
    assert f"events are kept in {spool}" in subject.warnings[0]
    assert f"`sersearch tune --resume {of.folder}` sends them" in subject.warnings[1]
    with pytest.raises(TrackingError, match=r"--resume .* sends them"):
        tracker(of, server.uri).settle(of.meta)

    server.start()
    if later == "resumed":
        again = begin(of, server.uri)
        again.finish("finished")
        again.close(60)
        assert again.warnings == []
    else:
        assert tracker(of, server.uri).settle(of.meta) == 7
        assert tracker(of, server.uri).settle(of.meta) == 0
    assert not spool.exists()
    assert runs(server.uri) == reference
