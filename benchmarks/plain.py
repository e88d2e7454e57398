"""Any family in a plain PyTorch loop, without the engine: `backward`, and torch.optim."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sersearch.data.batches import Segments, TrainingData
from sersearch.data.prefetch import prefetched
from sersearch.family import Batch, Config, Family, Losses, Noise, Optimizer, Phase
from sersearch.training import Engine
from sersearch.training.epoch import EVALUATION_BATCH, EVALUATION_VALUES, turn_of
from sersearch.training.network import further

SEED = 0


def finished(started: float, device: str) -> float:
    """Seconds since `started`, the device's work included."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


class TorchNoise(Noise):
    """Random numbers as a plain loop draws them."""

    def __init__(self, device: str) -> None:
        self._device = device

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers."""
        return torch.randn(shape, device=self._device)

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1)."""
        return torch.rand(shape, device=self._device)


class Plain:
    """A configuration's networks and losses in an ordinary loop."""

    def __init__(self, family: Family, config: Config, data: TrainingData, device: str) -> None:
        """On a GPU the data's segments lie there, as the engine has them."""
        torch.manual_seed(SEED)
        self.family, self.config, self.data, self.device = family, config, data, torch.device(device)
        spec = Engine(family, data, device)._spec
        self.model = family.build(config, spec).to(device)
        self.phases = family.phases(config, spec)
        self.hp = SimpleNamespace(**{n: torch.tensor(value, device=device) for n, value in config.lanes().items()})
        self.noise = TorchNoise(device)
        states = {phase.name: self._optimizers(phase) for phase in self.phases if phase.state_of is None}
        self.optimizers = {phase.name: states[phase.state_of or phase.name] for phase in self.phases}

    def _optimizers(self, phase: Phase) -> list[torch.optim.Optimizer]:
        own = self._optimizer(phase.optimizer, phase.updates)
        return [own, *(self._optimizer(also.optimizer, also.updates) for _, also in further(phase))]

    def _optimizer(self, kind: Optimizer, children: tuple[str, ...]) -> torch.optim.Optimizer:
        """In PyTorch's fastest variant."""
        parameters = [p for child in children for p in self.model.get_submodule(child).parameters()]
        rate = getattr(self.config, kind.learning_rate)
        if kind.kind == "nadam":
            return torch.optim.NAdam(parameters, rate, foreach=True)
        made: Callable[..., torch.optim.Optimizer] = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[kind.kind]
        return made(parameters, rate, fused=True)

    def step(self, batch: Batch, phases: tuple[str, ...] | None = None) -> Losses:
        """All phases, or those called `phases`, once; their losses, 0-dim."""
        self._train(True)
        found: Losses = {}
        for phase in self.phases:
            if phases is None or phase.name in phases:
                found |= self._update(phase, batch)
        return found

    def _update(self, phase: Phase, batch: Batch) -> Losses:
        losses = phase.loss(self.model, batch, self.hp, self.noise)
        self.model.zero_grad()
        losses[phase.minimise].backward()
        if phase.clip is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), phase.clip)
        for optimizer in self.optimizers[phase.name]:
            optimizer.step()
        return {name: loss.detach() for name, loss in losses.items()}

    def epoch(self, number: int) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The engine's epoch `number`, from 0, of a lane of the same seed: sums of losses, (), and metrics, (1,).

        Batches are the same, random numbers are not. Development losses are called `dev_<loss>`.
        """
        self._renew()
        data, rng = self._relabelled(number), np.random.default_rng([SEED, number])
        sums: dict[str, Tensor] = {}

        def made() -> Iterator[tuple[dict[str, Tensor], tuple[str, ...] | None]]:
            for turn in self.family.plan(self.config, data, rng):
                indices, phases = turn_of(turn)
                yield data.train.batch(indices, self.device, torch.float32), phases

        for batch, phases in prefetched(made()):  # as a DataLoader's worker does
            _add(sums, self.step(batch, phases))
        return sums, self._evaluate(data.dev, sums)

    def _renew(self) -> None:
        for child in self.family.renewed(self.config):
            for layer in self.model.get_submodule(child).modules():
                layer.reset_parameters()  # type: ignore[operator]

    def _relabelled(self, number: int) -> TrainingData:
        """The data with the labels that the family gives its segments."""
        rngs = [np.random.default_rng([SEED, number, 1])]
        found = self.family.relabel(self.config, self.data, self._features, rngs, [{}])
        return self.data if found is None else replace(self.data, train=self.data.train.with_codes(found[0].codes))

    @torch.no_grad()
    def _features(self, function: Callable[[Any, Batch], Tensor], indices: np.ndarray) -> Tensor:
        self._train(False)
        batches = self._batches(self.data.train, indices)
        return torch.cat([function(self.model, batch) for _, batch in batches])[None]

    @torch.no_grad()
    def _evaluate(self, dev: Segments, sums: dict[str, Tensor]) -> dict[str, Tensor]:
        """Metrics of the utterances' mean outputs; the losses are added to `sums`."""
        self._train(False)
        totals: dict[str, Tensor] = {}
        for indices, batch in self._batches(dev, np.arange(len(dev))):
            for phase in self.phases:
                losses = phase.loss(self.model, batch, self.hp, self.noise)
                _add(sums, {f"dev_{name}": loss * len(indices) for name, loss in losses.items()})
            for name, output in self.family.predict(self.model, batch).items():
                total = totals.setdefault(name, output.new_zeros(dev.utterances, output.shape[-1]))
                total.index_add_(0, batch["utterance"], output)
        each_U = torch.from_numpy(np.bincount(dev.utterance_S, minlength=dev.utterances)).to(self.device)
        labels = {task: torch.from_numpy(known).to(self.device) for task, known in dev.labels_U.items()}
        means = {name: (total / each_U[:, None])[None] for name, total in totals.items()}
        return self.family.metrics(means, labels, self.data.labels)

    def _batches(self, segments: Segments, indices: np.ndarray) -> Iterator[tuple[np.ndarray, dict[str, Tensor]]]:
        """The segments `indices` in the mini-batches in which the engine evaluates."""
        size = max(EVALUATION_BATCH, EVALUATION_VALUES // (self.data.dims * segments.view.frames))
        for first in range(0, len(indices), size):
            some = indices[first : first + size]
            yield some, segments.batch(some, self.device, torch.float32)

    def _train(self, training: bool) -> None:
        self.model.train(training)
        self.noise.training = training


def _add(sums: dict[str, Tensor], found: Mapping[str, Tensor]) -> None:
    for name, value in found.items():
        sums[name] = sums[name] + value if name in sums else value
