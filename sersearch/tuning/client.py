"""A trial as a thin client of a lane server: it joins a lane, hands the lane's epochs on to Tune, and leaves.

Starts a process of its own for each trial at a time, up to 64 beside one GPU: so nothing here may import torch.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError

from sersearch.errors import SersearchError

ANSWER_S = 10.0
"""Seconds in which a server that lives answers a question that needs no training."""
RESTART_S = 120.0
"""Seconds in which one of the servers must live again."""
POLL_S = 0.2
"""Seconds between two questions for a free lane."""


class NoServerError(RuntimeError):
    """No lane server lives; the trial's process ends with this, and Tune starts it again."""


def report(trial: int, epoch: int, *, failed: bool, reason: str, **fields: Any) -> dict[str, Any]:
    """What Tune is told of an epoch. All of it, always: Tune ends the experiment when a report lacks the metric."""
    empty = {"value": math.nan, "best": False, "done_by_itself": True, "metrics": {}, "seconds": 0.0}
    return {**empty, "trial": trial, "epoch": epoch, "failed": failed, "reason": reason, **fields}


def failure(trial: int, epoch: int, error: Exception) -> dict[str, Any]:
    """The report of a trial that `error` ended in `epoch`; its reason is one line."""
    text = str(error) if isinstance(error, SersearchError) else f"{type(error).__name__}: {error}"
    return report(trial, epoch, failed=True, reason=text.strip().splitlines()[0])


def train(config: dict[str, Any], servers: Sequence[str]) -> None:
    """The trainable of a study with lanes; `config` as `trainable.train` has it, `servers` the lane servers' names.

    What goes wrong in a trial is its own failure, told with its reason. A server that died ends the trial's process
    with an error: Tune starts it again from its last checkpoint, at a server that lives.
    """
    done, last = False, 0
    try:
        while not done:
            server, ticket = _join(config, servers)
            try:
                # Without an answer the lane is gone, the server having lived twice or having missed this client.
                while not done and (answer := ray.get(server.next.remote(ticket))) is not None:
                    result, files = answer
                    _report(result, files)
                    done, last = result["done_by_itself"], result["epoch"]
            finally:  # Tune stops a trial by a SystemExit in `tune.report`
                server.leave.remote(ticket)
    except RayTaskError as error:
        told = str(error).strip().splitlines()[-1]  # the others are the server's traceback
        tune.report(report(config["trial"], last + 1, failed=True, reason=told))
    except (RayError, NoServerError):
        raise
    except Exception as error:
        tune.report(failure(config["trial"], last + 1, error))


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


def _join(config: dict[str, Any], servers: Sequence[str]) -> tuple[Any, str]:
    """A lane: its server and its ticket. Waits for one where all are taken."""
    known = tune.get_checkpoint()
    order = {**config, "checkpoint": config["checkpoint"] if known is None else known.path}
    heard = time.monotonic()
    while time.monotonic() - heard < RESTART_S:
        offers = _answers("offer", servers, order)
        if offers:
            heard = time.monotonic()
        best = min(((offer, name) for name, offer in offers.items() if offer is not None), default=None)
        if best is not None:
            _, name = best
            ticket = _answers("join", [name], order).get(name)
            if ticket is not None:
                return ray.get_actor(name), ticket
        time.sleep(POLL_S)
    raise NoServerError(f"none of the {len(servers)} lane servers answered for {RESTART_S:.0f} s")


def _answers(method: str, servers: Sequence[str], order: dict[str, Any]) -> dict[str, Any]:
    """What those servers say that live, by their names."""
    asked = {name: getattr(ray.get_actor(name), method).remote(order) for name in servers}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_S)
    said = {}
    for name, answer in asked.items():
        with suppress(RayActorError, GetTimeoutError):
            said[name] = ray.get(answer, timeout=0)
    return said
