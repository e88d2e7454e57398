"""Any command line of sersearch as a job of a Ray cluster: checked here, run there, followed from here.

A job is known by its command line. The same one, submitted again, follows the job that runs; where none does, it is
run again, and a search goes on with its study. So nothing about a job is kept on this machine.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import re
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sersearch.cluster import ANSWER_S, prepare
from sersearch.errors import ConfigError, one_of, printable
from sersearch.redaction import redact_uri

if TYPE_CHECKING:
    import typer

PATIENCE_S = 300.0
"""Seconds for which a cluster that doesn't answer any more is asked again."""
QUIET_S = 60.0
"""Seconds without news of a log, after which it is asked for anew: a connection can be dead without a word of it."""
PAUSE_S = 2.0
"""Seconds between two tries."""
STOP_S = 30
"""Seconds that a job which is stopped has beyond its --grace, until Ray kills it."""
REQUEST_S = 60.0
"""Seconds in which a request must be answered."""

_PLACES = ("data", "aux", "cross", "storage", "out")
"""Options that name a folder, or a URL."""
_LINK = re.compile(r"https?://\S+/#/experiments/\d+/runs/[0-9a-f]{32}")
_NOT_FOUND, _STOPPED = 127, 130
"""Exit codes: of a shell without such a command, and of a search that was asked to end."""


def submit(app: typer.Typer, words: Sequence[str], address: str) -> int:
    """Run the command line `words` of `app` as a job of the cluster whose dashboard is at `address`; its exit code.

    What the job prints is printed, and the link to its MLflow run at the end. Raises :class:`ConfigError` for a command
    that can't be run there, and a cluster that takes no job or is gone; KeyboardInterrupt, with how to go on, when this
    process is interrupted: the job goes on.
    """
    name, options = _parsed(app, words)
    _check(name, words, options)
    entrypoint = shlex.join(["sersearch", *_with_space(words, options.get("space"))])
    client = _connect(address)
    job, there = _begun(client, entrypoint, options.get("grace", 0.0))
    print(f"Job {job} on {address}{', which runs already' if there else ''}")
    log = _Log()
    try:
        info = _follow(client, job, log, address)
    except KeyboardInterrupt:
        stop = f"RAY_AUTH_MODE={os.environ.get('RAY_AUTH_MODE')} ray job stop --address {shlex.quote(address)} {job}"
        raise KeyboardInterrupt(f"Job {job} goes on: the same command follows it again, `{stop}` ends it") from None
    finally:
        if log.link:
            print(f"MLflow: {log.link}")
    return _outcome(job, info)


