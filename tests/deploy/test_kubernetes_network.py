"""Who may talk to whom on Kubernetes, and that each name which is called is a Service of who listens there."""

from __future__ import annotations

import re

import pytest

from tests.deploy.kustomize import FOLDER, OVERLAYS, build
from tests.deploy.manifests import pods
from tests.deploy.policies import Peer, may_talk

ELSEWHERE = {
    "operator": Peer("kuberay", {"app.kubernetes.io/component": "kuberay-operator"}),
    "names": Peer("kube-system", {"k8s-app": "kube-dns"}),
    "names of the node": Peer(address="169.254.20.10"),
    "neighbour": Peer("sersearch", {"app": "other"}),
    "pod of another namespace": Peer("other", {"app.kubernetes.io/component": "ray-head"}),
    "internet": Peer(address="93.184.216.34"),
}
PORTS = {"dns": 53, "https": 443, "api": 6443, "mlflow": 5000, "database": 5432, "gcs": 6379, "jobs": 8265, "s3": 8333}
PORTS |= {"node": 10042, "filer": 8888, "master": 9333, "agent": 52365}
RAY = ("head", "cpu", "gpu")


def allowed(overlay: str, inside: list[str]) -> set[tuple[str, str, str]]:
    """Who should be able to reach what of whom. Pods outside the namespace may call each other; they aren't asked."""
    ray = [name for name in RAY if name in inside]
    made = {(a, b, port) for a in ray for b in ray for port in PORTS}
    made |= {(name, "object-store", "s3") for name in [*ray, "mlflow", "bucket"]}
    made |= {(name, "mlflow", "mlflow") for name in ray}
    made |= {("mlflow", "postgresql", "database"), ("submitter", "head", "jobs"), ("operator", "head", "jobs")}
    made |= {(name, names, "dns") for name in [*inside, "neighbour"] for names in ("names", "names of the node")}
    if overlay == "gpu-autoscale":  # Kubernetes' API has an address like any other machine's
        made |= {("head", other, port) for other in ("internet", "names of the node") for port in ("https", "api")}
    return made


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_ray_and_mlflow_talk_and_nobody_else(overlay: str) -> None:
    resources = build(FOLDER / "overlays" / overlay)
    policies = [resource for resource in resources if resource["kind"] == "NetworkPolicy"]
    inside = {name: Peer("sersearch", pod.labels) for name, pod in pods(resources).items()}
    peers = inside | ELSEWHERE
    own = {*inside, "neighbour"}
    found = {
        (source, target, port)
        for source in peers
        for target in peers
        if source in own or target in own
        for port, number in PORTS.items()
        if may_talk(policies, peers[source], peers[target], number)
    }
    assert found == allowed(overlay, list(inside))


def test_without_policies_everybody_may_talk_and_with_one_that_names_nobody_none_may() -> None:
    one, other = Peer("sersearch", {"app": "one"}), Peer("sersearch", {"app": "other"})
    nobody = {"metadata": {"namespace": "sersearch"}, "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}}
    assert may_talk([], one, other, 80)
    assert not may_talk([nobody], one, other, 80)
    assert may_talk([nobody], one, Peer("elsewhere"), 80)


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_every_name_that_is_called_is_a_service_of_a_pod_that_listens_there(overlay: str) -> None:
    resources = build(FOLDER / "overlays" / overlay)
    services = {resource["metadata"]["name"]: resource for resource in resources if resource["kind"] == "Service"}
    called = set(re.findall(r"(?:http|postgresql\+psycopg)://(?:\w+@)?([\w.-]+):(\d+)", str(resources)))
    assert called == {("mlflow", "5000"), ("postgresql", "5432"), ("object-store", "8333"), ("127.0.0.1", "8265")}
    for name, number in called - {("127.0.0.1", "8265")}:
        service = services[name]["spec"]
        (port,) = service["ports"]
        (pod,) = [p for p in pods(resources).values() if service["selector"].items() <= p.labels.items()]
        listening = {p["containerPort"]: p["name"] for c in pod.containers for p in c.get("ports", [])}
        assert port["port"] == int(number)
        assert port.get("targetPort", int(number)) in (int(number), listening[int(number)])
