"""The Kubernetes manifests, as far as they can be checked without a cluster."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

import sersearch
from tests.deploy.kustomize import FOLDER, OVERLAYS, Resource, build, containers_in
from tests.deploy.manifests import Pod, pods, quantity, requested, unconfined

ROOT = FOLDER.parents[1]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split())
README = (ROOT / "deploy" / "README.md").read_text("utf-8")
SCHEMAS = Path(os.environ.get("SERSEARCH_SCHEMAS", ROOT.parent / "shared" / "schemas")) / "kuberay"
KUBERNETES = ("1.32", "1.37")
"""The oldest and the newest Kubernetes that the manifests are checked against."""


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def resources(overlay: str) -> list[Resource]:
    return build(FOLDER / "overlays" / overlay)


def one(resources: list[Resource], kind: str, name: str) -> Resource:
    (found,) = [r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, name)]
    return found


def groups(resources: list[Resource]) -> dict[str, dict[str, Any]]:
    """The groups of Ray's workers."""
    return {group["groupName"]: group for group in one(resources, "RayCluster", "ray")["spec"]["workerGroupSpecs"]}


# --- what is built ----------------------------------------------------------------------------------------------------


def kustomize() -> list[str]:
    """The command that builds kustomizations on this machine; the test is skipped without one."""
    for command in (["kubectl", "kustomize"], ["kustomize", "build"]):
        if shutil.which(command[0]):
            return command
    pytest.skip("neither kubectl nor kustomize is installed")


def test_kustomize_builds_the_resources_that_are_checked_here(overlay: str, resources: list[Resource]) -> None:
    command = [*kustomize(), str(FOLDER / "overlays" / overlay)]
    built = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout

    def by_name(of: list[Resource]) -> list[Resource]:
        return sorted(of, key=lambda r: (r["kind"], r["metadata"]["name"]))

    assert by_name(list(yaml.safe_load_all(built))) == by_name(resources)


def test_a_registry_that_the_overlay_names_is_that_of_all_pods(overlay: str, tmp_path: Path) -> None:
    command = kustomize()
    copied = Path(shutil.copytree(FOLDER, tmp_path / "kubernetes"))
    path = copied / "overlays" / overlay / "kustomization.yaml"
    name = "  - name: sersearch\n"
    assert path.read_text("utf-8").count(name) == 1
    path.write_text(path.read_text("utf-8").replace(name, f"{name}    newName: registry.example.org/sersearch\n"))
    built = subprocess.run([*command, str(path.parent)], capture_output=True, text=True, timeout=60, check=True).stdout
    ours = {image for image in re.findall(r"image: (\S+)", built) if "sersearch" in image}
    assert ours == {f"registry.example.org/sersearch:{sersearch.__version__}" + ("" if overlay == "local" else "-cuda")}


def test_only_the_overlays_with_gpus_have_a_group_of_gpus(overlay: str, resources: list[Resource]) -> None:
    sizes = {name: (g.get("replicas"), g["minReplicas"], g["maxReplicas"]) for name, g in groups(resources).items()}
    assert (
        sizes
        == {
            "local": {"cpu": (1, 1, 1)},
            "gpu": {"cpu": (2, 2, 2), "gpu": (2, 2, 2)},
            "gpu-autoscale": {"cpu": (None, 0, 4), "gpu": (None, 0, 4)},
        }[overlay]
    )


# --- schemas ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", KUBERNETES)
def test_kubernetes_knows_every_field(resources: list[Resource], version: str) -> None:
    own = [resource for resource in resources if not resource["apiVersion"].startswith("ray.io/")]
    for resource in [*own, *(pod.manifest() for pod in pods(resources).values())]:
        kubernetes_validate.validate(resource, version, strict=True)


def test_a_misspelt_field_of_kubernetes_is_found(resources: list[Resource]) -> None:
    head = pods(resources)["head"].manifest()
    head["spec"]["containers"][0] = {**head["spec"]["containers"][0], "readinesProbe": {}}
    with pytest.raises(kubernetes_validate.ValidationError, match="readinesProbe"):
        kubernetes_validate.validate(head, KUBERNETES[-1], strict=True)