def _parsed(app: typer.Typer, words: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """The command that `words` begin with, and its options, as sersearch itself reads them.

    What it finds wrong with them is said as it says it.
    """
    from typer.main import get_command

    command: Any = get_command(app)
    name, rest = "", list(words)
    while commands := getattr(command, "commands", None):
        word = rest.pop(0) if rest else ""
        known = commands.keys() - {"submit"}
        if word not in known:
            raise ConfigError(f"{f'{name} {word}'.strip()}: isn't a command for a cluster; {one_of(word, known)}")
        command, name = commands[word], f"{name} {word}".strip()
    return name, command.make_context(f"sersearch {name}", rest).params


def _check(name: str, words: Sequence[str], options: Mapping[str, Any]) -> None:
    """Raise :class:`ConfigError` for what would be lost, leak or not be found on the cluster."""
    for word in words:
        if redact_uri(word) != word:
            raise ConfigError(
                f"{redact_uri(word)}: everyone who sees the cluster's dashboard can read a job's command line; leave "
                "user, password and token out, and set them in the environment of the cluster's nodes, such as "
                "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD"
            )
    for option, path in _paths(options):
        if not path.is_absolute() and path.exists():
            raise ConfigError(
                f"{option} {path}: lies on this machine, and the cluster doesn't have it; name a URL that it reaches, "
                "such as s3://bucket/folder, or the full path of a folder that all of its nodes have"
            )
    if name == "prep" and not _everywhere(options["out"]):
        raise ConfigError(
            "prep on a cluster needs --out, a URL or the full path of a folder that all of its nodes reach: else the "
            "features lie on the disk of one node, and can go with it"
        )
    if name != "tune" or options["dry_run"]:
        return
    study = options["resume"] or options["retry_failed"] or options["name"]
    if study is None:
        raise ConfigError("tune on a cluster needs --name NAME: by it, the same command goes on with the study")
    if not _everywhere(options["storage"]) and not (options["studies"].is_absolute() or Path(study).is_absolute()):
        raise ConfigError(
            "tune on a cluster needs --storage, a URL or the full path of a folder that all of its nodes reach: else "
            f"{study} lies on the disk of one node, and can go with it (or --studies with the path of such a folder)"
        )


def _everywhere(name: str | None) -> bool:
    """Whether a folder is named in such a way that all nodes can mean the same one."""
    return name is not None and ("://" in name or Path(name).is_absolute())


def _paths(options: Mapping[str, Any]) -> Iterator[tuple[str, Path]]:
    """Options and arguments that name something in a file system, other than the folder of studies."""
    for option, value in options.items():
        for one in value if isinstance(value, list | tuple) else [value]:
            named = isinstance(one, Path) or (isinstance(one, str) and option in _PLACES and "://" not in one)
            if named and option != "studies":
                yield f"--{option}" if option in _PLACES else option, Path(one)


def _with_space(words: Sequence[str], space: str | None) -> list[str]:
    """`words` with the content of `space` in place of its name, where that is a file, which the cluster hasn't got."""
    if space is None:
        return list(words)
    from sersearch.tuning.space import load_space, read_yaml, space_names

    if space in space_names():
        return list(words)
    load_space(space)  # says what is wrong with it before anything starts
    written = space if space.startswith("{") else json.dumps(read_yaml(Path(space).read_text("utf-8")))
    option = f"--space={space}"
    given = [f"--space={written}" if word == option else word for word in words]
    return [written if before == "--space" else word for before, word in zip(["", *given], given, strict=False)]


def _connect(address: str) -> Any:
    """A client of the cluster's job server. Raises :class:`ConfigError` when there is none that lets this user in."""
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.password:
        raise ConfigError(
            f"--address {redact_uri(address)}: expected the URL of the cluster's dashboard, such as http://head:8265"
        )
    if find_spec("aiohttp") is None:
        raise ConfigError("submit needs Ray's job client: pip install 'sersearch[cluster]'")
    prepare(address)
    for name in ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS"):  # Ray would take these in place of --address
        os.environ.pop(name, None)
    from ray.exceptions import AuthenticationError
    from ray.job_submission import JobSubmissionClient

    for name in ("dashboard_sdk", "job.sdk"):  # which tell of each connection
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)

    class Client(JobSubmissionClient):  # type: ignore[misc]  # Ray has no types here
        """Ray's, which would wait for ever for a machine that doesn't answer."""

        def _do_request(self, method: str, endpoint: str, **how: Any) -> Any:
            return super()._do_request(method, endpoint, timeout=(ANSWER_S, REQUEST_S), **how)

    try:
        return Client(address)
    except AuthenticationError:
        raise ConfigError(_refused(address)) from None
    except ConnectionError:
        raise ConfigError(
            f"--address {address}: no job server of Ray answers there; it is part of the dashboard, which a head has "
            "with `pip install 'sersearch[cluster]'` (ray[default]) and `ray start --head --dashboard-host ADDRESS`"
        ) from None
    except (RuntimeError, OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"--address {address}: what answers there isn't the job server of a Ray cluster ({_reason(error)}); its "
            "port is 8265 unless `ray start --dashboard-port` says otherwise"
        ) from None


def _refused(address: str) -> str:
    return (
        f"--address {address}: the cluster doesn't let this machine in, which has another token or none; give it the "
        "cluster's as RAY_AUTH_TOKEN or in ~/.ray/auth_token (RAY_AUTH_MODE=disabled for a cluster without one)"
    )


