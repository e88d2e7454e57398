"""A cluster on plain machines: the launcher's file, and the Slurm script on nodes that are network namespaces."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from sersearch.study import Study
from tests.deploy.slurm import ROOT, SCRIPT, Job, installed
from tests.docs.pages import blocks
from tests.faults.matrix import OPTIONS, SPACE, table
from tests.nodes import Cluster, may_make_networks
from tests.synthetic import make_table, write_table

LAUNCHED = ROOT / "deploy" / "ray" / "cluster.yaml"


def test_the_launcher_s_file_is_what_ray_takes() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    prepared = prepare_config(yaml.safe_load(LAUNCHED.read_text("utf-8")))
    validate_config(prepared)
    (nodes,) = prepared["available_node_types"].values()
    assert nodes["min_workers"] == nodes["max_workers"] == len(prepared["provider"]["worker_ips"])


def test_the_launcher_s_clusters_have_a_token_and_no_dashboard_for_others() -> None:
    config = yaml.safe_load(LAUNCHED.read_text("utf-8"))
    starts = [command for role in ("head", "worker") for command in config[f"{role}_start_ray_commands"]]
    started = [command for command in starts if "ray start" in command]
    assert len(started) == 2
    assert all("RAY_AUTH_MODE=token" in command for command in started)
    assert "--dashboard-host=127.0.0.1" in started[0]
    assert "/home/sersearch/.ray/auth_token" in config["file_mounts"]


@pytest.mark.parametrize("page", ["deploy/ray/README.md", "docs/cluster.md"])
def test_a_cluster_by_hand_tells_nobody_of_itself_and_jobs_come_by_ssh(page: str) -> None:
    typed = [line for block in blocks(ROOT / page) for line in block.text.splitlines()]
    started = [line for line in typed if line.startswith("ray start ")]
    assert len(started) == 2
    assert all("--disable-usage-stats" in line for line in started)
    assert not any("--dashboard-host" in line for line in started), "then --address may name the head itself"
    submitted = [line for line in typed if line.startswith("sersearch submit ")]
    assert submitted
    assert all("--address http://localhost:8265 " in line for line in submitted)
    assert any(line.startswith("ssh -N -L 8265:localhost:8265 HEAD") for line in typed)


def test_what_the_launcher_brings_is_a_checkout_without_junk() -> None:
    config = yaml.safe_load(LAUNCHED.read_text("utf-8"))
    assert config["rsync_filter"] == [".gitignore"]
    ignored = (ROOT / ".gitignore").read_text().splitlines()
    assert {"/data/", "/studies/", ".venv/"} <= set(ignored)  # and not data/ alone, which is a package, too


def test_the_slurm_script_is_a_shell_s() -> None:
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0


def test_a_slurm_job_without_a_name_for_its_study_ends_before_anything(tmp_path: Path) -> None:
    done = subprocess.run(
        ["bash", str(SCRIPT), "--space", "aae_alpha_beta"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.startswith("Error: add --name NAME")


@pytest.fixture
def nodes() -> Iterator[dict[str, list[str]]]:
    """Two machines on a network, by their addresses; what runs a command there."""
    if not may_make_networks():
        pytest.skip("nodes are network namespaces, which root may make where the system lets it")
    folder = Path(tempfile.mkdtemp(prefix="ss", dir="/tmp"))
    (folder / "r").mkdir()
    made = Cluster(folder / "r")
    try:
        for node in (0, 1):
            made.connect(node)
        yield {made.host(node): made.inside(node) for node in (0, 1)}
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def work() -> Iterator[Path]:
    """A folder that all nodes have, with a short name, as Ray's sockets lie beside it."""
    folder = Path(tempfile.mkdtemp(prefix="sl", dir="/tmp"))
    work = folder / "w"
    work.mkdir()
    write_table(work / "data", make_table())
    (work / "small.yaml").write_text(SPACE)
    yield work
    shutil.rmtree(folder, ignore_errors=True)


def epochs(work: Path, name: str) -> int:
    if not (work / "studies" / name / "study.json").is_file():
        return 0
    return sum(event["event"] == "epoch" for event in Study.open(name, work / "studies").events())


def until(job: Job, work: Path, name: str, count: int) -> None:
    """Wait until a study has so many epochs."""
    deadline = time.monotonic() + 300
    while epochs(work, name) < count:
        assert job.process is not None
        assert job.process.poll() is None, job.output.read_text()
        assert time.monotonic() < deadline, job.output.read_text()
        time.sleep(0.1)


@pytest.mark.slow
def test_a_slurm_job_goes_on_after_its_time_limit_beside_another(nodes: dict[str, list[str]], work: Path) -> None:
    commands = installed(work.parent / "bin")
    jobs = {name: Job(number, nodes, commands, work) for number, name in ((7001, "one"), (7002, "two"))}
    one, two = jobs.values()
    args = [*OPTIONS, "--storage", str(work / "storage"), "--concurrency", "1"]
    try:
        for name, job in jobs.items():
            job.start(*args, "--name", name)
        until(one, work, "one", 3)
        os.kill(one.shell, signal.SIGUSR1)
        assert one.end() == 130, one.output.read_text()
        assert one.told[-1] == {"scontrol": ["requeue", "7001"]}
        before = epochs(work, "one")
        one.start(*args, "--name", "one")
        assert one.end() == 0, one.output.read_text()
        assert two.end() == 0, two.output.read_text()
    finally:
        for job in jobs.values():
            job.kill()
    assert 3 <= before < epochs(work, "one")
    studies = [Study.open(name, work / "studies") for name in jobs]
    assert table(studies[0]) == table(studies[1]), "whether it was interrupted or not"
    tokens = [{told["token"] for told in job.told if "srun" in told} - {""} for job in jobs.values()]
    assert [len(found) for found in tokens] == [2, 1], "one for each start"
    written = "".join(job.output.read_text() for job in jobs.values())
    assert not any(token in written for token in set.union(*tokens))
    assert "Traceback" not in written
    assert not list(work.parent.glob("*.told.*/ray-*")), "nothing is left of Ray on the nodes"
