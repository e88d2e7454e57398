"""The engine: joins configurations as lanes, trains them epoch by epoch, yields plain results.

    engine = Engine(family, data)
    lane = engine.join(config, seed=0, epochs=30)
    for result in engine.epochs():
        ...  # engine.leave(lane) prunes it; engine.state(lane) is its checkpoint

Lanes of one static signature are trained as one model with stacked parameters (HFTA, MLSys'21). A lane's result
doesn't depend on the others: its mini-batches and random numbers are functions of its own seed, epoch and step.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sersearch.data.batches import Segments, TrainingData
from sersearch.errors import ConfigError, DataError, one_of
from sersearch.family import LAST_EPOCH, Config, Family, ModelSpec
from sersearch.training.epoch import (
    evaluate,
    evaluation_batches,
    features,
    made_up,
    relabel,
    too_few,
    train_epoch,
    turn_of,
)
from sersearch.training.lane import Lane, LaneState, Predictions, Snapshot, Weights
from sersearch.training.network import Network, Stack
from sersearch.training.precision import Precision, set_up

TIMED_STEPS = 3
"""Training steps from which an epoch's time is told, behind one that warms up."""


@dataclass(frozen=True)
class EpochResult:
    """What one lane did in one epoch."""

    lane: int
    epoch: int
    """Counted from 1."""
    metrics: dict[str, float]
    """`dev_<metric>`, `dev_loss_<loss>`, `train_loss_<loss>` and `learning_rate`."""
    value: float
    """The objective on the development set; NaN when the lane failed."""
    best: bool
    done: bool
    failed: bool
    reason: str
    """Why the lane is done; empty while it isn't."""
    seconds: float
    """Wall time of the epoch; lanes trained together share it."""


