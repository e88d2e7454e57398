"""A trial: its process killed, out of memory, hanging; its checkpoint damaged; its disk full or read-only."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.disk.conftest import mount  # noqa: F401
from tests.faults.disk.disks import Disk
from tests.faults.matrix import OPTIONS, SPACE, TRIAL, Search, assert_nothing_lost, stopped


def test_process_killed(work: Path, whole: Study) -> None:
    running, seconds = Search.new(work, "worker"), []
    for epochs in (1, 5, 15):
        running.until(epochs)
        before = running.epochs
        os.kill(running.processes(TRIAL)[0], signal.SIGKILL)
        seconds.append(running.until(before + 1))
    running.end()
    assert_nothing_lost("kill -9 of a trial's process", 3, whole, running.study, sum(seconds) / 3)
    texts = [path.read_text() for path in (running.folder / "logs").glob("trial-*")]
    logged = [json.loads(line) for text in texts for line in text.splitlines()]
    died = [told for told in logged if "process died" in told["message"]]
    assert len(died) == 3
    assert all("traceback" in told for told in died)


@pytest.fixture(scope="module")
def plain(work: Path) -> Study:
    """An undisturbed search whose trials don't look at each other: one that fails changes no other."""
    text = SPACE.replace("method: tpe", "method: random").replace("kind: asha", "kind: none")
    (work / "plain.yaml").write_text(text.replace("trials: 8", "trials: 3").replace("epochs: 8", "epochs: 6"))
    undisturbed = Search(work, "plain", *PLAIN, "--name", "plain")
    undisturbed.end()
    return undisturbed.study


PLAIN = ["plain.yaml" if option == "small.yaml" else option for option in OPTIONS] + ["--concurrency", "1"]


def retried(work: Path, running: Search) -> tuple[Search, float]:
    """Its failed trials run again; how long until the first epoch of it, or the end."""
    before = running.epochs
    again = Search(work, running.folder.name, "--retry-failed", running.folder.name, "--concurrency", "1")
    seconds = again.wait(lambda: again.epochs > before)
    again.end()
    return again, seconds


@pytest.mark.slow
def test_process_that_dies_in_each_try_fails_alone_and_is_retried(work: Path, plain: Study) -> None:
    """Three deaths in one epoch are the trial's own fault: the others go on, and --retry-failed makes it whole."""
    running = Search(work, "poison", *PLAIN, "--name", "poison")
    running.until(2)
    killed: set[int] = set()
    while not any("process died" in t.reason for t in running.study.trials()):
        assert running.process.poll() is None, running.output.read_text()
        for pid in running.processes(TRIAL):
            if pid not in killed and len(running.study.trials()) == 1:
                os.kill(pid, signal.SIGKILL)
                killed.add(pid)
        time.sleep(0.01)
    running.end()
    first, *others = running.study.trials()
    assert first.reason.startswith(f"its process died 3 times in epoch {len(first.epochs) + 1}: ")
    assert [(t.state, len(t.epochs)) for t in others] == [(t.state, len(t.epochs)) for t in plain.trials()[1:]]
    again, seconds = retried(work, running)
    assert_nothing_lost("a trial's process dies in each try", len(killed), plain, again.study, seconds)


BIG = """
name: big
doc: one of its trials needs a gigabyte
family: aae
features: spectrogram
search:
  hidden: {choices: [16, 17, 300000, 18]}
fixed: {channels: [8, 16, 16], batch_size: 8, segment_frames: 32, segment_hop: 32}
method: grid
pruning: {kind: none}
trials: 4
epochs: 3
time: a minute
"""


@pytest.mark.slow
def test_out_of_memory(work: Path) -> None:
    """One trial wants more memory than its process may have: it fails alone, and is run again where there is more."""
    (work / "big.yaml").write_text(BIG)
    options = ["big.yaml" if option == "small.yaml" else option for option in OPTIONS] + ["--concurrency", "1"]
    undisturbed = Search(work, "big", *options, "--name", "big")
    undisturbed.end()
    # In one arena: each further one would take address space, and there are more the more cores there are.
    running = Search(work, "memory", *options, "--name", "memory", env={"MALLOC_ARENA_MAX": "1"})
    running.until(1)
    pid = stopped(running)  # in one of two small trials
    size = int(Path(f"/proc/{pid}/statm").read_text().split()[0]) * resource.getpagesize()
    resource.prlimit(pid, resource.RLIMIT_AS, (size + 2**28, resource.RLIM_INFINITY))
    os.kill(pid, signal.SIGCONT)
    running.end()
    assert [t.state for t in running.study.trials()] == ["complete", "complete", "failed", "complete"]
    assert "memory" in running.study.trial(2).reason
    again, seconds = retried(work, running)
    assert_nothing_lost("out of memory in one trial", 1, undisturbed.study, again.study, seconds)


def test_an_epoch_that_hangs(work: Path, whole: Study) -> None:
    """A stopped process answers nobody: as one that waits for a disk or a GPU for ever."""
    running = Search.new(work, "hangs", "--epoch-limit", "8")
    running.until(3)
    pid = stopped(running)
    before = running.epochs
    time.sleep(10)
    os.kill(pid, signal.SIGCONT)  # its clock has run on
    seconds = running.until(before + 1)
    assert pid not in running.processes(TRIAL)
    running.end()
    texts = [path.read_text() for path in (running.folder / "logs").glob("trial-*")]
    hung = [
        told for text in texts for line in text.splitlines() if "took longer" in (told := json.loads(line))["message"]
    ]
    assert [told["message"] for told in hung] == ["the trial's process died: it took longer than it may"]
    assert "Timeout (0:00:08)!" in hung[0]["traceback"]
    assert_nothing_lost("an epoch that hangs", 1, whole, running.study, seconds)


