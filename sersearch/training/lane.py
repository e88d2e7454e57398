"""One configuration in training: what a lane holds between epochs, and its checkpoint."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from sersearch.data.batches import LabelSpace
from sersearch.data.sums import check_sums, write_with_sums
from sersearch.errors import DataError
from sersearch.family import Config, HalveOnPlateau
from sersearch.training.optim import Slots

Weights = dict[str, Tensor]
"""Parameters and buffers by the names of the model's state dict."""


@dataclass
class Progress:
    """How far a lane is; plain values."""

    epoch: int = 0
    """Epochs done."""
    rate_scale: float = 1.0
    """What the schedule has made of the learning rate so far."""
    best_value: float | None = None
    best_epoch: int = 0
    stale: int = 0
    """Epochs without a better value since the best epoch or the last halving."""
    done: bool = False
    failed: bool = False
    reason: str = ""


@dataclass(frozen=True)
class Best:
    """The best epoch by a further development metric than the objective."""

    value: float
    epoch: int
    weights: Weights


@dataclass(frozen=True)
class Snapshot:
    """A lane as of one epoch."""

    weights: Weights
    outputs: dict[str, Tensor]
    """What they predict of the development set, (U, C) or (U, A)."""
    codes: dict[str, Tensor]
    """What the family gave the training segments, (S,) int64 each."""


@dataclass
class Lane:
    """A configuration in training."""

    config: Config
    seed: int
    epochs: int
    weights: Weights
    slots: dict[str, Slots]
    best_weights: Weights
    best_outputs: dict[str, Tensor] = field(default_factory=dict)
    """Development outputs (U, C) or (U, A) of the best epoch."""
    bests: dict[str, Best] = field(default_factory=dict)
    """By further metrics (`Family.kept`)."""
    codes: dict[str, Tensor] = field(default_factory=dict)
    """What the family last gave the training segments (`Family.relabel`), (S,) int64 each."""
    best_codes: dict[str, Tensor] = field(default_factory=dict)
    """The same of the best epoch."""
    watched: list[dict[str, float]] = field(default_factory=list)
    """The metrics that came with them, by epoch."""
    progress: Progress = field(default_factory=Progress)
    joint: bool = False
    """Whether it isn't this lane alone that says which epoch is the best (`Members`)."""
    last: Snapshot | None = None
    """Of a joint lane, the last epoch, as it was evaluated: the schedule may bring back other weights."""

    def hyperparameters(self, rates: set[str]) -> dict[str, float]:
        """The lane hyperparameters, learning `rates` as the schedule has scaled them."""
        scale = self.progress.rate_scale
        return {name: value * scale if name in rates else value for name, value in self.config.lanes().items()}

    def finish_epoch(
        self, value: float, outputs: Mapping[str, Tensor], problem: str, kept: Mapping[str, float] | None = None
    ) -> bool:
        """Count an epoch whose development objective is `value`; True when it is the best so far.

        `kept` holds further metrics whose best epochs' weights are kept; `problem` ends the lane as failed.
        """
        progress = self.progress
        progress.epoch += 1
        if problem:
            progress.done, progress.failed, progress.reason = True, True, problem
            return False
        if self.joint:
            self.last = Snapshot(_clone(self.weights), _clone(outputs), self.codes)
        best = progress.best_value is None or value > progress.best_value
        if best:
            progress.best_value, progress.best_epoch, progress.stale = value, progress.epoch, 0
            self.best_weights = _clone(self.weights)
            self.best_outputs, self.best_codes = _clone(outputs), self.codes
        else:
            progress.stale += 1
        for metric, other in (kept or {}).items():
            if metric not in self.bests or other > self.bests[metric].value:
                self.bests[metric] = Best(other, progress.epoch, self.best_weights if best else _clone(self.weights))
        if progress.epoch >= self.epochs:
            progress.done, progress.reason = True, "all epochs done"
        return best

    def apply(self, rule: HalveOnPlateau | None, rate: float) -> None:
        """Apply the halving `rule` after an epoch; `rate` is the config's learning rate."""
        progress = self.progress
        if rule is None or progress.done or progress.stale < rule.patience:
            return
        progress.rate_scale *= rule.factor
        progress.stale = 0
        if rule.restore:
            self.weights = _clone(self.best_weights)
            for slots in self.slots.values():  # moments of the weights that were thrown away
                for name, tensor in slots.items():
                    tensor.fill_(1 if name.startswith("mu_product/") else 0)
        if rate * progress.rate_scale < rule.minimum:
            progress.done, progress.reason = True, f"learning rate below {rule.minimum:g}"

    def state(self, family: str) -> LaneState:
        """A snapshot that later training doesn't change."""
        return LaneState(
            family=family,
            config=self.config.to_dict(),
            seed=self.seed,
            epochs=self.epochs,
            progress=dataclasses.replace(self.progress),
            weights=_clone(self.weights),
            slots={phase: _clone(slots) for phase, slots in self.slots.items()},
            best_weights=_clone(self.best_weights),
            best_outputs=_clone(self.best_outputs),
            bests=dict(self.bests),  # each is replaced, never written over
            codes=self.codes,  # and so are these
            best_codes=self.best_codes,
            watched=list(self.watched),
        )


