"""The commands inside the manifests: that they parse, wait for what they need, and leave a search the time it takes."""

from __future__ import annotations

import ast
import http.server
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
import yaml
from moto.server import ThreadedMotoServer

from sersearch.cli import app
from sersearch.tuning.space import load_space
from tests.deploy.kustomize import FOLDER, OVERLAYS, Resource, build
from tests.deploy.manifests import Pod, pods
from tests.nodes import Cluster, may_make_networks

RECORDER = """#!{python}
import json, os, sys
with open(os.environ["CALLS"], "a") as file:
    file.write(json.dumps([os.path.basename(sys.argv[0]), *sys.argv[1:]]) + "\\n")
"""


@pytest.fixture(params=OVERLAYS)
def resources(request: pytest.FixtureRequest) -> list[Resource]:
    return build(FOLDER / "overlays" / str(request.param))


@pytest.fixture
def local() -> dict[str, Pod]:
    return pods(build(FOLDER / "overlays" / "local"))


def entrypoint(resources: list[Resource]) -> str:
    (job,) = [resource for resource in resources if resource["kind"] == "RayJob"]
    return str(job["spec"]["entrypoint"])


def calls(command: list[str], folder: Path) -> list[list[str]]:
    """What a shell's command runs of `ray` and `sersearch`, which do nothing here."""
    for name in ("ray", "sersearch"):
        (folder / name).write_text(RECORDER.format(python=sys.executable), "utf-8")
        (folder / name).chmod(0o755)
    file = folder / "calls"
    file.write_text("", "utf-8")
    environment = {"PATH": f"{folder}:{os.environ['PATH']}", "CALLS": str(file)}
    subprocess.run(command, env=environment, cwd=folder, timeout=60, check=True)
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()]


@pytest.fixture
def searched(resources: list[Resource], tmp_path: Path) -> list[list[str]]:
    """What the RayJob runs on the cluster: its entry point as KubeRay and Ray's job server hand it on."""
    submit = (
        f"if true ; then ray job submit --address http://ray-head-svc:8265 --no-wait -- {entrypoint(resources)} ; fi"
    )
    (submitted,) = calls(["bash", "-ce", submit], tmp_path)
    return calls(["/bin/sh", "-c", shlex.join(submitted[submitted.index("--") + 1 :])], tmp_path)


def parsed(command: list[str]) -> dict[str, object]:
    """The options of a `sersearch` command by the real parser."""
    main = typer.main.get_command(app)
    name, *arguments = command[1:]
    context = main.commands[name].make_context(name, list(arguments))  # type: ignore[attr-defined]
    return dict(context.params)


def test_the_search_runs_on_the_cluster_and_nothing_of_it_in_the_submitter(
    searched: list[list[str]], resources: list[Resource]
) -> None:
    prepared, tuned = (parsed(command) for command in searched)
    assert [command[:2] for command in searched] == [["sersearch", "prep"], ["sersearch", "tune"]]
    assert (prepared["corpus"], str(prepared["root"])) == ("demo", "/corpora/demo")
    assert prepared["out"] == tuned["data"] == "s3://sersearch/data/demo"
    assert tuned["gpu"] == ("gpu" in pods(resources))
    assert (tuned["storage"], tuned["name"]) == ("s3://sersearch/studies", "demo"), "without them it couldn't go on"
    assert tuned["tracking_uri"] == "http://mlflow:5000"
    assert tuned["address"] is None, "a Ray job has RAY_ADDRESS"


def test_the_search_is_the_one_of_the_demo_corpus(searched: list[list[str]]) -> None:
    tuned = parsed(searched[1])
    space = load_space("aae_alpha_beta").for_demo()
    assert (tuned["space"], tuned["protocol"]) == ("aae_alpha_beta", "official")
    assert (tuned["trials"], tuned["epochs"]) == (space.trials, space.epochs)
    given = dict(str(text).split("=", 1) for text in tuned["fixed"])  # type: ignore[attr-defined]
    assert {name: yaml.safe_load(value) for name, value in given.items()} == dict(space.fixed)


def test_a_head_that_leaves_gives_its_searches_the_time_they_take(
    local: dict[str, Pod], resources: list[Resource]
) -> None:
    head = pods(resources)["head"].spec
    (environment,) = [c["env"] for c in head["containers"] if c["name"] == "ray-head"]
    stop = next(int(entry["value"]) for entry in environment if entry["name"] == "RAY_JOB_STOP_WAIT_TIME_S")
    grace = parsed(["sersearch", "tune"])["grace"]
    assert grace < stop < head["terminationGracePeriodSeconds"]  # type: ignore[operator]


