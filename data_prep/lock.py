"""One `sersearch prep` at a time in a folder, on disks and in object stores."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from sersearch.data.place import is_local
from sersearch.errors import DataError

NAME = ".prep.lock"
STALE = 900  # s without a sign of life after which a lock in an object store is its holder's no more


@contextmanager
def hold(out: Path) -> Iterator[Callable[[], None]]:
    """Keep others out of `out`; yields a sign of life, to be called now and then.

    On disks the system lets go of a lock when its process dies. In an object store the lock is an object with the time
    of the last sign of life. Raises :class:`DataError` when another process holds the folder.
    """
    held = f"{out}: another `sersearch prep` is writing there; wait for it, or choose another --out"
    if is_local(out):
        try:
            with FileLock(out / NAME, timeout=0):
                yield lambda: None
        except Timeout:
            raise DataError(held) from None
        return
    path, me = out / NAME, f"{socket.gethostname()} {os.getpid()} {time.time_ns()}"
    other = _read(path)
    if other and time.time() - other["time"] < STALE:
        raise DataError(f"{held} ({other['holder']}, {time.time() - other['time']:.0f} s ago)")

    def alive() -> None:
        path.write_text(json.dumps({"holder": me, "time": time.time()}))

    alive()
    if (_read(path) or {}).get("holder") != me:
        raise DataError(held)
    try:
        yield alive
    finally:
        path.unlink(missing_ok=True)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content = json.loads(path.read_text("utf-8"))
        return {"holder": str(content["holder"]), "time": float(content["time"])}
    except (OSError, ValueError, KeyError, TypeError):
        return None
