"""Search spaces: one YAML file each, checked against the family's hyperparameters before anything starts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    PlainSerializer,
    Tag,
    ValidationError,
    model_validator,
)
from yaml.composer import ComposerError

import search_spaces
from sersearch.data.targets import TARGETS
from sersearch.errors import ConfigError, one_of
from sersearch.families import family_names, get_family
from sersearch.family import Config, Family
from sersearch.study import SECONDS

SPACES = Path(search_spaces.__file__).parent
Method = Literal["grid", "random", "tpe", "nsga2"]
MOST_VALUES = 10_000
"""A step that makes more values than this is a mistake."""
MOST_POINTS = 1_000_000
"""Of a grid."""
MOST_SIGNATURES = 64
"""Static combinations that are tried out before a search starts."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which 1e-3 is a number: YAML 1.1 reads it as text, for want of a point.

    And without aliases, of which some lines can stand for billions of values.
    """

    def compose_node(self, parent: Any, index: Any) -> Any:
        """What stands next."""
        if self.check_event(yaml.AliasEvent):
            alias = self.get_event()  # type: ignore[no-untyped-call]
            raise ComposerError(None, None, f"*{alias.anchor}: write out what it stands for", alias.start_mark)
        return super().compose_node(parent, index)


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)


def read_yaml(text: str) -> Any:
    """The content of a YAML text. Raises :class:`yaml.YAMLError`, and ValueError."""
    try:
        return yaml.load(text, _Loader)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Dimension(_Strict):
    """What one hyperparameter may be: `low` to `high`, by `step` or on a `log` scale, or one of `choices`."""

    low: float | None = Field(default=None, allow_inf_nan=False)
    high: float | None = Field(default=None, allow_inf_nan=False)
    step: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    log: bool = False
    choices: tuple[Any, ...] | None = None

    @model_validator(mode="after")
    def _one_kind(self) -> Dimension:
        if self.choices is not None:
            if (self.low, self.high, self.step, self.log) != (None, None, None, False):
                raise ValueError("choices stand alone, without low, high, step or log")
            if not self.choices:
                raise ValueError("choices is empty; name at least one")
        elif self.low is None or self.high is None:
            raise ValueError("expected low and high, or choices")
        elif self.low >= self.high:
            raise ValueError(f"low {self.low:g} is not below high {self.high:g}")
        elif self.log and (self.step is not None or self.low <= 0):
            raise ValueError("log takes no step and a low above 0")
        elif self.step is not None and (self.high - self.low) / self.step > MOST_VALUES:
            raise ValueError(f"step {self.step:g} makes more than {MOST_VALUES} values; leave it out for a continuum")
        return self

    def values(self) -> tuple[Any, ...] | None:
        """All values, in order; None where there is a continuum."""
        if self.choices is not None:
            return self.choices
        if self.step is None:
            return None
        assert self.low is not None
        assert self.high is not None
        count = math.floor((self.high - self.low) / self.step + 1e-9) + 1
        # Rounded, so that 0.1 + 2 * 0.1 is the 0.3 that a reader expects.
        return tuple(round(self.low + k * self.step, 10) for k in range(count))

    def __contains__(self, value: Any) -> bool:
        values = self.values()
        if values is not None:
            return any(v == value or (isinstance(v, float) and math.isclose(v, value)) for v in values)
        assert self.low is not None
        assert self.high is not None
        return bool(self.low <= value <= self.high)

    def __str__(self) -> str:
        if self.choices is not None:
            return ", ".join(map(str, self.choices))
        how = f" by {self.step:g}" if self.step else " on a log scale" if self.log else ""
        return f"{self.low:g} to {self.high:g}{how}"


@dataclass(frozen=True)
class Constraint:
    """A bound on the sum of some hyperparameters, such as `alpha + beta <= 1`."""

    names: tuple[str, ...]
    bound: float

    @classmethod
    def parse(cls, text: Any) -> Constraint:
        """From the text of a space. Raises :class:`ValueError` for any other than NAME + NAME ... <= NUMBER."""
        if isinstance(text, Constraint):
            return text
        match = re.fullmatch(r"\s*(\w+(?:\s*\+\s*\w+)*)\s*<=\s*(\S+)\s*", text) if isinstance(text, str) else None
        try:
            bound = float(match[2]) if match else math.nan
        except ValueError:
            bound = math.nan
        if match is None or not math.isfinite(bound):
            raise ValueError("expected a sum and what it may be at most, such as alpha + beta <= 1")
        return cls(tuple(re.split(r"\s*\+\s*", match[1])), bound)

    def allows(self, values: Mapping[str, Any]) -> bool:
        """Whether `values`, which hold all names, keep it: 0.7 + 0.2 + 0.1 <= 1 does, whatever rounding makes of it."""
        return math.fsum(values[name] for name in self.names) <= self.bound + 1e-9

    def __str__(self) -> str:
        return f"{' + '.join(self.names)} <= {self.bound!r}"


class Objective(_Strict):
    """A development metric that is searched for or, beside one, `seconds`, the training time; the less, the better."""

    metric: str
    mode: Literal["max", "min"] = "max"


def _number(objective: Any) -> str:
    return "several" if isinstance(objective, (list, tuple)) else "one"


Objectives = Annotated[
    Annotated[Objective, Tag("one")] | Annotated[tuple[Objective, ...], Tag("several")], Discriminator(_number)
]


class Pruning(_Strict):
    """ASHA (Li et al., MLSys 2020): at `grace_epochs` x `reduction_factor`^k the best 1 / `reduction_factor` go on."""

    kind: Literal["asha", "none"] = "asha"
    grace_epochs: int = Field(default=5, ge=1)
    reduction_factor: float = Field(default=3, gt=1)


class Demo(_Strict):
    """What a run on the demo corpus changes, so that it ends within minutes."""

    fixed: dict[str, Any] = {}
    trials: int | None = Field(default=None, ge=1)
    epochs: int | None = Field(default=None, ge=1)
    grace_epochs: int | None = Field(default=None, ge=1)


class SearchSpace(_Strict):
    """A search: which family, what is searched, how, for what, and the budget."""

    name: str
    doc: str
    family: str
    features: str
    search: dict[str, Dimension]
    fixed: dict[str, Any] = {}
    constraint: Annotated[Constraint, BeforeValidator(Constraint.parse), PlainSerializer(str)] | None = None
    """What points must keep: a search neither lists nor proposes others."""
    target: str | None = None
    """What is predicted unless `--target` says otherwise; None: emotion."""
    objective: Objectives | None = None
    """None: the family's own for the target. Of several, the first says which epoch of a trial is the best."""
    method: Method = "tpe"
    pruning: Pruning = Pruning()
    trials: int = Field(ge=1)
    epochs: int = Field(ge=1)
    repeats: int = Field(default=1, ge=1)
    """Seeds that each configuration is trained with: its figures are their means."""
    time: str
    """How long it takes, for people."""
    demo: Demo = Demo()

    @property
    def objectives(self) -> tuple[Objective, ...]:
        """What is searched for; nothing where that is left to the family."""
        if self.objective is None or isinstance(self.objective, Objective):
            return () if self.objective is None else (self.objective,)
        return self.objective

    def config(self, searched: Mapping[str, Any]) -> Config:
        """The configuration of a trial. Raises :class:`ConfigError`."""
        return get_family(self.family).config.from_dict({**self.fixed, **searched})

    def allows(self, searched: Mapping[str, Any]) -> bool:
        """Whether a point keeps the constraint."""
        return self.constraint is None or self.constraint.allows({**self.fixed, **searched})

    def values(self, name: str) -> Sequence[Any] | None:
        """All values of a searched hyperparameter, as its field holds them; None where there is a continuum."""
        dimension = self.search[name]
        whole = dimension.choices is None and not dimension.log and is_integer(get_family(self.family), name)
        if not whole:
            return dimension.values()
        assert dimension.low is not None
        assert dimension.high is not None
        return range(int(dimension.low), int(dimension.high) + 1, int(dimension.step or 1))

    def grid(self) -> list[dict[str, Any]]:
        """All points that keep the constraint, the first parameter slowest.

        Raises :class:`ConfigError` where a range has no step.
        """
        axes = {name: self.values(name) for name in self.search}
        for name, values in axes.items():
            if values is None:
                raise ConfigError(f"search.{name}: a grid needs a step or choices; add one, or choose tpe or random")
        count = math.prod(len(v or ()) for v in axes.values())
        if count > MOST_POINTS:
            raise ConfigError(f"search: a grid of {count} points; expected at most {MOST_POINTS}; choose tpe or random")
        points = itertools.product(*(v or () for v in axes.values()))
        return [point for values in points if self.allows(point := dict(zip(axes, values, strict=True)))]

    def paper_point(self) -> dict[str, Any] | None:
        """The paper's own values of what is searched, when they lie in the space."""
        defaults = get_family(self.family).config().to_dict()
        point = {name: defaults[name] for name in self.search}
        inside = all(point[name] in dimension for name, dimension in self.search.items())
        return point if inside and self.allows(point) else None

    def middle(self) -> dict[str, Any]:
        """Some point of the space, of its middle where the constraint allows that."""
        constrained = self.constraint.names if self.constraint else ()
        for share in (1 / 2, 1 / 4, 1 / 8, 1 / 16, 0.0):
            point = {name: self._between(name, share if name in constrained else 1 / 2) for name in self.search}
            if self.allows(point):
                break
        return point

    def lowest(self, name: str) -> Any:
        """The lowest value of a searched hyperparameter that is a number."""
        values = self.values(name)
        return self.search[name].low if values is None else min(values)

    def _between(self, name: str, share: float) -> Any:
        """The value of a searched hyperparameter at `share` of the way up."""
        values, dimension = self.values(name), self.search[name]
        if share == 0:
            return self.lowest(name)
        if values is not None:
            return values[int(len(values) * share)]
        assert dimension.low is not None
        assert dimension.high is not None
        between = dimension.low + (dimension.high - dimension.low) * share
        return int(between) if is_integer(get_family(self.family), name) else between

    def for_demo(self) -> SearchSpace:
        """The space with its demo settings applied."""
        demo = self.demo
        grace = min(demo.grace_epochs or self.pruning.grace_epochs, demo.epochs or self.epochs)
        return self.model_copy(
            update={
                "fixed": {**self.fixed, **demo.fixed},
                "trials": demo.trials or self.trials,
                "epochs": demo.epochs or self.epochs,
                "pruning": self.pruning.model_copy(update={"grace_epochs": grace}),
            }
        )

    def changed(self, **changes: Any) -> SearchSpace:
        """The space with some of its settings changed, checked again; None changes nothing.

        Where fewer epochs are asked for than ASHA's grace, the grace shrinks to them.
        """
        content = {**self.model_dump(), **{k: v for k, v in changes.items() if v is not None}}
        if "pruning" not in changes:
            content["pruning"]["grace_epochs"] = min(self.pruning.grace_epochs, max(content["epochs"], 1))
        return _checked(content, self.name)

    def differences(self) -> list[str]:
        """What `fixed` makes unlike the family's defaults, which are the paper's values where it states them."""
        config = get_family(self.family).config
        default = config().to_dict()
        # One by one: whether they go together depends on what is searched.
        checked = {name: config.check(name, value) for name, value in self.fixed.items()}
        fixed = {name: list(value) if isinstance(value, tuple) else value for name, value in checked.items()}
        return [f"{n} {value} (default {default[n]})" for n, value in fixed.items() if value != default[n]]


