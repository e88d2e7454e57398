"""MLflow tracking URIs: the local default, what is wrong with one before anything starts, and hiding its secrets."""

from __future__ import annotations

import base64
import os
import re
import socket
import urllib.error
import urllib.request
from http.client import HTTPException
from importlib.metadata import entry_points
from pathlib import Path
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from sersearch.errors import TrackingError, one_of
from sersearch.redaction import redact

_PORTS = {"postgresql": 5432, "mysql": 3306, "mssql": 1433}
_HELP = "leave --tracking-uri out to keep the runs in a local SQLite file"
_SQLITE = re.compile(r"(sqlite(?:\+\w+)?:///)([^?]+)")
_SECONDS = 4


def default_uri(root: Path) -> str:
    """The local default: the SQLite file `mlflow.db` in `root` (artifacts go to `mlruns/` beside it)."""
    return f"sqlite:///{root.resolve() / 'mlflow.db'}"


def artifact_location(uri: str) -> str | None:
    """Where a new experiment's artifacts go: `mlruns/` beside a SQLite file; None leaves it to the server."""
    file = sqlite_file(uri)
    return None if file is None else (file.parent / "mlruns").as_uri()


def page(uri: str, experiment_id: str | None, run_id: str | None) -> str | None:
    """Where a browser shows a run that a server has; None for any other URI, and while MLflow has no ids for it."""
    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https") or experiment_id is None or run_id is None:
        return None
    base = urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path.rstrip("/"), "", ""))
    return f"{base}/#/experiments/{experiment_id}/runs/{run_id}"


def sqlite_file(uri: str) -> Path | None:
    """The absolute path of the database file of a `sqlite:///` URI; None for any other URI."""
    match = _SQLITE.match(uri)
    return Path(match[2]).absolute() if match else None


def absolute(uri: str) -> str:
    """`uri`, its SQLite file, if it has one, as an absolute path."""
    match = _SQLITE.match(uri)
    return f"{match[1]}{Path(match[2]).absolute()}{uri[match.end() :]}" if match else uri


def check_uri(uri: str) -> None:
    """Raise :class:`TrackingError` when MLflow cannot be used at `uri`; takes at most some seconds.

    Servers are asked for an experiment and databases for a connection; nothing is written.
    """
    shown = redact(uri)
    if uri.startswith("sqlite:"):
        return _check_sqlite(uri)
    if not uri or re.search(r"\s", uri):
        raise TrackingError(f"tracking URI {shown!r} is malformed: empty or with spaces in it; {_HELP}")
    if "***@" in uri:
        raise TrackingError(f"{shown}: passwords are not kept with a study; give --tracking-uri again with its own")
    try:
        parts = urlsplit(uri)
        port = parts.port
    except ValueError as error:
        raise TrackingError(f"tracking URI {shown!r} is malformed ({error}); {_HELP}") from error
    dialect = parts.scheme.partition("+")[0]
    if dialect not in ("http", "https", *_PORTS):
        return _check_scheme(uri, parts.scheme)
    if not parts.hostname:
        raise TrackingError(f"tracking URI {shown!r} is malformed: it names no host; {_HELP}")
    if dialect in _PORTS:
        _check_database(uri, parts.hostname, port or _PORTS[dialect])
    else:
        _check_server(parts)


def _check_scheme(uri: str, scheme: str) -> None:
    """Accept Databricks and what an installed MLflow plug-in serves; nothing can be checked there."""
    plugins = {entry.name for entry in entry_points(group="mlflow.tracking_store")}
    if scheme in plugins | {"databricks"} or uri == "databricks":
        return
    if scheme in ("", "file"):
        raise TrackingError(
            f"tracking URI {uri!r} is a folder, and MLflow no longer keeps runs in folders; "
            f"give sqlite:///<path>/mlflow.db, or {_HELP}"
        )
    known = {"http", "https", "sqlite", "databricks", *_PORTS, *plugins}
    raise TrackingError(f"tracking URI {redact(uri)!r}: MLflow knows no scheme {scheme!r}; {one_of(scheme, known)}")


def _check_sqlite(uri: str) -> None:
    file = sqlite_file(uri)
    if file is None or file.name == ":memory:":
        raise TrackingError(f"tracking URI {uri!r} names no file; write sqlite:///mlflow.db or sqlite:////full/path.db")
    if not file.parent.is_dir():
        raise TrackingError(f"tracking URI {uri!r}: there is no folder {file.parent}; make it, or {_HELP}")
    if file.is_dir():
        raise TrackingError(f"tracking URI {uri!r}: {file} is a folder; name a file in it, as {file}/mlflow.db")
    if not os.access(file if file.exists() else file.parent, os.W_OK):
        raise TrackingError(f"tracking URI {uri!r}: {file} cannot be written; mend its permissions, or {_HELP}")
    if file.exists():
        with file.open("rb") as opened:
            start = opened.read(16)
        if start not in (b"", b"SQLite format 3\x00"):
            raise TrackingError(f"tracking URI {uri!r}: {file} is not a SQLite database; name another file")


def _check_database(uri: str, host: str, port: int) -> None:
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    shown = redact(uri)
    try:
        make_url(uri).get_dialect().import_dbapi()
    except ImportError as error:
        raise TrackingError(
            f"tracking URI {shown!r} needs the Python package {error.name or error}; install it, or {_HELP}"
        ) from error
    except ArgumentError as error:
        raise TrackingError(f"tracking URI {shown!r}: {redact(str(error))}; {_HELP}") from error
    try:
        socket.create_connection((host, port), timeout=_SECONDS).close()
    except OSError as error:
        raise TrackingError(f"no database answers at {shown} ({error}); start it, or {_HELP}") from error


def _check_server(parts: SplitResult) -> None:
    """Ask the server for one experiment, as MLflow's client would: it must be MLflow's, and let this user in."""
    host = parts.netloc.rpartition("@")[2]
    base = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    request = urllib.request.Request(f"{base}/api/2.0/mlflow/experiments/search?max_results=1")
    user = unquote(parts.username or "") or os.environ.get("MLFLOW_TRACKING_USERNAME", "")
    password = unquote(parts.password or "") or os.environ.get("MLFLOW_TRACKING_PASSWORD", "")
    token = os.environ.get("MLFLOW_TRACKING_TOKEN")
    if user:
        request.add_header("Authorization", "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode())
    elif token:
        request.add_header("Authorization", f"Bearer {token}")
    try:
        with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
            is_mlflow = "json" in answer.headers.get("Content-Type", "")
    except urllib.error.HTTPError as error:
        reason = f"{error.code} {error.reason}"
        if error.code in (401, 403):
            raise TrackingError(
                f"the server at {base} refuses this user ({reason}); set MLFLOW_TRACKING_USERNAME and "
                f"MLFLOW_TRACKING_PASSWORD, or {_HELP}"
            ) from error
        raise TrackingError(f"what answers at {base} is not a working MLflow server ({reason}); {_HELP}") from error
    except (OSError, ValueError, HTTPException) as error:
        reason = str(getattr(error, "reason", error))
        raise TrackingError(
            f"no MLflow server answers at {base} ({reason}); start it (mlflow server --port "
            f"{parts.port or 5000}), or {_HELP}"
        ) from error
    if not is_mlflow:
        raise TrackingError(f"what answers at {base} is no MLflow server (it sent no JSON); {_HELP}")
