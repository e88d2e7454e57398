"""The training data of a study, and how it computes: what a search is checked with and its trials begin with."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch

from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.companions import Companion, Missing, without_missing
from sersearch.data.joined import open_table
from sersearch.data.protocols import Protocol, rotations
from sersearch.data.table import FeatureTable
from sersearch.families import get_family
from sersearch.family import Config


def device() -> str:
    """cuda where this process was given a GPU, else cpu with one thread: Tune runs one trial a core."""
    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


@lru_cache(maxsize=16)
def study_data(
    path: str,
    features: str,
    target: str,
    aux: str | None,
    protocol: tuple[tuple[str, Any], ...],
    view: SegmentView,
    companions: tuple[tuple[str, str, SegmentView], ...],
    missing: Missing,
    cross: str | None,
) -> TrainingData:
    """Training data, opened once a process: reused trial processes share it, and all processes the mapped pages.

    `companions`: name, feature set and view of each further input.
    """
    table = open_table(path, features, cross)
    split = Protocol.from_dict(dict(protocol)).split(table, target)
    further = {name: (Companion.open(table, own), own_view) for name, own, own_view in companions}
    if missing == "skip":
        split = without_missing(split, {name: companion for name, (companion, _) in further.items()})
    pool = None if aux is None else FeatureTable.open(aux, features)
    return training_data(table, split, view, target, pool, further)


def load_data(data: dict[str, Any], config: Config, family: str) -> TrainingData:
    """The training data that a study's `data` section names, in `config`'s segments."""
    protocol = tuple(sorted(data["protocol"].items()))
    made = get_family(family)
    views = made.companion_views(config)
    companions = tuple((name, c["features"], views[name]) for name, c in data.get("companions", {}).items())
    where = data["path"], data["features"], data["target"], data["aux"]
    return study_data(*where, protocol, made.view(config), companions, data.get("missing", "skip"), data.get("cross"))


def turns(meta: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A study's `data` section for each rotation of its protocol: itself, where there is one."""
    section = dict(meta["data"])
    rules = rotations(Protocol.from_dict(section["protocol"]))
    return [section] if len(rules) == 1 else [{**section, "protocol": rule.to_dict()} for rule in rules]


def seeds(meta: Mapping[str, Any]) -> list[int]:
    """The seeds that a study trains each configuration with."""
    return [meta["seed"] + n for n in range(meta["space"].get("repeats", 1))]


def how(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of an engine that say how a study computes."""
    return {"precision": meta.get("precision", "float32"), "compile": meta.get("compile")}


__all__ = ["device", "how", "load_data", "seeds", "study_data", "turns"]
