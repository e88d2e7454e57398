"""The pods that come of Kubernetes resources, and what is asked of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from tests.deploy.kustomize import Resource


@dataclass(frozen=True)
class Pod:
    """A pod that a resource makes, with what KubeRay adds to it that isn't in its template."""

    name: str
    labels: dict[str, str]
    spec: dict[str, Any]

    @property
    def containers(self) -> list[dict[str, Any]]:
        """All of its containers."""
        return [*self.spec.get("initContainers", []), *self.spec["containers"]]

    def manifest(self) -> Resource:
        """It as a resource of its own."""
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": self.labels},
            "spec": self.spec,
        }


def pods(resources: list[Resource]) -> dict[str, Pod]:
    """The pods by name: a resource's, or that of a group of Ray's workers."""
    found = [pod for resource in resources for pod in _pods(resource)]
    assert len({pod.name for pod in found}) == len(found)
    return {pod.name: pod for pod in found}


def _pods(resource: Resource) -> Iterator[Pod]:
    kind, name, spec = resource["kind"], resource["metadata"]["name"], resource.get("spec", {})
    if kind in ("Deployment", "StatefulSet", "Job"):
        yield _pod(name, spec["template"])
    elif kind == "RayJob":
        yield _pod("submitter", spec["submitterPodTemplate"])
    elif kind == "RayCluster":
        head = _pod("head", spec["headGroupSpec"]["template"])
        options = spec.get("autoscalerOptions", {})
        autoscaler = {
            "name": "autoscaler",
            "image": head.spec["containers"][0]["image"],
            **{key: options[key] for key in ("resources", "securityContext", "volumeMounts") if key in options},
        }
        beside = [autoscaler] if spec.get("enableInTreeAutoscaling") else []
        yield Pod("head", head.labels, {**head.spec, "containers": head.spec["containers"] + beside})
        for group in spec["workerGroupSpecs"]:
            yield _pod(group["groupName"], group["template"])


def _pod(name: str, template: dict[str, Any]) -> Pod:
    return Pod(name, template["metadata"]["labels"], template["spec"])


UNITS = {"": Decimal(1), "m": Decimal("0.001"), "Mi": Decimal(2) ** 20, "Gi": Decimal(2) ** 30}


def quantity(text: str | int) -> Decimal:
    """A quantity of Kubernetes', such as 500m or 4Gi."""
    number = str(text).rstrip("mMGi")
    return Decimal(number) * UNITS[str(text)[len(number) :]]


def requested(pod: Pod, resource: str) -> Decimal:
    """What a running pod asks for: its containers' together. (What its init containers ask for is less.)"""
    return sum((quantity(c["resources"]["requests"].get(resource, 0)) for c in pod.spec["containers"]), Decimal(0))


VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def unconfined(pod: Pod) -> list[str]:
    """Where a pod isn't what the standard `restricted` asks, and what else this project asks of all."""
    spec, found = pod.spec, []
    whole = spec.get("securityContext", {})
    found += [key for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key)]
    found += [f"volume {v['name']}" for v in spec.get("volumes", []) if not v.keys() - {"name"} <= VOLUMES]
    if whole.get("sysctls"):
        found.append("sysctls")
    for container in pod.containers:
        own = {**whole, **container.get("securityContext", {})}
        wrong = {
            "runs as root": not own.get("runAsNonRoot") or not own.get("runAsUser"),
            "seccomp": own.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"),
            "allowPrivilegeEscalation": own.get("allowPrivilegeEscalation") is not False,
            "privileged": bool(own.get("privileged")),
            "capabilities": own.get("capabilities") != {"drop": ["ALL"]},
            "procMount": own.get("procMount", "Default") != "Default",
            "writable root": not own.get("readOnlyRootFilesystem"),
            "host port": any("hostPort" in port for port in container.get("ports", [])),
        }
        found += [f"{container['name']}: {what}" for what, is_so in wrong.items() if is_so]
    return found