def space_names() -> list[str]:
    """The spaces that come with sersearch."""
    return sorted(path.stem for path in SPACES.glob("*.yaml"))


def load_space(name: str) -> SearchSpace:
    """The space called `name`, in the YAML file `name` or, where `name` begins with a brace, written out in it.

    Raises :class:`ConfigError` with all that is wrong with it, a line each.
    """
    source, text = ("--space", name) if name.startswith("{") else _file(name)
    try:
        content = read_yaml(text)
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(f"{source}: not YAML that can be read: {error}") from None
    if not isinstance(content, dict):
        raise ConfigError(f"{source}: expected `name: ...` lines; `sersearch spaces` lists spaces to copy from")
    return _checked(content, source)


def _file(name: str) -> tuple[str, str]:
    """The file of the space `name`, and its text. Raises :class:`ConfigError` where there is none."""
    path = SPACES / f"{name}.yaml" if name in space_names() else Path(name)
    if not path.is_file():
        raise ConfigError(f"--space {name}: no such space or file; {one_of(name, space_names())}, or a path")
    try:
        return str(path), path.read_text("utf-8")
    except ValueError as error:
        raise ConfigError(f"{path}: not YAML that can be read: {error}") from None


def _checked(content: Mapping[str, Any], source: str) -> SearchSpace:
    try:
        space = SearchSpace.model_validate(content)
    except ValidationError as error:
        raise ConfigError("\n".join(f"{source}: {_sentence(e)}" for e in error.errors())) from None
    problems = [f"{source}: {p}" for p in _problems(space)]
    if problems:
        raise ConfigError("\n".join(problems))
    return space


