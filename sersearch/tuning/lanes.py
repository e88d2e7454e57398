"""The lane server: one process a GPU, or a core, that trains up to N trials of a study as lanes of one model.

A trial's client (`client.py`) joins, asks for its next epoch as often as it wants one, and leaves. One thread does all
that touches the engine. It trains those lanes whose clients ask, an epoch at a time, and waits a little for clients
that are still busy reporting their last one, so that lanes stay in step. A lane whose client has died is dropped once
nobody has asked for its next epoch for a while, or at once when the trial joins again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ray.experimental.internal_kv import _internal_kv_del, _internal_kv_put

from sersearch.errors import SersearchError
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.logs import Gathered, gathered
from sersearch.training import Engine, EpochResult
from sersearch.tuning.client import Order, Shared, failure, turn_key
from sersearch.tuning.data import device, how, load_data
from sersearch.tuning.trainable import begin, checkpoint_files, epoch_report, stack_of
from sersearch.tuning.watchdog import Watchdog

log = logging.getLogger(__name__)

Answer = tuple[dict[str, Any], dict[str, bytes]]
"""An epoch's report and its checkpoint's files; no files when the trial failed."""

ABSENT_S = 60.0
"""Seconds after which a client that has its epoch and asks for no other is taken for dead."""
GRACE_S = (0.2, 5.0)
"""Least and most seconds to wait for clients that don't ask yet: as long as the last epoch took, between these."""
SUCCESSOR_S = 1.0
"""Most seconds to wait for the trial that takes the place of one that ended."""


@dataclass(eq=False)
class _Seat:
    """A trial that has joined."""

    order: Order
    signature: object
    heard: float
    """When its client last had nothing to wait for."""
    asked: bool = False
    answer: Answer | None = None
    engine: Engine | None = None
    lane: int = 0
    epoch: int = 0
    alone: bool = False
    """Whether it is trained by itself, as it may have killed a server."""

    @property
    def wanted(self) -> bool:
        return self.asked and self.answer is None


