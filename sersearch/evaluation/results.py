"""What one study reached on its test parts: scores by seed and fold, and the outputs that they are of."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sersearch.bootstrap import Interval, Metric, bootstrap_interval
from sersearch.data.atomic import write_json
from sersearch.errors import ConfigError, DataError, StudyError, one_of
from sersearch.evaluation.statistics import observations
from sersearch.metrics import OF_CLASSES, ccc

_PLAIN = ("study", "family", "protocol", "target", "synthetic", "test_parts", "origin")


@dataclass(frozen=True, eq=False)
class HeldOut:
    """One test part."""

    ids: tuple[str, ...]
    speakers: tuple[str, ...]
    labels: np.ndarray
    """Class codes (U,), or attributes (U, A) on the corpus's scale."""

    def __post_init__(self) -> None:
        if not len(self.ids) == len(self.speakers) == len(self.labels):
            raise DataError(
                f"a test part of {len(self.ids)} utterances has {len(self.speakers)} speakers and {len(self.labels)} "
                "labels; each utterance needs one of both"
            )

    def of(self, rows: np.ndarray) -> HeldOut:
        """The utterances in `rows`."""
        return HeldOut(tuple(self.ids[r] for r in rows), tuple(self.speakers[r] for r in rows), self.labels[rows])


@dataclass(frozen=True)
class Spread:
    """Mean and deviation of a figure over runs."""

    mean: float
    deviation: float | None
    """The sample's, by n - 1; None of one value."""
    n: int

    @classmethod
    def of(cls, values: Iterable[float]) -> Spread:
        """Of at least one value; NaN where one is."""
        found = np.array(list(values), np.float64)
        return cls(float(found.mean()), float(found.std(ddof=1)) if len(found) > 1 else None, len(found))