def strict(schema: Any) -> Any:
    """A schema of an API that refuses fields which it doesn't name."""
    if isinstance(schema, list):
        return [strict(entry) for entry in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if "properties" in schema and not schema.get("x-kubernetes-preserve-unknown-fields"):
        made.setdefault("additionalProperties", False)
    return made


def kuberay(kind: str) -> jsonschema.Draft202012Validator:
    """KubeRay's schema of a kind, strict; the test is skipped without it."""
    path = SCHEMAS / f"{kind.lower()}.v1.json"
    if not path.is_file():
        pytest.skip(f"no schemas of KubeRay at {SCHEMAS}; SERSEARCH_SCHEMAS names their folder")
    return jsonschema.Draft202012Validator(strict(json.loads(path.read_text("utf-8"))["openAPIV3Schema"]))


@pytest.mark.parametrize(("kind", "name"), [("RayCluster", "ray"), ("RayJob", "search")])
def test_kuberay_knows_every_field(resources: list[Resource], kind: str, name: str) -> None:
    resource = one(resources, kind, name)
    assert resource["apiVersion"] == "ray.io/v1"
    kuberay(kind).validate(resource)


@pytest.mark.parametrize(
    ("path", "field"),
    [((), "authOption"), (("headGroupSpec",), "rayStartParam"), (("headGroupSpec", "template", "spec"), "toleration")],
)
def test_a_misspelt_field_of_kuberay_is_found(resources: list[Resource], path: tuple[str, ...], field: str) -> None:
    cluster = copy.deepcopy(one(resources, "RayCluster", "ray"))
    place = cluster["spec"]
    for key in path:
        place = place[key]
    place[field] = {}
    with pytest.raises(jsonschema.ValidationError, match=field):
        kuberay("RayCluster").validate(cluster)


def test_the_operator_has_no_reason_to_refuse_them(resources: list[Resource]) -> None:
    """What KubeRay 1.7 checks beside its schemas, of what is used here."""
    cluster, job = one(resources, "RayCluster", "ray")["spec"], one(resources, "RayJob", "search")["spec"]
    assert "networkPolicy" not in cluster, "needs the feature gate RayClusterNetworkPolicy"
    assert cluster["authOptions"] == {"mode": "token"}
    scaled = cluster.get("enableInTreeAutoscaling", False)
    for group in cluster["workerGroupSpecs"]:
        assert scaled or group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", group["groupName"])
    templates = [cluster["headGroupSpec"]["template"], *(group["template"] for group in cluster["workerGroupSpecs"])]
    assert not any("restartPolicy" in template["spec"] for template in templates), "the autoscaler asks for Never"
    assert job["clusterSelector"] == {"ray.io/cluster": one(resources, "RayCluster", "ray")["metadata"]["name"]}
    assert not job.keys() & {"backoffLimit", "suspend", "rayClusterSpec", "shutdownAfterJobFinishes"}
    assert job.get("submissionMode", "K8sJobMode") == "K8sJobMode"


def test_only_training_goes_to_nodes_with_gpus_and_to_spot_machines(overlay: str, resources: list[Resource]) -> None:
    tolerated = {
        name: {entry["key"] for entry in pod.spec["tolerations"]}
        for name, pod in pods(resources).items()
        if "tolerations" in pod.spec
    }
    spot = {"cloud.google.com/gke-spot", "kubernetes.azure.com/scalesetpriority"}
    taints = {"gpu": {"nvidia.com/gpu"}, "gpu-autoscale": {"nvidia.com/gpu", *spot}}
    assert tolerated == ({"gpu": taints[overlay]} if overlay in taints else {})


def test_the_corpora_are_where_features_may_be_prepared(overlay: str, resources: list[Resource]) -> None:
    """Ray prepares them wherever a CPU is free, of nodes with GPUs, too."""
    claim = {"persistentVolumeClaim": {"claimName": "corpora"}}
    made = pods(resources)
    for name in ("head", *groups(resources)):
        spec = made[name].spec
        (container,) = [c for c in spec["containers"] if c["name"] in ("ray-head", "ray-worker")]
        (volume,) = [m["name"] for m in container["volumeMounts"] if m["mountPath"] == "/corpora"]
        assert {"name": volume, **claim} in spec["volumes"]
        # Else each pod that starts would change the owner of every file in the claim.
        assert spec["securityContext"]["fsGroupChangePolicy"] == "OnRootMismatch"
    several = sum(g["maxReplicas"] for g in groups(resources).values()) > 1
    modes = one(resources, "PersistentVolumeClaim", "corpora")["spec"]["accessModes"]
    assert modes == (["ReadWriteMany"] if several else ["ReadWriteOnce"])


def test_applied_again_a_growing_cluster_keeps_its_size(overlay: str, resources: list[Resource]) -> None:
    cluster = one(resources, "RayCluster", "ray")["spec"]
    scaled = cluster.get("enableInTreeAutoscaling", False)
    assert scaled == (overlay == "gpu-autoscale")
    assert all(("replicas" in group) != scaled for group in cluster["workerGroupSpecs"])
    assert cluster.get("autoscalerOptions", {"version": "v2"})["version"] == "v2"


def test_eviction_is_limited_in_ways_that_kubernetes_can_count(resources: list[Resource]) -> None:
    made = pods(resources)
    for budget in (r["spec"] for r in resources if r["kind"] == "PodDisruptionBudget"):
        selector = budget["selector"]
        names = selector.get("matchLabels", {}).get("app.kubernetes.io/component")
        wanted = [names] if names else selector["matchExpressions"][0]["values"]
        held = {n for n, pod in made.items() if pod.labels["app.kubernetes.io/component"] in wanted}
        assert held
        # Of pods whose owner has no scale, such as a RayCluster's, it can only count those that are there.
        assert ("minAvailable" in budget) == (not held.isdisjoint({"head", "cpu", "gpu"}))


# --- security ---------------------------------------------------------------------------------------------------------


def test_every_pod_is_confined(resources: list[Resource]) -> None:
    labels = one(resources, "Namespace", "sersearch")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    made = pods(resources)
    assert made.keys() >= {"postgresql", "object-store", "bucket", "mlflow", "head", "cpu", "submitter"}
    assert {name: unconfined(pod) for name, pod in made.items() if unconfined(pod)} == {}


@pytest.mark.parametrize(
    ("change", "found"),
    [
        ({"runAsNonRoot": False}, "runs as root"),
        ({"runAsUser": 0}, "runs as root"),
        ({"seccompProfile": {"type": "Unconfined"}}, "seccomp"),
        ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation"),
        ({"privileged": True}, "privileged"),
        ({"capabilities": {"drop": ["ALL"], "add": ["NET_RAW"]}}, "capabilities"),
        ({"readOnlyRootFilesystem": False}, "writable root"),
    ],
)
def test_a_pod_that_is_not_confined_is_found(change: dict[str, Any], found: str) -> None:
    pod = copy.deepcopy(pods(build(FOLDER / "overlays" / "local"))["cpu"])
    pod.spec["containers"][0]["securityContext"].update(change)
    assert unconfined(pod) == [f"ray-worker: {found}"]


def test_nothing_that_a_search_runs_has_a_token_of_kubernetes(overlay: str, resources: list[Resource]) -> None:
    assert not any(r["automountServiceAccountToken"] for r in resources if r["kind"] == "ServiceAccount")
    holding = []
    for pod in pods(resources).values():
        assert pod.spec["automountServiceAccountToken"] is False
        tokens = {
            volume["name"]
            for volume in pod.spec.get("volumes", [])
            for source in volume.get("projected", {}).get("sources", [])
            if "serviceAccountToken" in source
        }
        mounts = [(c["name"], m["name"]) for c in pod.containers for m in c.get("volumeMounts", [])]
        holding += [name for name, volume in mounts if volume in tokens]
    assert holding == (["autoscaler"] if overlay == "gpu-autoscale" else [])


def test_there_is_no_secret_in_the_manifests_and_none_is_an_argument(resources: list[Resource]) -> None:
    assert not [r for r in resources if r["kind"] == "Secret"]
    for container in (c for pod in pods(resources).values() for c in pod.containers):
        plain = {entry["name"]: entry["value"] for entry in container.get("env", []) if "value" in entry}
        assert not [name for name in plain if re.search("PASSWORD|SECRET|TOKEN|KEY", name)]
        for text in [*plain.values(), *container.get("command", [])]:
            assert not re.search(r"://[^/@\s]*:[^/@\s]*@", text), f"a password in {text}"


def references(pod: Pod) -> Iterator[tuple[str, str]]:
    """Kind and name of all that a pod needs to start."""
    yield "ServiceAccount", pod.spec["serviceAccountName"]
    yield "PriorityClass", pod.spec["priorityClassName"]
    for volume in pod.spec.get("volumes", []):
        if "persistentVolumeClaim" in volume:
            yield "PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]
        for source in [volume, *volume.get("projected", {}).get("sources", [])]:
            if "configMap" in source:
                yield "ConfigMap", source["configMap"]["name"]
            assert "secret" not in source
    for container in pod.containers:
        for entry in container.get("envFrom", []):
            for key, kind in (("configMapRef", "ConfigMap"), ("secretRef", "Secret")):
                if key in entry:
                    yield kind, entry[key]["name"]
        for entry in container.get("env", []):
            if secret := entry.get("valueFrom", {}).get("secretKeyRef"):
                assert f"{secret['name']} --from-literal={secret['key']}=" in README
                yield "Secret", secret["name"]


def test_all_that_a_pod_needs_is_there_or_made_by_the_user(resources: list[Resource]) -> None:
    there = {(r["kind"], r["metadata"]["name"]) for r in resources} | {("ConfigMap", "kube-root-ca.crt")}
    by_user = {("Secret", name) for name in re.findall(r"create secret generic (\S+)", README)}
    assert by_user == {("Secret", "postgresql"), ("Secret", "object-store")}
    wanted = {reference for pod in pods(resources).values() for reference in references(pod)}
    assert wanted - there == by_user
    for pod in pods(resources).values():
        claims = [t["metadata"]["name"] for t in templates(resources, pod.name)]
        volumes = [volume["name"] for volume in pod.spec.get("volumes", [])] + claims
        mounts = {mount["name"] for container in pod.containers for mount in container.get("volumeMounts", [])}
        assert mounts == set(volumes)


def templates(resources: list[Resource], name: str) -> list[dict[str, Any]]:
    """The claims that a StatefulSet makes."""
    sets = [r for r in resources if (r["kind"], r["metadata"]["name"]) == ("StatefulSet", name)]
    return [claim for found in sets for claim in found["spec"]["volumeClaimTemplates"]]


# --- versions and figures ---------------------------------------------------------------------------------------------


def test_images_and_ray_are_of_this_version(overlay: str, resources: list[Resource]) -> None:
    images = {container["image"] for resource in resources for container in containers_in(resource)}
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text("utf-8"))["services"]
    others = {service["image"] for service in compose.values() if not service["image"].startswith("sersearch:")}
    tag = sersearch.__version__ + ("" if overlay == "local" else "-cuda")
    assert images == {f"sersearch:{tag}", *others}
    assert not [image for image in images if not re.fullmatch(r"[\w./]+:\d[\w.-]*", image)]
    assert one(resources, "RayCluster", "ray")["spec"]["rayVersion"] == PINS["ray"]
    assert f"sersearch:{tag}" in re.findall(r"sersearch:[\w.-]+", README)


