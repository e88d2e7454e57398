"""One configuration trained several times side by side: with several seeds, and in several rotations of a protocol.

Each training is a member, and ends as it would alone. What a search sees is their mean: an epoch's figures are the
means over the members, and the best epoch, by which weights are kept, is that of the mean. The members of a rotation
are lanes of one engine; the first of them stands for the rotation in what is kept.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from sersearch.data.conditions import DEVIATION
from sersearch.data.sums import check_sums
from sersearch.errors import DataError
from sersearch.family import Config
from sersearch.training.engine import Engine, EpochResult
from sersearch.training.lane import LaneState, Predictions, Snapshot, Weights, safetensors

MEMBERS = "members.json"
"""In a checkpoint of several members, what is no tensor."""


@dataclass(frozen=True)
class Mark:
    """The best epoch of the mean by some metric."""

    value: float
    epoch: int


class Members:
    """A configuration's members, an engine a rotation and a lane a seed of each; trained until all are done."""

    def __init__(
        self,
        engines: Sequence[Engine],
        config: Config,
        seeds: Sequence[int],
        epochs: int,
        state: MembersState | None = None,
        weights: Sequence[Weights | None] = (),
    ) -> None:
        """`state` resumes them, `weights`, a set a member, start them: those of the first engine's seeds come first.

        Raises :class:`DataError` when either doesn't fit.
        """
        own = [(rotation, seed) for rotation in range(len(engines)) for seed in seeds]
        states: Sequence[LaneState | None] = [None] * len(own) if state is None else state.lanes
        if len(states) != len(own):
            raise DataError(f"the checkpoint is of {len(states)} members, expected {len(own)}; begin a new study")
        self._engines, self._seeds = engines, seeds
        self._lanes = []
        for (rotation, seed), known, start in zip(own, states, weights or [None] * len(own), strict=True):
            lead = seed == seeds[0]
            number = engines[rotation].join(config, seed, epochs, known, start, joint=lead)
            self._lanes.append((engines[rotation], number))
        self._told: list[EpochResult] = [] if state is None else list(state.told)
        self._epoch = 0 if state is None else state.epoch
        self._marks = {} if state is None else dict(state.marks)
        self._kept = {} if state is None else dict(state.kept)
        self._lasts: list[Snapshot | None] = [None] * len(engines) if state is None else list(state.lasts)

    @property
    def done(self) -> bool:
        """Whether all members have trained to their ends."""
        return bool(self._told) and all(result.done for result in self._told)

    def epoch(self) -> EpochResult:
        """Train those that aren't done for one epoch; the means over all, of which a done one keeps its last figures.

        One that fails, fails them all. On a GPU a rotation's members are trained as one model; on a CPU, where that
        gains nothing, one after the other, and each equals its twin trained alone bit for bit.
        """
        started = time.perf_counter()
        told = dict(enumerate(self._told)) | dict(self._trained())
        self._told = [told[n] for n in range(len(self._lanes))]
        self._epoch += 1
        seconds = time.perf_counter() - started
        for n, result in enumerate(self._told):
            if result.failed:
                reason = self._name(n) + result.reason
                return self._result({}, best=False, done=True, failed=True, reason=reason, seconds=seconds)
        metrics = self._means()
        best = self._keep(metrics)
        reason = "; ".join(dict.fromkeys(result.reason for result in self._told)) if self.done else ""
        return self._result(metrics, best=best, done=self.done, failed=False, reason=reason, seconds=seconds)

    def _trained(self) -> list[tuple[int, EpochResult]]:
        found: list[tuple[int, EpochResult]] = []
        for engine in self._engines:
            lanes = [lane for other, lane in self._lanes if other is engine]
            together = [[lane] for lane in lanes] if engine.device.type == "cpu" else [lanes]
            results = [result for some in together for result in engine.epoch(some)]
            found += [(self._lanes.index((engine, result.lane)), result) for result in results]
        for rotation, (engine, lane) in enumerate(self._leads):
            if any(n == rotation * len(self._seeds) and not result.failed for n, result in found):
                self._lasts[rotation] = engine.last(lane)
        return found

    @property
    def _leads(self) -> list[tuple[Engine, int]]:
        return self._lanes[:: len(self._seeds)]

    def _name(self, member: int) -> str:
        """Which member, for a reader."""
        rotation, seed = divmod(member, len(self._seeds))
        parts = [f"fold {rotation + 1}"] if len(self._engines) > 1 else []
        parts += [f"seed {self._seeds[seed]}"] if len(self._seeds) > 1 else []
        return f"{', '.join(parts)}: "

    def _means(self) -> dict[str, float]:
        """Means of what all members have, and the objective's standard deviation, of n - 1 degrees of freedom."""
        shared = [n for n in self._told[0].metrics if all(n in result.metrics for result in self._told)]
        means = {name: fmean(result.metrics[name] for result in self._told) for name in shared}
        objective = self._engines[0].objective
        return means | {objective + DEVIATION: stdev(result.metrics[objective] for result in self._told)}

    def _keep(self, metrics: Mapping[str, float]) -> bool:
        """Keep the epoch where its means are the best so far; whether the objective's is."""
        engine, best = self._engines[0], False
        for metric in dict.fromkeys([engine.objective, *engine.family.kept(engine.data.labels)]):
            if metric not in self._marks or metrics[metric] > self._marks[metric].value:
                self._marks[metric] = Mark(metrics[metric], self._epoch)
                self._kept[metric] = tuple(last for last in self._lasts if last is not None)
                best = best or metric == engine.objective
        return best

    def _result(self, metrics: dict[str, float], *, failed: bool, **fields: Any) -> EpochResult:
        value = float("nan") if failed else metrics[self._engines[0].objective]
        return EpochResult(lane=0, epoch=self._epoch, metrics=metrics, value=value, failed=failed, **fields)

    def predictions(self) -> list[Predictions]:
        """Development outputs at the best epoch, of each rotation; its first member's."""
        kept = self._kept[self._engines[0].objective]
        return [engine.predictions(lane, at) for (engine, lane), at in zip(self._leads, kept, strict=True)]

    def artifacts(self) -> dict[str, bytes]:
        """Pictures and tables of what the family gave the first member at the best epoch."""
        engine, lane = self._leads[0]
        return engine.artifacts(lane, self._kept[engine.objective][0])

    def state(self) -> MembersState:
        """A checkpoint, as of the last epoch."""
        done = [self._told[rotation * len(self._seeds)].done for rotation in range(len(self._engines))]
        return MembersState(
            objective=self._engines[0].objective,
            epoch=self._epoch,
            told=tuple(self._told),
            marks=dict(self._marks),
            lanes=tuple(engine.state(lane) for engine, lane in self._lanes),
            kept=dict(self._kept),
            lasts=tuple(last if over else None for last, over in zip(self._lasts, done, strict=True)),
        )


