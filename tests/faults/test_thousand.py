"""A study of a thousand trials: the driver's memory, and its time a trial, stay what they were."""

from __future__ import annotations

import dataclasses
import os
import sqlite3
import time
from pathlib import Path

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


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_a_thousand_trials(work: Path) -> None:
    (work / "thousand.yaml").write_text(SPACE)
    vectors = make_table(vectors=True, attributes=True)
    write_table(work / "vectors", dataclasses.replace(vectors, card={**vectors.card, "features": "functionals"}))
    options = ["--space", "thousand.yaml", "--data", "vectors", "--protocol", "loso", "--test-speaker", "s0"]
    running = Search(work, "thousand", *options, "--target", "valence", "--name", "thousand")
    seen = []
    while running.process.poll() is None:
        if (running.folder / "trials.jsonl").is_file():
            ended = (running.folder / "trials.jsonl").read_bytes().count(b'"event": "end"')
            seen.append((ended, *used(running.process.pid)))
        time.sleep(0.2)
    if "events wait in" in running.end():  # where MLflow was slower than the search, the next command sends the rest
        Search.again(work, "thousand").end()
    trials = running.study.trials()
    assert [t.number for t in trials] == list(range(TRIALS))
    assert {t.state for t in trials} == {"complete"}
    early, late = cost(seen, 100, 300), cost(seen, 800, 1000)
    assert late < 2 * early, f"the driver worked {early:.3f} s a trial first, {late:.3f} s in the end"
    memory = [size for ended, size, _ in seen if ended > 300 and size]  # by then, all that is used is loaded
    grown = (memory[-1] - memory[0]) / 2**20
    assert grown < 200, f"the driver's memory grew by {grown:.0f} MiB"
    with sqlite3.connect(work / "mlflow.db") as database:
        query = (
            "select count(*) from runs join tags using (run_uuid) "
            "where tags.key = 'sersearch.study' and value = 'thousand' and status = 'FINISHED'"
        )
        (runs,) = database.execute(query).fetchone()
    database.close()
    assert runs == TRIALS + 1
    ROWS.append(Row("1,000 trials; s of work a trial", TRIALS, 0, 0, late))


def used(pid: int) -> tuple[int, float]:
    """Bytes of memory that a process holds, and seconds that its threads have worked; 0 where it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0, 0.0
    ticks = os.sysconf("SC_CLK_TCK")
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE"), (int(fields[11]) + int(fields[12])) / ticks


def cost(seen: list[tuple[int, int, float]], first: int, last: int) -> float:
    """Seconds of work a trial, between so many ended ones."""
    within = [(ended, seconds) for ended, size, seconds in seen if first <= ended < last and size]
    (few, before), (many, after) = within[0], within[-1]
    return (after - before) / (many - few)