class Engine:
    """Trains lanes on `data`. Join and leave between epochs, as results are yielded."""

    def __init__(
        self,
        family: Family,
        data: TrainingData,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        objective: str | None = None,
        precision: Precision = "float32",
        compile: bool | None = None,
    ) -> None:
        """Epochs are compared by the development metric `objective`; None: the family's.

        `precision` is that of products, here and in evaluation; weights and sums are of `dtype`. Steps are compiled if
        `compile`; None: on a GPU, where they are measured to be faster.
        """
        self._compile = (None if device != "cpu" else False) if compile is None else compile
        self.family, self.data = family, data
        self.objective = objective or family.objective(data.labels)
        self._watched = tuple(f"_{condition}" for condition in data.dev_by_condition)
        if self.objective.endswith(self._watched):
            raise ConfigError(f"objective {self.objective}: labels in noise are watched, never selected by")
        self.device, self.dtype, self.precision = torch.device(device), dtype, precision
        self._spec = _spec(data)
        if self.device.type == "cuda":
            set_up(precision)
            _reside(data, self.device, dtype)
        self._lanes: dict[int, Lane] = {}
        self._networks: dict[object, Network] = {}
        self._joined = 0

    def join(
        self,
        config: Config,
        seed: int,
        epochs: int,
        state: LaneState | None = None,
        weights: Weights | None = None,
        joint: bool = False,
    ) -> int:
        """Add a lane; returns its number. `state` resumes it, `weights` (of :func:`pretrain`) start it.

        Of a `joint` one the last epoch is kept as it was evaluated, for :meth:`last`.

        Raises :class:`DataError` when `state` is another configuration's or `weights` don't fit the model.
        """
        network = self._network(config)
        if state is not None:
            if (state.family, state.config, state.seed) != (self.family.name, config.to_dict(), seed):
                raise DataError("the checkpoint is of another configuration or seed; resume the trial that wrote it")
            if any(len(codes) != len(self.data.train) for codes in state.codes.values()):
                raise DataError("the checkpoint is of other data: it has codes of another number of training segments")
            initial, slots = network.place(state.weights), {p: network.place(s) for p, s in state.slots.items()}
            lane = Lane(config, seed, epochs, initial, slots, network.place(state.best_weights))
            lane.best_outputs = {name: t.to(self.device) for name, t in state.best_outputs.items()}
            lane.bests = {m: replace(best, weights=network.place(best.weights)) for m, best in state.bests.items()}
            lane.codes, lane.best_codes, lane.watched = state.codes, state.best_codes, list(state.watched)
            lane.progress = state.snapshot_of_progress()
        else:
            initial = network.initial(seed)
            if weights is not None:
                _check_fit(weights, initial)
                initial = network.place(weights)
            lane = Lane(config, seed, epochs, initial, network.slots(initial), network.place(initial))
        lane.joint = joint
        self._joined += 1
        self._lanes[self._joined] = lane
        return self._joined

    def leave(self, lane: int) -> None:
        """Take a lane out, finished or not."""
        del self._lanes[lane]

    def state(self, lane: int) -> LaneState:
        """A checkpoint of a lane, as of its last epoch."""
        return self._lanes[lane].state(self.family.name)

    def last(self, lane: int) -> Snapshot:
        """A joint lane's last epoch."""
        last = self._lanes[lane].last
        assert last is not None
        return last

    def predictions(self, lane: int, at: Snapshot | None = None) -> Predictions:
        """Development outputs of the lane's best epoch so far, or of the epoch `at`."""
        dev, space = self.data.dev, self.data.labels
        labels = torch.from_numpy(dev.labels_U[space.task])
        outputs = self._lanes[lane].best_outputs if at is None else at.outputs
        return Predictions(list(dev.ids), labels, outputs[space.task].cpu(), space)

    def artifacts(self, lane: int, at: Snapshot | None = None) -> dict[str, bytes]:
        """Pictures and tables of what the family gave the training segments in a lane's best epoch, or in that `at`."""
        best = self._lanes[lane].best_codes if at is None else at.codes
        codes = {name: codes.numpy() for name, codes in best.items()}
        return self.family.artifacts(self.data, codes, self._lanes[lane].watched) if codes else {}

    def done(self, lane: int) -> bool:
        """Whether a lane has trained to its end."""
        return self._lanes[lane].progress.done

    def epochs(self) -> Iterator[EpochResult]:
        """Train all lanes that aren't done, an epoch at a time, until none is left."""
        while groups := self._groups(self._lanes):
            for group in groups:
                yield from self._epoch([n for n in group if n in self._lanes])

    def epoch(self, lanes: Iterable[int]) -> list[EpochResult]:
        """Train those of `lanes` that aren't done for one epoch: each static signature's as one model."""
        return [result for group in self._groups(lanes) for result in self._epoch(group)]

    def check(self, config: Config) -> None:
        """Raise :class:`ConfigError` or :class:`DataError` when `config` can't be trained on this data's utterances."""
        views = self.family.companion_views(config)
        further = {name: (dims, views[name].frames) for name, (dims, _) in self._spec.companions.items()}
        spec = replace(self._spec, frames=self.family.view(config).frames, companions=further)
        try:
            self.family.build(config, spec)
            next(self.family.plan(config, self.data, np.random.default_rng(0)), None)
        except (RuntimeError, MemoryError) as error:
            raise ConfigError(
                f"params: the model of {dict(config.signature())} can't be built ({str(error).splitlines()[0]})"
            ) from None

    def time_epoch(self, config: Config, lanes: int = 1) -> tuple[float, int]:
        """Seconds that an epoch of `lanes` lanes of `config` would take, from a few steps, and its number of steps."""
        network = self._network(config)
        weights = [network.initial(0) for _ in range(lanes)]
        stack = Stack(network, [Lane(config, 0, 1, w, network.slots(w), network.place(w)) for w in weights])
        started = time.perf_counter()
        own = relabel(stack, self.data, partial(made_up, stack, self.data))
        data = own[0][0] if own else self.data
        once = time.perf_counter() - started
        plan = list(self.family.plan(config, data, np.random.default_rng(0)))
        if not plan:
            raise too_few(data)
        times = []
        # The last turns are the dearest, of an epoch that has stages.
        for step, turn in enumerate(plan[-TIMED_STEPS - 1 :]):
            started = time.perf_counter()
            indices, phases = turn_of(turn)
            batches = [data.train.batch(indices, self.device, self.dtype) for _ in stack.streams]
            stack.train_step(step, batches, [data.train.labelled_tasks(indices) for _ in batches], phases)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            times.append(time.perf_counter() - started)
        # So that the device has met its highest need of memory: that of an epoch.
        dev = self.data.dev.batch(next(evaluation_batches(network, self.data.dev)), self.device, self.dtype)
        stack.evaluate_step(0, dev, losses=True)
        # The first step also warms up. Where nothing is learnt, a segment costs about a third.
        read = len(self.data.dev) + (len(data.train) if own else 0)
        work = len(plan) * (1 + read / (3 * len(data.train)))
        return once + min(times) * work, len(plan)

    def _groups(self, numbers: Iterable[int]) -> list[list[int]]:
        groups: dict[object, list[int]] = {}
        for number in numbers:
            lane = self._lanes[number]
            if not lane.progress.done:
                groups.setdefault(lane.config.signature(), []).append(number)
        return list(groups.values())

    def _network(self, config: Config) -> Network:
        key = config.signature()
        if key not in self._networks:
            phases = self.family.phases(config, self._spec)
            how = self.device, self.dtype, self.precision, self._compile
            self._networks[key] = Network(self.family, config, self._spec, phases, *how)
        return self._networks[key]

    def _epoch(self, numbers: Sequence[int]) -> Iterator[EpochResult]:
        if not numbers:
            return
        started = time.perf_counter()
        lanes = [self._lanes[n] for n in numbers]
        network = self._network(lanes[0].config)
        for lane in lanes:
            network.renew(lane)
        stack = Stack(network, lanes)
        relabelled = relabel(stack, self.data, partial(features, stack, self.data.train))
        train = train_epoch(stack, [data for data, _ in relabelled] or [self.data] * len(stack.streams))
        dev, outputs = evaluate(stack, self.data.dev)
        dev |= {f"dev_{n}": v for n, v in self._metrics(outputs, self.data.dev).items()}
        for condition, segments in self.data.dev_by_condition.items():
            _, noisy = evaluate(stack, segments, losses=False)
            dev |= {f"dev_{n}_{condition}": v for n, v in self._metrics(noisy, segments).items()}
        stack.release()
        seconds = time.perf_counter() - started
        results = []
        for k, (number, lane) in enumerate(zip(numbers, lanes, strict=True)):
            metrics = {name: values[k] for name, values in (train | dev).items()}
            if relabelled:  # only now is the epoch sure
                given, watched = relabelled[k]
                lane.codes = {n: torch.from_numpy(codes) for n, codes in given.train.codes_S.items()}
                lane.watched.append(dict(watched))
                metrics |= watched
            metrics["learning_rate"] = lane.hyperparameters(network.rates).get("learning_rate", math.nan)
            if self.objective == LAST_EPOCH:
                metrics[LAST_EPOCH] = lane.progress.epoch + 1.0
            own = {name: output[k] for name, output in outputs.items()}
            results.append(self._finish(number, lane, metrics, own, seconds))
        yield from results

    def _metrics(self, outputs: dict[str, Tensor], segments: Segments) -> dict[str, list[float]]:
        labels = {task: torch.from_numpy(known).to(self.device) for task, known in segments.labels_U.items()}
        return {n: v.tolist() for n, v in self.family.metrics(outputs, labels, self.data.labels).items()}

    def _finish(
        self, number: int, lane: Lane, metrics: dict[str, float], outputs: dict[str, Tensor], seconds: float
    ) -> EpochResult:
        epoch = lane.progress.epoch + 1
        minded = {n: v for n, v in metrics.items() if n != "learning_rate" and not n.endswith(self._watched)}
        if self.objective not in metrics:
            there = [n for n in minded if n.startswith("dev_") and not n.startswith("dev_loss_")]
            raise ConfigError(
                f"objective {self.objective}: no such metric for this target; {one_of(self.objective, there)}"
            )
        value = metrics[self.objective]
        bad = [n for n, v in minded.items() if not math.isfinite(v)]
        problem = f"{bad[0]} is {metrics[bad[0]]} in epoch {epoch}" if bad else ""
        kept = {name: metrics[name] for name in self.family.kept(self.data.labels)}
        best = lane.finish_epoch(value, outputs, problem, kept)
        network = self._network(lane.config)
        lane.apply(self.family.schedule(lane.config), max(lane.config.lanes()[rate] for rate in network.rates))
        progress = lane.progress
        return EpochResult(
            lane=number,
            epoch=progress.epoch,
            metrics=metrics,
            value=math.nan if progress.failed else value,
            best=best,
            done=progress.done,
            failed=progress.failed,
            reason=progress.reason,
            seconds=seconds,
        )