def _clone(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().clone() for name, tensor in tensors.items()}


@dataclass(frozen=True)
class Predictions:
    """Development outputs of a lane's best epoch, by utterance."""

    ids: list[str]
    labels: Tensor
    """Label codes (U,), or z-normed attributes (U, A)."""
    outputs: Tensor
    """Mean posteriors (U, C), or z-normed attributes (U, A), over each utterance's segments."""
    space: LabelSpace


@dataclass(frozen=True)
class LaneState:
    """A lane's checkpoint: everything that a resumed run needs to equal an uninterrupted one."""

    family: str
    config: dict[str, Any]
    seed: int
    epochs: int
    progress: Progress
    weights: Weights
    slots: dict[str, Slots]
    best_weights: Weights
    best_outputs: dict[str, Tensor]
    bests: dict[str, Best] = field(default_factory=dict)
    codes: dict[str, Tensor] = field(default_factory=dict)
    best_codes: dict[str, Tensor] = field(default_factory=dict)
    watched: list[dict[str, float]] = field(default_factory=list)

    def snapshot_of_progress(self) -> Progress:
        """A copy of the progress for a lane to go on from."""
        return dataclasses.replace(self.progress)

    def files(self) -> dict[str, bytes]:
        """The checkpoint: `model.safetensors` (the best weights), `state.safetensors` and, last, `state.json`.

        The best weights by a further metric are `model-<metric>.safetensors`.
        """
        tensors = {f"weights/{name}": t for name, t in self.weights.items()}
        tensors |= {f"outputs/{name}": t for name, t in self.best_outputs.items()}
        tensors |= {f"codes/{name}": t for name, t in self.codes.items()}
        tensors |= {f"best_codes/{name}": t.clone() for name, t in self.best_codes.items()}  # may be those
        for phase, slots in self.slots.items():
            tensors |= {f"slots/{phase}/{name}": t for name, t in slots.items()}
        parts = {"model": self.best_weights}
        parts |= {f"model-{metric}": best.weights for metric, best in self.bests.items()}
        parts["state"] = tensors
        plain = {"family": self.family, "config": self.config, "seed": self.seed, "epochs": self.epochs}
        plain["watched"] = self.watched
        plain["progress"] = dataclasses.asdict(self.progress)
        plain["bests"] = {metric: {"value": best.value, "epoch": best.epoch} for metric, best in self.bests.items()}
        files = {f"{name}.safetensors": safetensors(part) for name, part in parts.items()}
        return files | {"state.json": json.dumps(plain, indent=2, allow_nan=False).encode()}

    def save(self, folder: Path) -> None:
        """Write :meth:`files` into `folder`, each whole or not at all, and, last, their checksums."""
        write_with_sums(folder, self.files())

    @classmethod
    def load(cls, folder: Path) -> LaneState:
        """Read the checkpoint in `folder`, which may lie in an object store: :meth:`files` and their checksums.

        Raises :class:`DataError`, with the file's name, when it isn't all there, was altered, or has no checksums
        (:mod:`sersearch.data.sums`): weights of which a bit was flipped would be read like any others.
        """
        return cls.read(check_sums(folder), folder)

    @classmethod
    def read(cls, files: Mapping[str, bytes], folder: Path) -> LaneState:
        """From :meth:`files`, which lie in `folder`. Raises :class:`DataError` when they aren't a checkpoint's."""
        try:
            plain = json.loads(files["state.json"])
            best = load(files["model.safetensors"])
            tensors = load(files["state.safetensors"])
            progress = Progress(**plain.pop("progress"))
            bests = {
                metric: Best(**at, weights=load(files[f"model-{metric}.safetensors"]))
                for metric, at in plain.pop("bests", {}).items()
            }
            parts: dict[str, dict[str, Tensor]] = {"weights": {}, "outputs": {}, "codes": {}, "best_codes": {}}
            slots: dict[str, Slots] = {}
            for name, tensor in tensors.items():
                kind, _, rest = name.partition("/")
                if kind == "slots":
                    phase, _, rest = rest.partition("/")
                    slots.setdefault(phase, {})[rest] = tensor
                else:
                    parts[kind][rest] = tensor
            return cls(
                **plain,
                progress=progress,
                weights=parts["weights"],
                slots=slots,
                best_weights=best,
                best_outputs=parts["outputs"],
                codes=parts["codes"],
                best_codes=parts["best_codes"],
                bests=bests,
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, SafetensorError) as error:
            raise DataError(f"{folder}: not a checkpoint that can be read ({type(error).__name__}: {error})") from error


def safetensors(tensors: Mapping[str, Tensor]) -> bytes:
    """The content of a safetensors file."""
    return save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})
