"""A long study: what the thread that writes costs at its end is what it costs at its beginning."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.faults.mlflow.streams import Teller, begin, calls, runs, sent, study

TRIALS, EPOCHS, AT_ONCE, BLOCK = 1000, 20, 4, 100


def resident() -> int:
    """Bytes that this process has in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")
def test_a_thousand_trials_take_memory_disk_and_time_as_the_first_ones_do(local: str, tmp_path: Path) -> None:
    of = study(tmp_path)
    spool = of.spool
    subject = begin(of, local)
    teller, told = Teller(of, subject), calls(of, TRIALS, EPOCHS, AT_ONCE)
    largest, seconds, memory = 0, [], []
    for _ in range(TRIALS // BLOCK):
        began = time.process_time()
        for _ in range(BLOCK * (EPOCHS + 2) // 20):
            teller.tell(told, most=20)
            while len(subject._spool) > 100:  # a stream that MLflow keeps up with, and that never stops
                time.sleep(0.02)
            largest = max(largest, spool.stat().st_size if spool.exists() else 0)
        seconds.append(time.process_time() - began)
        memory.append(resident())
    teller.tell(told)
    subject.finish("finished")
    sent(subject)
    subject.close()
    print(f"largest spool {largest} B; s a block {seconds}; MB {[round(m / 1e6) for m in memory]}")
    print(f"calls of the tracker: 90 % below {sorted(teller.seconds)[len(teller.seconds) * 9 // 10]:.6f} s")
    assert subject.warnings == []
    assert largest < 500_000  # at most 1,000 lines and twice what waits
    assert sum(seconds[-3:]) < 2 * sum(seconds[1:4])
    assert memory[-1] - memory[1] < 50e6
    found = runs(local)
    assert len(found) == TRIALS + 1
    for run in [found[number] for number in range(TRIALS)]:
        assert run["status"] != "RUNNING"
        assert [step for step, _, _ in run["metrics"]["dev_ua"]] == list(range(1, EPOCHS + 1))
