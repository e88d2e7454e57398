"""What a model family fills in: hyperparameters, networks, phases, plan, metrics, schedule.

A family is a folder in `sersearch/families/`. The engine (`sersearch.training`) asks for nothing beyond
:class:`Family`; a contributor writes ordinary PyTorch and no loop, no device code and no Ray.

Shape suffixes used in families: B mini-batch, D feature dimension (bands), T frames, C classes, S segments,
U utterances, K lanes.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, get_args, get_origin, get_type_hints

import numpy as np
from torch import Tensor, nn

from sersearch.errors import ConfigError, one_of
from sersearch.metrics import target_metrics

if TYPE_CHECKING:
    from sersearch.data.batches import LabelSpace, SegmentView, TrainingData

Batch = Mapping[str, Tensor]
Losses = dict[str, Tensor]


# --- hyperparameters --------------------------------------------------------------------------------------------------


def lane(
    default: float, doc: str, *, low: float | None = None, high: float | None = None, low_open: bool = False
) -> Any:
    """A lane hyperparameter: a float that reaches the code as a 0-dim tensor and enters arithmetic only.

    `low` and `high` bound what the field can take (None: unbounded); `low_open` excludes `low` itself.
    `doc` names the paper's symbol and says whether the paper states the default.
    """
    return field(default=default, metadata={"kind": "lane", "doc": doc, "low": low, "high": high, "low_open": low_open})


def static(default: Any, doc: str, *, low: float | None = None, high: float | None = None) -> Any:
    """A static hyperparameter: it decides shapes and flow; trials that differ in one cannot share a fused model."""
    return field(default=default, metadata={"kind": "static", "doc": doc, "low": low, "high": high, "low_open": False})


@dataclass(frozen=True, kw_only=True)
class Config:
    """Base of every family's hyperparameters. Defaults are the paper's values.

    Raises :class:`ConfigError` when a value has the wrong type or lies outside what the field can take.
    """

    def __post_init__(self) -> None:
        for f in dataclasses.fields(self):
            object.__setattr__(self, f.name, self.check(f.name, getattr(self, f.name)))

    @property
    def learns_unlabelled(self) -> bool:
        """Whether unlabelled utterances change anything but the moments by which features are normalised."""
        return True

    @classmethod
    def names(cls) -> tuple[str, ...]:
        """All hyperparameters, in the order in which the class lists them."""
        return tuple(f.name for f in dataclasses.fields(cls))

    @classmethod
    def lane_names(cls) -> tuple[str, ...]:
        """The lane hyperparameters."""
        return tuple(f.name for f in dataclasses.fields(cls) if f.metadata["kind"] == "lane")

    @classmethod
    def type_of(cls, name: str) -> Any:
        """The declared type of hyperparameter `name`; raises :class:`ConfigError` for an unknown one."""
        if name not in cls.names():
            raise ConfigError(f"params.{name}: unknown hyperparameter; {one_of(name, cls.names())}")
        return get_type_hints(cls)[name]

    @classmethod
    def check(cls, name: str, value: Any) -> Any:
        """`value` as hyperparameter `name` holds it (ints become floats where floats are expected, lists tuples).

        Raises :class:`ConfigError` naming the field, the value seen and what the field can take.
        """
        declared = cls.type_of(name)
        meta = {f.name: f.metadata for f in dataclasses.fields(cls)}[name]
        if declared is float and isinstance(value, (int, float)) and not isinstance(value, bool):
            value = float(value)
        if isinstance(value, list):
            value = tuple(value)
        if not _fits(value, declared):
            raise ConfigError(f"params.{name}: {value!r} is not {_type_name(declared)}")
        if declared in (int, float):
            low, high = meta["low"], meta["high"]
            below = low is not None and (value <= low if meta["low_open"] else value < low)
            if below or (high is not None and value > high) or not math.isfinite(value):
                left = "(" if meta["low_open"] or low is None else "["
                right = ")" if high is None else "]"
                low_text, high_text = ("-inf" if low is None else f"{low:g}"), ("inf" if high is None else f"{high:g}")
                raise ConfigError(f"params.{name}: {value:g} is outside {left}{low_text}, {high_text}{right}")
        return value

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Config:
        """A config from plain values, e.g. parsed JSON or YAML. Raises :class:`ConfigError` on any bad one."""
        for name in values:
            cls.type_of(name)
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values: `from_dict(to_dict())` is the same config, through JSON too."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(self).items()}

    def lanes(self) -> dict[str, float]:
        """The lane hyperparameters' values."""
        return {name: getattr(self, name) for name in self.lane_names()}

    def signature(self) -> tuple[tuple[str, Any], ...]:
        """The static hyperparameters' values: configs with equal signatures can be trained as one model."""
        return tuple((n, getattr(self, n)) for n in self.names() if n not in self.lane_names())


