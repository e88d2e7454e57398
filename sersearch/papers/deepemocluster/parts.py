"""DeepEmoCluster's models, by attribute in the order of the paper's rows."""

from __future__ import annotations

from typing import Any

from sersearch.papers.declaration import AROUSAL, DOMINANCE, VALENCE, Part

ATTRIBUTES = {"Aro.": AROUSAL, "Dom.": DOMINANCE, "Val.": VALENCE}
PROTOCOL = "five trainings x four random subsets of the test set"


def supervised(attribute: str, model: str = "deepemocluster") -> Part:
    """A model that learns from labels alone, with 10 clusters where it has any."""
    name = f"supervised-{model}-{attribute}"
    return _part(name, "deepemocluster_baselines", attribute, {"model": [model]}, {"unlabeled_size": 0})


def semi_supervised(attribute: str, size: int, clusters: int = 10) -> Part:
    """The proposed model with `size` unlabelled sentences."""
    fixed = {"unlabeled_size": size}
    name = f"{size}-{clusters}clusters-{attribute}"
    return _part(name, "deepemocluster_clusters", attribute, {"clusters": [clusters]}, fixed)


def _part(name: str, space: str, attribute: str, search: dict[str, list[Any]], fixed: dict[str, Any]) -> Part:
    return Part(name=name, space=space, search=search, fixed=fixed, target=attribute, seeds=5)
