"""The image: what it is made of, that it is made of nothing else, and its pip steps carried out."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest
from packaging.specifiers import SpecifierSet

from tests.deploy.image import INDEX, PINS, PROJECT, ROOT, Image, context, copied, pairs, stages

STAGES = stages()
FINAL = STAGES[-1]
RUNS = [step.value[0] for stage in STAGES for step in stage.of("RUN")]
BUILDS = ["cpu", "cu126", "cu130", "cu132"]  # of PyTorch 2.13: pytorch/pytorch, RELEASE.md
HEAD = (ROOT / "deploy" / "Dockerfile").read_text("utf-8").partition("\nFROM ")[0]


def test_it_begins_with_a_fixed_release_of_a_python_that_sersearch_runs_on() -> None:
    base = STAGES[0].base
    tag = re.fullmatch(r"python:(3\.\d+\.\d+)-slim-(\w+)", base)
    assert tag, f"{base}: a tag such as 3.11.15-slim-trixie is of one release of Python and Debian"
    assert tag[1] in SpecifierSet(PROJECT["requires-python"])
    assert {stage.base for stage in STAGES[1:]} <= {stage.name for stage in STAGES}


def test_labels_say_what_it_is() -> None:
    labels = {name.rpartition("image.")[2]: value for step in FINAL.of("LABEL") for name, value in pairs(step).items()}
    assert labels.keys() == {"title", "description", "version", "base.name"}
    assert (labels["title"], labels["version"]) == (PROJECT["name"], PROJECT["version"])
    assert labels["base.name"] == f"docker.io/library/{STAGES[0].base}"
    assert set(re.findall(r"sersearch:([\d.]+)", HEAD)) == {PROJECT["version"]}


def test_versions_stand_in_constraints_alone() -> None:
    installs = [line for run in RUNS for line in re.findall(r"\bpip [^&]*?\binstall\b[^&]*", run)]
    assert len(installs) == 4
    for line in installs:
        assert "--constraint constraints.txt" in line or line.split()[-2:] == ["--no-deps", "/dist/*.whl"], line
    assert not [run for run in RUNS if re.search(r"[=<>~]=\s*\d", run)], "a version belongs into constraints.txt"
    assert f"torch=={PINS['torch']}" in PROJECT["dependencies"], "a range could take another build of PyTorch"


def test_torch_comes_from_its_own_index_and_nothing_else_does() -> None:
    (run,) = [run for run in RUNS if INDEX.search(run)]
    assert "--index-url https://download.pytorch.org/whl/$TORCH_BUILD torch" in run
    assert "--no-deps" in run, "PyTorch's index has old versions of other packages, too"
    assert not [run for run in RUNS if "extra-index-url" in run]
    order = [stage.name for stage in STAGES for step in stage.of("RUN") if "install" in step.value[0]]
    assert order[0] == "dependencies", "later requirements must find it there"


def test_the_builds_of_torch_are_named_and_the_cpu_s_is_the_default() -> None:
    assert [step.value for stage in STAGES for step in stage.of("ARG")] == [("TORCH_BUILD=cpu",)] * 2
    assert re.findall(r"^#   (c[pu]\w+) ", HEAD, re.MULTILINE) == BUILDS
    assert set(re.findall(r"--build-arg TORCH_BUILD=(\w+)", HEAD)) <= set(BUILDS)


def test_a_compiler_is_only_there_where_gpus_are() -> None:
    (apt,) = [run for run in RUNS if "apt-get" in run]
    assert apt.startswith('if [ "$TORCH_BUILD" != cpu ]; then')
    assert "--no-install-recommends g++" in apt
    assert "rm -rf /var/lib/apt/lists/*" in apt, "lists of packages are of no use in an image"


def test_it_runs_as_nobody_in_particular() -> None:
    (user,) = FINAL.of("USER")
    uid, gid = user.value[0].split(":")  # numbers: Kubernetes can't tell that a name isn't root's
    assert (uid, gid) == ("1000", "1000")
    assert any(re.search(rf"useradd --uid {uid} --user-group --create-home", run) for run in RUNS)
    work = FINAL.of("WORKDIR")[-1].value[0]
    assert any(f"--owner sersearch --group sersearch {work}" in run for run in RUNS), "it must be able to write there"
    after = [step.cmd for step in FINAL.steps[FINAL.steps.index(user) :]]
    assert "RUN" not in after


def test_the_context_is_what_is_copied_and_nothing_else() -> None:
    wanted = set().union(*map(copied, STAGES))
    assert all((ROOT / source).exists() for source in wanted)
    assert {path.partition("/")[0] for path in context()} == wanted
    assert not [path for path in context() if "__pycache__" in path or path.endswith((".pyc", ".so"))]


def test_secrets_and_junk_of_a_working_tree_stay_out_of_the_context() -> None:
    patterns = (ROOT / ".dockerignore").read_text("utf-8").split("\n")
    assert patterns[1] == "*", "what isn't named stays out: .git, .env, data, studies, mlflow.db"
    kept = {pattern.removeprefix("!") for pattern in patterns if pattern.startswith("!")}
    assert kept == set().union(*map(copied, STAGES))
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert set(packages["packages"]) < kept


def test_no_secret_is_built_in_and_nothing_is_of_the_latest_version() -> None:
    set_there = {name for stage in STAGES for step in stage.of("ENV") for name in pairs(step)}
    set_there |= {step.value[0].partition("=")[0] for stage in STAGES for step in stage.of("ARG")}
    assert not [name for name in set_there if re.search(r"TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIAL|KEY", name)]
    assert "latest" not in (ROOT / "deploy" / "Dockerfile").read_text("utf-8")


def test_it_says_whether_it_works_and_of_itself_what_it_can_do() -> None:
    (check,), (command,) = FINAL.of("HEALTHCHECK"), FINAL.of("CMD")
    assert check.json, "a command without a shell, which is stopped as a whole when it hangs"
    assert command.json
    assert check.value == ("CMD", *command.value)
    assert command.value[0] in PROJECT["scripts"]


def test_ray_asks_for_a_token_and_nobody_is_told_of_its_use() -> None:
    env = {name: value for step in FINAL.of("ENV") for name, value in pairs(step).items()}
    assert env["RAY_AUTH_MODE"] == "token"
    assert (env["RAY_USAGE_STATS_ENABLED"], env["MLFLOW_DISABLE_TELEMETRY"]) == ("0", "true")


@pytest.mark.slow
def test_its_pip_steps_make_a_python_with_all_that_the_roles_need(tmp_path: Path) -> None:
    image = Image(tmp_path)
    (check,) = FINAL.of("HEALTHCHECK")
    assert "tune" in image.run(*check.value[1:]).stdout
    assert image.run("mlflow", "--version").stdout.split()[-1] == PINS["mlflow"]
    assert PINS["ray"] in image.run("ray", "--version").stdout
    image.run("python", "-c", "import boto3, psycopg, s3fs, ray.dashboard.modules.job.sdk, torch; psycopg.pq.version()")
    listed = "import json, importlib.metadata as m; print(json.dumps({d.name: d.version for d in m.distributions()}))"
    there = {name.lower(): version for name, version in json.loads(image.run("python", "-c", listed).stdout).items()}
    assert there.pop("sersearch") == PROJECT["version"]
    pins = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in PINS.items()}
    others = {
        name: version
        for name, version in there.items()
        if pins.get(re.sub(r"[-_.]+", "-", name)) != version.partition("+")[0]
    }
    assert not others, "installed in another version than constraints.txt has, or in one that it doesn't have"
    assert len(re.findall(r"Successfully installed[^\n]* torch-\d", image.said)) == 1, "later steps must leave it alone"
    assert not {"pip", "pytest", "hatchling", "ruff", "mypy"} & there.keys()
