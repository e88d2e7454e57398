"""A training step of the AAE against its floor, and what settings and lanes give."""

from __future__ import annotations

import os
import statistics
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.rows import Row, demo_corpus, paired, python, workplace
from sersearch.data.batches import TrainingData, training_data
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.families import get_family
from sersearch.families.aae.config import AAEConfig
from sersearch.training import CPU_ENVIRONMENT, Engine
from sersearch.training.lane import Lane
from sersearch.training.network import Stack

PAPER = AAEConfig()
DEMO = AAEConfig(channels=(8, 16, 32), batch_size=16, learning_rate=0.002, generator_loss="saturating")
TINY = AAEConfig(channels=(2, 2, 2), hidden=8, batch_size=16, segment_frames=32, segment_hop=32, learning_rate=0.002)


def rows(quick: bool) -> Iterator[Row]:
    """Step times, floors, settings and lanes."""
    steps = 3 if quick else 12
    with workplace() as folder:
        demo_corpus(folder)
        torch.set_num_threads(1)
        for device in ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",):
            yield from floor(folder, device, steps)
            yield from lanes(folder, device, 1 if quick else 5)
        yield from settings(folder, 1 if quick else 3)


def load(folder: Path, config: AAEConfig) -> TrainingData:
    """The demo corpus in `config`'s segments."""
    table = FeatureTable.open(folder, "spectrogram")
    return training_data(table, Protocol("official").split(table), get_family("aae").view(config))


class Step:
    """One mini-batch of one configuration in one or more lanes, to be run again and again."""

    def __init__(self, data: TrainingData, config: AAEConfig, device: str = "cpu", lanes: int = 1) -> None:
        network = Engine(get_family("aae"), data, device)._network(config)
        initial = [network.initial(0) for _ in range(lanes)]
        self.stack = Stack(network, [Lane(config, 0, 1, w, network.slots(w), network.place(w)) for w in initial])
        indices = np.arange(config.batch_size)
        self.batch = data.train.batch(indices, network.device, network.dtype)
        self.labelled = data.train.labelled_tasks(indices)
        self.device = device

    def __call__(self) -> float:
        """Run it; returns its seconds."""
        started = time.perf_counter()
        self.stack.train_step(0, [self.batch], [self.labelled])
        if self.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started


class Traffic(TorchDispatchMode):
    """Sums the bytes of every operation's inputs and outputs: what must move when nothing is fused."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Count, then run."""
        out = func(*args, **(kwargs or {}))
        if not func.is_view:
            moved = [t for t in tree_leaves((args, kwargs, out)) if isinstance(t, torch.Tensor)]
            self.bytes += sum(t.numel() * t.element_size() for t in moved)
        return out


def floor(folder: Path, device: str, steps: int) -> Iterator[Row]:
    """Step time against what arithmetic and memory traffic alone would take on this device."""
    flops, bandwidth = peak(device)
    for name, config in (("paper's size", PAPER), ("demo's size", DEMO)):
        step = Step(load(folder, config), config, device)
        step()
        with FlopCounterMode(display=False) as counted:
            step()
        with Traffic() as traffic:
            step()
        took = statistics.median(step() for _ in range(steps))
        arithmetic, memory = counted.get_total_flops() / flops, traffic.bytes / bandwidth
        yield Row(
            f"AAE step, {name}, {device}",
            f"{1000 * took:.0f} ms",
            f"floor {1000 * max(arithmetic, memory):.0f} ms",
            f"{counted.get_total_flops() / 1e9:.1f} GFLOP: {1000 * arithmetic:.0f} ms at {flops / 1e9:.0f} GFLOP/s; "
            f"{traffic.bytes / 1e9:.2f} GB: {1000 * memory:.0f} ms at {bandwidth / 1e9:.0f} GB/s",
        )


def peak(device: str) -> tuple[float, float]:
    """FLOP/s of a large product and bytes/s of a large copy on this device, the best of several."""
    n = 1024 if device == "cpu" else 8192
    a, source = torch.randn(n, n, device=device), torch.randn(2**26, device=device)
    target = torch.empty_like(source)

    def took(call: Any) -> float:
        started = time.perf_counter()
        call()
        if device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - started

    product = min(took(lambda: a @ a) for _ in range(10))
    copy = min(took(lambda: target.copy_(source)) for _ in range(10))
    return 2 * n**3 / product, 2 * source.numel() * 4 / copy


def lanes(folder: Path, device: str, steps: int) -> Iterator[Row]:
    """A step of K lanes as one model against K single ones."""
    for name, config, counts in (("demo's size", DEMO, (2, 4)), ("tiny", TINY, (2, 4, 8))):
        data = load(folder, config)
        single = Step(data, config, device)
        for count in counts:
            fused = Step(data, config, device, count)
            single(), fused()
            alone, together = paired(single, fused, steps)
            note = f"{1000 * together:.0f} ms for {count}, {1000 * alone:.0f} ms for one; AAE, {name}, {device}"
            yield Row(
                f"{count} lanes against {count} single ones", f"x {count * alone / together:.2f} as fast", "", note
            )


def settings(folder: Path, pairs: int) -> Iterator[Row]:
    """Gain of the allocator's settings, and of one thread a trial."""
    without, with_ours = paired(partial(child, folder, {}), partial(child, folder, CPU_ENVIRONMENT), pairs)
    note = f"{1000 * with_ours:.0f} against {1000 * without:.0f} ms a step, {pairs} pairs"
    yield Row("allocator settings, AAE, paper's size", f"x {without / with_ours:.2f} as fast", "", note)
    cores = os.cpu_count() or 1
    together, apart = paired(lambda: many(folder, 1, cores), lambda: many(folder, cores, 1), pairs)
    note = f"{1000 * apart:.0f} against {1000 * together:.0f} ms a step, {pairs} pairs; paper's size"
    yield Row(f"{cores} trials of one thread against 1 of {cores}", f"x {together / apart:.2f} as fast", "", note)


def child(folder: Path, environment: dict[str, str]) -> float:
    """Seconds of a step in a process of its own."""
    return float(python("benchmarks.step", str(folder), "1", environment=environment).communicate()[0])


def many(folder: Path, processes: int, threads: int) -> float:
    """Seconds a step when `processes` train at once."""
    environment = {**CPU_ENVIRONMENT, "OMP_NUM_THREADS": str(threads)}
    running = [python("benchmarks.step", str(folder), str(threads), environment=environment) for _ in range(processes)]
    return statistics.mean(float(p.communicate()[0]) for p in running) / processes


def main(folder: str, threads: int) -> None:
    """A child: print the seconds of a step of the paper's size, run in a thread, as Tune runs trials."""
    torch.set_num_threads(threads)
    step = Step(load(Path(folder), PAPER), PAPER)

    def run() -> None:
        step()
        print(statistics.median(step() for _ in range(5)), flush=True)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
