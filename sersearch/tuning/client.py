"""A trial as a thin client of a lane server: it joins a lane, hands the lane's epochs on to Tune, and leaves.

Starts a process of its own for each trial at a time, up to 64 beside one GPU: so nothing here may import torch.
"""

from __future__ import annotations

import errno
import math
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError
from ray.experimental.internal_kv import _internal_kv_get

from sersearch.errors import SersearchError
from sersearch.redaction import redact

Order = dict[str, Any]
"""A trial, as Tune's config: trial (number), searched and params, and the names of its checkpoints, the last first."""
Shared = dict[str, Any]
"""What all trials of a study share: study.json's content, and `home`, where checkpoints lie (`Study.home`)."""

REPORT = "report.json"
"""In a checkpoint, what Tune was told of its epoch."""
KEPT_CHECKPOINTS = 2
"""Of a trial: the last one, and the one before, should that be damaged."""
RETRIES = 2
"""Times that a trial whose process died starts again from the same epoch."""
ANSWER_S = 10.0
"""Seconds in which a server that lives answers a question that needs no training."""
RESTART_S = 120.0
"""Seconds in which one of the servers must live again."""
POLL_S = 0.2
"""Seconds between two questions for a free lane."""


class MachineError(SersearchError):
    """Data can't be read on this machine that could be read when the search began."""


class NoServerError(RuntimeError):
    """No lane server lives; the trial's process ends with this, and Tune starts it again."""


def report(trial: int, epoch: int, *, failed: bool, reason: str, **fields: Any) -> dict[str, Any]:
    """What Tune is told of an epoch. All of it, always: Tune ends the experiment when a report lacks the metric."""
    empty = {"value": math.nan, "best": False, "done_by_itself": True, "metrics": {}, "seconds": 0.0}
    empty |= {"log": [], "machine": False}
    return {**empty, "trial": trial, "epoch": epoch, "failed": failed, "reason": reason, **fields}


