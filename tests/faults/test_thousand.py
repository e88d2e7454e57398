"""A study of a thousand trials: the driver's memory, and its time a trial, stay what they were."""

from __future__ import annotations

import dataclasses
import sqlite3
import statistics
import time
from pathlib import Path

import numpy as np
import pytest

from tests.faults.matrix import ROWS, Row, Search
from tests.synthetic import make_table, write_table

TRIALS = 1000
SPACE = """
name: thousand
doc: the smallest trials that there are
family: ladder
features: functionals
search:
  learning_rate: {low: 0.0001, high: 0.1, log: true}
fixed: {hidden: [4, 4], batch_size: 64}
method: random
pruning: {kind: none}
trials: 1000
epochs: 1
time: minutes
"""


@pytest.mark.timeout(1500)
def test_a_thousand_trials(work: Path) -> None:
    (work / "thousand.yaml").write_text(SPACE)
    vectors = make_table(vectors=True, attributes=True)
    write_table(work / "vectors", dataclasses.replace(vectors, card={**vectors.card, "features": "functionals"}))
    options = ["--space", "thousand.yaml", "--data", "vectors", "--protocol", "loso", "--test-speaker", "s0"]
    running = Search(work, "thousand", *options, "--target", "valence", "--name", "thousand")
    began, sizes, ended = time.monotonic(), [], 0
    while running.process.poll() is None and time.monotonic() - began < 1400:
        if running.folder.is_dir() and (running.folder / "trials.jsonl").is_file():
            ended = (running.folder / "trials.jsonl").read_bytes().count(b'"event": "end"')
            sizes.append((ended, resident(running.process.pid)))
        time.sleep(0.5)
    running.end(timeout=60)
    trials = running.study.trials()
    assert [t.number for t in trials] == list(range(TRIALS))
    assert {t.state for t in trials} == {"complete"}
    times = np.array([t.ended for t in trials], float)
    each = np.diff(np.sort(times))
    early, late = statistics.median(each[100:300]), statistics.median(each[-200:])
    memory = [size for count, size in sizes if count > 100]
    assert late < 1.5 * early + 0.02, f"{early:.3f} s a trial first, {late:.3f} s in the end"
    assert memory[-1] < memory[0] + 200 * 2**20, f"{memory[0] / 2**20:.0f} MiB first, {memory[-1] / 2**20:.0f} in the end"
    with sqlite3.connect(work / "mlflow.db") as database:
        query = (
            "select count(*) from runs join tags using (run_uuid) "
            "where tags.key = 'sersearch.study' and value = 'thousand' and status = 'FINISHED'"
        )
        (runs,) = database.execute(query).fetchone()
    database.close()
    assert runs == TRIALS + 1
    ROWS.append(Row("1,000 trials (s a trial: first, last)", TRIALS, 0, 0, late))


def resident(pid: int) -> int:
    """Bytes of memory that a process holds; 0 where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS")), 0)
