"""What `kubectl kustomize` makes of a folder, for machines without it: as much of it as deploy/kubernetes uses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
OVERLAYS = ("local", "gpu", "gpu-autoscale")
CLUSTER_WIDE = ("Namespace", "PriorityClass")
Resource = dict[str, Any]


def build(folder: Path) -> list[Resource]:
    """The resources of a kustomization, in its order."""
    made = yaml.safe_load((folder / "kustomization.yaml").read_text("utf-8"))
    unknown = made.keys() - {"apiVersion", "kind", "namespace", "resources", "images", "patches"}
    assert not unknown, f"{folder}: {unknown} isn't known here"
    resources = [resource for name in made["resources"] for resource in _read(folder / name)]
    for patch in made.get("patches", []):
        kind, name = patch["target"]["kind"], patch["target"]["name"]
        (target,) = [r for r in resources if (r["kind"], r["metadata"]["name"]) == (kind, name)]
        for operation in yaml.safe_load(patch.get("patch") or (folder / patch["path"]).read_text("utf-8")):
            _apply(target, operation)
    if "namespace" in made:
        for resource in resources:
            if resource["kind"] not in CLUSTER_WIDE:
                resource["metadata"]["namespace"] = made["namespace"]
    for image in made.get("images", []):
        for container in (c for resource in resources for c in containers_in(resource)):
            if container["image"].partition(":")[0] == image["name"]:
                container["image"] = f"{image['name']}:{image['newTag']}"
    return resources


def containers_in(tree: Any) -> Iterator[dict[str, Any]]:
    """All containers at any depth of a resource."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            if key in ("containers", "initContainers"):
                yield from value
            yield from containers_in(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from containers_in(value)


def _read(path: Path) -> list[Resource]:
    return build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text("utf-8")))


def _apply(target: Resource, operation: dict[str, Any]) -> None:
    """One operation of a JSON patch (RFC 6902)."""
    *parents, last = [part.replace("~1", "/").replace("~0", "~") for part in operation["path"].split("/")[1:]]
    place: Any = target
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    key: Any = int(last) if isinstance(place, list) and last != "-" else last
    if operation["op"] == "add" and last == "-":
        place.append(operation["value"])
    elif operation["op"] == "add" and isinstance(place, dict):
        place[key] = operation["value"]
    elif operation["op"] == "replace":
        assert place[key] is not None, operation
        place[key] = operation["value"]
    elif operation["op"] == "remove":
        del place[key]
    else:
        raise NotImplementedError(operation)