def _sentence(error: Any) -> str:
    """A pydantic error in our words."""
    where = ".".join(str(part) for part in error["loc"] if part not in ("one", "several"))
    if error["type"] == "extra_forbidden":
        scope: Any = SearchSpace
        if error["loc"][0] == "search":
            scope = Dimension
        elif len(error["loc"]) > 1:
            scope = {"objective": Objective, "pruning": Pruning, "demo": Demo}[error["loc"][0]]
        return f"{where}: unknown setting; {one_of(error['loc'][-1], scope.model_fields)}"
    if error["type"] == "missing":
        return f"{where}: missing"
    message = error["msg"].removeprefix("Value error, ")
    seen = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
    return f"{where}: {message[0].lower()}{message[1:]}{seen}"


def _problems(space: SearchSpace) -> list[str]:
    """What the family can't take, a sentence each."""
    if space.family not in family_names():
        return [f"family: no family is called {space.family!r}; {one_of(space.family, family_names())}"]
    family = get_family(space.family)
    problems = []
    if space.features not in family.features:
        problems.append(
            f"features: {one_of(space.features, family.features)} for {space.family}, not {space.features!r}"
        )
    if not space.search:
        problems.append("search: empty; name at least one hyperparameter")
    problems += _objective_problems(space)
    if space.target is not None and space.target not in TARGETS:
        problems.append(f"target: {space.target!r} is unknown; {one_of(space.target, TARGETS)}")
    for part, values in (("fixed", space.fixed), ("demo.fixed", space.demo.fixed)):
        for name, value in values.items():
            problems += _misfit(family, f"{part}.{name}", name, [value])
    for name, dimension in space.search.items():
        if name in space.fixed:
            problems.append(f"search.{name}: stands in fixed, too; leave one of them out")
        problems += _misfit(family, f"search.{name}", name, _extremes(family, name, dimension))
        if dimension.step and name in family.config.names() and is_integer(family, name) and dimension.step % 1:
            problems.append(f"search.{name}: {name} is an integer; its step can't be {dimension.step:g}")
    if not problems:
        problems += _unkept(space, family)
    if space.pruning.kind == "asha" and space.pruning.grace_epochs > space.epochs:
        problems.append(f"pruning.grace_epochs: {space.pruning.grace_epochs} is more than epochs, {space.epochs}")
    return problems


