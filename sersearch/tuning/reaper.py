"""Waits for a study's driver to end and, where it was killed, ends what it left running, in the journal and in MLflow.

A process of its own, which the driver starts: `python -m sersearch.tuning.reaper FOLDER`, with the tracking URI on its
standard input, as it may hold a password. Until then it only waits for the study's lock.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from sersearch.errors import TrackingError
from sersearch.study import SETTLE, Study

PATIENCE_S = 120.0
"""Seconds for which a new driver waits until an old one's remains are settled."""
INTERRUPTED = "the search was interrupted"


def watch(study: Study, uri: str) -> None:
    """Start a reaper for this process, the driver of `study`."""
    command = [sys.executable, "-m", "sersearch.tuning.reaper", str(study.folder.resolve())]
    # In a session of its own: what ends the driver's group leaves it alone.
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert process.stdin is not None
    process.stdin.write(uri.encode())
    process.stdin.close()


def interrupt(study: Study, reason: str) -> None:
    """End the trials that run, in the journal that is here: another driver may have gone on in the storage."""
    for record in study.trials():
        if record.state == "running":
            study.append("end", record.number, state="interrupted", reason=reason)


def reap(study: Study, uri: str) -> bool:
    """Settle a study that is held and has no driver any more; whether there was anything to settle.

    That is what runs where the driver died, and else what it could not send to MLflow in time.
    """
    died = study.meta["state"] == "running"
    if not died and not study.spool.is_file():
        return False
    if died:
        interrupt(study, INTERRUPTED)
        study.write_meta(state="interrupted")
    from sersearch.tracking import Tracker

    tracker = Tracker(uri, study.meta["space"]["name"], study.name, study.spool)
    with suppress(TrackingError):  # the rest stays in the spool: a resume sends it
        tracker.settle(study.meta)
    study.write_meta(warnings=tracker.warnings)  # those before tell of what waited
    return True


def main() -> None:
    """Wait for the driver's end."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # what ends all of a job's processes leaves this one its work
    folder, uri = Path(sys.argv[1]), sys.stdin.read()
    study = Study.open(folder)
    with study.hold(SETTLE, wait=True) as lock:
        if same_file(lock, folder / ".lock"):  # and not a study that was begun anew in its place
            reap(Study.open(folder), uri)


def same_file(opened: int, path: Path) -> bool:
    """Whether the file that is open is that of `path`."""
    with suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(opened), path.stat())
    return False


if __name__ == "__main__":
    main()