class LaneServer:
    """Trains lanes for clients that call it at the same time, each from a thread of its own."""

    def __init__(self, name: str, lanes: int, shared: Shared) -> None:
        """Up to `lanes` lanes at a time; `name` is its own."""
        self._name, self._room, self._shared = name, lanes, shared
        self._changed = threading.Condition()
        self._seats: dict[str, _Seat] = {}
        self._vacated: list[float] = []
        self._engines: dict[object, Engine] = {}
        self._entered: list[_Seat] = []
        """Those that are lanes of an engine."""
        self._most: dict[object, int] = {}
        """Lanes of a signature that can be trained as one model, where that is fewer than there are."""
        self._took = 0.0
        self._watchdog = Watchdog(shared["epoch_limit"])
        self._logged = Gathered()
        threading.Thread(target=self._work, daemon=True).start()

    # --- called by clients --------------------------------------------------------------------------------------------

    def held(self) -> int:
        """Lanes that are taken."""
        with self._changed:
            return len(self._seats)

    def offer(self, order: Order) -> tuple[int, ...] | None:
        """How little this server is for a trial, None when it is full; the trial takes the least offer of all servers.

        First comes the server that still has the trial from before its client died; then the one with the fewest static
        signatures, the trial's included, as each is a model of its own to train; then the one with the fewest lanes.
        """
        signature = self._signature(order)
        with self._changed:
            self._drop_absent()
            others = [seat for seat in self._seats.values() if seat.order["trial"] != order["trial"]]
            if len(others) >= self._room:
                return None
            signatures = {seat.signature for seat in others} | {signature}
            return len(others) == len(self._seats), len(signatures), len(others)

    def join(self, order: Order) -> str | None:
        """Take a lane for the trial of `order`, the trainable's config; a ticket, or None when the server is full.

        An older lane of the same trial, whose client must have died, is dropped.
        """
        seat = _Seat(order, self._signature(order), time.monotonic(), alone=bool(order.get("alone")))
        with self._changed:
            self._drop_absent()
            for ticket in [t for t, other in self._seats.items() if other.order["trial"] == order["trial"]]:
                self._drop(ticket)
            if len(self._seats) >= self._room:
                return None
            ticket = uuid.uuid4().hex
            self._seats[ticket] = seat
            self._vacated = self._vacated[1:]
            self._changed.notify_all()
        return ticket

    def next(self, ticket: str) -> Answer | None:
        """Wait for the lane's next epoch. None: the lane is gone, and the client has to join anew."""
        with self._changed:
            seat = self._seats.get(ticket)
            if seat is None:
                return None
            seat.asked = True
            self._changed.notify_all()
            self._changed.wait_for(lambda: seat.answer is not None or ticket not in self._seats)
            answer, seat.answer, seat.asked, seat.heard = seat.answer, None, False, time.monotonic()
            if answer is not None and answer[0]["done_by_itself"] and ticket in self._seats:
                self._drop(ticket)
            return answer

    def leave(self, ticket: str) -> None:
        """Give the lane back, if it is still there."""
        with self._changed:
            if ticket in self._seats:
                self._drop(ticket)

    def _drop(self, ticket: str) -> None:
        del self._seats[ticket]
        self._vacated.append(time.monotonic())
        self._changed.notify_all()

    def _drop_absent(self) -> None:
        latest = time.monotonic() - ABSENT_S
        for ticket in [t for t, seat in self._seats.items() if not seat.asked and seat.heard < latest]:
            self._drop(ticket)

    # --- the thread that trains ---------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            self._device = device()
            with gathered() as self._logged:
                while True:
                    seats = self._wanted()
                    started = time.monotonic()
                    self._train(seats)
                    self._took = time.monotonic() - started
        except BaseException:
            traceback.print_exc()
            os._exit(1)  # without this thread all clients would wait for ever; so they begin anew at another process

    def _wanted(self) -> list[_Seat]:
        """Wait until epochs are wanted, and a little longer for clients that don't ask yet; then the lanes to train."""
        until = None
        with self._changed:
            while True:
                self._drop_absent()
                wanted = [seat for seat in self._seats.values() if seat.wanted]
                now = time.monotonic()
                if not wanted:
                    until = None
                elif until is None:
                    until = now + min(max(self._took, GRACE_S[0]), GRACE_S[1])
                if until is not None and (now >= until or not self._missing(now)):
                    return wanted
                self._changed.wait(0.02 if wanted else None)

    def _missing(self, now: float) -> bool:
        """Whether there are clients that will soon ask: of lanes with an answer, or of trials about to begin."""
        self._vacated = [when for when in self._vacated if now - when < min(self._took, SUCCESSOR_S)]
        return bool(self._vacated) or not all(seat.wanted for seat in self._seats.values())

    def _train(self, seats: Sequence[_Seat]) -> None:
        self._let_go()
        groups: dict[object, list[_Seat]] = {}
        for seat in seats:
            if seat.engine is not None or self._enter(seat):
                groups.setdefault(seat.signature, []).append(seat)
        for signature, group in groups.items():
            together = [seat for seat in group if not seat.alone]
            for part in _parts(together, self._most.get(signature, len(group))):
                self._epoch(part)
        for seat in [seat for group in groups.values() for seat in group if seat.alone]:
            _internal_kv_put(turn_key(self._name), str(seat.order["trial"]).encode())
            self._epoch([seat])
            seat.alone = False
            _internal_kv_del(turn_key(self._name))

    def _let_go(self) -> None:
        """Take lanes that were left out of their engines, and drop engines without lanes."""
        with self._changed:
            held = set(self._seats.values())
        for seat in self._entered:
            if seat.engine is not None and seat not in held:
                seat.engine.leave(seat.lane)
        self._entered = [seat for seat in self._entered if seat in held]
        used = {seat.signature for seat in held}
        self._engines = {signature: engine for signature, engine in self._engines.items() if signature in used}

    def _enter(self, seat: _Seat) -> bool:
        """Make a lane of a trial that has just joined; whether it is to be trained."""
        try:
            start = begin(seat.order, self._shared, self._device)
            engine = self._engines.get(seat.signature) or start.engine()
            seat.lane = start.join(engine)
            seat.engine = self._engines[seat.signature] = engine
            self._entered.append(seat)
            if start.last is not None:
                self._tell(seat, start.last)
            return start.last is None
        except Exception as error:
            self._give_up(seat, error)
            return False

    def _epoch(self, seats: Sequence[_Seat]) -> None:
        """Train an epoch of lanes of one signature. What goes wrong with several is tried again with fewer of them."""
        engine = seats[0].engine
        assert engine is not None
        problem = None
        try:
            with self._watchdog.epoch(stack_of(self._shared, seats[0].order["trial"])):
                results = {result.lane: result for result in engine.epoch([seat.lane for seat in seats])}
        except Exception as error:
            problem = error.with_traceback(None)  # which would hold on to the model's memory
        if problem is None:
            for seat in seats:
                self._tell(seat, results[seat.lane])
            return
        _check_device(self._device)
        if len(seats) == 1:
            self._give_up(seats[0], problem)
            return
        most = (len(seats) + 1) // 2 if isinstance(problem, torch.OutOfMemoryError) else 1
        self._most[seats[0].signature] = most
        for part in _parts(seats, most):
            self._epoch(part)

    def _give_up(self, seat: _Seat, error: Exception) -> None:
        """Fail a trial. One for which there is no memory beside the others goes on where, or when, a lane is free."""
        if isinstance(error, torch.OutOfMemoryError):
            with self._changed:
                own = [ticket for ticket, other in self._seats.items() if other is seat]
                if own and len(self._seats) > 1:
                    self._room = len(self._seats) - 1
                    self._drop(own[0])
                    return
        self._fail(seat, error)

    def _tell(self, seat: _Seat, result: EpochResult) -> None:
        seat.epoch = result.epoch
        assert seat.engine is not None
        told = epoch_report(seat.order["trial"], result)
        try:
            files = {} if result.failed else checkpoint_files(seat.engine, seat.lane, told)
        except Exception as error:
            self._fail(seat, error)
            return
        self._answer(seat, (told, files))

    def _fail(self, seat: _Seat, error: Exception) -> None:
        log.error("epoch %d failed", seat.epoch + 1, exc_info=error)
        self._answer(seat, (failure(seat.order["trial"], seat.epoch + 1, error), {}))

    def _answer(self, seat: _Seat, answer: Answer) -> None:
        report, files = answer
        with self._changed:
            seat.answer = {**report, "log": self._logged.fetch()}, files
            self._changed.notify_all()

    def _signature(self, order: Order) -> object:
        """The static signature of a trial; of one whose configuration is wrong, its own: it fails as it is trained."""
        try:
            return get_family(self._shared["family"]).config.from_dict(order["params"]).signature()
        except SersearchError:
            return repr(order["params"])


