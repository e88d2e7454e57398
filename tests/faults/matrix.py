"""What the tests of this folder tell at the end: a table of faults, and searches to put them into."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sersearch.logs import stack_file
from sersearch.study import Study
from tests.tuning.small import descendants

SPACE = """
name: small
doc: a small search
family: aae
features: spectrogram
search:
  alpha: {low: 0.1, high: 1.0, step: 0.1}
  learning_rate: {choices: [0.003, 0.01, 1.0e+30]}
fixed: {channels: [8, 16, 16], hidden: 16, batch_size: 8, segment_frames: 32, segment_hop: 4}
objective: {metric: dev_ua}
method: tpe
pruning: {kind: asha, grace_epochs: 2, reduction_factor: 2}
trials: 8
epochs: 8
time: seconds
"""
OPTIONS = ["--space", "small.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "s0"]
TRIAL = "ray::ImplicitFunc"
"""In the title of a trial's process."""


@dataclass
class Row:
    """A line of the table."""

    fault: str
    injected: int
    lost: int
    """Epochs or trials of the undisturbed search that the final table lacks."""
    different: int
    """Entries of the final table that are others than the undisturbed search's."""
    seconds: float
    """From the fault to the next epoch, on average."""


ROWS: list[Row] = []


def table(study: Study) -> dict[tuple[int, int], Any]:
    """What a search gave, by trial and epoch, without times and places; a trial itself is its epoch 0."""
    entries: dict[tuple[int, int], Any] = {}
    for trial in study.trials():
        entries[trial.number, 0] = (trial.params, trial.state, trial.reason)
        entries |= {(trial.number, e["epoch"]): (e["metrics"], e["value"], e["best"]) for e in trial.epochs}
    return entries


def record(fault: str, injected: int, whole: Study, study: Study, seconds: float) -> Row:
    """Compare `study`, which the fault was put into, with the undisturbed one; the line goes into the table."""
    expected, found = table(whole), table(study)
    lost = len(expected.keys() - found.keys())
    different = sum(found[entry] != expected[entry] for entry in expected.keys() & found.keys())
    row = Row(fault, injected, lost, different + len(found.keys() - expected.keys()), seconds)
    ROWS.append(row)
    return row


def assert_nothing_lost(fault: str, injected: int, whole: Study, study: Study, seconds: float) -> None:
    """The final table is the undisturbed one, and each epoch stands in the journal once, in order."""
    row = record(fault, injected, whole, study, seconds)
    assert (row.lost, row.different) == (0, 0), row
    seen = [(e["trial"], e["epoch"]) for e in study.events() if e["event"] == "epoch"]
    assert len(seen) == len(set(seen)), "an epoch is recorded twice"
    for number in {trial for trial, _ in seen}:
        epochs = [epoch for trial, epoch in seen if trial == number]
        assert epochs == sorted(epochs)


class Search:
    """A search as a process of its own, in a session of its own, in the folder `work`."""

    def __init__(
        self, work: Path, name: str, *args: str, env: dict[str, str] | None = None, prefix: Sequence[str] = ()
    ) -> None:
        """`prefix` is a command that runs another one, somewhere else."""
        self.folder = work / "studies" / name
        self.output = work.parent / f"{name}-{time.monotonic_ns()}.out"  # the folder may be full
        with self.output.open("w") as output:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "sersearch", "tune", *args],
                cwd=work,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**os.environ, **(env or {})},
            )

    @classmethod
    def new(cls, work: Path, name: str, *args: str, env: dict[str, str] | None = None) -> Search:
        """The small search, one trial after the other: so its schedule is fixed."""
        return cls(work, name, *OPTIONS, "--name", name, "--concurrency", "1", *args, env=env)

    @classmethod
    def again(cls, work: Path, name: str, *args: str, env: dict[str, str] | None = None) -> Search:
        return cls(work, name, "--resume", name, "--concurrency", "1", *args, env=env)

    @property
    def pid(self) -> int:
        """Of the driver."""
        driver = self.study.driver
        assert driver is not None
        return int(driver["pid"])

    @property
    def study(self) -> Study:
        return Study.open(self.folder)

    @property
    def epochs(self) -> int:
        """Epochs that the journal has."""
        if not (self.folder / "study.json").is_file():
            return 0
        return sum(event["event"] == "epoch" for event in self.study.events())

    def until(self, epochs: int, timeout: float = 300) -> float:
        """Wait for so many epochs; how long it took, in s."""
        return self.wait(lambda: self.epochs >= epochs, timeout)

    def wait(self, holds: Callable[[], bool], timeout: float = 300) -> float:
        began = time.monotonic()
        while not holds():
            assert self.process.poll() is None, self.output.read_text()
            assert time.monotonic() - began < timeout, self.output.read_text()
            time.sleep(0.02)
        return time.monotonic() - began

    def end(self, code: int = 0, timeout: float = 400) -> str:
        """Wait for the end; what was printed."""
        self.process.wait(timeout)
        text = self.output.read_text()
        assert self.process.returncode == code, text
        assert "Traceback" not in text, text
        return text

    def kill(self) -> None:
        """Kill -9 of the driver: Ray goes with it."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def processes(self, title: str) -> list[int]:
        """Pids of those of its processes that have `title` in their names."""
        return [pid for pid, name in descendants(self.process.pid) if title in name]


def stopped(search: Search) -> int:
    """Stop the process of a trial within an epoch, and not between two of them; its pid."""
    held: list[int] = []

    def tell(number: signal.Signals) -> None:
        for pid in held:
            with suppress(ProcessLookupError):  # its trial was over
                os.kill(pid, number)

    def within() -> bool:
        held[:] = search.processes(TRIAL)
        tell(signal.SIGSTOP)
        time.sleep(0.01)  # what the system does for it ends
        last = search.study.trials()[-1]  # of one that has epochs, the data are open
        if last.epochs and last.state == "running" and stack_file(search.study.home, last.number).exists():
            return len(held) == 1
        tell(signal.SIGCONT)
        return False

    search.wait(within)
    return held[0]
