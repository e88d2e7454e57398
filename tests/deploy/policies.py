"""Who may talk to whom by NetworkPolicies: what a network plug-in makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.deploy.kustomize import Resource


@dataclass(frozen=True)
class Peer:
    """A pod in a namespace, or (without one) a machine outside the cluster."""

    namespace: str | None = None
    labels: dict[str, str] = field(default_factory=dict)
    address: str = "10.1.1.1"


def may_talk(policies: list[Resource], source: Peer, target: Peer, port: int, protocol: str = "TCP") -> bool:
    """Whether `source` may open a connection to a port of `target`: both sides have to allow it."""
    out = _allowed(policies, source, "Egress", target, port, protocol)
    return out and _allowed(policies, target, "Ingress", source, port, protocol)


def _allowed(policies: list[Resource], subject: Peer, direction: str, other: Peer, port: int, protocol: str) -> bool:
    if subject.namespace is None:
        return True
    mine = [
        policy["spec"]
        for policy in policies
        if policy["metadata"]["namespace"] == subject.namespace
        and _selects(policy["spec"]["podSelector"], subject.labels)
        and direction in policy["spec"]["policyTypes"]
    ]
    side = "to" if direction == "Egress" else "from"
    rules = [rule for spec in mine for rule in spec.get(direction.lower(), [])]
    return not mine or any(
        _port(rule.get("ports"), port, protocol)
        and (side not in rule or any(_is(peer, other, subject) for peer in rule[side]))
        for rule in rules
    )


def _port(ports: list[dict[str, Any]] | None, port: int, protocol: str) -> bool:
    return ports is None or any((p["port"], p["protocol"]) == (port, protocol) for p in ports)


def _is(described: dict[str, Any], peer: Peer, subject: Peer) -> bool:
    """Whether a `to` or `from` of a policy of `subject`'s namespace means `peer`."""
    if "ipBlock" in described:
        block = described["ipBlock"]
        assert "except" not in block
        # What a block says of pods, plug-ins see differently: here it speaks of other machines alone.
        return peer.namespace is None and ip_address(peer.address) in ip_network(block["cidr"])
    if peer.namespace is None:
        return False
    if "namespaceSelector" in described:
        there = _selects(described["namespaceSelector"], {"kubernetes.io/metadata.name": peer.namespace})
    else:
        there = peer.namespace == subject.namespace
    return there and _selects(described.get("podSelector", {}), peer.labels)


def _selects(selector: dict[str, Any], labels: dict[str, str]) -> bool:
    assert selector.keys() <= {"matchLabels", "matchExpressions"}
    expressions = selector.get("matchExpressions", [])
    assert all(expression["operator"] == "In" for expression in expressions)
    return selector.get("matchLabels", {}).items() <= labels.items() and all(
        labels.get(expression["key"]) in expression["values"] for expression in expressions
    )
