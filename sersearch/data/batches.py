"""From a feature table and a split to the mini-batches that families train on.

Shape suffixes: A attributes, B mini-batch, D feature dimension, T frames of a segment, S segments, U utterances.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from sersearch.data.companions import RESIDENT_CHUNK, Companion, CompanionInput, context, fit_normaliser
from sersearch.data.normaliser import Normaliser
from sersearch.data.protocols import Split
from sersearch.data.schema import GENDERS
from sersearch.data.table import FeatureTable
from sersearch.data.targets import attributes_of, target_codes, target_values
from sersearch.errors import DataError

UNLABELLED = -1
"""Label code of an utterance that has no label for a task."""


@dataclass(frozen=True)
class LabelSpace:
    """The classes of each task, a class's position being its code and its place in the outputs; or the attributes.

    Of `emotion` and `attributes` one is empty. Attributes are learnt z-normed (ladder paper, section IV-D): `mean` and
    `std` are their moments over the labelled training utterances, on the corpus's own scale.
    """

    emotion: tuple[str, ...]
    gender: tuple[str, ...]
    speaker: tuple[str, ...]
    attributes: tuple[str, ...] = ()
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @property
    def task(self) -> Literal["emotion", "attributes"]:
        """What is predicted: the name of the labels in batches and of the outputs of a model."""
        return "attributes" if self.attributes else "emotion"

    @property
    def outputs(self) -> int:
        """Number of outputs: classes C, or attributes A."""
        return len(self.attributes or self.emotion)

    def denormed(self, values: Tensor) -> Tensor:
        """Attributes (..., A) on the corpus's scale, from z-normed ones."""
        return values * values.new_tensor(self.std) + values.new_tensor(self.mean)

    def to_dict(self) -> dict[str, list[Any]]:
        """Plain lists, for JSON."""
        return {name: list(values) for name, values in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[Any]]) -> LabelSpace:
        """The inverse of :meth:`to_dict`."""
        return cls(**{name: tuple(held) for name, held in values.items()})


@dataclass(frozen=True)
class SegmentView:
    """Utterances as segments of `frames` frames, one every `hop` frames.

    A remainder of at least half a segment gets one more segment, placed at the end of the utterance; `first_only` cuts
    off all behind the first segment. With `chunks` it is that many segments, whatever the utterance's length, evenly
    spaced from its first to its last frame, and `hop` means nothing (Lin et al., ICASSP 2021, Eq. 2). An utterance
    shorter than a segment is padded behind: with its own `lowest` value per dimension, which for a log spectrogram is
    silence, with the training part's `mean`, zeros once normalised, or with itself again (`wrap`).
    """

    frames: int
    hop: int
    pad: Literal["lowest", "mean", "wrap"] = "lowest"
    first_only: bool = False
    chunks: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def starts(self, n_frames: int) -> list[int]:
        """First frames of the segments of an utterance of `n_frames` frames; at least one."""
        if self.first_only:
            return [0]
        if self.chunks is not None:
            step = max(n_frames - self.frames, 0) // max(self.chunks - 1, 1)
            return [step * chunk for chunk in range(self.chunks)]
        starts = list(range(0, max(n_frames - self.frames, 0) + 1, self.hop))
        rest = n_frames - (starts[-1] + self.frames)
        if 2 * rest >= self.frames:
            starts.append(n_frames - self.frames)
        return starts

    def segment(self, matrix_TD: np.ndarray, start: int, mean_D: np.ndarray) -> np.ndarray:
        """One segment (frames, D) of an utterance's features, padded when it is short; `mean_D` is the normaliser's."""
        piece = matrix_TD[start : start + self.frames]
        missing = self.frames - len(piece)
        if missing == 0:
            return piece
        if self.pad == "wrap":
            return piece[np.arange(self.frames) % len(piece)]
        padding = matrix_TD.min(axis=0) if self.pad == "lowest" else mean_D  # float32, which so the segment becomes
        return np.concatenate([piece, np.broadcast_to(padding, (missing, len(padding)))])

    def cut(self, matrix_TD: np.ndarray, mean_D: np.ndarray) -> np.ndarray:
        """All segments (S, frames, D) of an utterance's features (T, D)."""
        return np.stack([self.segment(matrix_TD, start, mean_D) for start in self.starts(len(matrix_TD))])


