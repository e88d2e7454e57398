"""The Ray that a command runs on: the one that this process has, a cluster's, or a quiet one of its own."""

from __future__ import annotations

import gc
import logging
import os
import signal
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sersearch.errors import ConfigError

_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent anywhere
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # the behaviour that Ray announces as its default
}
# Ray's name for "may there be other nodes?". Without them, all of its ports listen on the loopback interface only.
_ALONE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def prepare(address: str | None, environment: Mapping[str, str] = {}) -> None:
    """Set what Ray, and processes that it starts, read from their `environment`: before anything imports Ray."""
    if "ray" in sys.modules:  # it has read its own already
        known = dict(environment)
    else:
        known = {**environment, **_QUIET, **({} if cluster_named(address) else _ALONE), "RAY_AUTH_MODE": "token"}
    for name, value in known.items():
        os.environ.setdefault(name, value)


ANSWER_S = 10.0
"""Seconds in which a cluster must answer."""


@contextmanager
def ray_session(address: str | None, environment: Mapping[str, str] = {}, **local: Any) -> Iterator[bool]:
    """A Ray to run in; whether it is a cluster's. Call :func:`prepare` first.

    `address` (or RAY_ADDRESS, as Ray's own jobs have it) names a cluster, with Ray's token authentication unless
    RAY_AUTH_MODE says otherwise. Without one, a Ray is started that no other machine reaches; `local` are arguments of
    its `ray.init`. `environment` is what processes that Ray starts find in theirs.

    Raises :class:`ConfigError` when no cluster answers there.
    """
    prepare(address, environment)
    import ray

    cluster = cluster_named(address)
    ours = not ray.is_initialized()
    if ours:
        how: dict[str, Any] = {"address": "local", "include_dashboard": False, **local}
        if cluster:
            cluster = _started(cluster)
            _check_reachable(cluster)
            how = {"address": cluster, "runtime_env": {"env_vars": {name: os.environ[name] for name in environment}}}
        try:
            with _deaf():
                ray.init(**how, log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, RuntimeError, ValueError) as error:
            if not cluster:
                raise
            raise ConfigError(_unreachable(cluster, error)) from None
        _own_token()
    try:
        yield bool(cluster)
    finally:
        if ours:
            # What Tune leaves in cycles refers to Ray. Collected by another thread while Ray ends, it ends the process.
            gc.collect()
            gc.disable()
            try:
                ray.shutdown() if cluster else _shut_down()
            finally:
                gc.enable()


@contextmanager
def _deaf() -> Iterator[None]:
    """Processes that are started in the block don't hear SIGTERM.

    A service manager or a scheduler sends it to all processes of a job at once: Ray must live until we have left.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _shut_down() -> None:
    """End our own Ray by SIGKILL: it doesn't hear SIGTERM, for which Ray would give each process a second.

    What Ray's processes have started would look for them for a minute.
    """
    import psutil  # type: ignore[import-untyped]  # comes with Ray
    import ray
    from ray._private import worker

    processes = [known.process for several in worker._global_node.all_processes.values() for known in several]
    living = [process for process in processes if process.poll() is None]
    started = [child for process in living for child in psutil.Process(process.pid).children(recursive=True)]
    for process in living:
        process.terminate = process.kill
    ray.shutdown()
    for child in started:
        with suppress(psutil.NoSuchProcess):
            child.kill()


def cluster_named(address: str | None) -> str | None:
    """The cluster that is asked for, here or in RAY_ADDRESS; None: this machine."""
    return address or os.environ.get("RAY_ADDRESS")


def _started(cluster: str) -> str:
    """host:port of the cluster `auto`. Raises :class:`ConfigError` when none was started on this machine."""
    if cluster != "auto":
        return cluster
    from ray._private.services import canonicalize_bootstrap_address

    found = canonicalize_bootstrap_address("auto")
    if found is None:
        raise ConfigError("--address auto: no Ray cluster was started on this machine; `ray start --head` starts one")
    return str(found)


def _check_reachable(cluster: str) -> None:
    """Raise :class:`ConfigError` when nobody listens at host:port; Ray would try for a quarter of an hour."""
    host, _, port = cluster.removeprefix("ray://").rpartition(":")
    if not port.isdecimal():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWER_S).close()
    except OSError as error:
        raise ConfigError(_unreachable(cluster, error)) from None


def _unreachable(cluster: str, error: Exception) -> str:
    reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"--address {cluster}: no Ray cluster answers there ({reason}); start it with `ray start`, and where it has a "
        "token, give it to this machine, too, as RAY_AUTH_TOKEN or in ~/.ray/auth_token (RAY_AUTH_MODE=disabled for a "
        "cluster without one)"
    )


def _own_token() -> None:
    """Ray lets every user of the machine read the token that it makes."""
    with suppress(OSError):
        Path("~/.ray/auth_token").expanduser().chmod(0o600)


__all__ = ["cluster_named", "prepare", "ray_session"]
