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

CONFIG: dict[str, Any] = {
    "trial": 7,
    "searched": {},
    "params": {},
    "checkpoints": ["ray/run-0/trial-0007/checkpoint_000004"],
}


def epoch(number: int, done: bool = False) -> tuple[dict[str, Any], dict[str, bytes]]:
    report = client.report(7, number, failed=False, reason="", value=0.5, done_by_itself=done)
    return report, {"state.json": f"epoch {number}".encode()}


class Server:
    """A lane server whose answers are written down beforehand; an exception is raised."""

    def __init__(self, *answers: Any, offer: Any = (True, 1, 0)) -> None:
        self.answers, self.offers = list(answers), [offer]
        self.joined: list[dict[str, Any]] = []
        self.left: list[str] = []
        self.begun = True
        self.held = self._method(lambda: self)
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

    @property
    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("checkpoint_*"))

    def get_checkpoint(self) -> Any:
        return SimpleNamespace(path=str(self.checkpoints[-1])) if self.checkpoints else None

    def report(self, result: dict[str, Any], checkpoint: Path | None = None) -> None:
        self.reports.append(result)
        if checkpoint is not None:
            shutil.copytree(checkpoint, self.folder / f"checkpoint_{len(self.checkpoints):06d}")
        if result["epoch"] == self.stop:
            raise SystemExit(0)


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Tune]:
    """Run a trial's client beside servers by name."""

    def get(answer: Any, timeout: float | None = None) -> Any:
        if isinstance(answer, Exception):
            raise answer
        return answer

    def wait(asked: list[Any], **options: Any) -> tuple[list[Any], list[Any]]:
        ready = [answer for answer in asked if not isinstance(answer, Server) or answer.begun]
        return ready, [answer for answer in asked if answer not in ready]

    def trial(servers: dict[str, Server], stop: int | None = None, alone: int | None = None) -> Tune:
        """`alone`: the trial that a server says it trained alone as it died."""
        tune = Tune(tmp_path / "ray" / "run-1" / "trial-0007", stop)
        fake = SimpleNamespace(get_actor=servers.__getitem__, get=get, wait=wait)
        monkeypatch.setattr(client, "ray", fake)
        told = {} if alone is None else {client.turn_key(name): str(alone).encode() for name in servers}
        monkeypatch.setattr(client, "_internal_kv_get", told.get)
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
    assert [(c / "state.json").read_text() for c in tune.checkpoints] == ["epoch 1", "epoch 2"]
    assert (server.joined, server.left) == ([{**CONFIG, "alone": False}], ["ticket 1"])


def test_a_trial_that_tune_stops_leaves_its_lane(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), epoch(2))
    with pytest.raises(SystemExit):
        run({"one": server}, stop=1)
    assert server.left == ["ticket 1"]


def test_a_trial_whose_lane_is_gone_goes_on_from_its_last_epoch(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), epoch(2), epoch(3), None, epoch(4, done=True))
    tune = run({"one": server})
    assert [r["epoch"] for r in tune.reports] == [1, 2, 3, 4]
    first, second = server.joined
    assert first["checkpoints"] == CONFIG["checkpoints"]
    run_1 = "ray/run-1/trial-0007"
    own = [f"{run_1}/checkpoint_000002", f"{run_1}/checkpoint_000001"]
    assert second["checkpoints"] == own + CONFIG["checkpoints"], "its own first, and of them what Tune keeps"
    assert not second["alone"]


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
    with pytest.raises(client.NoServerError, match="no lane server answered"):
        run({"one": Server(offer=ActorUnavailableError("", None))})


def test_a_server_without_a_node_yet_is_passed_over(run: Callable[..., Tune]) -> None:
    late, there = Server(offer=(True, 1, 0)), Server(epoch(1, done=True), offer=(True, 9, 9))
    late.begun = False
    run({"late": late, "there": there})
    assert (len(late.joined), len(there.joined)) == (0, 1)


DIED = ActorUnavailableError("killed", None)


def test_after_a_server_s_death_the_epoch_is_trained_alone_and_the_next_with_others(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), DIED, epoch(2), None, epoch(3, done=True))
    tune = run({"one": server})
    assert [(r["epoch"], r["failed"]) for r in tune.reports] == [(1, False), (2, False), (3, False)]
    assert [order["alone"] for order in server.joined] == [False, True, False]
    assert server.joined[1]["checkpoints"][0] == "ray/run-1/trial-0007/checkpoint_000000"


def test_who_kills_its_server_three_times_has_failed(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), DIED, DIED, DIED, epoch(2, done=True))
    tune = run({"one": server}, alone=7)
    assert [(r["epoch"], r["failed"], r["machine"]) for r in tune.reports] == [(1, False, False), (2, True, False)]
    assert "its lane server died 3 times in this epoch" in tune.reports[-1]["reason"]
    assert len(server.joined) == 3


def test_a_trial_that_comes_through_alone_begins_to_count_anew(run: Callable[..., Tune]) -> None:
    server = Server(DIED, DIED, epoch(1), DIED, DIED, epoch(2, done=True))
    assert [r["failed"] for r in run({"one": server}, alone=7).reports] == [False, False]


def test_whose_mate_kills_the_server_goes_on(run: Callable[..., Tune]) -> None:
    server = Server(epoch(1), *[DIED] * 6, epoch(2, done=True))
    tune = run({"one": server}, alone=8)
    assert [(r["epoch"], r["failed"]) for r in tune.reports] == [(1, False), (2, False)]


def test_what_goes_wrong_in_a_client_is_the_trial_s_failure(run: Callable[..., Tune]) -> None:
    tune = run({"one": Server(epoch(1), OSError(28, "No space left on device"))})
    assert [r["failed"] for r in tune.reports] == [False, True]
    assert tune.reports[-1]["reason"] == "OSError: [Errno 28] No space left on device"
    assert tune.reports[-1]["epoch"] == 2
    assert tune.reports[-1].keys() == tune.reports[0].keys()
    assert tune.reports[-1]["machine"], "others would fail like it"


def test_a_disk_that_is_full_is_told_as_the_machine_s_failure(
    run: Callable[..., Tune], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(files: dict[str, bytes], folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(client, "write_files", full)
    (report,) = run({"one": Server(epoch(1))}).reports
    assert (report["failed"], report["machine"], report["epoch"]) == (True, True, 1)
    assert "No space left" in report["reason"]