@dataclass(frozen=True, eq=False, kw_only=True)
class Results:
    """One study's models, trained by several seeds and tested on the folds of a protocol.

    A run is one seed on one fold. A fold is a test part of its own: the one test part of an official split, a speaker
    of LOSO, a random partition of the speakers. Raises :class:`DataError` where parts don't match.
    """

    study: str
    family: str
    protocol: str
    """For captions: what all folds have in common, such as "LOSO over 10 speakers"."""
    target: str
    classes: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    """Either of them, as the target has it."""
    scores: Mapping[str, Mapping[int, Mapping[str, float]]]
    """By metric, seed and fold. NaN: the run has no such figure."""
    parts: Mapping[str, HeldOut]
    """By fold."""
    outputs: Mapping[int, Mapping[str, np.ndarray]] = field(default_factory=dict)
    """By seed and fold: posteriors (U, C), or attributes (U, A) on the corpus's scale; of a nested protocol (K, U, C)
    or (K, U, A), of the models of its K development folds, the mean of whose scores is the run's. Of all runs, or of
    none where they were not kept; then there are no figures by speaker and, of one test part, no bootstrap interval."""
    synthetic: bool = False
    test_parts: int = 1
    """How many test parts the protocol has in all: the speakers of LOSO, the folds of kfold."""
    subsets: int = 0
    """Where the folds are random subsets of one test part (:meth:`in_subsets`), how many there are."""
    origin: Mapping[str, Any] = field(default_factory=dict)
    """What was chosen and trained, JSON-ready; see :func:`~sersearch.evaluation.repeated.evaluate_seeds`."""
    further: Mapping[str, Results] = field(default_factory=dict)
    """The same seeds in each condition of the test part, and what is best by each further metric."""

    def __post_init__(self) -> None:
        runs = [{(seed, fold) for seed, folds in by.items() for fold in folds} for by in self.scores.values()]
        if not runs or not runs[0] or any(own != runs[0] for own in runs):
            raise DataError(f"study {self.study}: each metric needs a score of each run (seed and fold), at least one")
        if unknown := {fold for _, fold in runs[0]} - self.parts.keys():
            raise DataError(f"study {self.study}: no test utterances are given for fold {', '.join(sorted(unknown))}")
        if self.outputs and {(s, f) for s, folds in self.outputs.items() for f in folds} != runs[0]:
            raise DataError(f"study {self.study}: outputs are needed of the same runs as scores, or of none")
        width = len(self.classes) or len(self.attributes)
        for seed, folds in self.outputs.items():
            for fold, outputs in folds.items():
                expected = (len(self.parts[fold].ids), width)
                if outputs.ndim not in (2, 3) or outputs.shape[-2:] != expected or not np.isfinite(outputs).all():
                    raise DataError(
                        f"study {self.study}, seed {seed}, fold {fold}: expected finite outputs of shape {expected}, "
                        f"found shape {outputs.shape}, {int((~np.isfinite(outputs)).sum())} values not finite"
                    )

    @classmethod
    def from_outputs(
        cls,
        *,
        study: str,
        family: str,
        protocol: str,
        target: str,
        classes: Sequence[str] = (),
        attributes: Sequence[str] = (),
        parts: Mapping[str, HeldOut],
        outputs: Mapping[int, Mapping[str, np.ndarray]],
        **more: Any,
    ) -> Results:
        """With the scores of these outputs, as :func:`figures` has them; `more` are the other fields."""
        scores = {
            name: {
                seed: {fold: _score(name, attributes, own, parts[fold].labels) for fold, own in folds.items()}
                for seed, folds in outputs.items()
            }
            for name in _metrics(attributes)
        }
        return cls(
            study=study,
            family=family,
            protocol=protocol,
            target=target,
            classes=tuple(classes),
            attributes=tuple(attributes),
            scores=scores,
            parts=parts,
            outputs=outputs,
            **more,
        )

    # --- figures ------------------------------------------------------------------------------------------------------

    @property
    def caption(self) -> str:
        """The protocol, and how many of its test parts these are, where they aren't all."""
        some = len(self.folds) < self.test_parts
        return f"{self.protocol}; {len(self.folds)} of {self.test_parts} test parts" if some else self.protocol

    @property
    def metrics(self) -> tuple[str, ...]:
        """What there are scores of."""
        return tuple(self.scores)

    @property
    def seeds(self) -> tuple[int, ...]:
        """In order."""
        return tuple(sorted(next(iter(self.scores.values()))))

    @property
    def folds(self) -> tuple[str, ...]:
        """In the order of the test parts."""
        tested = {fold for folds in next(iter(self.scores.values())).values() for fold in folds}
        return tuple(fold for fold in self.parts if fold in tested)

    @property
    def speakers_apart(self) -> bool:
        """Whether no speaker stands in several test parts."""
        names = [name for fold in self.folds for name in set(self.parts[fold].speakers)]
        return len(set(names)) == len(names)

    def runs(self, metric: str) -> dict[tuple[int, str], float]:
        """The score of each seed on each fold, in order. Raises :class:`ConfigError` for an unknown metric."""
        if metric not in self.scores:
            raise ConfigError(f"study {self.study} has no figures of {metric!r}; {one_of(metric, self.scores)}")
        by = self.scores[metric]
        return {(seed, fold): by[seed][fold] for seed in self.seeds for fold in self.folds if fold in by[seed]}

    def spread(self, metric: str) -> Spread:
        """Over all runs, as the papers have it."""
        return Spread.of(self.runs(metric).values())

    def by_fold(self, metric: str) -> dict[str, Spread]:
        """Of each fold, over its seeds."""
        runs = self.runs(metric)
        return {fold: Spread.of(score for (_, own), score in runs.items() if own == fold) for fold in self.folds}

    def by_seed(self, metric: str) -> dict[int, Spread]:
        """Of each seed, over its folds."""
        runs = self.runs(metric)
        return {seed: Spread.of(score for (own, _), score in runs.items() if own == seed) for seed in self.seeds}

    def observations(self, metric: str) -> dict[tuple[int | None, str], float]:
        """What a test of significance counts, see :func:`~sersearch.evaluation.statistics.observations`."""
        return observations(self.runs(metric), subsets=self.subsets > 0)

    def by_speaker(self, metric: str) -> dict[str, Spread]:
        """Of all utterances of each speaker, over the seeds that tested them; NaN where a speaker's have no figure.

        Raises :class:`DataError` where outputs were not kept.
        """
        found: dict[str, list[float]] = {}
        for seed in self.seeds:
            part, outputs = self._pooled(metric, seed)
            speakers = np.array(part.speakers, object)
            for name in set(part.speakers):
                own = speakers == name
                found.setdefault(name, []).append(
                    _score(metric, self.attributes, outputs[..., own, :], part.labels[own])
                )
        return {name: Spread.of(found[name]) for name in sorted(found)}

    def interval(self, metric: str, *, resamples: int = 2000) -> Interval:
        """95% bootstrap interval of the mean over runs.

        Of several test parts these are drawn, each with its mean over seeds; of one its speakers, or, where there is
        but one speaker, the utterances. See :func:`~sersearch.bootstrap.bootstrap_interval`. Raises
        :class:`DataError` for too few speakers or test parts, for test parts with utterances in common, and where
        outputs, which one test part needs, were not kept.
        """
        if len(self.folds) > 1:
            return self._interval_of_folds(metric, resamples)
        pooled = [self._pooled(metric, own) for own in self.seeds]
        part = pooled[0][0]
        stacked = torch.from_numpy(np.stack([outputs for _, outputs in pooled]))
        judged = _judged(metric, self.attributes, stacked, torch.from_numpy(part.labels))
        if len(set(part.speakers)) > 1:
            return bootstrap_interval(*judged, part.speakers, resamples=resamples)
        return _noted(bootstrap_interval(*judged, resamples=resamples), "of one speaker, so it says nothing of others")

    def _interval_of_folds(self, metric: str, resamples: int) -> Interval:
        means = {fold: spread.mean for fold, spread in self.by_fold(metric).items()}
        ids = [name for fold in self.folds for name in self.parts[fold].ids]
        if self.subsets:
            raise DataError("subsets of one test part are drawn by utterance, which says nothing of other speakers")
        if len(set(ids)) < len(ids):
            raise DataError("the test parts have utterances in common, so that they aren't independent draws")
        figures = torch.tensor([*means.values()], dtype=torch.float64)
        found = bootstrap_interval(
            lambda drawn, _: drawn.mean(), figures, figures, [*means], by="fold", resamples=resamples
        )
        return found if self.speakers_apart else _noted(found, "of the same speakers, so it says nothing of others")

    @cached_property
    def summary(self) -> dict[str, dict[str, Any]]:
        """By metric `mean` and `deviation` over `runs` runs, and :meth:`limits`. JSON-ready: None for none."""
        found = {}
        for metric in self.metrics:
            spread = self.spread(metric)
            mean, deviation = (None if v is None else _json(v) for v in (spread.mean, spread.deviation))
            found[metric] = {"mean": mean, "deviation": deviation, "runs": spread.n, **self.limits(metric)}
        return found

    def limits(self, metric: str) -> dict[str, Any]:
        """The interval of a metric, JSON-ready: None for its ends, and why, where there is none."""
        try:
            ci = self.interval(metric)
        except DataError as error:
            return {"low": None, "high": None, "by": None, "units": None, "note": str(error)}
        return {"low": ci.low, "high": ci.high, "by": ci.by, "units": ci.units, "note": ci.note}

    def _pooled(self, metric: str, seed: int) -> tuple[HeldOut, np.ndarray]:
        """All test utterances of a seed, and its outputs."""
        self.runs(metric)  # refuses an unknown metric
        if not self.outputs:
            raise DataError(f"study {self.study}: its outputs were not kept, so there are scores by run alone")
        folds = [fold for fold in self.folds if fold in self.outputs[seed]]
        parts = [self.parts[fold] for fold in folds]
        ids, speakers = (tuple(name for part in parts for name in getattr(part, key)) for key in ("ids", "speakers"))
        labels = np.concatenate([part.labels for part in parts])
        return HeldOut(ids, speakers, labels), np.concatenate([self.outputs[seed][f] for f in folds], axis=-2)

    def in_subsets(self, count: int = 4, seed: int = 0) -> Results:
        """The same runs, each fold drawn apart into `count` subsets of the same size, scored one by one.

        DeepEmoCluster, section 5.1: four subsets of the test set x five trials. The draw depends on the utterances' ids
        alone, so that it is the same for every study. Raises :class:`ConfigError` for several test parts, and
        :class:`DataError` where outputs were not kept, or there are fewer utterances than that.
        """
        if len(self.folds) > 1:
            raise ConfigError(
                f"study {self.study}: subsets are drawn of one test part, and these are {len(self.folds)}; compare "
                "them as they are"
            )
        if not self.outputs:
            raise DataError(f"study {self.study}: its outputs were not kept, so its test part can't be divided")
        (fold,), part = self.folds, self.parts[self.folds[0]]
        if len(part.ids) < count:
            raise DataError(f"{fold} has {len(part.ids)} utterances, too few for {count} subsets")
        drawn = np.random.default_rng(seed).permutation(np.argsort(np.array(part.ids)))
        rows = {
            f"{fold}, subset {number}": np.sort(own) for number, own in enumerate(np.array_split(drawn, count), start=1)
        }
        return Results.from_outputs(
            study=self.study,
            family=self.family,
            protocol=f"{self.caption}; test part in {count} random subsets, seed {seed}",
            target=self.target,
            classes=self.classes,
            attributes=self.attributes,
            parts={name: part.of(own) for name, own in rows.items()},
            outputs={
                run: {name: folds[fold][..., own, :] for name, own in rows.items()}
                for run, folds in self.outputs.items()
            },
            synthetic=self.synthetic,
            test_parts=count,
            subsets=count,
        )

    # --- on disk ------------------------------------------------------------------------------------------------------

    def save(self, path: Path) -> None:
        """Write them as JSON, atomically; :meth:`load` reads them back. Beside them stands :attr:`summary`."""
        write_json(path, self._to_dict())

    def _to_dict(self) -> dict[str, Any]:
        plain = {key: getattr(self, key) for key in (*_PLAIN, "subsets")}
        scores = {
            metric: {seed: {fold: _json(score) for fold, score in by.items()} for seed, by in seeds.items()}
            for metric, seeds in self.scores.items()
        }
        parts = {
            fold: {"ids": part.ids, "speakers": part.speakers, "labels": part.labels.tolist()}
            for fold, part in self.parts.items()
        }
        outputs = {seed: {fold: own.tolist() for fold, own in folds.items()} for seed, folds in self.outputs.items()}
        names = {"classes": self.classes, "attributes": self.attributes}
        further = {name: own._to_dict() for name, own in self.further.items()}
        runs = {"scores": scores, "parts": parts, "outputs": outputs, "further": further}
        return {**plain, **names, "summary": self.summary, **runs}

    @classmethod
    def load(cls, path: Path) -> Results:
        """Read what :meth:`save` wrote. Raises :class:`StudyError` for a file that isn't that."""
        try:
            return cls._from_dict(json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, DataError) as error:
            raise StudyError(f"{path}: not the results of a study ({error!r}); evaluate the study again") from error

    @classmethod
    def _from_dict(cls, found: dict[str, Any]) -> Results:
        classes, attributes = tuple(found["classes"]), tuple(found["attributes"])
        dtype = np.int64 if classes else np.float64
        parts = {
            fold: HeldOut(tuple(p["ids"]), tuple(p["speakers"]), np.array(p["labels"], dtype))
            for fold, p in found["parts"].items()
        }
        scores = {
            metric: {int(seed): {f: _number(score) for f, score in by.items()} for seed, by in seeds.items()}
            for metric, seeds in found["scores"].items()
        }
        outputs = {
            int(seed): {fold: np.array(own, np.float64) for fold, own in folds.items()}
            for seed, folds in found["outputs"].items()
        }
        further = {name: cls._from_dict(own) for name, own in found["further"].items()}
        plain: dict[str, Any] = {key: found[key] for key in _PLAIN} | {"subsets": found.get("subsets", 0)}
        plain |= {"classes": classes, "attributes": attributes, "parts": parts, "further": further}
        return cls(**plain, scores=scores, outputs=outputs)


