"""The Ray that a command runs on: what it finds in its environment, and who can reach it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from sersearch.cluster import prepare
from tests.synthetic import make_table, write_table

OWN = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """That of a process which has not imported Ray."""
    made: dict[str, str] = {}
    monkeypatch.setattr("os.environ", made)
    monkeypatch.delitem(sys.modules, "ray", raising=False)
    return made


def test_a_ray_of_our_own_tells_nobody_listens_to_nobody_and_has_a_token(environment: dict[str, str]) -> None:
    prepare(None, OWN)
    assert dict(environment, PYTEST_CURRENT_TEST="") == {
        **OWN,
        "PYTEST_CURRENT_TEST": "",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        "RAY_AUTH_MODE": "token",
    }


@pytest.mark.parametrize("named", [True, False])
def test_a_cluster_s_nodes_may_reach_each_other(environment: dict[str, str], named: bool) -> None:
    if not named:
        environment["RAY_ADDRESS"] = "10.0.0.1:6379"
    prepare("10.0.0.1:6379" if named else None, OWN)
    assert "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER" not in environment
    assert (environment["RAY_AUTH_MODE"], environment["RAY_USAGE_STATS_ENABLED"]) == ("token", "0")


def test_what_the_user_has_set_stands(environment: dict[str, str]) -> None:
    environment.update(RAY_AUTH_MODE="disabled", OMP_NUM_THREADS="4")
    prepare("auto", OWN)
    assert (environment["RAY_AUTH_MODE"], environment["OMP_NUM_THREADS"]) == ("disabled", "4")


def test_a_ray_that_has_read_its_environment_is_left_alone(
    environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", ModuleType("ray"))
    prepare(None, OWN)
    assert environment.keys() - {"PYTEST_CURRENT_TEST"} == OWN.keys()


def refusal(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence with which a command ended."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    (said,) = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    return said


def test_an_address_where_nobody_answers_is_a_sentence(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    small = ["--set", "channels=[2, 3, 4]", "--set", "hidden=5", "--set", "segment_frames=32"]
    options = ["--space", "aae_alpha_beta", "--data", "data", "--protocol", "loso", "--test-speaker", "s0"]
    command = [sys.executable, "-m", "sersearch", "tune", *options, *small, "--name", "one"]
    done = subprocess.run(
        [*command, "--address", "127.0.0.1:1"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    said = refusal(done)
    assert said.startswith("Error: --address 127.0.0.1:1: no Ray cluster answers there (")
    assert "start it with `ray start`" in said


LISTENING = """
import json, os
from sersearch.cluster import ray_session

def ports(pids):
    '''Addresses on which processes listen, of /proc/net.'''
    sockets = set()
    for pid in pids:
        try:
            for fd in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{fd}")
                if target.startswith("socket:["):
                    sockets.add(target[8:-1])
        except OSError:
            pass
    for kind in ("tcp", "tcp6"):
        for line in open(f"/proc/net/{kind}").readlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                yield fields[1].split(":")[0]

with ray_session(None, num_cpus=1) as cluster:
    import psutil, ray

    @ray.remote
    def one():
        return 1

    assert ray.get(one.remote()) == 1
    own = psutil.Process()
    pids = [own.pid, *(child.pid for child in own.children(recursive=True))]
    print(json.dumps([cluster, sorted(set(ports(pids)))]))
"""


@pytest.mark.slow
def test_no_other_machine_reaches_a_ray_of_our_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LISTENING], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    cluster, *found = done.stdout.strip().splitlines()[-1].strip("[]").split(", ", 1)
    assert cluster == "false"
    # 127.0.0.1, and ::1 or 127.0.0.1 in IPv6, as the kernel writes them.
    loopback = {"0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F"}
    addresses = {text.strip('"[] ') for text in found[0].split(",")}
    assert addresses
    assert addresses <= loopback


ASKED = """
import os, signal, time
from sersearch.cluster import ray_session

with ray_session(None, num_cpus=1):
    import psutil, ray

    @ray.remote
    def one():
        return 1

    assert ray.get(one.remote()) == 1
    assert signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, []), "this process hears it"
    own = psutil.Process().children(recursive=True)
    for process in own:
        process.terminate()
    time.sleep(2)
    assert ray.get(one.remote()) == 1
    began = time.monotonic()
assert not psutil.wait_procs(own, timeout=120)[1], "they end with it"
print(time.monotonic() - began)
"""


@pytest.mark.slow
def test_a_ray_of_our_own_outlives_sigterm_to_all_processes_and_ends_with_its_session(tmp_path: Path) -> None:
    """A service manager sends it to all processes of a job, and the search needs Ray to leave in order."""
    done = subprocess.run(
        [sys.executable, "-c", ASKED], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 60
