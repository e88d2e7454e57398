"""The lane server by itself: trials as lanes of one model, each with its own end, failure and checkpoint."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from sersearch.study import Study
from sersearch.training import Engine, EpochResult, LaneState
from sersearch.tuning import lanes, trainable
from sersearch.tuning.client import write_files
from sersearch.tuning.lanes import Answer, LaneServer, fitting, measured_lanes
from tests.synthetic import make_table, write_table
from tests.tuning.small import EPOCHS, PARAMS, order, shared, small_study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return small_study(tmp_path)


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many lanes each call of the engine trained as one model."""
    sizes: list[int] = []
    original = Engine.epoch

    def epoch(self: Engine, lanes: Iterable[int]) -> list[EpochResult]:
        sizes.append(len(numbers := list(lanes)))
        return original(self, numbers)

    monkeypatch.setattr(Engine, "epoch", epoch)
    return sizes


def serve(study: Study, lanes: int) -> LaneServer:
    return LaneServer("one", lanes, shared(study))


def drive(server: LaneServer, ticket: str | None) -> list[Answer]:
    """What a client does once it has joined: ask until the trial is done."""
    assert ticket is not None
    answers: list[Answer] = []
    while not answers or not answers[-1][0]["done_by_itself"]:
        answer = server.next(ticket)
        assert answer is not None
        answers.append(answer)
    server.leave(ticket)
    return answers


def together(server: LaneServer, orders: list[dict[str, Any]]) -> list[list[Answer]]:
    """Trials that have all joined before the first asks."""
    tickets = [server.join(own) for own in orders]
    with ThreadPoolExecutor(len(orders)) as pool:
        return list(pool.map(lambda ticket: drive(server, ticket), tickets))


def alone(study: Study, own: dict[str, Any]) -> list[dict[str, Any]]:
    """The reports of a trial that is trained by itself."""
    start = trainable.begin(own, shared(study), "cpu")
    engine = start.engine()
    start.join(engine)
    return [trainable.epoch_report(own["trial"], result) for result in engine.epochs()]


def same(reports: list[dict[str, Any]], expected: list[dict[str, Any]]) -> None:
    assert len(reports) == len(expected)
    for one, other in zip(reports, expected, strict=True):
        assert one["metrics"] == pytest.approx(other["metrics"], rel=1e-4, abs=1e-6)
        plain = ("trial", "epoch", "best", "failed", "done_by_itself", "reason")
        assert [one[name] for name in plain] == [other[name] for name in plain]
        assert one.keys() == other.keys()


def reports(answers: list[Answer]) -> list[dict[str, Any]]:
    return [report for report, _ in answers]


def kept(study: Study, files: dict[str, bytes]) -> Path:
    """A checkpoint's folder in the study's home."""
    folder = study.home / "kept"
    folder.mkdir()
    write_files(files, folder)
    return folder


def waiting(server: LaneServer, ticket: str, pool: ThreadPoolExecutor) -> Future[Answer | None]:
    """A client that waits for its next epoch."""
    asked = pool.submit(server.next, ticket)
    until(lambda: server._seats[ticket].asked)
    return asked


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# --- what a lane gives ------------------------------------------------------------------------------------------------


def test_trials_as_lanes_of_one_model_give_what_each_gives_alone(study: Study, fused: list[int]) -> None:
    orders = [order(study, n, alpha=alpha, learning_rate=0.05) for n, alpha in enumerate((0.2, 0.5, 0.8))]
    got = together(serve(study, 3), orders)
    assert max(fused) == 3
    for own, answers in zip(orders, got, strict=True):
        same(reports(answers), alone(study, own))


def test_each_epoch_comes_with_the_files_of_a_checkpoint(study: Study, tmp_path: Path) -> None:
    ((*_, (_, files)),) = together(serve(study, 2), [order(study)])
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    plain = ["dev_predictions.csv", "model.safetensors", "report.json", "state.json", "state.safetensors"]
    assert sorted(files) == ["SHA256SUMS", *plain]
    assert LaneState.load(tmp_path).progress.epoch == EPOCHS


def test_trials_of_other_shapes_and_segments_are_models_of_their_own(study: Study, fused: list[int]) -> None:
    changes: list[dict[str, Any]] = [{}, {"hidden": 6}, {"segment_frames": 64, "segment_hop": 32}]
    orders = [order(study, n, **params) for n, params in enumerate(changes)]
    for own, answers in zip(orders, together(serve(study, 3), orders), strict=True):
        same(reports(answers), alone(study, own))
    assert set(fused) == {1}