def _fits(value: Any, declared: Any) -> bool:
    choices = get_args(declared)
    if get_origin(declared) is Literal:
        return value in choices
    if choices:  # tuple[int, ...] or tuple[int, int, int]
        lengths_agree = choices[-1] is Ellipsis or (isinstance(value, tuple) and len(value) == len(choices))
        return isinstance(value, tuple) and lengths_agree and all(_fits(v, choices[0]) and v > 0 for v in value)
    if declared is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, declared)


def _type_name(declared: Any) -> str:
    choices = get_args(declared)
    if get_origin(declared) is Literal:
        return f"one of {', '.join(map(str, choices))}"
    if choices:
        count = "" if choices[-1] is Ellipsis else f"{len(choices)} "
        return f"a list of {count}positive {choices[0].__name__}s"
    return {int: "an integer", float: "a number", bool: "true or false", str: "text"}.get(declared, str(declared))


# --- randomness -------------------------------------------------------------------------------------------------------


class Noise:
    """Where a phase gets its random numbers: seeded from (seed, step), the same for every lane at that step.

    `training` is False while losses are computed on development data: :meth:`dropout` is then the identity.
    Families draw from here, never from PyTorch's global generator: so a lane equals its twin trained alone,
    and configurations are compared under common random numbers.
    """

    training: bool = True

    def normal(self, *shape: int) -> Tensor:
        """Standard normal numbers of `shape`."""
        raise NotImplementedError

    def uniform(self, *shape: int) -> Tensor:
        """Numbers in [0, 1) of `shape`."""
        raise NotImplementedError

    def dropout(self, x: Tensor, p: Tensor) -> Tensor:
        """Inverted dropout at the 0-dim rate `p`, which so may be a lane hyperparameter."""
        if not self.training:
            return x
        keep = (self.uniform(*x.shape) >= p).to(x.dtype)
        return x * keep / (1 - p)


# --- phases -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Optimizer:
    """Which optimiser a phase steps: `kind` and where its rate comes from (the name of a lane hyperparameter)."""

    kind: Literal["sgd", "adam", "nadam"]
    learning_rate: str = "learning_rate"
    momentum: str | None = None
    """Name of the lane hyperparameter that holds SGD's momentum."""


@dataclass(frozen=True)
class Also:
    """A further optimiser that steps on a phase's gradients, after the phase's own."""

    updates: tuple[str, ...]
    """Names of the model's children."""
    optimizer: Optimizer


@dataclass(frozen=True)
class Phase:
    """One part of a step: a loss and the parameters that it updates.

    `loss(model, batch, hp, noise)` returns named 0-dim losses; `minimise` names the one whose gradient is taken. One
    that is called as a task (`emotion`, `gender`, `speaker`) is a mean over the batch's members with that label.
    `updates` are names of the model's children; their parameters, and no others, move. Each phase has an optimiser
    state of its own.
    """

    name: str
    loss: Callable[[Any, Batch, SimpleNamespace, Noise], Losses]
    minimise: str
    updates: tuple[str, ...]
    optimizer: Optimizer
    needs_label: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Child -> tasks: in a batch without a single label of these tasks the child stands still, momentum or not."""
    clip: float | None = None
    """Largest gradient norm over the phase's parameters, per lane; None: gradients aren't clipped."""
    state_of: str | None = None
    """The phase whose optimiser this phase steps, too; None: one of its own. That phase updates all that this does."""
    also: tuple[Also, ...] = ()
    """Further optimisers, in the order of their steps. Their states are this phase's own."""


class Turn(NamedTuple):
    """A mini-batch of an epoch that has stages: what only some phases see."""

    indices: np.ndarray
    """Segments (B,)."""
    phases: tuple[str, ...]
    """Names of the phases that run on it."""


# --- labels that an epoch begins with ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Relabelled:
    """Labels that a family gives the training segments itself, for one epoch of one lane."""

    codes: Mapping[str, np.ndarray]
    """By name, a code for each training segment (S,) int64: what `batch[name]` (B,) holds in that epoch."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Reported with the epoch as they are called."""


# --- schedules --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class HalveOnPlateau:
    """The halving rule of the MTL-AAE paper, section 4.3.

    No better development value in `patience` epochs: the weights of the best epoch come back, if `restore`, and the
    learning rate is multiplied by `factor`; training stops once the rate is below `minimum`.
    """

    patience: int = 5
    factor: float = 0.5
    minimum: float = 1e-5
    restore: bool = True


# --- the family -------------------------------------------------------------------------------------------------------

LAST_EPOCH = "dev_epoch"
"""As the objective, an epoch's number: the last one is the best, of a model that no development figure judges."""


@dataclass(frozen=True)
class ModelSpec:
    """What the data decides of a model's shape."""

    dims: int
    """Feature dimension (bands) D."""
    frames: int
    """Frames T of a segment."""
    labels: LabelSpace
    """The classes of each task, in the order of the outputs."""
    companions: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """Feature dimension and frames of each further input."""