def _reside(data: TrainingData, device: torch.device, dtype: torch.dtype) -> None:
    """Put the segments on the GPU, once and for all, where they take no more than a third of what is free there."""
    for segments in (data.train, data.dev, *data.dev_by_condition.values()):
        if segments.values * dtype.itemsize < torch.cuda.mem_get_info(device)[0] / 3:
            segments.reside(device, dtype)


def _spec(data: TrainingData) -> ModelSpec:
    further = {name: (len(c.normaliser.mean), c.view.frames) for name, c in data.train.companions.items()}
    return ModelSpec(dims=data.dims, frames=data.train.view.frames, labels=data.labels, companions=further)


def fit(
    family: Family, config: Config, data: TrainingData, seed: int = 0, *, epochs: int
) -> Iterator[tuple[EpochResult, LaneState]]:
    """Train one configuration alone, on the CPU; yields each epoch's result and checkpoint."""
    engine = Engine(family, data)
    lane = engine.join(config, seed, epochs)
    for result in engine.epochs():
        yield result, engine.state(lane)


def pretraining_config(family: Family, config: Config, fixed: Mapping[str, Any]) -> Config:
    """What a trial of `config` is pre-trained with: its static fields, so that the weights fit.

    Lane hyperparameters are the space's `fixed` values or the paper's, not the trial's, so that all trials start alike.
    """
    static = {name: value for name, value in config.to_dict().items() if name not in config.lane_names()}
    return family.config.from_dict({**fixed, **static})