def test_a_trial_goes_on_from_its_checkpoint_beside_others(study: Study) -> None:
    server = serve(study, 2)
    ((_, files), *rest) = together(server, [order(study)])[0]
    went_on, other = together(server, [order(study, checkpoint=kept(study, files)), order(study, 1, alpha=0.9)])
    same(reports(went_on), reports(rest))
    assert [report["epoch"] for report in reports(other)] == [1, 2, 3]


def test_a_trial_cut_off_between_its_last_epoch_and_its_end_tells_that_epoch_again(study: Study) -> None:
    server = serve(study, 2)
    last, files = together(server, [order(study)])[0][-1]
    ((again, _),) = together(server, [order(study, checkpoint=kept(study, files))])[0]
    assert {**again, "log": []} == {**last, "log": []}


def test_trials_of_one_shape_start_from_one_pretraining(study: Study, tmp_path: Path) -> None:
    aux = write_table(tmp_path / "aux", make_table(speakers=3, seed=1, corpus="other"))
    study.write_meta(data={**study.meta["data"], "aux": str(aux)})
    orders = [order(study, n, alpha=alpha, pretrain_epochs=1) for n, alpha in enumerate((0.1, 0.9))]
    got = together(serve(study, 2), orders)
    assert len(list(study.folder.glob("pretrained-*/*.safetensors"))) == 1
    for own, answers in zip(orders, got, strict=True):
        same(reports(answers), alone(study, own))


# --- failures stay where they are -------------------------------------------------------------------------------------


def test_a_wrong_configuration_and_a_diverging_one_fail_alone(study: Study) -> None:
    orders = [order(study, 0), order(study, 1, hidden=0), order(study, 2, learning_rate=1e30)]
    good, wrong, diverged = together(serve(study, 3), orders)
    same(reports(good), alone(study, orders[0]))
    ((report, files),) = wrong
    assert (report["failed"], report["done_by_itself"], report["epoch"], files) == (True, True, 1, {})
    assert "hidden: 0 is outside" in report["reason"]
    assert math.isnan(report["value"])
    ((report, files),) = diverged
    assert (report["failed"], files) == (True, {})
    assert "nan in epoch 1" in report["reason"]