class Family:
    """One published model family. Subclass it in `families/<name>/family.py` and name the instance `FAMILY`."""

    name: ClassVar[str]
    paper: ClassVar[str]
    """Authors, title, where and when."""
    config: ClassVar[type[Config]]
    features: ClassVar[tuple[str, ...]]
    """Feature sets that the family can be trained on, the paper's first."""
    companions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Further inputs by their names in batches, and the feature sets that each can be, the paper's first."""

    def objective(self, labels: LabelSpace) -> str:
        """The development metric by which epochs are compared; higher is better."""
        return "dev_ccc" if labels.attributes else "dev_ua"

    def kept(self, labels: LabelSpace) -> tuple[str, ...]:
        """Further development metrics whose best epochs' weights are kept: one search, a winner for each attribute."""
        several = len(labels.attributes) > 1
        return tuple(f"dev_ccc_{name}" for name in labels.attributes) if several else ()

    def unused(self, labels: LabelSpace) -> tuple[str, ...]:
        """Hyperparameters that change nothing where these labels are learnt: searching one is refused."""
        return ()

    def view(self, config: Any) -> SegmentView:
        """How an utterance's frames are cut into the segments that the model sees."""
        raise NotImplementedError

    def companion_views(self, config: Any) -> Mapping[str, SegmentView]:
        """The same for each of `companions`; these, and then :meth:`view` too, give one segment an utterance."""
        return {}

    def build(self, config: Any, spec: ModelSpec) -> nn.Module:
        """The networks, freshly initialised from PyTorch's generator; children's names are what phases update."""
        raise NotImplementedError

    def phases(self, config: Any, spec: ModelSpec) -> tuple[Phase, ...]:
        """The phases of one step, in the paper's order. May look at static hyperparameters only."""
        raise NotImplementedError

    def pretraining(self, config: Any, spec: ModelSpec) -> tuple[Phase, ...]:
        """The phases of a step on an auxiliary corpus without emotion labels; none: it isn't trained on one.

        A family that has them has a static hyperparameter `pretrain_epochs`, how long it is; `--aux` is refused else.
        """
        return ()

    def plan(self, config: Any, data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray | Turn]:
        """One epoch's mini-batches, as indices (B,) into `data.train`, all phases' unless they are a :class:`Turn`.

        Shapes, and the phases of a turn, may depend on static values only.
        """
        raise NotImplementedError

    def relabel(
        self,
        config: Any,
        data: TrainingData,
        features: Callable[[Callable[[Any, Batch], Tensor], np.ndarray], Tensor],
        rngs: Sequence[np.random.Generator],
        before: Sequence[Mapping[str, np.ndarray]],
    ) -> Sequence[Relabelled] | None:
        """Labels that K lanes of one signature give the S training segments at an epoch's start; None: none, ever.

        `features` runs a function of (model, batch) that gives (B, H) over the segments of some numbers (N,), in
        evaluation mode: it gives (K, N, H). `rngs` has a generator a lane, `before` the codes that each had in the
        epoch before, empty in the first. What a lane gets must not depend on the others.
        """
        return None

    def artifacts(
        self, data: TrainingData, codes: Mapping[str, np.ndarray], watched: Sequence[Mapping[str, float]]
    ) -> dict[str, bytes]:
        """Pictures (PNG) and tables (CSV) by file name, of what :meth:`relabel` gave a lane.

        `codes` are those of its best epoch, `watched` the metrics of each.
        """
        return {}

    def renewed(self, config: Any) -> tuple[str, ...]:
        """Children that each epoch begins with drawn anew, as :meth:`build` draws them, and fresh optimiser states."""
        return ()

    def predict(self, model: Any, batch: Batch) -> dict[str, Tensor]:
        """Outputs for a batch in evaluation mode: posteriors `emotion` (B, C), or z-normed `attributes` (B, A)."""
        raise NotImplementedError

    def embed(self, model: Any, batch: Batch) -> Tensor | None:
        """Speaker representations (d-vectors) (B, E) for verification; None: the model has no speaker task."""
        return None

    def metrics(
        self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], space: LabelSpace
    ) -> dict[str, Tensor]:
        """Development metrics from utterances' outputs (K, U, ...) and labels (U, ...): each (K,), without prefix."""
        return target_metrics(outputs, labels, space.attributes)

    def schedule(self, config: Any) -> HalveOnPlateau | None:
        """The rule by which the learning rate changes between epochs; None keeps it."""
        return None


__all__ = [
    "LAST_EPOCH", "Also", "Batch", "Config", "Family", "HalveOnPlateau", "Losses", "ModelSpec", "Noise", "Optimizer",
    "Phase", "Relabelled", "Turn", "lane", "static",
]  # fmt: skip