def _parts(seats: Sequence[_Seat], most: int) -> Iterator[Sequence[_Seat]]:
    return (seats[first : first + most] for first in range(0, len(seats), most))


def _check_device(where: str) -> None:
    """End the process when an error has left the GPU unusable to it: the next process can use it again."""
    if where == "cuda":
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


# --- how many lanes ---------------------------------------------------------------------------------------------------

PROBED = (1, 2, 8)
"""Numbers of lanes that are measured."""
GAIN = 1.2
"""Speed-up from which training lanes as one model is worth it."""
SHARE = 0.85
"""Of the GPU's free memory, what lanes may take."""
CAP = 64
"""Most lanes that `auto` chooses."""


def fitting(probe: Callable[[int], tuple[float, float] | None], free: float) -> int:
    """Lanes that fit into `free` bytes of memory; 1 where training them as one model isn't worth it.

    `probe(k)` gives the bytes and the seconds that k lanes take as one model, None when they don't fit.
    """
    measured: dict[int, tuple[float, float]] = {}
    for lanes in PROBED:
        found = probe(lanes)
        if found is None:
            break
        measured[lanes] = found
    if len(measured) < 2:
        return 1
    most, fewer = max(measured), sorted(measured)[-2]
    if most * measured[1][1] / measured[most][1] <= GAIN:
        return 1
    each = (measured[most][0] - measured[fewer][0]) / (most - fewer)
    spare = SHARE * free - measured[most][0]
    more = CAP if each <= 0 else int(spare // each)
    too_many = next((lanes for lanes in PROBED if lanes not in measured), CAP + 1)
    return max(1, min(most + more, too_many - 1, CAP))


def measured_lanes(meta: Mapping[str, Any], points: Sequence[dict[str, Any]]) -> int:
    """Lanes that fit this process's GPU, for the largest model among `points`, the parameters of one trial each.

    `meta` is study.json's content.
    """
    family = get_family(meta["family"])

    def engine(config: Config) -> Engine:
        data = load_data(meta["data"], config, meta["family"])
        return Engine(family, data, device(), **how(meta))

    def size(config: Config) -> int:
        one = engine(config)
        return sum(t.numel() for t in one.state(one.join(config, seed=0, epochs=1)).weights.values())

    def probe(lanes: int) -> tuple[float, float] | None:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        try:
            seconds, _ = engine(largest).time_epoch(largest, lanes=lanes)
        except torch.OutOfMemoryError:
            return None
        return torch.cuda.max_memory_allocated(), seconds

    with Watchdog(None).epoch(None):
        largest = max((family.config.from_dict(params) for params in points), key=size)
        return fitting(probe, torch.cuda.mem_get_info()[0])