def pretrain(
    family: Family,
    config: Config,
    data: TrainingData,
    seed: int = 0,
    *,
    epochs: int,
    device: str = "cpu",
    watch: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Weights:
    """Weights after `epochs` epochs of the family's pre-training on an auxiliary corpus (`auxiliary_data`).

    Each epoch is trained in a block of `watch`. Nothing is selected on the way. Without such a step (a single-task
    model) these are the initial weights. Source: MTL-AAE, section 4.3. Raises :class:`DataError` when the training
    diverges.
    """
    spec = _spec(data)
    phases = family.pretraining(config, spec)
    network = Network(family, config, spec, phases, torch.device(device), torch.float32)
    weights = network.initial(seed)
    lane = Lane(config, seed, epochs, weights, network.slots(weights), {})
    for epoch in range(epochs if phases else 0):
        stack = Stack(network, [lane])
        with watch():
            losses = train_epoch(stack, [data])
        lane.progress.epoch += 1
        if not all(math.isfinite(v) for values in losses.values() for v in values):
            raise DataError(f"pre-training diverged in epoch {epoch + 1}; lower params.learning_rate")
    return lane.weights


def _check_fit(weights: Weights, model: Weights) -> None:
    shapes = {n: tuple(t.shape) for n, t in model.items()}
    wrong = sorted(
        n for n in shapes.keys() | weights.keys() if n not in weights or tuple(weights[n].shape) != shapes.get(n)
    )
    if wrong:
        raise DataError(f"pre-trained weights don't fit this model: {', '.join(wrong[:5])}; pre-train again")
