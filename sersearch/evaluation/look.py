"""A corpus as a study's protocol divides it, and what models say of its test part."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import LabelSpace
from sersearch.data.companions import Companion, check_left, complete, without_missing
from sersearch.data.conditions import CLEAN, by_noise
from sersearch.data.heldout import test_rows
from sersearch.data.joined import open_table
from sersearch.data.leaks import check_leaks
from sersearch.data.protocols import Protocol, Split, folds, rotations
from sersearch.data.table import FeatureTable
from sersearch.data.targets import attributes_of, target_codes, target_values
from sersearch.errors import StudyError
from sersearch.evaluation.results import HeldOut, Results, figures
from sersearch.export import Predictor, study_context

if TYPE_CHECKING:
    from sersearch.study import Study


@dataclass(frozen=True, eq=False)
class Outputs:
    """Utterances, their truth and what a model says of them."""

    space: LabelSpace
    rows: np.ndarray
    """Of the table (U,), sorted."""
    truth: Tensor
    """Class codes (U,), or attributes (U, A) on the corpus's scale."""
    outputs: Tensor
    """Posteriors (U, C), or attributes (U, A) on the corpus's scale; of K models together (K, U, C) or (K, U, A)."""

    def of(self, chosen: np.ndarray) -> Outputs:
        """The utterances that `chosen` (U,) bool is true for."""
        mask = torch.from_numpy(chosen)
        return Outputs(self.space, self.rows[chosen], self.truth[mask], self.outputs[..., mask, :])

    def figures(self) -> dict[str, Any]:
        """How many they are, and the metrics; None for one that they do not give: JSON knows no NaN."""
        found = figures(self.outputs.numpy(), self.truth.numpy(), self.space.attributes)
        return {"utterances": len(self.rows)} | {n: v if math.isfinite(v) else None for n, v in found.items()}

    def by(self, group: np.ndarray) -> dict[str, dict[str, Any]]:
        """The figures of each group, from the names (U,) of their groups."""
        return {name: self.of(group == name).figures() for name in sorted(set(group))}


@dataclass(frozen=True, eq=False)
class Look:
    """A corpus as a study's protocol divides it."""

    study: Study
    table: FeatureTable
    split: Split
    rows: np.ndarray
    """The test part (U,), in all its conditions, sorted."""
    truth: Tensor
    """Of each utterance of the table: class codes (N,), or attributes (N, A) on the corpus's scale."""
    companions: Mapping[str, Companion]
    """Further inputs."""
    rotation: int = 0
    """Of a nested protocol, the development fold, from 0; the test part is the same in all."""

    @classmethod
    def of(cls, study: Study, rotation: int = 0) -> Look:
        """Raises :class:`StudyError` where features were made anew since, :class:`DataError` for a split that leaks."""
        context, data = study_context(study, rotation), study.meta["data"]
        table = open_table(data["path"], data["features"], data.get("cross"))
        inputs = {name: own["features"] for name, own in context["companions"].items()}
        companions = {name: Companion.open(table, card["features"]) for name, card in inputs.items()}
        cards = [(table.card, context["features"]), *((companions[n].table.card, card) for n, card in inputs.items())]
        if any(card["hash"] != known["hash"] for card, known in cards):
            raise StudyError(
                f"{table.root}: its features were changed after study {study.meta['name']}; run the study again"
            )
        protocol, target = rotations(Protocol.from_dict(data["protocol"]))[rotation], data["target"]
        there = complete(companions) if data.get("missing") == "skip" else None
        check_leaks(protocol, table, target, there)
        split, rows = protocol.split(table, target), test_rows(protocol, table, target)
        if there is not None:
            split, rows = without_missing(split, companions), rows[there[rows]]
            check_left(rows, "test", companions)
        return cls(study, table, split, rows, _truth(table, target, split), companions, rotation)

    @cached_property
    def condition(self) -> np.ndarray:
        """The condition of each test utterance (U,), empty where it has none."""
        names: np.ndarray = self.table.utterances["condition"].fillna("").to_numpy(object)[self.rows]
        return names

    @property
    def conditions(self) -> list[str]:
        """The conditions of the test part, in order; none where there are not several."""
        found = sorted(set(self.condition) - {""})
        return by_noise(found) if len(found) > 1 else []

    @property
    def clean(self) -> np.ndarray:
        """Which test utterances (U,) bool the figures are of: the clean ones, where there are noisy copies."""
        every = np.ones(len(self.rows), bool)
        return self.condition == CLEAN if CLEAN in self.conditions else every

    def column(self, name: str, tested: Outputs) -> np.ndarray:
        """A column of the manifest for these utterances (U,)."""
        values: np.ndarray = self.table.utterances[name].to_numpy(object)[tested.rows]
        return values

    def tested(self, predictor: Predictor) -> Outputs:
        """What a model says of the test part."""
        outputs = [
            predictor.outputs(self.table[int(row)], {name: c.of(int(row)) for name, c in self.companions.items()})
            for row in self.rows
        ]
        return Outputs(predictor.labels, self.rows, self.truth[self.rows], torch.stack(outputs).double())

    def by_condition(self, tested: Outputs) -> dict[str, dict[str, Any]]:
        """The figures of the whole test part in each condition."""
        return {name: tested.of(self.condition == name).figures() for name in self.conditions}

    def results(self, tested: Mapping[int, Outputs], **more: Any) -> Results:
        """What models say of the same utterances, by the seed that each was trained with; `more` fields of them."""
        first, meta = next(iter(tested.values())), self.study.meta
        part = HeldOut(
            tuple(self.column("id", first)), tuple(self.column("speaker", first)), self.truth[first.rows].numpy()
        )
        attributes = first.space.attributes
        return Results.from_outputs(
            study=meta["name"],
            family=meta["family"],
            protocol=str(self.split.protocol.whole),
            target=meta["data"]["target"],
            classes=() if attributes else first.space.emotion,
            attributes=attributes,
            parts={fold_of(self.split.protocol): part},
            outputs={seed: {fold_of(self.split.protocol): own.outputs.numpy()} for seed, own in tested.items()},
            synthetic=meta["data"]["synthetic"],
            test_parts=len(folds(self.split.protocol, self.table, meta["data"]["target"])),
            **more,
        )


def turns_of(study: Study) -> range:
    """The development folds of a nested study, each of which has a model of a trial; of any other, one."""
    return range(len(rotations(Protocol.from_dict(study.meta["data"]["protocol"]))))


def intervals(look: Look, tested: Mapping[int, Outputs], metric: str) -> dict[str, Any]:
    """95% bootstrap intervals of the metric that chose, and of each attribute's; None where there is none."""
    results, measure = look.results(tested), metric.removeprefix("dev_").partition("_")[0]
    return {name: results.limits(name) for name in results.metrics if name.partition("_")[0] == measure}


def fold_of(protocol: Protocol) -> str:
    """The name of the test part that a protocol has."""
    names = {
        "loso": f"test speaker {protocol.test_speaker}",
        "kfold": f"fold {protocol.fold}",
        "speaker": f"partition seed {protocol.seed}",
    }
    return names.get(protocol.name, "test part")


def _truth(table: FeatureTable, target: str, split: Split) -> Tensor:
    """What each utterance of the table is labelled with: codes (N,), or attributes (N, A)."""
    if attributes_of(target):
        return torch.from_numpy(target_values(table, target))
    return torch.from_numpy(target_codes(table, target, split.train)[0])