def _noted(interval: Interval, note: str) -> Interval:
    return replace(interval, note="; ".join(filter(None, (interval.note, note))))


def listed(seeds: Sequence[int]) -> str:
    """Seeds for people: 0 to 4, or one by one."""
    if len(seeds) > 2 and list(seeds) == list(range(seeds[0], seeds[-1] + 1)):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))


def label(metric: str) -> str:
    """A metric for people: ccc_valence is "CCC valence"."""
    return " ".join(w.upper() if w in ("ua", "wa", "f1", "ccc") else w for w in metric.split("_"))


def _json(score: float) -> float | None:
    """JSON knows no NaN."""
    return score if math.isfinite(score) else None


def _number(score: float | None) -> float:
    return math.nan if score is None else float(score)


def figures(outputs: np.ndarray, labels: np.ndarray, attributes: Sequence[str]) -> dict[str, float]:
    """The metrics of posteriors (U, C) against class codes (U,), or of attributes (U, A) against attributes (U, A).

    Of classes UA, WA, macro precision and F1 (`ua`, `wa`, `precision`, `f1`); of attributes `ccc`, the mean over them,
    and `ccc_<attribute>`. Of the outputs of K models (K, U, C) the means. NaN where there is no such figure.
    """
    return {name: _score(name, attributes, outputs, labels) for name in _metrics(attributes)}


def _metrics(attributes: Sequence[str]) -> list[str]:
    return ["ccc", *(f"ccc_{name}" for name in attributes)] if attributes else [*OF_CLASSES]


def _score(metric: str, attributes: Sequence[str], outputs: np.ndarray, labels: np.ndarray) -> float:
    """The metric of outputs (U, C) or (U, A)."""
    tensors = torch.from_numpy(outputs), torch.from_numpy(labels)
    measure, predicted, truth = _judged(metric, attributes, *tensors)
    return float(torch.as_tensor(measure(predicted, truth)).double().mean())


def _judged(metric: str, attributes: Sequence[str], outputs: Tensor, labels: Tensor) -> tuple[Metric, Tensor, Tensor]:
    """The measure, and predictions (..., U) and labels (U,) for it, (..., A, U) and (A, U) of attributes.

    From outputs (..., U, C) or (..., U, A) and labels (U,) or (U, A).
    """
    if not attributes:
        return partial(OF_CLASSES[metric], classes=outputs.shape[-1]), outputs.argmax(dim=-1), labels
    chosen = [a for a, name in enumerate(attributes) if metric in ("ccc", f"ccc_{name}")]
    return ccc, outputs[..., chosen].transpose(-1, -2), labels[:, chosen].T