def _begun(client: Any, entrypoint: str, grace: float) -> tuple[str, bool]:
    """The job that runs `entrypoint`, or is to, and whether it was there before.

    Raises :class:`ConfigError` when the cluster takes none.
    """
    # Ray waits for a job that it stops as long as the job's environment says.
    environment = {"RAY_JOB_STOP_WAIT_TIME_S": str(int(grace) + STOP_S)}
    try:
        for job in client.list_jobs():
            if job.submission_id and job.entrypoint == entrypoint and not job.status.is_terminal():
                return str(job.submission_id), True
        return str(client.submit_job(entrypoint=entrypoint, runtime_env={"env_vars": environment})), False
    except (RuntimeError, OSError) as error:
        raise ConfigError(f"the cluster took no job: {_reason(error)}; its dashboard's logs say more") from None


class _Log:
    """What of a job's log has been printed."""

    def __init__(self) -> None:
        self.printed = 0
        """Characters of it."""
        self.link: str | None = None
        """To its MLflow run."""
        self.heard = time.monotonic()
        """When the cluster last answered."""

    def take(self, text: str, at: int) -> None:
        """Print what of `text`, which stands `at` so many characters, is new."""
        self.heard = time.monotonic()
        new = text[max(0, self.printed - at) :]
        self.printed += len(new)
        if found := _LINK.findall(text):
            self.link = found[-1]
        print(printable(new.expandtabs()), end="", flush=True)


def _follow(client: Any, job: str, log: _Log, address: str) -> Any:
    """Print the job's log to its end; what Ray knows of the job then.

    Raises :class:`ConfigError` when the cluster is gone, or has forgotten the job.
    """
    from aiohttp import ClientError
    from ray.exceptions import AuthenticationError

    ended, told = False, False
    while True:
        try:
            info = client.get_job_info(job)
            if ended and info.status.is_terminal():
                return info
            ended = asyncio.run(_tail(client, job, log))
            told = False
        except AuthenticationError:
            raise ConfigError(_refused(address)) from None
        except (ClientError, RuntimeError, OSError) as error:
            if "status code 404" in str(error):
                raise ConfigError(
                    f"the cluster at {address} has no job {job} any more: its head was started anew; the same command "
                    "begins another job"
                ) from None
            if time.monotonic() - log.heard > PATIENCE_S:
                raise ConfigError(
                    f"the cluster at {address} hasn't answered for {PATIENCE_S:.0f} s ({_reason(error)}); job {job} "
                    "may be running: the same command follows it again"
                ) from None
            if not told:
                print(f"The connection is lost ({_reason(error)}): trying again", file=sys.stderr)
            told = True
        time.sleep(PAUSE_S)


async def _tail(client: Any, job: str, log: _Log) -> bool:
    """Print what comes of the job's log; whether it ended, rather than that nothing came for a while."""
    lines, at = client.tail_job_logs(job), 0
    while True:
        try:
            text = await asyncio.wait_for(anext(lines), QUIET_S)
        except (StopAsyncIteration, TimeoutError) as end:
            log.heard = time.monotonic()
            return isinstance(end, StopAsyncIteration)
        log.take(text, at)
        at += len(text)


def _outcome(job: str, info: Any) -> int:
    """Say how a job ended that didn't succeed; its exit code."""
    status, code = str(info.status), info.driver_exit_code
    if status == "SUCCEEDED":
        return 0
    if status == "STOPPED":
        print(f"Job {job} was stopped; the same command goes on", file=sys.stderr)
        return _STOPPED
    if code is None:  # Ray's own reason, such as a node that was lost
        why = (info.message or "Ray doesn't say why").strip()
        print(f"Job {job} failed: {printable(why)}", file=sys.stderr)
        return 1
    if code == _NOT_FOUND:
        missing = "the cluster's head has no sersearch in its PATH; install it, in the same version, on all nodes"
        print(f"Job {job} failed: {missing}", file=sys.stderr)
    elif code < 0:
        print(f"Job {job} was ended by signal {-code}; the same command goes on", file=sys.stderr)
    return int(code) if code > 0 else 128 - int(code)


def _reason(error: Exception) -> str:
    """The last line of what an error says, which is a traceback's own."""
    lines = str(error).strip().splitlines()
    return redact_uri(lines[-1].strip()) if lines else type(error).__name__


__all__ = ["submit"]
