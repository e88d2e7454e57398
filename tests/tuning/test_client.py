"""A trial's client without Ray: what it makes of its server's answers, and of its server's death."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.exceptions import ActorUnavailableError, GetTimeoutError

from sersearch.tuning import client

CONFIG = {"study": "s", "trial": 7, "params": {}, "checkpoint": None}


def epoch(number: int, done: bool = False) -> tuple[dict[str, Any], dict[str, bytes]]:
    report = client.report(7, number, failed=False, reason="", value=0.5, done_by_itself=done)
    return report, {"state.json": f"epoch {number}".encode()}


class Server:
    """A lane server whose answers are written down beforehand; an exception is raised."""

    def __init__(self, *answers: Any, offer: Any = (True, 1, 0)) -> None:
        self.answers, self.offers = list(answers), [offer]
        self.joined: list[dict[str, Any]] = []
        self.left: list[str] = []
        self.offer = self._method(lambda order: self.offers.pop(0) if len(self.offers) > 1 else self.offers[0])
        self.join = self._method(self._join)
        self.next = self._method(lambda ticket: self.answers.pop(0))
        self.leave = self._method(self.left.append)

    def _join(self, order: dict[str, Any]) -> str:
        self.joined.append(order)
        return f"ticket {len(self.joined)}"

    def _method(self, function: Callable[..., Any]) -> Any:
        return SimpleNamespace(remote=lambda *args: function(*args))


class Tune:
    """Stands in for `ray.tune`; stops the trial after the epoch `stop`, as Tune does."""

    def __init__(self, folder: Path, stop: int | None = None) -> None:
        self.folder, self.stop = folder, stop
        self.reports: list[dict[str, Any]] = []
        self.Checkpoint = SimpleNamespace(from_directory=Path)

    def get_checkpoint(self) -> Any:
        return SimpleNamespace(path=str(self.folder)) if self.folder.is_dir() else None

    def report(self, result: dict[str, Any], checkpoint: Path | None = None) -> None:
        self.reports.append(result)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder, dirs_exist_ok=True)
        if result["epoch"] == self.stop:
            raise SystemExit(0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tune]:
    """Run a trial's client beside servers by name."""

    def get(answer: Any, timeout: float | None = None) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def trial(servers: dict[str, Server], stop: int | None = None) -> Tune:
        tune = Tune(tmp_path / "checkpoint", stop)
        fake = SimpleNamespace(get_actor=servers.__getitem__, get=get, wait=lambda *args, **kwargs: None)
        monkeypatch.setattr(client, "ray", fake)
        monkeypatch.setattr(client, "tune", tune)
        monkeypatch.setattr(client, "POLL_S", 0.01)
        monkeypatch.setattr(client, "RESTART_S", 0.2)
        client.train(CONFIG, list(servers))
        return tune

    return trial


def test_epochs_are_handed_on_with_their_files_until_the_trial_is_done(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), epoch(2, done=True))
    tune = run({"one": server})
    assert [r["epoch"] for r in tune.reports] == [1, 2]
    assert (tune.folder / "state.json").read_text() == "epoch 2"
    assert (server.joined, server.left) == ([CONFIG], ["ticket 1"])


def test_a_trial_that_tune_stops_leaves_its_lane(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), epoch(2))
    with pytest.raises(SystemExit):
        run({"one": server}, stop=1)
    assert server.left == ["ticket 1"]


def test_a_trial_whose_lane_is_gone_goes_on_from_its_last_epoch(run: Callable[..., Tune], tmp_path: Path) -> None:
    server = Server(epoch(1), None, epoch(2, done=True))
    tune = run({"one": server})
    assert [r["epoch"] for r in tune.reports] == [1, 2]
    assert [own["checkpoint"] for own in server.joined] == [None, str(tmp_path / "checkpoint")]


def test_the_server_that_offers_best_is_taken(run: Callable[..., Tune]) -> None:
    servers = {
        "full": Server(offer=None),
        "dead": Server(offer=ActorUnavailableError("", None)),
        "silent": Server(offer=GetTimeoutError()),
        "mixed": Server(offer=(True, 2, 3)),
        "best": Server(epoch(1, done=True), offer=(True, 1, 5)),
    }
    run(servers)
    assert {name for name, server in servers.items() if server.joined} == {"best"}


def test_a_trial_waits_while_all_lanes_are_taken(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1, done=True))
    server.offers = [None] * 50 + [(True, 1, 0)]
    assert [r["epoch"] for r in run({"one": server}).reports] == [1]


def test_without_a_server_that_lives_the_trial_s_process_ends(run: Callable[..., Tune]) -> None:
    with pytest.raises(client.NoServerError, match="none of the 1 lane servers answered"):
        run({"one": Server(offer=ActorUnavailableError("", None))})


def test_a_server_s_death_is_left_to_tune_s_retries(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), ActorUnavailableError("killed", None))
    with pytest.raises(ActorUnavailableError):
        run({"one": server})


def test_what_goes_wrong_in_a_client_is_the_trial_s_failure(run: Callable[..., Tune]) -> None:
    tune = run({"one": Server(epoch(1), OSError(28, "No space left on device"))})
    assert [r["failed"] for r in tune.reports] == [False, True]
    assert tune.reports[-1]["reason"] == "OSError: [Errno 28] No space left on device"
    assert tune.reports[-1]["epoch"] == 2
    assert tune.reports[-1].keys() == tune.reports[0].keys()


def test_a_disk_that_is_full_fails_the_trial_that_writes(
    run: Callable[..., Tune], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: dict[str, bytes], folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client, "write_files", full)
    (report,) = run({"one": Server(epoch(1))}).reports
    assert (report["failed"], report["epoch"]) == (True, 1)
    assert "No space left" in report["reason"]