def test_an_error_in_one_lane_is_that_trial_s_failure_and_no_other_s(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Engine._epoch

    def epoch(self: Engine, numbers: list[int]) -> Any:
        if any(self._lanes[n].config.alpha == 0.9 for n in numbers):  # type: ignore[attr-defined]
            raise RuntimeError("no such thing\nas this")
        return original(self, numbers)

    orders = [order(study, n, alpha=alpha) for n, alpha in enumerate((0.2, 0.9, 0.5))]
    expected = [alone(study, orders[0]), alone(study, orders[2])]
    monkeypatch.setattr(Engine, "_epoch", epoch)
    first, bad, last = together(serve(study, 3), orders)
    same(reports(first), expected[0])
    same(reports(last), expected[1])
    assert [r["reason"] for r in reports(bad)] == ["RuntimeError: no such thing"]


def test_a_model_that_memory_does_not_suffice_for_is_trained_in_halves(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Engine._epoch
    done: list[int] = []

    def epoch(self: Engine, numbers: list[int]) -> Any:
        if len(numbers) > 2:
            raise torch.OutOfMemoryError("out of memory")
        done.append(len(numbers))
        return original(self, numbers)

    monkeypatch.setattr(Engine, "_epoch", epoch)
    got = together(serve(study, 5), [order(study, n, alpha=n / 10) for n in range(1, 6)])
    assert [[r["failed"] for r in reports(answers)] for answers in got] == [[False] * EPOCHS] * 5
    assert max(done) == 2


def test_a_trial_without_memory_beside_others_waits_for_a_lane(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    original = Engine.join

    def join(self: Engine, *args: Any, **kwargs: Any) -> int:
        if self._lanes:
            raise torch.OutOfMemoryError("out of memory")
        return original(self, *args, **kwargs)

    trains, seen = Engine.epoch, Event()

    def epoch(self: Engine, numbers: Iterable[int]) -> list[EpochResult]:
        assert seen.wait(60)
        return trains(self, numbers)

    monkeypatch.setattr(Engine, "join", join)
    monkeypatch.setattr(Engine, "epoch", epoch)
    server = serve(study, 2)
    first, second = server.join(order(study, 0)), server.join(order(study, 1))
    assert first is not None
    assert second is not None
    with ThreadPoolExecutor(2) as pool:
        one, other = pool.submit(drive, server, first), pool.submit(server.next, second)
        assert other.result() is None, "its client joins again"
        assert not one.done()
        assert server.offer(order(study, 1)) is None, "there is room for one"
        seen.set()
        assert len(one.result()) == EPOCHS
    assert len(drive(server, server.join(order(study, 1)))) == EPOCHS


def test_a_checkpoint_that_can_t_be_made_fails_its_trial(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: Any) -> None:
        raise ValueError("no such tensor")

    monkeypatch.setattr(lanes, "checkpoint_files", broken)
    ((report, files),) = together(serve(study, 1), [order(study)])[0]
    assert (report["failed"], files) == (True, {})
    assert "no such tensor" in report["reason"]


# --- lanes are given on -----------------------------------------------------------------------------------------------


def test_a_lane_goes_to_the_next_trial_once_the_one_before_is_stopped(study: Study) -> None:
    server = serve(study, 1)
    ticket = server.join(order(study, 0))
    assert ticket is not None
    assert server.next(ticket) is not None
    assert (server.offer(order(study, 1)), server.join(order(study, 1))) == (None, None), "full"
    server.leave(ticket)
    server.leave(ticket)
    assert server.next(ticket) is None
    same(reports(drive(server, server.join(order(study, 1)))), alone(study, order(study, 1)))
    assert server.held() == 0


def test_a_trial_that_is_done_holds_no_lane(study: Study) -> None:
    server = serve(study, 1)
    ticket = server.join(order(study, 0, hidden=0))
    assert ticket is not None
    assert server.next(ticket) is not None
    assert server.held() == 0, "before the client has said so"


def test_what_lanes_took_is_given_back(study: Study) -> None:
    server = serve(study, 2)
    together(server, [order(study, 0), order(study, 1, hidden=6)])
    drive(server, server.join(order(study, 2, hidden=7)))
    assert [list(engine._lanes) for engine in server._engines.values()] == [[1]], "that of the latest trial"


def wait(seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """So much time passes for servers."""
    now = lanes.time.monotonic
    monkeypatch.setattr(lanes, "time", SimpleNamespace(monotonic=lambda: now() + seconds))


def test_a_client_that_died_loses_its_lane_after_a_while(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(study, 1)
    dead = server.join(order(study, 0))
    assert server.join(order(study, 1)) is None
    wait(lanes.ABSENT_S, monkeypatch)
    assert len(drive(server, server.join(order(study, 1)))) == EPOCHS
    assert dead is not None
    assert server.next(dead) is None, "the dead one, should it live, joins again"


def test_a_client_that_waits_for_a_long_epoch_is_not_taken_for_dead(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    original = Engine.epoch

    def epoch(self: Engine, numbers: Iterable[int]) -> list[EpochResult]:
        wait(2 * lanes.ABSENT_S, monkeypatch)
        server.offer(order(study, 1))  # looks for the dead
        assert server.held() == 1
        return original(self, numbers)

    monkeypatch.setattr(Engine, "epoch", epoch)
    server = serve(study, 2)
    assert [len(answers) for answers in together(server, [order(study, 0)])] == [EPOCHS]


def test_a_trial_that_starts_again_takes_its_own_lane(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    server = serve(study, 1)
    monkeypatch.setattr(server, "_missing", lambda now: True)  # nothing is trained before the grace is over
    monkeypatch.setattr(lanes, "GRACE_S", (30.0, 30.0))
    before = server.join(order(study, 0))
    assert before is not None
    with ThreadPoolExecutor(1) as pool:
        asked = waiting(server, before, pool)
        assert server.offer(order(study, 0)) is not None
        ticket = server.join(order(study, 0))
        assert asked.result() is None
    monkeypatch.undo()
    same(reports(drive(server, ticket)), alone(study, order(study, 0)))


def test_a_trial_takes_its_old_server_else_its_kind_s_else_the_emptiest(study: Study) -> None:
    first, second = serve(study, 4), serve(study, 4)

    def best(own: dict[str, Any]) -> LaneServer:
        offers = [(server.offer(own), n) for n, server in enumerate((first, second))]
        return (first, second)[min(offers)[1]]  # type: ignore[type-var]

    taken = []
    for n, hidden in enumerate((5, 5, 6, 5, 6)):
        server = best(order(study, n, hidden=hidden))
        taken.append(server)
        server.join(order(study, n, hidden=hidden))
    # Of one kind, they are parted; then each server has as few kinds as can be.
    assert taken == [first, second, first, second, first]
    assert best(order(study, 3, hidden=5)) is second, "its client died"


def test_lanes_stay_in_step(study: Study, fused: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that need a while to report still train together, and one that joins late falls in with the others."""
    trains, first = Engine.epoch, Event()

    def epoch(self: Engine, numbers: Iterable[int]) -> list[EpochResult]:
        first.set()
        until(lambda: bool(fused) or server.held() == 3)
        return trains(self, numbers)

    monkeypatch.setattr(Engine, "epoch", epoch)
    monkeypatch.setattr(lanes, "GRACE_S", (60.0, 60.0))
    server = serve(study, 3)

    def slow(n: int) -> int:
        assert n == 0 or first.wait(60)
        ticket = server.join(order(study, n, alpha=0.1 + n / 10))
        epochs = 0
        while ticket is not None and (answer := server.next(ticket)) is not None:
            epochs += 1
            time.sleep(0.02 * n)
            if answer[0]["done_by_itself"]:
                break
        return epochs

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(slow, range(3))) == [EPOCHS] * 3
    assert fused == [1, 3, 3, 2]


# --- how many lanes ---------------------------------------------------------------------------------------------------


def gpu(base: float, each: float, total: float, gain: float) -> Callable[[int], tuple[float, float] | None]:
    """A GPU where k lanes take `base + k * each` bytes, and a step of several is `gain` times as fast as alone."""

    def probe(lanes: int) -> tuple[float, float] | None:
        needed = base + lanes * each
        return None if needed > total else (needed, 1.0 if lanes == 1 else lanes / gain)

    return probe


@pytest.mark.parametrize(
    ("probe", "free", "expected"),
    [
        (gpu(100, 10, 1000, 5.0), 1000, 64),  # 0.85 * 1000 = 850 = 100 + 75 * 10: more than the cap
        (gpu(100, 25, 1000, 5.0), 1000, 30),
        (gpu(100, 25, 1000, 1.1), 1000, 1),  # not worth it
        (gpu(0, 300, 1000, 1.9), 1000, 2),  # 8 don't fit
        (gpu(0, 150, 1000, 1.9), 1000, 5),
        (gpu(0, 600, 1000, 1.9), 1000, 1),
        (gpu(0, 2000, 1000, 1.9), 1000, 1),
        (gpu(500, 0, 1000, 5.0), 1000, 64),
        (gpu(0, 124, 1000, 5.0), 1000, 6),  # 8 ran, but take more than may be taken
    ],
)
def test_auto_takes_the_lanes_that_fit_where_they_pay(
    probe: Callable[[int], tuple[float, float] | None], free: float, expected: int
) -> None:
    assert fitting(probe, free) == expected


def test_the_largest_model_is_measured(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[tuple[int, int]] = []

    def time_epoch(self: Engine, config: Any, lanes: int = 1) -> tuple[float, int]:
        measured.append((config.hidden, lanes))
        if lanes > 2:
            raise torch.OutOfMemoryError("out of memory")
        return 1.0, 5

    monkeypatch.setattr(Engine, "time_epoch", time_epoch)
    peak = iter((100, 150))
    for name, function in (
        ("empty_cache", lambda: None),
        ("reset_peak_memory_stats", lambda: None),
        ("max_memory_allocated", lambda: next(peak)),
        ("mem_get_info", lambda: (400, 500)),
    ):
        monkeypatch.setattr(torch.cuda, name, function)
    points = [{**PARAMS, "hidden": hidden} for hidden in (5, 7, 6)]
    assert measured_lanes(study.meta, points) == 5, "two take 150, each more 50: 0.85 * 400 holds five"
    assert measured == [(7, 1), (7, 2), (7, 8)]
