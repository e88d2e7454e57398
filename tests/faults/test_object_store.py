"""A study in an object store: the driver's machine is lost with its disk, and the store goes away for a while."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.matrix import Search, assert_nothing_lost
from tests.services import Store

pytestmark = pytest.mark.slow

STORAGE = "s3://bucket/studies"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    made = Store(tmp_path_factory.mktemp("store") / "moto.log")
    try:
        yield made
    finally:
        made.close()


def command(work: Path, store: Store, *args: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "sersearch", *args],
        cwd=work,
        env={**os.environ, **store.env},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_driver_and_its_disk_lost(work: Path, whole: Study, store: Store) -> None:
    running = Search.new(work, "s3", "--storage", STORAGE, env=store.env)
    running.until(5)
    running.kill()
    began = time.monotonic()
    shutil.move(running.folder, work / "lost-s3")
    again = Search.again(work, "s3", "--storage", STORAGE, env=store.env)
    again.until(6)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("driver and disk lost, resumed from S3", 1, whole, again.study, seconds)
    assert store.ask("print(fs.cat('bucket/studies/s3/trials.jsonl').decode(), end='')") == (
        again.study.journal.read_text()
    )
    # What comes after a search reads the checkpoints from there.
    command(work, store, "export", "s3", "--out", "model-s3")
    assert (work / "model-s3" / "model.safetensors").is_file()
    assert "tested_before" in command(work, store, "evaluate", "s3")
    command(work, store, "report", "s3")


def test_store_hangs_and_is_lost(work: Path, whole: Study) -> None:
    """Without it the search ends with a sentence, and no trial fails; trials whose checkpoints are gone begin anew."""
    store = Store(work.parent / "store.log")
    running = Search.new(work, "unstored", "--storage", STORAGE, env=store.env)
    running.until(5)
    store.process.send_signal(signal.SIGSTOP)
    time.sleep(5)
    store.process.send_signal(signal.SIGCONT)
    running.until(8)
    store.close()
    assert "study unstored was stopped: " in running.end(2)
    began = time.monotonic()
    empty = Store(work.parent / "store.log", store.port)
    try:
        again = Search.again(work, "unstored", "--storage", STORAGE, env=empty.env)
        again.until(running.epochs + 1)
        seconds = time.monotonic() - began
        again.end()
    finally:
        empty.close()
    assert_nothing_lost("S3 hangs, then is lost with all it held", 2, whole, again.study, seconds)
