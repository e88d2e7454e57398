"""Small studies whose trials are trained in this process, and small searches as processes of their own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sersearch.data.place import full_name
from sersearch.data.protocols import Protocol
from sersearch.study import Study
from sersearch.tuning.data import study_data
from tests.synthetic import make_table, write_table

PARAMS = {"channels": [2, 3, 4], "hidden": 5, "batch_size": 8, "segment_frames": 32, "segment_hop": 32}
EPOCHS = 3


def small_study(folder: Path) -> Study:
    """A study of trials of three epochs each, on a table of its own."""
    study_data.cache_clear()
    data = write_table(folder / "data", make_table())
    section = {
        "path": str(data),
        "aux": None,
        "features": "spectrogram",
        "target": "emotion",
        "protocol": Protocol("loso", "s0").to_dict(),
    }
    meta = {"family": "aae", "seed": 0, "data": section, "space": {"epochs": EPOCHS, "fixed": PARAMS}}
    meta |= {"epoch_limit": None}
    return Study.create("one", {**meta, "objective": {"metric": "dev_ua", "mode": "max"}}, folder / "studies")


def shared(study: Study) -> dict[str, Any]:
    """What its trials share."""
    return {**study.meta, "home": full_name(study.home)}


def order(study: Study, trial: int = 0, checkpoint: Path | None = None, **params: Any) -> dict[str, Any]:
    """What Tune, or a client, asks for; `checkpoint` lies in the study's home."""
    names = [] if checkpoint is None else [checkpoint.relative_to(study.home).as_posix()]
    return {"trial": trial, "searched": {}, "params": {**PARAMS, **params}, "checkpoints": names}


def start(work: Path, *args: str) -> subprocess.Popen[str]:
    """`sersearch tune ARGS` in the folder `work`, in a session of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "sersearch", "tune", *args],
        cwd=work,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )


def search(work: Path, name: str, *args: str) -> subprocess.Popen[str]:
    """A new search called `name` of the space small.yaml in `work`."""
    options = ["--space", "small.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "s0", "--name", name]
    return start(work, *options, *args)


def printed(running: subprocess.Popen[str]) -> str:
    """What a search printed by its end, which must be a good one."""
    output, _ = running.communicate(timeout=400)
    assert running.returncode == 0, output
    return output


def kill_at(study: Path, running: subprocess.Popen[str], event: str, count: int) -> None:
    """Kill -9 of a search's driver once the journal has so many events of a kind."""
    until(study, running, lambda events: sum(e["event"] == event for e in events) >= count)
    running.kill()
    running.communicate()


def until(study: Path, running: subprocess.Popen[str], holds: Callable[[list[dict[str, Any]]], bool]) -> None:
    """Wait until something holds of the journal."""
    deadline = time.monotonic() + 300
    journal = study / "trials.jsonl"
    while not journal.is_file() or not holds([json.loads(line) for line in _whole_lines(journal)]):
        assert running.poll() is None, running.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _whole_lines(journal: Path) -> list[str]:
    return [line for line in journal.read_text().splitlines(keepends=True) if line.endswith("\n")]


def descendants(root: int) -> Iterator[tuple[int, str]]:
    """Processes that `root` started, and those that they did, with their titles."""
    parents: dict[int, tuple[int, str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            parents[int(folder.name)] = (parent, (folder / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    found = {root}
    while more := {pid for pid, (parent, _) in parents.items() if parent in found} - found:
        found |= more
    yield from ((pid, parents[pid][1]) for pid in found - {root} if pid in parents)