def test_mlflow_s_server_has_the_options_that_it_is_given(
    local: dict[str, Pod], monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings(action="ignore"):  # MLflow's own
        from mlflow.cli import server
    (container,) = local["mlflow"].containers
    program, name, *arguments = container["command"]
    assert (program, name) == ("mlflow", "server")
    for variable in [name for name in os.environ if name.startswith("MLFLOW_")]:
        monkeypatch.delenv(variable)
    given = server.make_context("server", arguments).params
    assert (given["host"], given["port"], given["serve_artifacts"]) == ("0.0.0.0", 5000, True)
    assert given["artifacts_destination"] == "s3://sersearch/mlflow"
    assert given["backend_store_uri"] == "postgresql+psycopg://mlflow@postgresql:5432/mlflow"
    assert "*" not in given["allowed_hosts"]
    assert {"mlflow:5000", "localhost:5000"} <= set(given["allowed_hosts"].split(","))


def test_programs_inside_the_manifests_are_python(resources: list[Resource]) -> None:
    programs = [
        command[2]
        for pod in pods(resources).values()
        for container in pod.containers
        for command in (
            container.get("command", []),
            container.get("lifecycle", {}).get("preStop", {}).get("exec", {}).get("command", []),
        )
        if command[:2] == ["python", "-c"]
    ]
    assert len(programs) == 3
    for program in programs:
        ast.parse(program)


# --- with an object store ---------------------------------------------------------------------------------------------


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The environment of a container that reaches an object store."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    _, port = server.get_host_and_port()
    yield {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "user",
        "AWS_SECRET_ACCESS_KEY": "secret",
    }
    server.stop()


class Healthy(http.server.BaseHTTPRequestHandler):
    """MLflow's answer to who asks how it is."""

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


def run(program: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *program[1:]], env=environment, stdout=subprocess.PIPE, text=True)


def test_the_head_waits_for_mlflow_and_for_the_bucket_that_the_job_makes(
    local: dict[str, Pod], store: dict[str, str]
) -> None:
    (waits,) = local["head"].spec["initContainers"]
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Healthy) as mlflow:
        address = f"http://127.0.0.1:{mlflow.server_port}"
        *program, text = waits["command"]
        text = text.replace("http://mlflow:5000", address).replace("sleep(5)", "sleep(0.2)")
        thread = threading.Thread(target=mlflow.serve_forever)
        with run([*program, text], store) as waiting:
            try:
                assert waiting.stdout is not None
                assert "waiting for MLflow and the object store" in waiting.stdout.readline()
                thread.start()
                assert any("there is no bucket yet" in waiting.stdout.readline() for _ in range(100))
                (bucket,) = local["bucket"].containers
                for _ in range(2):  # applied again, it finds the bucket
                    with run(bucket["command"], store) as making:
                        assert making.wait(300) == 0
                assert waiting.wait(300) == 0
            finally:
                waiting.kill()
                if thread.is_alive():
                    mlflow.shutdown()
                    thread.join()


# --- with Ray ---------------------------------------------------------------------------------------------------------

LEAVING = """
import pathlib, signal, sys, time

def leave(*args):
    time.sleep(6)  # longer than Ray waits by itself
    pathlib.Path("left").touch()
    sys.exit()

signal.signal(signal.SIGTERM, leave)
pathlib.Path("begun").touch()
time.sleep(600)
"""


@pytest.mark.slow
def test_a_head_that_leaves_lets_searches_leave_first(local: dict[str, Pod], tmp_path: Path) -> None:
    if not may_make_networks():
        pytest.skip("a node is a network namespace, which root may make where the system lets it")
    (head,) = local["head"].spec["containers"]
    folder = Path(tempfile.mkdtemp(prefix="hl", dir="/tmp"))
    (folder / "r").mkdir()
    (tmp_path / "leaving.py").write_text(LEAVING, "utf-8")
    cluster = Cluster(folder / "r")
    cluster.env |= {entry["name"]: entry["value"] for entry in head["env"]}
    programs = str(Path(sys.executable).parent)

    def on_head(*command: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, **cluster.env, "PATH": f"{programs}:{os.environ['PATH']}"}
        inside = cluster.inside(0, *command)
        return subprocess.run(inside, env=environment, capture_output=True, text=True, timeout=300, check=False)

    try:
        cluster.start(0, "--include-dashboard=true")
        address = ["--address", "http://127.0.0.1:8265"]
        until(lambda: on_head("ray", "job", "list", *address).returncode == 0)
        job = ["sh", "-c", f"cd {tmp_path} && exec {sys.executable} leaving.py"]
        submitted = on_head("ray", "job", "submit", *address, "--no-wait", "--", *job)
        assert submitted.returncode == 0, submitted.stdout + submitted.stderr
        until((tmp_path / "begun").exists)
        stop = head["lifecycle"]["preStop"]["exec"]["command"]
        for _ in range(2):  # the second time there is nothing to wait for
            stopped = on_head(*stop)
            assert stopped.returncode == 0, stopped.stdout + stopped.stderr
            assert (tmp_path / "left").exists()
    finally:
        cluster.close()
        shutil.rmtree(folder)


def until(happened: Callable[[], bool]) -> None:
    """Wait for it."""
    deadline = time.monotonic() + 300
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.5)