class Segments:
    """The segments of some rows of one or more feature tables, with the labels of their utterances."""

    def __init__(self, view: SegmentView, normaliser: Normaliser) -> None:
        self.view = view
        self.normaliser = normaliser
        self._tables: list[FeatureTable] = []
        self.table_S = np.zeros(0, np.int64)
        self.row_S = np.zeros(0, np.int64)
        self.start_S = np.zeros(0, np.int64)
        self.utterance_S = np.zeros(0, np.int64)
        self.labels_U: dict[str, np.ndarray] = {}
        """Label codes (U,) by task; `attributes` (U, A) float32, NaN for what is unlabelled."""
        self.codes_S: Mapping[str, np.ndarray] = {}
        """Codes of single segments (S,) by name: what a family has given them (`Family.relabel`)."""
        self.companions: dict[str, CompanionInput] = {}
        """Further inputs of the utterances."""
        self.ids: list[str] = []
        self._resident: Tensor | None = None

    def add(self, table: FeatureTable, rows: np.ndarray, labels: Mapping[str, np.ndarray]) -> None:
        """Append the utterances `rows` of `table`; `labels` holds a code, or the attributes, per row and task."""
        starts = [self.view.starts(int(n)) for n in np.diff(table.offsets)[rows]]
        counts = [len(s) for s in starts]
        first = len(self.ids)
        self.table_S = np.concatenate([self.table_S, np.full(sum(counts), len(self._tables), np.int64)])
        self.row_S = np.concatenate([self.row_S, np.repeat(rows, counts)])
        self.start_S = np.concatenate([self.start_S, np.array([s for some in starts for s in some], np.int64)])
        self.utterance_S = np.concatenate([self.utterance_S, np.repeat(np.arange(first, first + len(rows)), counts)])
        for task, new in labels.items():
            self.labels_U[task] = np.concatenate([self.labels_U.get(task, new[:0]), new])
        self.ids += table.utterances["id"].iloc[rows].tolist()
        self._tables.append(table)

    def __len__(self) -> int:
        return len(self.row_S)

    @property
    def utterances(self) -> int:
        """Number of utterances U."""
        return len(self.ids)

    def with_codes(self, codes_S: Mapping[str, np.ndarray]) -> Segments:
        """The same segments with codes of their own; nothing is copied."""
        relabelled = copy.copy(self)
        relabelled.codes_S = codes_S
        return relabelled

    def known(self, task: str, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Which of the segments `indices` have a label for `task`, (B,) bool."""
        labels = self.labels_U[task][self.utterance_S[np.asarray(indices, np.int64)]]
        known: np.ndarray = ~np.isnan(labels).any(axis=1) if task == "attributes" else labels >= 0
        return known

    @cached_property
    def labelled_S(self) -> np.ndarray:
        """Which segments (S,) have a label for what is predicted, emotion or attributes."""
        return self.known("attributes" if "attributes" in self.labels_U else "emotion", np.arange(len(self)))

    def labelled_tasks(self, indices: Sequence[int] | np.ndarray) -> set[str]:
        """The tasks that have at least one label among the segments `indices`."""
        return {task for task in self.labels_U if self.known(task, indices).any()}

    def cut(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Segments (B, T, D) as they are in the tables: a slice of the map each; single frames in one gather."""
        chosen = np.asarray(indices, np.int64)
        if self.view.frames == 1 and len(self._tables) == 1:
            (table,) = self._tables
            gathered: np.ndarray = table.frames[table.offsets[self.row_S[chosen]] + self.start_S[chosen]]
            return gathered[:, None]
        return np.stack(
            [
                self.view.segment(
                    self._tables[self.table_S[i]][int(self.row_S[i])], self.start_S[i], self.normaliser.mean
                )
                for i in chosen
            ]
        )

    @property
    def values(self) -> int:
        """Numbers that all segments hold, S x D x T, and those of further inputs."""
        own = len(self) * self.view.frames * len(self.normaliser.mean)
        return own + sum(companion.values for companion in self.companions.values())

    def reside(self, device: torch.device, dtype: torch.dtype) -> None:
        """Hold all segments, normalised, on `device`: batches are then gathered there, and nothing is read again."""
        if self._resident is not None and (self._resident.device, self._resident.dtype) == (device, dtype):
            return
        resident = torch.empty(len(self), len(self.normaliser.mean), self.view.frames, device=device, dtype=dtype)
        for first in range(0, len(self), RESIDENT_CHUNK):
            indices = np.arange(first, min(first + RESIDENT_CHUNK, len(self)))
            resident[first : first + len(indices)] = self._normalised(indices, device, dtype)
        self._resident = resident
        for companion in self.companions.values():
            companion.reside(device, dtype)

    def batch(self, indices: Sequence[int] | np.ndarray, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Normalised segments `x` (B, D, T), their `utterance` numbers (B,) and label codes (B,) per task.

        Where attributes are learnt, they are `attributes` (B, A), z-normed, NaN for what is unlabelled. Further inputs
        have their names, and zeros for an utterance that has none; codes of single segments have theirs.
        """
        chosen = np.asarray(indices, np.int64)
        if self._resident is not None and (self._resident.device, self._resident.dtype) == (device, dtype):
            x_BDT = self._resident[torch.from_numpy(chosen).to(device)]
        else:
            x_BDT = self._normalised(chosen, device, dtype)
        utterance = self.utterance_S[chosen]
        batch = {"x": x_BDT}
        batch["utterance"] = torch.from_numpy(utterance).to(device)
        for task, labels in self.labels_U.items():
            batch[task] = torch.from_numpy(labels[utterance]).to(device, dtype if task == "attributes" else None)
        batch |= {name: torch.from_numpy(codes[chosen]).to(device) for name, codes in self.codes_S.items()}
        return batch | {name: c.batch(utterance, device, dtype) for name, c in self.companions.items()}

    def _normalised(self, indices: np.ndarray, device: torch.device, dtype: torch.dtype) -> Tensor:
        """Segments (B, D, T) from the tables."""
        x_BTD = self.cut(indices)
        x_BTD = self.normaliser(x_BTD, out=x_BTD if x_BTD.dtype == np.float32 else None)
        return torch.from_numpy(x_BTD).transpose(1, 2).contiguous().to(device, dtype)


@dataclass(frozen=True)
class TrainingData:
    """What one training run may see: training and development segments, never the test part."""

    train: Segments
    dev: Segments
    labels: LabelSpace
    features: Mapping[str, Any]
    """The feature table's card."""
    target: str
    dev_by_condition: Mapping[str, Segments] = field(default_factory=dict)
    """The development utterances in each condition, of a corpus with noisy copies: watched, never selected by apart."""
    companions: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """Feature cards of further inputs."""

    @property
    def dims(self) -> int:
        """Feature dimension D."""
        return int(self.features["dims"])

    def context(self) -> dict[str, Any]:
        """What a prediction needs besides weights and config: labels, normaliser, view, feature card. JSON-ready."""
        return {
            "labels": self.labels.to_dict(),
            "normaliser": self.train.normaliser.to_dict(),
            "view": self.train.view.to_dict(),
            "features": dict(self.features),
            "target": self.target,
            "companions": {n: context(self.train.companions[n], card) for n, card in self.companions.items()},
        }


def training_data(
    table: FeatureTable,
    split: Split,
    view: SegmentView,
    target: str = "emotion",
    aux: FeatureTable | None = None,
    companions: Mapping[str, tuple[Companion, SegmentView]] | None = None,
) -> TrainingData:
    """Training and development data of `split`; the speakers of `aux` are added to the label space, not its audio.

    `companions` are further inputs by name, with how they are cut: one segment an utterance.
    Raises :class:`DataError` when `aux` holds other features, or speakers or recordings that `split` holds out.
    """
    if aux is not None:
        aux.check_like(table.card)
        _check_apart(table, split, aux)
    seen = np.concatenate([split.train, split.unlabelled])
    labels, targets = _target(table, split, target, _speakers(table, _named(split), aux))
    normaliser = Normaliser.fit(table, seen)
    further = {n: (c, own, fit_normaliser(c, seen)) for n, (c, own) in (companions or {}).items()}

    def segments(rows: np.ndarray, targets: np.ndarray) -> Segments:
        made = Segments(view, normaliser)
        made.add(table, rows, {labels.task: targets[rows], **_codes(table, rows, labels)})
        made.companions = {n: CompanionInput(c, rows, own, fitted) for n, (c, own, fitted) in further.items()}
        return made

    blank = targets.copy()
    blank[split.unlabelled] = UNLABELLED if labels.task == "emotion" else np.nan  # a noisy copy's label isn't used
    train = segments(seen, blank)
    if split.protocol.target_audio == "all":  # of what is tested, too: audio alone
        for task in ("gender", "speaker"):
            train.labels_U[task][len(split.train) :] = UNLABELLED
    return TrainingData(
        train=train,
        dev=segments(split.dev, targets),
        labels=labels,
        features=table.card,
        target=target,
        dev_by_condition={name: segments(rows, targets) for name, rows in split.dev_by_condition.items()},
        companions={name: companion.table.card for name, (companion, _, _) in further.items()},
    )


def _named(split: Split) -> np.ndarray:
    """Rows whose speakers are known in training: of all audio of a corpus that is tested, none is."""
    return split.train if split.protocol.target_audio == "all" else np.concatenate([split.train, split.unlabelled])


def _target(table: FeatureTable, split: Split, target: str, speakers: tuple[str, ...]) -> tuple[LabelSpace, np.ndarray]:
    """The label space, and what is to be learnt for each row: class codes (N,), or z-normed attributes (N, A)."""
    attributes = attributes_of(target)
    if not attributes:
        codes, classes = target_codes(table, target, split.train)
        return LabelSpace(emotion=classes, gender=GENDERS, speaker=speakers), codes
    values = target_values(table, target)
    mean, std = values[split.train].mean(axis=0), values[split.train].std(axis=0)
    if (std == 0).any():
        constant = attributes[int(np.argmin(std))]
        raise DataError(f"{table.root}: all labelled training utterances have the same {constant}: nothing to learn")
    labels = LabelSpace((), GENDERS, speakers, attributes, tuple(mean.tolist()), tuple(std.tolist()))
    return labels, ((values - mean) / std).astype(np.float32)


def auxiliary_data(data: TrainingData, aux: FeatureTable) -> TrainingData:
    """The auxiliary corpus for pre-training: no emotion labels, all of it training; normalised by its own moments.

    Its development part is that of `data`, so that losses by epoch can be watched, never selected by.
    Raises :class:`DataError` when `aux` holds other features.
    """
    aux.check_like(data.features)
    rows = np.arange(len(aux))
    train = Segments(data.train.view, Normaliser.fit(aux, rows))
    none = np.full(len(aux), UNLABELLED, np.int64)
    if data.labels.task == "attributes":
        none = np.full((len(aux), data.labels.outputs), np.nan, np.float32)
    train.add(aux, rows, {data.labels.task: none, **_codes(aux, rows, data.labels)})
    return TrainingData(train=train, dev=data.dev, labels=data.labels, features=data.features, target=data.target)


def _check_apart(table: FeatureTable, split: Split, aux: FeatureTable) -> None:
    """Refuse an auxiliary corpus with audio or speakers that the split holds out."""
    trained = np.zeros(len(table), bool)
    trained[_named(split)] = True
    names, sounds = table.speakers, table.utterances["audio_sha256"].to_numpy(object)
    speakers = set(names[~trained]) - set(names[trained])
    for what, found in (
        ("speakers", speakers & set(aux.speakers)),
        ("recordings", set(sounds[~trained]) & set(aux.utterances["audio_sha256"])),
    ):
        if found:
            raise DataError(
                f"{aux.root}: {len(found)} {what} of it stand in the development or test part of {table.root}, such as "
                f"{min(found)}; what is trained on them would know them: prepare an auxiliary corpus without them"
            )


def _speakers(table: FeatureTable, rows: np.ndarray, aux: FeatureTable | None) -> tuple[str, ...]:
    names = table.speakers
    known = sorted({names[row] for row in rows})
    return (*known, *sorted(set(aux.speakers) - set(known))) if aux is not None else tuple(known)


def _codes(table: FeatureTable, rows: np.ndarray, labels: LabelSpace) -> dict[str, np.ndarray]:
    """Codes of gender and speaker of `rows`; one outside the label space counts as unlabelled."""
    speakers = {name: code for code, name in enumerate(labels.speaker)}
    genders = {name: code for code, name in enumerate(labels.gender)}
    names, gender = table.speakers, table.utterances["gender"].tolist()
    return {
        "gender": np.array([genders.get(gender[row], UNLABELLED) for row in rows], np.int64),
        "speaker": np.array([speakers.get(names[row], UNLABELLED) for row in rows], np.int64),
    }
