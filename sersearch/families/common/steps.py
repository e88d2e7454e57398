"""The ladder families' steps: views, mini-batches of two halves, the predictor's loss and outputs."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Literal

import numpy as np
from torch import Tensor

from sersearch.data.batches import SegmentView, TrainingData
from sersearch.data.conditions import CLEAN
from sersearch.errors import ConfigError, DataError
from sersearch.families.common import losses
from sersearch.families.common.config import LadderHyperparameters
from sersearch.family import Batch


def view(config: LadderHyperparameters) -> SegmentView:
    """The utterance's one vector, or its first `frames` frames, padded with zeros after z-norm (section III-D)."""
    if config.encoder == "dense":
        return SegmentView(1, 1)
    return SegmentView(config.frames, config.frames, pad="mean", first_only=True)


def plan(
    config: LadderHyperparameters, data: TrainingData, rng: np.random.Generator, *, unlabelled: bool
) -> Iterator[np.ndarray]:
    """One epoch's mini-batches by :func:`mini_batches`. Raises :class:`ConfigError` too, for features that the encoder
    isn't for.
    """
    _check_features(config, data)
    yield from mini_batches(config.batch_size, config.epoch_over, data, rng, unlabelled=unlabelled)


def mini_batches(
    size: int,
    epoch_over: Literal["labelled", "unlabelled"],
    data: TrainingData,
    rng: np.random.Generator,
    *,
    unlabelled: bool,
) -> Iterator[np.ndarray]:
    """One epoch's mini-batches (section IV-C): labelled segments, behind as many unlabelled ones if `unlabelled`.

    An epoch passes the set `epoch_over` once, in shuffled mini-batches; the other set is cycled through, shuffled anew
    each time. A last, incomplete mini-batch is left out unless it is the only one. Raises :class:`DataError` without
    enough labelled or unlabelled segments.
    """
    with_label, without = np.flatnonzero(data.train.labelled_S), np.flatnonzero(~data.train.labelled_S)
    if len(with_label) < 2:
        raise DataError(
            f"{len(with_label)} labelled training segments; expected at least 2, of which a CCC can be taken: train on "
            f"data labelled for {data.target}"
        )
    if not unlabelled:
        yield from _batches(with_label, size, rng)
        return
    if len(without) < 2:
        raise DataError(
            f"{len(without)} unlabelled training segments; the setting UL needs at least 2: choose data with an "
            f"unlabelled pool,{_noisy(data)} or --set setting=L to learn from labelled data alone"
        )
    if epoch_over == "labelled":
        unlabelled_pool = _Cycle(without, rng)
        for batch in _batches(with_label, size, rng):
            yield np.concatenate([unlabelled_pool.draw(len(batch)), batch])
    else:
        labelled_pool = _Cycle(with_label, rng)
        for batch in _batches(without, size, rng):
            yield np.concatenate([batch, labelled_pool.draw(len(batch))])


def _noisy(data: TrainingData) -> str:
    """What else to choose where there is speech in noise, for a sentence."""
    names = [name for name in data.dev_by_condition if name != CLEAN]
    return f" --unlabeled-condition {' or '.join(names)} to learn from noisy speech without labels," if names else ""


def _check_features(config: LadderHyperparameters, data: TrainingData) -> None:
    name, rate = data.features.get("features"), data.features["frame_rate"]
    if config.encoder == "dense" and rate is not None:
        raise ConfigError(
            f"params.encoder: dense takes one vector an utterance, but {name} features are sequences of {rate:g} "
            "frames/s; use --set encoder=cnn, or features such as functionals"
        )
    if config.encoder == "cnn" and rate is None:
        raise ConfigError(
            f"params.encoder: cnn takes sequences of frames, but {name} features are one vector an utterance; use "
            "--set encoder=dense, or features such as lld"
        )


def _batches(indices: np.ndarray, size: int, rng: np.random.Generator) -> Iterator[np.ndarray]:
    order = rng.permutation(indices)
    count = max(len(order) // size, 1)
    for first in range(0, count * size, size):
        yield order[first : first + size]


class _Cycle:
    """Draws from a set without end, in a new order each time around."""

    def __init__(self, indices: np.ndarray, rng: np.random.Generator) -> None:
        self._indices, self._rng = indices, rng
        self._left = indices[:0]

    def draw(self, count: int) -> np.ndarray:
        drawn = self._left[:count]
        self._left = self._left[count:]
        while len(drawn) < count:
            order = self._rng.permutation(self._indices)
            missing = count - len(drawn)
            drawn, self._left = np.concatenate([drawn, order[:missing]]), order[missing:]
        return drawn


def unlabelled_half(batch: Batch) -> Batch:
    """The first half of a mini-batch by :func:`plan`."""
    return {name: values[: len(values) // 2] for name, values in batch.items()}


def labelled_half(batch: Batch) -> Batch:
    """The second half of a mini-batch by :func:`plan`."""
    return {name: values[len(values) // 2 :] for name, values in batch.items()}


def prediction_loss(outputs_BO: Tensor, batch: Batch, hp: SimpleNamespace) -> Tensor:
    """C_s: 1 - CCC of the one attribute (STL), Eq. 2 of three (MTL), or the cross-entropy of classes."""
    if "attributes" not in batch:
        return losses.cross_entropy(outputs_BO, batch["emotion"])
    each_A = losses.ccc_loss(outputs_BO.T, batch["attributes"].T)
    if len(each_A) == 1:
        return each_A[0]
    c_aro, c_val, c_dom = each_A
    return losses.multitask_loss(hp.alpha, hp.beta, c_aro, c_val, c_dom)


def outputs(outputs_BO: Tensor, task: str) -> dict[str, Tensor]:
    """A predictor's outputs as :meth:`Family.predict` gives them: posteriors of classes, or z-normed attributes."""
    return {task: outputs_BO.softmax(dim=1) if task == "emotion" else outputs_BO}


__all__ = ["labelled_half", "mini_batches", "outputs", "plan", "prediction_loss", "unlabelled_half", "view"]
