"""From a feature table and a split to the mini-batches that families train on.

Shape suffixes: B mini-batch, D feature dimension, T frames of a segment, S segments, U utterances.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.normaliser import Normaliser
from sersearch.data.protocols import Split
from sersearch.data.table import FeatureTable
from sersearch.data.targets import target_codes
from sersearch.errors import DataError

UNLABELLED = -1
"""Label code of an utterance that has no label for a task."""

GENDERS = ("female", "male")


@dataclass(frozen=True)
class LabelSpace:
    """The classes of each task; a class's position is its code and its place in the outputs."""

    emotion: tuple[str, ...]
    gender: tuple[str, ...]
    speaker: tuple[str, ...]

    def to_dict(self) -> dict[str, list[str]]:
        """Plain lists, for JSON."""
        return {"emotion": list(self.emotion), "gender": list(self.gender), "speaker": list(self.speaker)}

    @classmethod
    def from_dict(cls, values: Mapping[str, Sequence[str]]) -> LabelSpace:
        """The inverse of :meth:`to_dict`."""
        return cls(**{task: tuple(classes) for task, classes in values.items()})


@dataclass(frozen=True)
class SegmentView:
    """Utterances as segments of `frames` frames, one every `hop` frames.

    A remainder of at least half a segment gets one more segment, placed at the end of the utterance. An utterance
    shorter than a segment is padded behind with its own lowest value per dimension, which for a log spectrogram
    is silence.
    """

    frames: int
    hop: int

    def starts(self, n_frames: int) -> list[int]:
        """First frames of the segments of an utterance of `n_frames` frames; at least one."""
        starts = list(range(0, max(n_frames - self.frames, 0) + 1, self.hop))
        rest = n_frames - (starts[-1] + self.frames)
        if 2 * rest >= self.frames:
            starts.append(n_frames - self.frames)
        return starts

    def segment(self, matrix_TD: np.ndarray, start: int) -> np.ndarray:
        """One segment (frames, D) of an utterance's features, padded when it is short."""
        piece = matrix_TD[start : start + self.frames]
        missing = self.frames - len(piece)
        if missing == 0:
            return piece
        return np.concatenate([piece, np.repeat(matrix_TD.min(axis=0, keepdims=True), missing, axis=0)])

    def cut(self, matrix_TD: np.ndarray) -> np.ndarray:
        """All segments (S, frames, D) of an utterance's features (T, D)."""
        return np.stack([self.segment(matrix_TD, start) for start in self.starts(len(matrix_TD))])


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
        self.labels_U = {task: np.zeros(0, np.int64) for task in ("emotion", "gender", "speaker")}
        """Label codes by task and utterance."""
        self.ids: list[str] = []

    def add(self, table: FeatureTable, rows: np.ndarray, labels: Mapping[str, np.ndarray]) -> None:
        """Append the utterances `rows` of `table`; `labels` holds a code per row and task."""
        starts = [self.view.starts(int(n)) for n in np.diff(table.offsets)[rows]]
        counts = [len(s) for s in starts]
        first = len(self.ids)
        self.table_S = np.concatenate([self.table_S, np.full(sum(counts), len(self._tables), np.int64)])
        self.row_S = np.concatenate([self.row_S, np.repeat(rows, counts)])
        self.start_S = np.concatenate([self.start_S, np.array([s for some in starts for s in some], np.int64)])
        self.utterance_S = np.concatenate([self.utterance_S, np.repeat(np.arange(first, first + len(rows)), counts)])
        for task in self.labels_U:
            self.labels_U[task] = np.concatenate([self.labels_U[task], np.asarray(labels[task], np.int64)])
        self.ids += table.utterances["id"].iloc[rows].tolist()
        self._tables.append(table)

    def __len__(self) -> int:
        return len(self.row_S)

    @property
    def utterances(self) -> int:
        """Number of utterances U."""
        return len(self.ids)

    def labelled_tasks(self, indices: Sequence[int] | np.ndarray) -> set[str]:
        """The tasks that have at least one label among the segments `indices`."""
        utterance = self.utterance_S[np.asarray(indices, np.int64)]
        return {task for task, codes in self.labels_U.items() if (codes[utterance] >= 0).any()}

    def cut(self, indices: Sequence[int] | np.ndarray) -> np.ndarray:
        """Segments (B, T, D) as they are in the tables: a slice of the map each; single frames in one gather."""
        chosen = np.asarray(indices, np.int64)
        if self.view.frames == 1 and len(self._tables) == 1:
            (table,) = self._tables
            gathered: np.ndarray = table.frames[table.offsets[self.row_S[chosen]] + self.start_S[chosen]]
            return gathered[:, None]
        return np.stack(
            [self.view.segment(self._tables[self.table_S[i]][int(self.row_S[i])], self.start_S[i]) for i in chosen]
        )

    def batch(self, indices: Sequence[int] | np.ndarray, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Normalised segments `x` (B, D, T), their `utterance` numbers (B,) and label codes (B,) per task."""
        chosen = np.asarray(indices, np.int64)
        x_BTD = self.cut(chosen)
        x_BTD = self.normaliser(x_BTD, out=x_BTD if x_BTD.dtype == np.float32 else None)
        utterance = self.utterance_S[chosen]
        batch = {"x": torch.from_numpy(x_BTD).transpose(1, 2).contiguous().to(device, dtype)}
        batch["utterance"] = torch.from_numpy(utterance).to(device)
        for task, codes in self.labels_U.items():
            batch[task] = torch.from_numpy(codes[utterance]).to(device)
        return batch


@dataclass(frozen=True)
class TrainingData:
    """What one training run may see: training and development segments, never the test part."""

    train: Segments
    dev: Segments
    labels: LabelSpace
    features: Mapping[str, Any]
    """The feature table's card."""
    target: str

    @property
    def dims(self) -> int:
        """Feature dimension D."""
        return int(self.features["dims"])

    def context(self) -> dict[str, Any]:
        """What a prediction needs besides weights and config: labels, normaliser, view, feature card. JSON-ready."""
        view = self.train.view
        return {
            "labels": self.labels.to_dict(),
            "normaliser": self.train.normaliser.to_dict(),
            "view": {"frames": view.frames, "hop": view.hop},
            "features": dict(self.features),
            "target": self.target,
        }


def training_data(
    table: FeatureTable, split: Split, view: SegmentView, target: str = "emotion", aux: FeatureTable | None = None
) -> TrainingData:
    """Training and development data of `split`; the speakers of `aux` are added to the label space, not its audio.

    Raises :class:`DataError` when `aux` holds other features, or speakers or recordings that `split` holds out.
    """
    if aux is not None:
        aux.check_like(table.card)
        _check_apart(table, split, aux)
    emotion, classes = target_codes(table, target, split.train)
    seen = np.concatenate([split.train, split.unlabelled])
    labels = LabelSpace(emotion=classes, gender=GENDERS, speaker=_speakers(table, seen, aux))
    normaliser = Normaliser.fit(table, seen)
    train, dev = Segments(view, normaliser), Segments(view, normaliser)
    train.add(table, seen, _codes(table, seen, labels, emotion))
    dev.add(table, split.dev, _codes(table, split.dev, labels, emotion))
    return TrainingData(train=train, dev=dev, labels=labels, features=table.card, target=target)


def auxiliary_data(data: TrainingData, aux: FeatureTable) -> TrainingData:
    """The auxiliary corpus for pre-training: no emotion labels, all of it training; normalised by its own moments.

    Its development part is that of `data`, so that losses by epoch can be watched, never selected by.
    Raises :class:`DataError` when `aux` holds other features.
    """
    aux.check_like(data.features)
    rows = np.arange(len(aux))
    train = Segments(data.train.view, Normaliser.fit(aux, rows))
    none = np.full(len(aux), UNLABELLED, np.int64)
    train.add(aux, rows, _codes(aux, rows, data.labels, none))
    return TrainingData(train=train, dev=data.dev, labels=data.labels, features=data.features, target=data.target)


def _check_apart(table: FeatureTable, split: Split, aux: FeatureTable) -> None:
    """Refuse an auxiliary corpus with audio or speakers that the split holds out."""
    trained = np.zeros(len(table), bool)
    trained[np.concatenate([split.train, split.unlabelled])] = True
    names, sounds = np.array(_speaker_names(table), object), table.utterances["audio_sha256"].to_numpy(object)
    speakers = set(names[~trained]) - set(names[trained])
    for what, found in (
        ("speakers", speakers & set(_speaker_names(aux))),
        ("recordings", set(sounds[~trained]) & set(aux.utterances["audio_sha256"])),
    ):
        if found:
            raise DataError(
                f"{aux.root}: {len(found)} {what} of it stand in the development or test part of {table.root}, such as "
                f"{min(found)}; what is trained on them would know them: prepare an auxiliary corpus without them"
            )


def _speaker_names(table: FeatureTable) -> list[str]:
    # Two corpora may both have a speaker "01".
    return [f"{c}/{s}" for c, s in zip(table.utterances["corpus"], table.utterances["speaker"], strict=True)]


def _speakers(table: FeatureTable, rows: np.ndarray, aux: FeatureTable | None) -> tuple[str, ...]:
    names = _speaker_names(table)
    known = sorted({names[row] for row in rows})
    return (*known, *sorted(set(_speaker_names(aux)) - set(known))) if aux is not None else tuple(known)


def _codes(table: FeatureTable, rows: np.ndarray, labels: LabelSpace, emotion: np.ndarray) -> dict[str, np.ndarray]:
    """Label codes of `rows`; a speaker or gender outside the label space counts as unlabelled."""
    speakers = {name: code for code, name in enumerate(labels.speaker)}
    genders = {name: code for code, name in enumerate(labels.gender)}
    names, gender = _speaker_names(table), table.utterances["gender"].tolist()
    return {
        "emotion": emotion[rows],
        "gender": np.array([genders.get(gender[row], UNLABELLED) for row in rows], np.int64),
        "speaker": np.array([speakers.get(names[row], UNLABELLED) for row in rows], np.int64),
    }
