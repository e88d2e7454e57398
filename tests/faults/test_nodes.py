"""A cluster of a head and two nodes, with token authentication: nodes die and come, and the network is cut."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.matrix import OPTIONS, TRIAL, Search, assert_nothing_lost
from tests.nodes import Cluster, may_make_networks

pytestmark = pytest.mark.slow

CUT_S = 30


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not may_make_networks():
        pytest.skip("nodes are network namespaces, which root may make where the system lets it")
    folder = Path(tempfile.mkdtemp(prefix="ss", dir="/tmp"))
    made = Cluster(folder / "r")
    (folder / "r").mkdir()
    try:
        for node in (0, 1, 2):
            made.start(node)
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


def on_cluster(cluster: Cluster, work: Path, name: str, *args: str) -> Search:
    where = ["--address", cluster.address, "--storage", str(work / "storage")]
    return Search(work, name, *where, "--concurrency", "1", *args, env=cluster.env, prefix=cluster.inside(0))


def begin(cluster: Cluster, work: Path, name: str, *args: str) -> Search:
    return on_cluster(cluster, work, name, *OPTIONS, "--name", name, *args)


def busy(cluster: Cluster) -> int:
    """The node where a trial is trained."""
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        for node in (1, 2):
            if cluster.pids(node, TRIAL):
                return node
        time.sleep(0.1)
    raise AssertionError("no node trains")


@contextmanager
def held_up(cluster: Cluster, logs: Path) -> Iterator[None]:
    """No trial goes on in the block: the one that is trained is stopped within an epoch, of which `logs` tell."""

    def tell(number: signal.Signals) -> None:
        for pid in pids:
            with suppress(ProcessLookupError):  # its trial was over
                os.kill(pid, number)

    deadline = time.monotonic() + 300
    while True:
        assert time.monotonic() < deadline
        pids = cluster.pids(busy(cluster), TRIAL)
        tell(signal.SIGSTOP)
        if any(logs.glob("*.stack")):
            break
        tell(signal.SIGCONT)
        time.sleep(0.02)
    try:
        yield
    finally:
        tell(signal.SIGCONT)


def test_nodes_die_and_come(cluster: Cluster, work: Path, whole: Study) -> None:
    running, seconds = begin(cluster, work, "nodes"), []
    for epochs in (2, 16):
        running.until(epochs)
        node, before = busy(cluster), running.epochs
        cluster.kill(node)
        seconds.append(running.until(before + 1))
        cluster.start(node)  # its core is for trials again
    running.end()
    assert_nothing_lost("kill of a whole node, which comes back", 2, whole, running.study, sum(seconds) / 2)
    assert (work / "storage" / "nodes" / "trials.jsonl").read_bytes() == running.study.journal.read_bytes()


def test_network_cut(cluster: Cluster, work: Path, whole: Study) -> None:
    running = begin(cluster, work, "cut")
    running.until(3)
    node, before = busy(cluster), running.epochs
    began = time.monotonic()
    cluster.cut(node, CUT_S)
    running.until(before + 2)
    seconds = time.monotonic() - began
    running.end(timeout=600)
    assert_nothing_lost(f"network cut for {CUT_S} s", 1, whole, running.study, seconds)


def test_another_machine_goes_on_with_what_lies_in_the_storage(cluster: Cluster, work: Path, whole: Study) -> None:
    """The head's disk is gone with all of the study's folder."""
    running = begin(cluster, work, "moved")
    running.until(5)
    running.kill()
    began = time.monotonic()
    shutil.move(running.folder, work / "lost")
    again = on_cluster(cluster, work, "moved", "--resume", "moved")
    again.until(6)
    seconds = time.monotonic() - began
    again.end()
    assert_nothing_lost("head's disk lost, resumed from the storage", 1, whole, again.study, seconds)


def test_a_second_driver_elsewhere_is_refused(cluster: Cluster, work: Path, whole: Study) -> None:
    """It has another disk, and sees the first in the storage alone."""
    running = begin(cluster, work, "lease")
    running.until(2)
    other = work / "elsewhere"
    other.mkdir()
    for path in ("data", "small.yaml"):
        (other / path).symlink_to(work / path)
    began = time.monotonic()
    where = ["--resume", "lease", "--address", cluster.address, "--storage", str(work / "storage")]
    with held_up(cluster, work / "storage" / "lease" / "logs"):
        second = Search(other, "lease", *where, env=cluster.env, prefix=cluster.inside(0))
        assert f"is being run by process {running.pid}" in second.end(2)
    seconds = time.monotonic() - began
    running.end()
    assert_nothing_lost("a second driver on another machine", 1, whole, running.study, seconds)


def test_a_gpu_that_comes_later_is_waited_for(cluster: Cluster, work: Path, whole: Study) -> None:
    """Of a group that is scaled up from none. Ray believes in the GPU; torch, which doesn't, trains on the core."""
    running = begin(cluster, work, "gpu", "--gpu")
    log = running.folder / "logs" / "search.jsonl"
    deadline = time.monotonic() + 300
    while not log.is_file() or "trials to run" not in log.read_text():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(10)
    assert running.epochs == 0, "there are cores"
    began = time.monotonic()
    cluster.start(3, "--num-gpus=1")
    running.until(1)
    seconds = time.monotonic() - began
    running.end()
    assert not any(cluster.pids(node, TRIAL) for node in (1, 2))
    assert_nothing_lost("a GPU node joins a cluster without one (--gpu)", 1, whole, running.study, seconds)


def test_without_the_token_nobody_comes_in(cluster: Cluster, work: Path) -> None:
    env = {**cluster.env, "RAY_AUTH_TOKEN": "0" * 64}
    args = [*OPTIONS, "--address", cluster.address, "--name", "stranger"]
    told = Search(work, "stranger", *args, env=env, prefix=cluster.inside(0)).end(2)
    assert "no Ray cluster answers there" in told
    assert "token" in told
