"""Further inputs of the utterances of a feature table, such as the visual features beside the audio's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from sersearch.data.joined import Joined, joined, parts
from sersearch.data.normaliser import Normaliser
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError, one_of

if TYPE_CHECKING:
    from sersearch.data.batches import SegmentView
    from sersearch.data.protocols import Split

RESIDENT_CHUNK = 1024
"""Segments that go to a GPU at a time."""

Missing = Literal["skip", "zero"]
"""What becomes of an utterance that hasn't got a further input: it is left out, or the input is zeros."""


@dataclass(frozen=True, eq=False)
class Companion:
    """Another feature set of the same prepared corpus, found by the utterances' ids."""

    table: FeatureTable
    rows: np.ndarray
    """For each utterance of the main table its row in `table`, (N,) int64; -1 where it has none."""

    @classmethod
    def open(cls, main: FeatureTable, features: str) -> Companion:
        """The feature set `features` beside `main`. Raises :class:`DataError` where no utterance has it."""
        if isinstance(main, Joined):
            first, second = cls.open(main.source, features), cls.open(main.tested, features)
            behind = np.where(second.rows < 0, -1, second.rows + len(first.table))
            return cls(joined(first.table, second.table), np.concatenate([first.rows, behind]))
        table = FeatureTable.open(main.root, features)
        row_of = {name: row for row, name in enumerate(table.utterances["id"])}
        rows = np.array([row_of.get(name, -1) for name in main.utterances["id"]], np.int64)
        if (rows < 0).all():
            raise DataError(f"{main.root}: no utterance has both {main.card['features']} and {features} features")
        return cls(table, rows)

    def of(self, row: int) -> np.ndarray | None:
        """The features (T, D) of the main table's utterance in `row`; None where it has none."""
        own = int(self.rows[row])
        return None if own < 0 else self.table[own]


def choose(main: FeatureTable, known: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """For each further input of a family the first of its feature sets that the prepared corpus has.

    Raises :class:`DataError` where it has none.
    """
    chosen = {}
    for name, sets in known.items():
        there = sets
        for table in parts(main):
            there = [features for features in there if (table.root / features / "card.json").is_file()]
            if not there:
                raise DataError(
                    f"{table.root}: no {name} features; {one_of('', sets)}: `sersearch prep {table.corpus['corpus']} "
                    f"{table.corpus['root']} --features {sets[0]} --visual FOLDER --out {table.root}` adds them"
                )
        chosen[name] = there[0]
    return chosen


def complete(companions: Mapping[str, Companion]) -> np.ndarray | None:
    """Which utterances (N,) bool of the main table have all further inputs; None where there are no such inputs."""
    there = [companion.rows >= 0 for companion in companions.values()]
    return np.logical_and.reduce(there) if there else None


def without_missing(split: Split, companions: Mapping[str, Companion]) -> Split:
    """The split without utterances that lack a further input. Raises :class:`DataError` where nothing is left."""
    there = complete(companions)
    if there is None:
        return split
    parts = {part: getattr(split, part) for part in ("train", "unlabelled", "dev")}
    kept = {part: rows[there[rows]] for part, rows in parts.items()}
    for part in ("train", "dev"):
        check_left(kept[part], part, companions)
    noisy = {condition: rows[there[rows]] for condition, rows in split.dev_by_condition.items()}
    return replace(split, **kept, dev_by_condition=noisy)


def check_left(rows: np.ndarray, part: str, companions: Mapping[str, Companion]) -> None:
    """Raise :class:`DataError` where nothing is left of a part."""
    if not len(rows):
        root = next(iter(companions.values())).table.root
        raise DataError(
            f"{root}: no utterance of the {part} part has {' and '.join(companions)} features; prepare them, or use "
            "--missing zero"
        )


class CompanionInput:
    """A further input of the utterances of some segments: one segment each, zeros where there is none."""

    def __init__(self, companion: Companion, rows: np.ndarray, view: SegmentView, normaliser: Normaliser) -> None:
        """`rows` are the utterances' (U,) in the main table."""
        self.view, self.normaliser = view, normaliser
        self._table, self._row_U = companion.table, companion.rows[rows]
        self._resident: Tensor | None = None

    def batch(self, utterance_B: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Normalised segments (B, D, T) of the utterances (B,)."""
        if self._resident is not None and (self._resident.device, self._resident.dtype) == (device, dtype):
            return self._resident[torch.from_numpy(utterance_B).to(device)]
        x_BDT = np.stack([self._segment(row) for row in self._row_U[utterance_B]])
        return torch.from_numpy(x_BDT).to(device, dtype)

    def _segment(self, row: int) -> np.ndarray:
        return one_segment(None if row < 0 else self._table[int(row)], self.view, self.normaliser)

    @property
    def values(self) -> int:
        """Numbers that all segments hold: U x D x T."""
        return len(self._row_U) * self.view.frames * len(self.normaliser.mean)

    def reside(self, device: torch.device, dtype: torch.dtype) -> None:
        """Hold all segments on `device`."""
        count = len(self._row_U)
        resident = torch.empty(count, len(self.normaliser.mean), self.view.frames, device=device, dtype=dtype)
        for first in range(0, count, RESIDENT_CHUNK):
            some = np.arange(first, min(first + RESIDENT_CHUNK, count))
            resident[first : first + len(some)] = self.batch(some, device, dtype)
        self._resident = resident


def one_segment(matrix_TD: np.ndarray | None, view: SegmentView, normaliser: Normaliser) -> np.ndarray:
    """The one normalised segment (D, T) of an utterance's features (T, D); zeros where it has none (None)."""
    if matrix_TD is None:
        return np.zeros((len(normaliser.mean), view.frames), np.float32)
    return np.ascontiguousarray(normaliser(view.segment(matrix_TD, 0, normaliser.mean)).T)


def fit_normaliser(companion: Companion, rows: np.ndarray) -> Normaliser:
    """The moments of what the main table's `rows` have of a further input; :class:`DataError` where none has any."""
    own = companion.rows[rows]
    if (own < 0).all():
        features = companion.table.card["features"]
        raise DataError(f"{companion.table.root}: no training utterance has {features} features; prepare them")
    return Normaliser.fit(companion.table, own[own >= 0])


def context(companion: CompanionInput, card: Mapping[str, Any]) -> dict[str, Any]:
    """What a prediction needs of a further input: normaliser, view, feature card. JSON-ready."""
    return {"normaliser": companion.normaliser.to_dict(), "view": companion.view.to_dict(), "features": dict(card)}


__all__ = [
    "Companion", "CompanionInput", "Missing", "check_left", "choose", "complete", "context", "fit_normaliser",
    "one_segment", "without_missing",
]  # fmt: skip