@dataclass(frozen=True)
class MembersState:
    """The members' checkpoint: everything that a resumed run needs to equal an uninterrupted one."""

    objective: str
    epoch: int
    told: tuple[EpochResult, ...]
    """Each member's last figures."""
    marks: dict[str, Mark]
    """Best epochs of the mean, by metric."""
    lanes: tuple[LaneState, ...]
    kept: dict[str, tuple[Snapshot, ...]]
    """By metric, these epochs: of each rotation's first member."""
    lasts: tuple[Snapshot | None, ...]
    """The same at its last epoch, where it is done and the others may not be."""

    def files(self) -> dict[str, bytes]:
        """The checkpoint's files.

        `model.safetensors` are the weights of the first rotation's first member at the best epoch of the mean,
        `model-<metric>.safetensors` the same by a further metric; further rotations' are `rotation-<n>.model...`, n
        from 1. `member-<n>.` begins the names of each member's own checkpoint.
        """
        plain = {
            "objective": self.objective,
            "epoch": self.epoch,
            "told": [dataclasses.asdict(result) for result in self.told],
            "marks": {metric: dataclasses.asdict(mark) for metric, mark in self.marks.items()},
            "rotations": len(self.lasts),
        }
        files: dict[str, bytes] = {}
        for rotation, last in enumerate(self.lasts):
            for metric, kept in self.kept.items():
                weights = kept[rotation].weights
                files[_model(rotation, None if metric == self.objective else metric)] = safetensors(weights)
            parts = {"best": _shown(self.kept[self.objective][rotation])}
            if last is not None:
                weights = {f"weights/{name}": tensor for name, tensor in last.weights.items()}
                parts["last"] = weights | _shown(last)
            files |= {f"{_prefix(rotation)}{name}.safetensors": safetensors(part) for name, part in parts.items()}
        for n, lane in enumerate(self.lanes):
            files |= {f"member-{n}.{name}": content for name, content in lane.files().items()}
        return files | {MEMBERS: json.dumps(plain, indent=2).encode()}

    @classmethod
    def load(cls, folder: Path) -> MembersState:
        """Read the checkpoint in `folder`. Raises :class:`DataError` when it isn't all there, or was altered."""
        files = check_sums(folder)
        try:
            plain = json.loads(files[MEMBERS])
            told = tuple(EpochResult(**result) for result in plain["told"])
            marks = {metric: Mark(**mark) for metric, mark in plain["marks"].items()}
            objective, rotations = plain["objective"], range(plain["rotations"])
            best = [_parts(files, f"{_prefix(r)}best.safetensors") for r in rotations]
            lasts = [_parts(files, f"{_prefix(r)}last.safetensors") for r in rotations]
            kept = {}
            for metric in marks:
                names = [_model(r, None if metric == objective else metric) for r in rotations]
                shown = best if metric == objective else [{} for _ in rotations]
                kept[metric] = tuple(
                    Snapshot(load(files[name]), part.get("outputs", {}), part.get("codes", {}))
                    for name, part in zip(names, shown, strict=True)
                )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise DataError(f"{folder}: not a checkpoint that can be read ({type(error).__name__}: {error})") from error
        own = [_own(files, f"member-{n}.") for n in range(len(told))]
        return cls(
            objective=objective,
            epoch=plain["epoch"],
            told=told,
            marks=marks,
            lanes=tuple(LaneState.read(lane, folder) for lane in own),
            kept=kept,
            lasts=tuple(
                Snapshot(last["weights"], last.get("outputs", {}), last.get("codes", {})) if last else None
                for last in lasts
            ),
        )

    @property
    def done(self) -> bool:
        """Whether all members have trained to their ends."""
        return all(result.done for result in self.told)

    def best(self, metric: str, rotation: int = 0) -> tuple[int, Weights]:
        """The best epoch by `metric`, one that is kept or else the objective, and a rotation's weights there."""
        metric = metric if metric in self.marks else self.objective
        return self.marks[metric].epoch, self.kept[metric][rotation].weights


def _prefix(rotation: int) -> str:
    return f"rotation-{rotation}." if rotation else ""


def _model(rotation: int, metric: str | None) -> str:
    return f"{_prefix(rotation)}model{f'-{metric}' if metric else ''}.safetensors"


def _shown(snapshot: Snapshot) -> dict[str, Tensor]:
    codes = {f"codes/{name}": tensor.clone() for name, tensor in snapshot.codes.items()}
    return {f"outputs/{name}": tensor for name, tensor in snapshot.outputs.items()} | codes


def _parts(files: Mapping[str, bytes], name: str) -> dict[str, dict[str, Tensor]]:
    """A file's tensors by the first part of their names; none where there is no such file."""
    parts: dict[str, dict[str, Tensor]] = {}
    for key, tensor in (load(files[name]) if name in files else {}).items():
        kind, _, rest = key.partition("/")
        parts.setdefault(kind, {})[rest] = tensor
    return parts


def _own(files: Mapping[str, bytes], prefix: str) -> dict[str, bytes]:
    return {name.removeprefix(prefix): content for name, content in files.items() if name.startswith(prefix)}


__all__ = ["MEMBERS", "Members", "MembersState"]