def _objective_problems(space: SearchSpace) -> list[str]:
    """What is wrong with what is searched for, or with how."""
    several, problems = len(space.objectives) > 1, []
    for objective in space.objectives:
        metric, mode = objective.metric, objective.mode
        timed = metric == SECONDS and several and objective is not space.objectives[0]
        if not metric.startswith("dev_") and not timed:
            problems.append(f"objective.metric: expected a development metric, such as dev_ua or dev_ccc, not {metric}")
        elif (mode == "min") != timed:
            rule = "the less, the better: mode min" if timed else "the more, the better: mode max"
            problems.append(f"objective.mode: of {metric}, {rule}, not {mode}")
    if isinstance(space.objective, tuple) and not several:
        problems.append("objective: a list of one or none; name two or more, or one that is no list")
    if len({objective.metric for objective in space.objectives}) < len(space.objectives):
        problems.append("objective: names one twice; leave one of them out")
    if several and space.method == "tpe":
        problems.append("method: several objectives are searched for by nsga2, random or grid, not by tpe")
    if several and space.pruning.kind != "none":
        problems.append("pruning: ASHA goes by one objective, and there are several; write pruning: {kind: none}")
    if not several and space.method == "nsga2":
        problems.append("method: nsga2 is for several objectives; name them, or choose tpe, random or grid")
    return problems