def settled(search: Search) -> None:
    """Wait until what a killed driver left is settled."""
    began = time.monotonic()
    while search.study.meta["state"] == "running" or search.study.driver is not None:
        assert time.monotonic() - began < 60
        time.sleep(0.1)


def damage(folder: Path, how: str) -> None:
    path = folder / "state.safetensors"
    content = bytearray(path.read_bytes())
    if how == "cut off":
        content = content[: len(content) // 2]
    else:
        content[-8] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("how", ["cut off", pytest.param("a bit flipped", marks=pytest.mark.slow)])
def test_checkpoint_damaged(work: Path, whole: Study, how: str) -> None:
    """The one before is taken; with both damaged, the trial begins anew."""
    name = how.replace(" ", "-")
    running, seconds = Search.new(work, name), []
    for epochs, several in ((3, 1), (12, 2)):
        running.until(epochs)
        running.kill()
        study = running.study
        folders = list(study.trials()[-1].checkpoints())
        if not folders:  # between two trials
            folders = list(study.trials()[-2].checkpoints())
        for folder in folders[:several]:
            damage(folder, how)
        before = running.epochs
        running = Search.again(work, name)
        seconds.append(running.until(before + 1))
    running.end()
    logged = "".join(path.read_text() for path in (running.folder / "logs").glob("trial-*"))
    assert "cut off or altered since it was written" in logged
    assert_nothing_lost(f"checkpoint {how}", 3, whole, running.study, sum(seconds) / 2)


@pytest.mark.slow
def test_disk_full(work: Path, whole: Study, mount: Callable[[str], Disk]) -> None:  # noqa: F811
    """Of a search whose studies lie on it: it stops with a sentence, and goes on once there is room."""
    disk = mount("size=64m")
    for path in ("data", "small.yaml"):
        (disk.folder / path).symlink_to(work / path)
    running, seconds = Search.new(disk.folder, "full"), []
    for epochs in (2, 14):
        running.until(epochs)
        disk.fill(0)
        told = running.end(2)
        assert "No space left on device" in told
        assert "goes on" in told.splitlines()[-1]
        (disk.folder / "filler").unlink()
        assert [t.state for t in running.study.trials() if t.state == "failed"] == [
            t.state for t in whole.trials()[: len(running.study.trials())] if t.state == "failed"
        ], "a full disk is no trial's failure"
        began, before = time.monotonic(), running.epochs
        running = Search.again(disk.folder, "full")
        running.until(before + 1)
        seconds.append(time.monotonic() - began)
    running.end()
    assert_nothing_lost("disk full in a search", 2, whole, running.study, sum(seconds) / 2)


def test_read_only(work: Path, whole: Study, mount: Callable[[str], Disk]) -> None:  # noqa: F811
    disk = mount("size=64m")
    for path in ("data", "small.yaml"):
        (disk.folder / path).symlink_to(work / path)
    running = Search.new(disk.folder, "readonly")
    running.until(2)
    running.kill()
    settled(running)  # no file is open
    disk.change("ro")
    told = Search.again(disk.folder, "readonly").end(2)
    assert "Read-only file system" in told
    disk.change("rw")
    began, before = time.monotonic(), running.epochs
    again = Search.again(disk.folder, "readonly")
    again.until(before + 1)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("read-only folder", 1, whole, again.study, seconds)


def test_data_altered_between_start_and_resume(work: Path, whole: Study, tmp_path: Path) -> None:
    shutil.copytree(work / "data", tmp_path / "data")
    shutil.copy(work / "small.yaml", tmp_path)
    running = Search.new(tmp_path, "altered")
    running.until(2)
    running.kill()
    shard = next((tmp_path / "data" / "spectrogram").glob("part-*.parquet"))
    content = shard.read_bytes()
    shard.write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    told = Search.again(tmp_path, "altered").end(2)
    assert shard.name in told
    assert running.epochs >= 2
    shard.write_bytes(content)
    began, before = time.monotonic(), running.epochs
    again = Search.again(tmp_path, "altered")
    again.until(before + 1)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("shard altered (refused), restored", 1, whole, again.study, seconds)


def test_lane_server_killed(work: Path, whole: Study) -> None:
    """Lanes alone: one after the other, so that the schedule is fixed, and equal to single trials bit for bit."""
    running, seconds = Search.new(work, "lanes", "--lanes", "2"), []
    for epochs in (1, 8):
        running.until(epochs)
        before = running.epochs
        os.kill(running.processes("LaneServer")[0], signal.SIGKILL)
        seconds.append(running.until(before + 1))
    running.end()
    assert_nothing_lost("kill -9 of a lane server", 2, whole, running.study, sum(seconds) / 2)


def test_status_tells_while_it_runs(work: Path, whole: Study) -> None:
    running = Search.new(work, "shown")
    running.until(3)
    stopped(running)
    command = [sys.executable, "-m", "sersearch", "status", "shown"]
    told = subprocess.run(command, cwd=work, capture_output=True, text=True, check=True).stdout
    running.kill()
    assert f"is run by process {running.process.pid}" in told
    assert "1 running" in told
