"""Steps of the ladder: the engine against a plain PyTorch loop, lanes, and what the paper's grid takes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch

from benchmarks.plain import Plain, finished
from benchmarks.random_data import random_data, random_table
from benchmarks.rows import Row, paired
from sersearch.data.batches import SegmentView, TrainingData
from sersearch.families import get_family
from sersearch.families.ladder.config import LadderConfig
from sersearch.training import Engine
from sersearch.training.lane import Lane
from sersearch.training.network import Stack

FAMILY = get_family("ladder")
PAPER = LadderConfig()
GRID, LABELLED, UNLABELLED, EPOCHS = 66, 18_346, 175_196, 100
"""The paper's search: points, training utterances (section IV-A), and epochs, here over the unlabelled set."""


def rows(quick: bool) -> Iterator[Row]:
    """On the CPU with one thread, and on a GPU where there is one."""
    torch.set_num_threads(1)
    steps = 2 if quick else 8
    for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
        small, large = table(88), table(6373)
        for name, data in (("88-d", small), ("6373-d", large)):
            yield against_plain(name, data, device, steps)
            for lanes in (4, 16) if quick else (4, 8, 16):
                yield fused(name, data, device, lanes, max(steps // 4, 1))
            for lanes in (1,) if quick else (1, 16):
                yield compiled(name, data, device, lanes, max(steps // lanes, 2))
        yield grid(large, device, steps)


def table(dims: int) -> TrainingData:
    """Random vectors with random attributes: 512 labelled and 512 unlabelled utterances, and 64 to develop."""
    made = random_table(np.ones(1088, np.int64), dims, "functionals")
    return random_data(made, 512, 512, SegmentView(1, 1), "attributes")


class Step:
    """One step, an unlabelled and a labelled mini-batch, of one configuration in one or more lanes."""

    def __init__(
        self,
        data: TrainingData,
        device: str,
        lanes: int = 1,
        config: LadderConfig = PAPER,
        *,
        compile: bool = False,
    ) -> None:
        network = Engine(FAMILY, data, device, compile=compile)._network(config)
        configs = [replace(config, alpha=0.5 * k / lanes) for k in range(lanes)]
        initial = [network.initial(0) for _ in configs]
        lanes_ = [Lane(c, 0, 1, w, network.slots(w), network.place(w)) for c, w in zip(configs, initial, strict=True)]
        self.stack, self.device = Stack(network, lanes_), device
        indices = next(FAMILY.plan(config, data, np.random.default_rng(0)))
        self.batch = data.train.batch(indices, network.device, network.dtype)
        self.labelled = data.train.labelled_tasks(indices)

    def __call__(self) -> float:
        """Run it; returns its seconds."""
        started = time.perf_counter()
        self.stack.train_step(0, [self.batch], [self.labelled])
        return finished(started, self.device)


def against_plain(name: str, data: TrainingData, device: str, steps: int) -> Row:
    """One lane against the plain loop."""
    ours, loop = Step(data, device), Plain(FAMILY, PAPER, data, device)

    def plain() -> float:
        started = time.perf_counter()
        loop.step(ours.batch)
        return finished(started, device)

    ours(), plain()
    alone, plainly = paired(ours, plain, steps)
    note = f"{1000 * alone:.0f} against {1000 * plainly:.0f} ms, 256 unlabelled and 256 labelled vectors, MTL, {device}"
    return Row(f"ladder step, {name}, one lane against a plain PyTorch loop", f"x {alone / plainly:.2f}", "<= 1", note)


def fused(name: str, data: TrainingData, device: str, lanes: int, steps: int) -> Row:
    """A step of several lanes as one model against as many single ones."""
    single, together = Step(data, device), Step(data, device, lanes)
    single(), together()
    alone, all_ = paired(single, together, steps)
    note = f"{1000 * all_:.0f} ms for {lanes}, {1000 * alone:.0f} ms for one, {device}"
    return Row(f"{lanes} lanes against {lanes} single ones, ladder, {name}", f"x {lanes * alone / all_:.2f}", "", note)


def compiled(name: str, data: TrainingData, device: str, lanes: int, steps: int) -> Row:
    """A compiled step of some lanes as one model against as many plain steps of single ones; on a GPU, CUDA graphs."""
    single, together = Step(data, device), Step(data, device, lanes, compile=True)
    compiling = together()
    single()
    alone, all_ = paired(single, together, steps)
    note = f"{1000 * all_:.0f} ms, {1000 * alone:.0f} ms plain for one; {compiling:.0f} s to compile, {device}"
    what = "a compiled step" if lanes == 1 else f"a compiled step of {lanes} lanes"
    return Row(f"{what} against plain single ones, ladder, {name}", f"x {lanes * alone / all_:.2f}", "", note)


def grid(data: TrainingData, device: str, steps: int) -> Row:
    """The whole grid of one architecture, from a measured step."""
    step = Step(data, device)
    step()
    took = sorted(step() for _ in range(steps))[steps // 2]
    hours = GRID * EPOCHS * (UNLABELLED // PAPER.batch_size) * took / 3600
    return Row(
        f"the paper's grid: {GRID} points, {LABELLED} + {UNLABELLED} utterances, {EPOCHS} epochs over the latter",
        f"{hours:.0f} hours, one by one",
        "",
        f"projected from a step of {1000 * took:.0f} ms, without evaluation; one process, {device}",
    )