def _unkept(space: SearchSpace, family: Family) -> list[str]:
    """What is wrong with the constraint of a space whose names and values are right.

    Only lanes stand in it: so combinations of the others, of which each is tried out before a search, all keep it.
    """
    if space.constraint is None:
        return []
    problems, lanes = [], family.config.lane_names()
    for name in dict.fromkeys(space.constraint.names):
        if name not in lanes:
            problems.append(f"constraint: {name} can't stand in a sum; {one_of(name, lanes)}")
        elif name not in space.search and name not in space.fixed:
            problems.append(f"constraint: {name} is neither searched nor fixed; add it to search or fixed")
    lowest = {name: space.lowest(name) for name in space.constraint.names if name in space.search}
    if not problems and not space.allows(lowest):
        problems.append(f"constraint: no point keeps {space.constraint}; search lower values, or raise the bound")
    return problems


def _extremes(family: Family, name: str, dimension: Dimension) -> list[Any]:
    if dimension.choices is not None:
        return list(dimension.choices)
    ends: list[Any] = [dimension.low, dimension.high]
    if name in family.config.names() and family.config.type_of(name) is int:
        return [int(end) if float(end).is_integer() else end for end in ends]
    return ends


def _misfit(family: Family, where: str, name: str, values: list[Any]) -> list[str]:
    problems = []
    for value in values:
        try:
            family.config.check(name, value)
        except ConfigError as error:
            problems.append(str(error).replace(f"params.{name}", where, 1))
    return list(dict.fromkeys(problems))


def is_integer(family: Family, name: str) -> bool:
    """Whether hyperparameter `name` is a whole number."""
    return family.config.type_of(name) is int


def signatures(space: SearchSpace) -> list[dict[str, Any]]:
    """A point for each combination of what searched static hyperparameters can be at most: their choices and ends."""
    lanes, middle = set(get_family(space.family).config.lane_names()), space.middle()
    axes = {}
    for name, dimension in space.search.items():
        values = space.values(name) or [middle[name]]
        axes[name] = [middle[name]] if name in lanes else values if dimension.choices else [values[0], values[-1]]
    points = itertools.islice(itertools.product(*axes.values()), MOST_SIGNATURES)
    return [dict(zip(axes, point, strict=True)) for point in points]


def signature_count(space: SearchSpace) -> int:
    """Static groups among the trials: configurations that can't be trained as one model. Counted where it is finite."""
    config = get_family(space.family).config
    lanes = set(config.lane_names())
    counts = [len(space.values(name) or ()) or 1 for name in space.search if name not in lanes]
    return math.prod(counts)


__all__ = [
    "Dimension",
    "Method",
    "SearchSpace",
    "is_integer",
    "load_space",
    "read_yaml",
    "signature_count",
    "signatures",
    "space_names",
]