def test_a_node_has_the_cpus_that_ray_is_told_of(resources: list[Resource]) -> None:
    for group in groups(resources).values():
        asked = group["template"]["spec"]["containers"][0]["resources"]
        assert asked["requests"] == asked["limits"]
        assert quantity(asked["limits"]["cpu"]) % 1 == 0
    assert one(resources, "RayCluster", "ray")["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"


def cost(resources: list[Resource]) -> dict[str, str]:
    """What the pods that stay while a search runs ask for, and the claims, as the guide's table tells it."""
    told = {}
    for name, pod in pods(resources).items():
        if name == "bucket":
            continue
        group = groups(resources).get(name, {"minReplicas": 1, "maxReplicas": 1})
        low, high = group["minReplicas"], group["maxReplicas"]
        times = "" if high == 1 else f"{high} x " if low == high else f"{low} to {high} x "
        gpus = requested(pod, "nvidia.com/gpu")
        memory = requested(pod, "memory") / 2**30
        asked = f"{requested(pod, 'cpu').normalize():f} CPU, {memory.normalize():f} GiB"
        told[name] = times + asked + (f", {gpus} GPU" if gpus else "")
    claims = {r["metadata"]["name"]: r["spec"] for r in resources if r["kind"] == "PersistentVolumeClaim"}
    claims |= {name: c["spec"] for name in ("postgresql", "object-store") for c in templates(resources, name)}
    for name, claim in claims.items():
        told[f"disk of {name}"] = f"{quantity(claim['resources']['requests']['storage']) / 2**30} GiB"
    return told


def test_the_guide_says_what_it_costs() -> None:
    columns = [cost(build(FOLDER / "overlays" / overlay)) for overlay in OVERLAYS]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [f"| {name} | " + " | ".join(column.get(name, "-") for column in columns) + " |" for name in names]
    missing = [row for row in rows if row not in README]
    assert not missing, "\n".join(missing)
