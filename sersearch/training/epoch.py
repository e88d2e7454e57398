"""What happens in an epoch of a stack of lanes: labels of its own, training steps, evaluation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import Segments, TrainingData
from sersearch.data.prefetch import prefetched
from sersearch.errors import DataError
from sersearch.family import Batch, Turn
from sersearch.training.network import Network, Stack

EVALUATION_BATCH = 64
EVALUATION_VALUES = 2**21
"""Development segments that are evaluated at once: as many as have this many values, and no fewer than the former."""


def turn_of(item: np.ndarray | Turn) -> tuple[np.ndarray, tuple[str, ...] | None]:
    """What a plan yields: a mini-batch, and the phases that see it; None: all."""
    return (item.indices, item.phases) if isinstance(item, Turn) else (item, None)


def relabel(
    stack: Stack, data: TrainingData, read: Callable[[Callable[[Any, Batch], Tensor], np.ndarray], Tensor]
) -> list[tuple[TrainingData, Mapping[str, float]]]:
    """Each lane's data, with the labels that the family gives its segments, and metrics; none where it gives none.

    The lanes stay as they are: an epoch that fails may be trained again.
    """
    lanes, network = stack.lanes, stack.network
    rngs = [np.random.default_rng([lane.seed, lane.progress.epoch, 1]) for lane in lanes]
    before = [{name: codes.numpy() for name, codes in lane.codes.items()} for lane in lanes]
    found = network.family.relabel(network.config, data, read, rngs, before)
    if found is None:
        return []
    stack.part()
    return [(replace(data, train=data.train.with_codes(own.codes)), own.metrics) for own in found]


def features(stack: Stack, segments: Segments, function: Callable[[Any, Batch], Tensor], indices: np.ndarray) -> Tensor:
    """What `function` reads of the `segments` of some numbers (N,), (K, N, H)."""
    network = stack.network
    found, done = None, 0
    for some in evaluation_batches(network, segments, indices):
        read = stack.read(function, segments.batch(some, network.device, network.dtype))
        if found is None:  # filled piece by piece: of millions of chunks there is no room for two
            found = read.new_empty(read.shape[0], len(indices), *read.shape[2:])
        found[:, done : done + len(some)] = read
        done += len(some)
    assert found is not None
    return found


def made_up(stack: Stack, data: TrainingData, function: Callable[[Any, Batch], Tensor], indices: np.ndarray) -> Tensor:
    """Numbers of the shape of :func:`features`, without the work."""
    network = stack.network
    few = stack.read(function, data.train.batch(np.arange(2), network.device, network.dtype))
    return torch.randn(len(stack.lanes), len(indices), few.shape[-1], device=few.device, dtype=few.dtype)


def train_epoch(stack: Stack, datas: Sequence[TrainingData]) -> dict[str, list[float]]:
    """One pass of the family's plan, on data by stream.

    Losses by lane, means over the steps that have them; a task's, over those that have a label.
    """
    network = stack.network
    plans = []
    for data, (seed, epoch) in zip(datas, stack.streams, strict=True):
        rng = np.random.default_rng([seed, epoch])
        plans.append(network.family.plan(network.config, data, rng))
    sums: dict[str, Tensor] = {}
    steps = Counter[str]()
    seen = [Counter[str]() for _ in stack.streams]

    def made() -> Iterator[tuple[list[dict[str, Tensor]], list[set[str]], tuple[str, ...] | None]]:
        for items in zip(*plans, strict=True):
            turns = [turn_of(item) for item in items]
            pairs = [(data.train, indices) for data, (indices, _) in zip(datas, turns, strict=True)]
            batches = [train.batch(indices, network.device, network.dtype) for train, indices in pairs]
            yield batches, [train.labelled_tasks(indices) for train, indices in pairs], turns[0][1]

    for step, (batches, labelled, phases) in enumerate(prefetched(made())):
        found = stack.train_step(step, batches, labelled, phases)
        for name, loss in found.items():
            sums[name] = sums[name] + loss if name in sums else loss
        steps.update(found.keys())
        for count, tasks in zip(seen, labelled, strict=True):
            count.update(tasks & found.keys())
    if not steps:
        raise too_few(datas[0])
    means = {}
    for name, total in sums.items():
        labels = datas[0].train.labels_U
        counts = [count[name] if name in labels else steps[name] for count in stack.by_lane(seen)]
        if all(counts):
            means[f"train_loss_{name}"] = [s / n for s, n in zip(total.reshape(-1).tolist(), counts, strict=True)]
    return means


def too_few(data: TrainingData) -> DataError:
    """What is raised where a plan is empty."""
    return DataError(f"{len(data.train)} training segments make no mini-batch; expected at least 2")


def evaluate(
    stack: Stack, segments: Segments, *, losses: bool = True
) -> tuple[dict[str, list[float]], dict[str, Tensor]]:
    """Development losses by lane, if they are wanted, and outputs (K, U, ...), mean over an utterance's segments.

    Losses are means over segments; a task's loss, over those with a label. Where none has one, it is left out.
    """
    network = stack.network
    lanes = len(stack.lanes)
    sums: dict[str, Tensor] = {}
    counts: Counter[str] = Counter()
    totals: dict[str, Tensor] = {}
    for step, indices in enumerate(evaluation_batches(network, segments)):
        batch = segments.batch(indices, network.device, network.dtype)
        found, outputs = stack.evaluate_step(step, batch, losses=losses)
        for name, loss in found.items():
            count = int(segments.known(name, indices).sum()) if name in segments.labels_U else len(indices)
            sums[name] = sums.get(name, torch.zeros_like(loss)) + loss * count
            counts[name] += count
        for name, output in outputs.items():
            by_lane = output.reshape(lanes, len(indices), -1)
            if name not in totals:
                totals[name] = by_lane.new_zeros(lanes, segments.utterances, by_lane.shape[-1])
            totals[name].index_add_(1, batch["utterance"], by_lane)
    each = torch.from_numpy(np.bincount(segments.utterance_S, minlength=segments.utterances)).to(network.device)
    means = {name: total / each[:, None].to(total.dtype) for name, total in totals.items()}
    return {f"dev_loss_{n}": (s / counts[n]).reshape(-1).tolist() for n, s in sums.items() if counts[n]}, means


def evaluation_batches(network: Network, segments: Segments, indices: np.ndarray | None = None) -> Iterator[np.ndarray]:
    """All segments in their order, or those of some numbers, in mini-batches that fit the memory."""
    size = max(EVALUATION_BATCH, EVALUATION_VALUES // (network.spec.dims * segments.view.frames))
    chosen = np.arange(len(segments)) if indices is None else indices
    for first in range(0, len(chosen), size):
        yield chosen[first : first + size]
