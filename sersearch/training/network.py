"""The model of one static signature, run for one lane or, through vmap, for several at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from sersearch.family import Also, Batch, Config, Family, Losses, ModelSpec, Noise, Phase
from sersearch.training import optim
from sersearch.training.compiled import Choice, Drawn, Values, compiled
from sersearch.training.lane import Lane, Weights
from sersearch.training.noise import StepNoise
from sersearch.training.precision import Precision, arithmetic

T = TypeVar("T")


class _Call(nn.Module):
    """Lets `functional_call` put a lane's weights into the model while an ordinary function uses the model."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, function: Any, *args: Any) -> Any:
        return function(self.model, *args)


class Given(NamedTuple):
    """What a run of the model is given, for one lane or for K `fused` ones."""

    weights: Weights
    hp: Mapping[str, Tensor]
    batch: Batch
    of_lane: Tensor | None
    """The lanes' streams (K,), where the batch has a lane dimension."""
    fused: bool


class Network:
    """Networks of one static signature, and the `phases` of a step. Holds no weights of its own: lanes do."""

    def __init__(
        self,
        family: Family,
        config: Config,
        spec: ModelSpec,
        phases: tuple[Phase, ...],
        device: torch.device,
        dtype: torch.dtype,
        precision: Precision = "float32",
        compile: bool | None = False,
    ) -> None:
        """Steps are compiled if `compile`, where measured faster if it is None."""
        self.precision = precision
        self._compile = compile
        self._choices: dict[str, Choice] = {}
        self._functions: dict[str, Any] = {}
        self._asked: dict[object, list[tuple[bool, tuple[int, ...]]]] = {}
        self.family, self.config, self.spec, self.phases = family, config, spec, phases
        self.device, self.dtype = device, dtype
        self.call = _Call(family.build(config, spec).to(device, dtype))
        self._parameters = {name for name, _ in self.call.model.named_parameters()}
        self.states = tuple(phase for phase in phases if phase.state_of is None)
        """The phases that have an optimiser state of their own."""
        self.rates = {o.learning_rate for p in phases for o in (p.optimizer, *(also.optimizer for also in p.also))}

    def choice(self, phase: Phase) -> Choice | None:
        """Whether a phase's steps are compiled; None: never."""
        if self._compile is False:
            return None
        return self._choices.setdefault(phase.name, Choice(self.device, always=bool(self._compile)))

    def losses(self, phase: Phase, given: Given, noise: StepNoise) -> Losses:
        """A phase's losses."""

        def of(stream: Tensor | None) -> Noise:
            noise.stream = stream
            return noise

        losses: Losses = self.run(phase.loss, given, of)
        return losses

    def fast_losses(self, phase: Phase, given: Given, noise: StepNoise) -> Losses:
        """The same as :meth:`losses`, compiled."""
        key = phase.name, given.batch["x"].shape
        if key not in self._asked:  # found out on copies: a run moves the moments of batch norm
            probe, copies = noise.again(), {name: t.detach().clone() for name, t in given.weights.items()}
            with torch.no_grad():
                self.losses(phase, given._replace(weights=copies), probe)
            self._asked[key] = probe.asked
        if phase.name not in self._functions:

            def losses(given: Given, draws: list[Tensor]) -> Any:
                def of(stream: Tensor | None) -> Noise:
                    return Drawn(draws, stream, training=True)

                return self.run(phase.loss, given, of)

            self._functions[phase.name] = compiled(losses, self.device)
        draws = noise.all_of(self._asked[key], stacked=given.of_lane is not None)
        found: Losses = self._functions[phase.name](given, draws)
        return found

    def run(self, function: Any, given: Given, noise: Callable[[Tensor | None], Noise] | None) -> Any:
        """`function(model, batch, hp, noise)` of each lane; `noise` gives the numbers of a lane's stream."""

        def one(weights: Weights, hp: Mapping[str, Tensor], batch: Batch, stream: Tensor | None) -> Any:
            named = {f"model.{name}": t for name, t in weights.items()}
            own = None if noise is None else noise(stream)
            with arithmetic(self.precision):
                return functional_call(self.call, named, (function, batch, Values(hp), own))

        weights, hp, batch, of_lane, fused = given
        if not fused:
            return one(weights, hp, batch, None)
        own = None if of_lane is None else 0
        return vmap(one, in_dims=(0, 0, own, own), randomness="same")(weights, hp, batch, of_lane)

    def initial(self, seed: int) -> Weights:
        """Weights and buffers as the family initialises them under `seed`, the same on every device."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            model = self.family.build(self.config, self.spec)
        return {name: self._place(t.detach()) for name, t in model.state_dict().items()}

    def _place(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype, copy=True)

    def place(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copies on this network's device and in its dtype, save counts, which stay in float64."""
        return {n: t.to(self.device, copy=True) if optim.is_count(n) else self._place(t) for n, t in tensors.items()}

    def slots(self, weights: Weights) -> dict[str, optim.Slots]:
        """Fresh optimiser state of every phase, and of its further optimisers."""
        slots = {p.name: optim.init_slots(p.optimizer.kind, self.of(p.updates, weights)) for p in self.states}
        for phase in self.phases:
            for name, also in further(phase):
                slots[name] = optim.init_slots(also.optimizer.kind, self.of(also.updates, weights))
        return slots

    def of(self, children: tuple[str, ...], weights: Mapping[str, T]) -> dict[str, T]:
        """What of `weights` are parameters of some children of the model."""
        return {n: t for n, t in weights.items() if n in self._parameters and n.split(".")[0] in children}

    def updated(self, phase: Phase, weights: Weights) -> Weights:
        """The parameters that `phase` updates, with whichever optimiser."""
        return self.of((*phase.updates, *(child for also in phase.also for child in also.updates)), weights)

    def renew(self, lane: Lane) -> None:
        """Draw the children anew that an epoch of `lane` begins with so, with fresh optimiser states."""
        if not (children := self.family.renewed(lane.config)):
            return
        words = np.random.SeedSequence([lane.seed, lane.progress.epoch]).generate_state(1)
        fresh = {n: t for n, t in self.initial(int(words[0])).items() if n.split(".")[0] in children}
        lane.weights |= fresh
        for slots in lane.slots.values():
            for name, tensor in slots.items():
                if name.partition("/")[2].split(".")[0] in children:
                    tensor.fill_(1 if name.startswith("mu_product/") else 0)


