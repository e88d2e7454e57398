"""The workstation's services: what Compose makes of them, who reaches them, and that nothing has a default password."""

from __future__ import annotations

import ipaddress
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from typer.main import get_command

from sersearch import cli
from tests.deploy.image import PROJECT, ROOT
from tests.deploy.test_image import BUILDS

DEPLOY = ROOT / "deploy"
FILES = [DEPLOY / "compose.yaml", DEPLOY / "compose.gpu.yaml"]
TEXT = FILES[0].read_text("utf-8")
HEAD = TEXT.partition("\nname: ")[0]
REQUIRED = re.compile(r"\$\{(\w+):\?[^}]+\}")
SECRETS = {"POSTGRES_PASSWORD", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "RAY_AUTH_TOKEN"}
COMPOSE = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
OURS = {"bucket", "mlflow", "ray"}


def filled(text: str) -> dict[str, Any]:
    """A Compose file with its required variables given."""
    made: dict[str, Any] = yaml.safe_load(REQUIRED.sub(lambda found: f"a-{found[1].lower()}", text))
    return made


def has_compose() -> bool:
    """Whether Docker's client has Compose."""
    return (
        bool(shutil.which("docker"))
        and not subprocess.run(["docker", "compose", "version"], capture_output=True, check=False).returncode
    )


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_it_is_what_the_specification_allows(path: Path) -> None:
    compose = PyCompose.from_yaml(yaml.safe_dump(filled(path.read_text("utf-8"))))
    compose.validate()
    assert compose.service_names()


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (lambda service: service.update(imagee="x"), "imagee"),
        (lambda service: service["healthcheck"].update(interval="5 parsecs"), "interval"),
        (lambda service: service.update(depends_on={"bucket": {"condition": "service_helthy"}}), "service_helthy"),
    ],
)
def test_the_specification_is_strict_enough_to_find_a_slip(wrong: Callable[[dict[str, Any]], None], said: str) -> None:
    compose = filled(TEXT)
    wrong(compose["services"]["object-store"])
    with pytest.raises(ValueError, match=said):
        PyCompose.from_yaml(yaml.safe_dump(compose)).validate()


