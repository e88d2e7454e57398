"""`prep` that is killed, or loses its workers: the same command ends with the bytes of an undisturbed run."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep.check import check
from tests.faults.disk.disks import files

COMMAND = """
import os, signal, sys, time
from pathlib import Path
from data_prep.pipeline import prepare
def die(step):
    if step.done >= int(sys.argv[3]):
        time.sleep(float(sys.argv[4]))
        os.kill(os.getpid(), signal.SIGKILL)
features = ["functionals", "mel"]
prepare("csv", Path(sys.argv[1]), features, Path(sys.argv[2]), shard_size=2, workers=2, progress=die)
"""
SHARDS = 30
NEVER = 2 * SHARDS + 1


def test_killed_at_every_write_before_and_after_its_renaming(corpus: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.faults.disk.crash", str(corpus), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    whole = files(tmp_path / "whole")
    moments = int(done.stdout)
    assert moments == 2 * len(whole), "each file is brought to the disk, and so is its name"
    for moment in range(1, moments + 1):
        assert files(tmp_path / str(moment)) == whole, moment


# --- in Ray -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def long_corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty utterances of 5 to 7 s: they take two workers some seconds."""
    folder = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    lines = ["path,speaker,gender,emotion"]
    for number in range(2 * SHARDS):
        samples = rng.normal(size=int(rng.integers(80_000, 112_000))) / 10
        soundfile.write(folder / f"u{number}.wav", samples, 16_000)
        lines.append(f"u{number}.wav,s{number % 5},female,joy")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


def start(corpus: Path, out: Path, dies_at: int = NEVER, seconds: float = 0.0) -> subprocess.Popen[bytes]:
    """`prep`, which is killed so many seconds after so many utterances are done."""
    command = [sys.executable, "-c", COMMAND, str(corpus), str(out), str(dies_at), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


@pytest.fixture(scope="module")
def whole(long_corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an undisturbed run writes."""
    out = tmp_path_factory.mktemp("whole")
    assert start(long_corpus, out).wait(300) == 0
    return files(out)


def extracting(driver: int) -> list[int]:
    """Processes below `driver` in which a task runs."""
    parents: dict[int, int] = {}
    titles: dict[int, str] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            titles[int(folder.name)] = (folder / "cmdline").read_text().strip("\0")
        except (OSError, ValueError):
            continue  # it has ended

    def above(pid: int) -> Iterator[int]:
        while pid in parents:
            pid = parents[pid]
            yield pid

    return [pid for pid, title in titles.items() if title.startswith("ray::_write") and driver in above(pid)]


def records(out: Path) -> int:
    return len(list(out.glob("*/part-*.json")))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_workers_that_are_killed_while_they_extract(
    long_corpus: Path, whole: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    """Up to three of them at seeded moments: fewer than a shard has tries."""
    rng, killed = np.random.default_rng(seed), 0
    driver = start(long_corpus, tmp_path)
    moments = sorted(rng.choice(SHARDS, 3, replace=False))
    while driver.poll() is None:
        if killed < len(moments) and records(tmp_path) >= moments[killed]:
            time.sleep(rng.uniform(0, 0.2))
            for pid in extracting(driver.pid)[:1]:
                os.kill(pid, signal.SIGKILL)
                killed += 1
        time.sleep(0.01)
    assert driver.returncode == 0
    assert killed > 0, "or nothing was shown"
    assert files(tmp_path) == whole


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2))
def test_a_driver_that_is_killed_again_and_again(
    long_corpus: Path, whole: dict[str, bytes], tmp_path: Path, seed: int
) -> None:
    """Six times, the next one being begun at once, while workers of the last may yet write."""
    rng = np.random.default_rng(seed)
    seen = []
    for moment in sorted(rng.choice(2 * SHARDS - 5, 6, replace=False)):
        driver = start(long_corpus, tmp_path, moment, rng.uniform(0, 0.2))
        assert driver.wait() == -signal.SIGKILL
        seen.append(records(tmp_path))
        for name, content in files(tmp_path).items():
            if re.fullmatch(r"\w+/part-\d+\.parquet", name):
                assert content == whole[name], "a shard is whole, or not there"
    assert seen == sorted(seen), "what was done stays"
    assert start(long_corpus, tmp_path).wait(300) == 0
    assert files(tmp_path) == whole
    assert list(check(tmp_path)) == []