def failure(trial: int, epoch: int, error: BaseException, log: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The report of a trial that `error` ended in `epoch`; its reason is one line.

    `machine` says that it is the machine that fails, and not the trial.
    """
    text = str(error) if isinstance(error, SersearchError) else f"{type(error).__name__}: {error}"
    first, *more = text.strip().splitlines()
    reason = redact(" ".join([first, *map(str.strip, more)])[:500] if first.endswith(":") else first)
    return report(trial, epoch, failed=True, reason=reason, log=list(log), machine=machine_fails(error))


def machine_fails(error: BaseException) -> bool:
    """Whether a disk or a storage fails rather than the trial: other trials would fail like it, one after the other."""
    return any(_of_machine(cause) and not _memory(cause) for cause in _causes(error))


STORES = ("botocore", "aiobotocore", "aiohttp", "fsspec", "s3fs", "gcsfs", "adlfs", "pyarrow")
"""Packages whose errors are those of a storage."""


def _of_machine(error: BaseException) -> bool:
    if isinstance(error, (OSError, MachineError)) or type(error).__module__.partition(".")[0] in STORES:
        return True
    return "set up cluster storage" in str(error)  # Ray's words for a folder that a node hasn't got


def _memory(error: BaseException) -> bool:
    return isinstance(error, OSError) and error.errno == errno.ENOMEM


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def retried(checkpoints: Sequence[str]) -> list[str]:
    """A trial's checkpoints, the last first: those that it made before its process died, and `checkpoints`."""
    known = tune.get_checkpoint()
    if known is None:
        return list(checkpoints)
    folder, _, last = known.path.rstrip("/").rpartition("/")
    run = "/".join(folder.split("/")[-3:])  # ray/run-.../trial-0000
    number = int(last.rpartition("_")[2])
    own = [f"{run}/checkpoint_{n:06d}" for n in range(number, max(number - KEPT_CHECKPOINTS, -1), -1)]
    return own + list(checkpoints)


def train(config: Order, servers: Sequence[str]) -> None:
    """The trainable of a study with lanes; `config` as `trainable.train` has it, `servers` the lane servers' names.

    What goes wrong in a trial is its own failure, told with its reason. When a server dies, the trial goes on from its
    last checkpoint at one that lives. As any of its lanes may have killed it, they are trained one by one for that
    epoch, and the server says whose turn it is: only who kills it then has failed, the third time.
    """
    trial, last, deaths, done = config["trial"], 0, 0, False
    known = Servers(servers)
    try:
        while not done:
            order = {**config, "checkpoints": retried(config["checkpoints"]), "alone": deaths > 0}
            name, ticket = known.join(order)
            server = ray.get_actor(name)
            try:
                # Without an answer the lane is gone, the server having lived twice or having missed this client.
                while not done and (answer := ray.get(server.next.remote(ticket))) is not None:
                    result, files = answer
                    _report(result, files)
                    done, last, deaths = result["done_by_itself"], result["epoch"], 0
            except RayActorError as error:
                deaths += deaths == 0 or known.training(name) == trial
                if deaths > RETRIES:
                    why = str(error).strip().splitlines()[0]
                    raise RuntimeError(f"its lane server died {deaths} times in this epoch: {why}") from None
            finally:  # Tune stops a trial by a SystemExit in `tune.report`
                server.leave.remote(ticket)
    except RayTaskError as error:
        told = str(error).strip().splitlines()[-1]  # the others are the server's traceback
        tune.report(report(trial, last + 1, failed=True, reason=told))
    except (RayError, NoServerError):
        raise
    except Exception as error:
        tune.report(failure(trial, last + 1, error))


def _report(result: dict[str, Any], files: dict[str, bytes]) -> None:
    if not files:
        tune.report(result)
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(files, Path(folder))
        tune.report(result, checkpoint=tune.Checkpoint.from_directory(folder))


def write_files(files: dict[str, bytes], folder: Path) -> None:
    """Write a checkpoint's files, which Tune copies from there."""
    for name, content in files.items():
        (folder / name).write_bytes(content)


class Servers:
    """The lane servers of a study, by name. Those for which there is no node yet are passed over until they begin."""

    def __init__(self, names: Sequence[str]) -> None:
        self._beginning = {name: ray.get_actor(name).held.remote() for name in names}
        self._begun: list[str] = []

    def join(self, order: Order) -> tuple[str, str]:
        """A lane: its server's name and its ticket. Waits for one where all are taken.

        Raises :class:`NoServerError` when no server lives.
        """
        heard = time.monotonic()
        while time.monotonic() - heard < RESTART_S:
            offers = self._answers("offer", self._living(), order)
            if offers:
                heard = time.monotonic()
            best = min(((offer, name) for name, offer in offers.items() if offer is not None), default=None)
            if best is not None:
                _, name = best
                ticket = self._answers("join", [name], order).get(name)
                if ticket is not None:
                    return name, ticket
            time.sleep(POLL_S)
        raise NoServerError(f"no lane server answered for {RESTART_S:.0f} s")

    def training(self, name: str) -> int | None:
        """The trial that a server trained alone when it died; None where it trained several, or none."""
        told = _internal_kv_get(turn_key(name))
        return int(told) if told else None

    def _living(self) -> list[str]:
        for name, held in list(self._beginning.items()):
            ready, _ = ray.wait([held], timeout=0)
            if ready:
                del self._beginning[name]
                self._begun.append(name)
        return self._begun

    @staticmethod
    def _answers(method: str, servers: Sequence[str], order: Order) -> dict[str, Any]:
        """What those servers say that live, by their names."""
        asked = {name: getattr(ray.get_actor(name), method).remote(order) for name in servers}
        if asked:
            ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
        said = {}
        for name, answer in asked.items():
            with suppress(RayActorError, GetTimeoutError):
                said[name] = ray.get(answer, timeout=0)
        return said


def turn_key(server: str) -> bytes:
    """Under which a lane server notes in Ray whom it trains alone: it can't be asked when it has died."""
    return f"sersearch-turn-{server}".encode()