@pytest.mark.skipif(not has_compose(), reason="Docker's client has no Compose here")
@pytest.mark.parametrize("files", [FILES[:1], FILES], ids=["cpu", "gpu"])
def test_docker_reads_it(files: list[Path], tmp_path: Path) -> None:
    env = tmp_path / ".env"
    env.write_text("".join(f"{name}=given\n" for name in SECRETS))
    named = [word for file in files for word in ("--file", str(file))]
    command = ["docker", "compose", "--env-file", str(env), *named, "config", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, done.stderr


def test_only_this_machine_reaches_it() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert sorted(port.rpartition(":")[2] for port in published) == ["5000", "8265", "8333"]
    for port in published:
        assert ipaddress.ip_address(port.split(":")[0]).is_loopback, port
    for service in SERVICES.values():
        assert not {"network_mode", "privileged", "pid", "ipc", "userns_mode"} & service.keys()


def test_no_secret_has_a_default_and_each_variable_is_explained() -> None:
    without = REQUIRED.sub("", TEXT)
    assert "${" not in without, "a variable without `:?` is empty where nobody has set it"
    assert {found[1] for found in REQUIRED.finditer(TEXT)} == SECRETS
    assert set(re.findall(r"^#   ([A-Z_]{4,})  +\S", HEAD, re.MULTILINE)) == SECRETS
    (made,) = re.findall(r"for name in ([A-Z_ ]+); do", HEAD)
    assert set(made.split()) == SECRETS, "the command that makes deploy/.env makes all of them"
    names = re.compile(r"PASSWORD|SECRET|TOKEN|KEY")
    for name, service in SERVICES.items():
        for variable, value in service.get("environment", {}).items():
            assert not names.search(variable) or REQUIRED.fullmatch(value), f"{name}: {variable}"
    assert not re.search(r"//[^/\s@:]+:[^/\s@]+@", TEXT), "a password in a URL stands in logs and process lists"


def test_a_file_of_secrets_is_neither_committed_nor_built_in() -> None:
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text("utf-8").splitlines()
    assert re.search(r"\(umask 077; .+ > deploy/\.env\)$", HEAD, re.MULTILINE | re.DOTALL), "for its owner's eyes only"


def test_each_service_says_how_it_is_and_waits_for_what_it_needs() -> None:
    assert SERVICES.keys() == {"postgresql", "object-store", *OURS}
    for name in SERVICES.keys() - {"bucket"}:
        check = SERVICES[name]["healthcheck"]
        assert check["test"][0] == "CMD", "a command without a shell"
        assert check.keys() == {"test", "interval", "timeout", "retries", "start_period"}
        assert SERVICES[name]["restart"] == "unless-stopped"
    waits = {
        name: {on: how["condition"] for on, how in s.get("depends_on", {}).items()} for name, s in SERVICES.items()
    }
    assert waits == {
        "postgresql": {},
        "object-store": {},
        "bucket": {"object-store": "service_healthy"},
        "mlflow": {"postgresql": "service_healthy", "bucket": "service_completed_successfully"},
        "ray": {"mlflow": "service_healthy"},
    }


def test_what_must_outlive_a_container_lies_in_a_volume() -> None:
    mounted = {volume.partition(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert mounted == set(COMPOSE["volumes"])
    (work,) = SERVICES["ray"]["volumes"]
    assert work.endswith(":/home/sersearch/work"), "studies lie in the image's working folder"


def test_no_service_may_gain_rights_and_ours_have_none() -> None:
    for name, service in SERVICES.items():
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert (service.get("cap_drop") == ["ALL"]) == (name in OURS)


def test_the_object_store_answers_others_in_s3_only() -> None:
    command = SERVICES["object-store"]["command"]
    assert {"-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-s3.ip.bind=0.0.0.0", "-master.telemetry=false"} <= set(command)
    assert SERVICES["object-store"]["environment"].keys() == {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"}


def test_mlflow_names_its_hosts_and_its_password_is_in_no_command() -> None:
    command = " ".join(SERVICES["mlflow"]["command"])
    (hosts,) = re.findall(r"--allowed-hosts=(\S+)", command)
    assert hosts.split(",") == ["mlflow:5000", "localhost:5000", "127.0.0.1:5000"]
    for service in SERVICES.values():
        assert "${" not in str(service.get("command"))


def test_the_commands_of_its_head_are_what_sersearch_understands() -> None:
    lines = HEAD.replace("\\\n#", "").splitlines()
    typed = [shlex.split(line.lstrip("#"))[1:] for line in lines if re.match(r"#   docker compose .* sersearch ", line)]
    words = [line[line.index("sersearch") + 1 :] for line in typed]
    assert [line[0] for line in words] == ["prep", "submit", "prep"]
    words.append(words[1][words[1].index("--") + 1 :])
    command: Any = get_command(cli.app)
    for name, *rest in words:
        given = command.commands[name].make_context(name, rest).params
        for url in (given.get("data"), given.get("out"), given.get("storage")):
            assert url is None or url.startswith("s3://sersearch/")


def test_images_are_of_one_version_here_and_in_the_dockerfile() -> None:
    for name in OURS:
        assert SERVICES[name]["image"] == f"sersearch:{PROJECT['version']}"
        build = SERVICES[name]["build"]
        assert (FILES[0].parent / build["context"]).resolve() == ROOT
        assert (ROOT / build["dockerfile"]).is_file()
    for service in SERVICES.values():
        image = service["image"]
        assert re.search(r":\d+(\.\d+)+(-\w+)?$", image), f"{image}: a tag that stays what it is"


def test_with_gpus_the_image_is_the_one_for_them() -> None:
    gpu = yaml.safe_load(FILES[1].read_text("utf-8"))["services"]
    assert gpu.keys() == OURS
    for service in gpu.values():
        assert service["image"] == f"sersearch:{PROJECT['version']}-cuda"
        assert service["build"]["args"]["TORCH_BUILD"] in BUILDS[1:]
    (device,) = gpu["ray"]["deploy"]["resources"]["reservations"]["devices"]
    assert device == {"driver": "nvidia", "count": "all", "capabilities": ["gpu"]}


def test_kubernetes_runs_the_same_versions() -> None:
    tags: dict[str, set[str]] = {}
    for path in (DEPLOY / "kubernetes").rglob("kustomization.yaml"):
        for image in yaml.safe_load(path.read_text("utf-8")).get("images", []):
            tags.setdefault(image["name"], set()).add(image["newTag"])
    here = {name: {tag} for name, tag in (service["image"].split(":") for service in SERVICES.values())}
    here["sersearch"].add(f"{PROJECT['version']}-cuda")
    assert tags.keys() == here.keys()
    assert all(tags[name] <= here[name] for name in here), tags