def further(phase: Phase) -> list[tuple[str, Also]]:
    """The further optimisers of a phase, with the names of their states."""
    return [(f"{phase.name}+{number}", also) for number, also in enumerate(phase.also, 1)]


class Stack:
    """Some lanes of one network for the length of an epoch: stacked on entry, given back by :meth:`release`."""

    def __init__(self, network: Network, lanes: Sequence[Lane]) -> None:
        self.network, self.lanes, self.fused = network, lanes, len(lanes) > 1
        self._weights = _stacked([lane.weights for lane in lanes])
        self._slots = {name: _stacked([lane.slots[name] for lane in lanes]) for name in lanes[0].slots}
        values = [lane.hyperparameters(network.rates) for lane in lanes]
        self._hp64 = {name: self._by_lane([v[name] for v in values], torch.float64) for name in values[0]}
        self._hp = {name: t.to(network.dtype) for name, t in self._hp64.items()}
        keys = [(lane.seed, lane.progress.epoch) for lane in lanes]
        self.streams = sorted(set(keys))
        """Distinct (seed, epoch) among the lanes: each has mini-batches and random numbers of its own."""
        self._of_lane = [self.streams.index(key) for key in keys]

    def part(self) -> None:
        """Give each lane a stream of its own: its mini-batches are chosen by what only it knows."""
        self.streams = [(lane.seed, lane.progress.epoch) for lane in self.lanes]
        self._of_lane = list(range(len(self.lanes)))

    def by_lane(self, of_streams: Sequence[T]) -> list[T]:
        """What stands for each stream, for each lane."""
        return [of_streams[stream] for stream in self._of_lane]

    def _by_lane(self, values: Sequence[float], dtype: torch.dtype) -> Tensor:
        return torch.tensor(values if self.fused else values[0], dtype=dtype, device=self.network.device)

    def release(self) -> None:
        """Hand the trained weights and optimiser states back to the lanes."""
        if not self.fused:
            return  # a single lane's tensors were trained in place
        for k, lane in enumerate(self.lanes):  # copies: a view would keep the whole stack alive
            lane.weights = self.network.place({n: t[k] for n, t in self._weights.items()})
            lane.slots = {p: self.network.place({n: t[k] for n, t in s.items()}) for p, s in self._slots.items()}

    def train_step(
        self,
        step: int,
        batches: Sequence[Mapping[str, Tensor]],
        labelled: Sequence[set[str]],
        phases: tuple[str, ...] | None = None,
    ) -> Losses:
        """All phases, or those called `phases`, once, on a batch per stream; returns each loss as () or (K,).

        `labelled` holds, per stream, the tasks that have at least one label in its batch.
        """
        network = self.network
        network.call.train()
        if network.device.type == "cuda":
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        shared = len(batches) == 1
        of_lane = None if shared else self._by_lane(self._of_lane, torch.int64)
        batch = batches[0] if shared else {n: torch.stack([b[n] for b in self.by_lane(batches)]) for n in batches[0]}
        out: Losses = {}
        for number, phase in enumerate(network.phases):
            if phases is not None and phase.name not in phases:
                continue
            noise = StepNoise(self.streams, step, number, network.device, network.dtype, training=True)
            weights = {n: t.detach() for n, t in self._weights.items()}
            updated = {n: t.requires_grad_() for n, t in network.updated(phase, weights).items()}
            losses, gradients = self._differentiated(phase, weights, updated, batch, noise, of_lane)
            if phase.clip is not None:
                optim.clip(gradients, phase.clip, len(self.lanes) if self.fused else None)
            moves = self._moves(phase, gradients, labelled)
            for name, updates, optimizer in (
                (phase.state_of or phase.name, phase.updates, phase.optimizer),
                *((name, also.updates, also.optimizer) for name, also in further(phase)),
            ):
                own = network.of(updates, gradients)
                optim.step(optimizer, self._weights, own, self._slots[name], self._hp64, moves)
            out |= losses
        return out

    def _differentiated(
        self,
        phase: Phase,
        weights: Weights,
        updated: Weights,
        batch: Batch,
        noise: StepNoise,
        of_lane: Tensor | None,
    ) -> tuple[Losses, Weights]:
        """A phase's losses, and the gradients of the one that it minimises by the `updated` of the `weights`."""
        network = self.network

        def differentiate(function: Callable[..., Losses]) -> tuple[Losses, Weights]:
            losses = function(phase, Given(weights, self._hp, batch, of_lane, self.fused), noise)
            # Lanes don't mix: the gradient of the sum is each lane's own, and a NaN stays in its lane.
            found = torch.autograd.grad(losses[phase.minimise].sum(), list(updated.values()), allow_unused=True)
            gradients = {n: g for n, g in zip(updated, found, strict=True) if g is not None}
            # Copies: what a CUDA graph gives is overwritten as it is replayed.
            return {name: loss.detach().clone() for name, loss in losses.items()}, gradients

        choice = network.choice(phase)
        if choice is None:
            return differentiate(network.losses)
        return choice.step(lambda: differentiate(network.losses), lambda: differentiate(network.fast_losses))

    @torch.no_grad()
    def evaluate_step(self, step: int, batch: Batch, *, losses: bool) -> tuple[Losses, dict[str, Tensor]]:
        """Losses (() or (K,)), if wanted, and outputs ((B, C) or (K, B, C)) on a batch of development segments."""
        network, family = self.network, self.network.family
        network.call.eval()
        found: Losses = {}
        for number, phase in enumerate(network.phases if losses else ()):
            # The same noise for every lane and epoch, so that development losses can be compared.
            noise = StepNoise([(0, 0)], step, number, network.device, network.dtype, training=False)
            found |= network.losses(phase, self._given(batch), noise)
        return found, self._predicted(family.predict, batch)

    @torch.no_grad()
    def read(self, function: Any, batch: Batch) -> Tensor:
        """`function(model, batch)`, (B, ...), of every lane in evaluation mode: (K, B, ...)."""
        self.network.call.eval()
        outputs: Tensor = self._predicted(function, batch)
        return outputs if self.fused else outputs[None]

    def _predicted(self, function: Any, batch: Batch) -> Any:
        def predict(model: Any, batch: Batch, hp: Any, noise: None) -> Any:
            return function(model, batch)

        return self.network.run(predict, self._given(batch), None)

    def _given(self, batch: Batch) -> Given:
        """A batch that all lanes share."""
        return Given(self._weights, self._hp, batch, None, self.fused)

    def _moves(self, phase: Phase, gradients: Weights, labelled: Sequence[set[str]]) -> dict[str, Tensor]:
        """For the parameters of children that stand still in some lane: whether they move, () or (K,)."""
        moves: dict[str, Tensor] = {}
        for child, tasks in phase.needs_label.items():
            moving = [any(task in some for task in tasks) for some in self.by_lane(labelled)]
            if not all(moving):
                flags = self._by_lane(moving, torch.bool)
                moves |= {name: flags for name in gradients if name.split(".")[0] == child}
        return moves


def _stacked(tensors: Sequence[Weights]) -> Weights:
    """K lanes' tensors with a leading lane dimension; a single lane's as they are."""
    if len(tensors) == 1:
        return tensors[0]
    return {name: torch.stack([lane[name] for lane in tensors]) for name in tensors[0]}
