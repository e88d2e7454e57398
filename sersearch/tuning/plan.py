"""What a search is asked to do: checks, how long it takes, and the study that it becomes."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sersearch.data.atomic import as_json
from sersearch.data.batches import TrainingData
from sersearch.data.companions import Companion, Missing, check_left, choose, complete
from sersearch.data.joined import open_table
from sersearch.data.leaks import check_leaks
from sersearch.data.place import full_name, place
from sersearch.data.protocols import Protocol, rotations, split_card
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError, StudyError, one_of
from sersearch.families import get_family
from sersearch.family import LAST_EPOCH, Config, Family
from sersearch.study import SECONDS, STUDIES, Study
from sersearch.training import CPU_ENVIRONMENT, Engine, Precision
from sersearch.tuning.data import device, how, load_data, turns
from sersearch.tuning.notes import unlearnt
from sersearch.tuning.space import SearchSpace, signature_count, signatures
from sersearch.tuning.warm import WARM, check_apart, taken, warm_text


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """What a search is asked to do, checked as it is made into a study."""

    space: SearchSpace
    data: Path
    protocol: Protocol
    target: str = "emotion"
    aux: Path | None = None
    cross: Path | None = None
    """The corpus that is tested, where it is another than `data`."""
    missing: Missing = "skip"
    """What becomes of utterances without a further input that the family takes, such as visual features."""
    warm_start: tuple[str, ...] = ()
    """Studies of which the sampler is told before it suggests anything: names in `root`, or folders."""
    name: str | None = None
    root: Path = STUDIES
    seed: int = 0
    lanes: int | Literal["auto"] = 1
    """Trials that are trained as one model on each GPU, or core; `auto`: as many as fit the GPU and pay, 1 on CPU."""
    precision: Precision = "float32"
    """Of the products that trials compute."""
    compile: bool | None = None
    """Whether steps are compiled; None: on a GPU, where they are measured to be faster."""
    storage: str | None = None
    """Folder or URL that all nodes of a cluster reach, for checkpoints; None: the study's folder."""
    epoch_limit: float | None = None
    """Seconds that an epoch may take; None: by the slowest so far."""


@dataclass(frozen=True)
class DryRun:
    """What a search would do."""

    trials: int
    epochs: int
    steps: int
    """Mini-batches of an epoch."""
    groups: int
    """Static signatures: trials of one signature can be trained as one model."""
    lanes: int | Literal["auto"]
    """Trials trained as one model, at most."""
    members: int
    """Times that each configuration is trained: seeds, in each rotation of the protocol."""
    train_segments: int
    dev_segments: int
    split: dict[str, Any]
    epoch_seconds: float
    """Of one trial on one core, estimated from a few steps."""
    longest_hours: float
    """If no trial is pruned or stops early."""
    disk_bytes: int
    """Checkpoints in Ray's folder and in MLflow."""


def dry_run(request: TuneRequest, concurrency: int | None = None) -> DryRun:
    """What `request` would run, with one configuration's first steps timed on its data. Writes nothing.

    `concurrency`: trials at a time; None: one a core.
    """
    space = request.space
    asked = _asked(request)
    (data, *_), card = _checked(request, asked)
    config = space.config(space.paper_point() or space.middle())
    for name, value in CPU_ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    # In a process of its own: the settings that trials have are read as a process starts.
    with ProcessPoolExecutor(1, get_context("spawn")) as child:
        first = turns({"data": asked.section})[0]
        seconds, steps, size = child.submit(_cost, first, config, space.family, request.precision).result()
    members = _members(request)
    seconds, size = members * seconds, members * size
    trials = len(space.grid()) if space.method == "grid" else space.trials
    cores = concurrency or os.cpu_count() or 1
    return DryRun(
        trials=trials,
        epochs=space.epochs,
        steps=steps,
        groups=signature_count(space),
        lanes=request.lanes,
        members=members,
        train_segments=len(data.train),
        dev_segments=len(data.dev),
        split=card,
        epoch_seconds=seconds,
        longest_hours=seconds * space.epochs * math.ceil(trials / cores) / 3600,
        disk_bytes=trials * 2 * size,
    )


def _cost(section: dict[str, Any], config: Config, family: str, precision: Precision) -> tuple[float, int, int]:
    """Seconds of an epoch, its mini-batches, and the bytes of a checkpoint."""
    data = load_data(section, config, family)
    engine = Engine(get_family(family), data, device(), precision=precision, compile=False)
    seconds, steps = engine.time_epoch(config)
    state = engine.state(engine.join(config, seed=0, epochs=1))
    parts = (state.weights, state.best_weights, *state.slots.values())
    return seconds, steps, sum(t.numel() * t.element_size() for part in parts for t in part.values())


def _members(request: TuneRequest) -> int:
    """Times that each configuration is trained."""
    return request.space.repeats * len(rotations(request.protocol))


@dataclass(frozen=True, eq=False)
class _Asked:
    """What a request names: its tables, and its protocol as it is applied to them."""

    table: FeatureTable
    companions: Mapping[str, Companion]
    protocol: Protocol
    rules: Sequence[Protocol]
    """By rotation."""
    section: dict[str, Any]
    """The study's `data` section."""


def _asked(request: TuneRequest) -> _Asked:
    """What `request` names, of which no features are read yet. Raises what is wrong with the names."""
    space, family = request.space, get_family(request.space.family)
    _check_options(request, family)
    table = open_table(request.data, space.features, request.cross)
    rules = rotations(request.protocol)
    applied = [rule.split(table, request.target).protocol for rule in rules]
    protocol = request.protocol if len(rules) > 1 else applied[0]
    aux = None if request.aux is None else FeatureTable.open(request.aux, space.features)
    chosen = choose(table, family.companions)
    companions = {name: Companion.open(table, features) for name, features in chosen.items()}
    section = {
        "path": full_name(request.data),
        "aux": None if request.aux is None else full_name(request.aux),
        "cross": None if request.cross is None else full_name(request.cross),
        "features": space.features,
        "target": request.target,
        "protocol": protocol.to_dict(),
        "synthetic": bool(table.corpus["synthetic"]),
        "corpus": table.corpus["corpus"],
        "hash": table.card["hash"],
        "aux_hash": None if aux is None else aux.card["hash"],
        "companions": {n: {"features": chosen[n], "hash": c.table.card["hash"]} for n, c in companions.items()},
        "missing": request.missing,
    }
    return _Asked(table, companions, protocol, applied, section)


def _check_options(request: TuneRequest, family: Family) -> None:
    """Raise :class:`ConfigError` for options that the others leave no use for."""
    if _members(request) > 1 and request.lanes != 1:
        raise ConfigError(
            f"--lanes {request.lanes}: each configuration is trained {_members(request)} times, which are lanes of one "
            "model on a GPU as it is; leave --lanes out"
        )
    if request.aux is not None and "pretrain_epochs" not in family.config.names():
        raise ConfigError(f"--aux: {family.name} models are not pre-trained on an auxiliary corpus; leave it out")


def _checked(request: TuneRequest, asked: _Asked) -> tuple[list[TrainingData], dict[str, Any]]:
    """Training data by rotation, and the split card. Raises what is wrong with them."""
    space, table, companions = request.space, asked.table, asked.companions
    used = complete(companions) if request.missing == "skip" else None
    for rule in asked.rules:
        check_leaks(rule, table, request.target, used)
    point = space.config(space.paper_point() or space.middle())
    datas = [load_data(turn, point, space.family) for turn in turns({"data": asked.section})]
    data = datas[0]
    if data.labels.task == "emotion" and len(data.labels.emotion) < 2:
        raise DataError(
            f"{table.root}: {request.target} has one class, {data.labels.emotion[0]}: nothing to tell apart"
        )
    if len({own.labels.emotion for own in datas}) > 1:
        raise DataError(f"{table.root}: the folds of {asked.protocol} have not the same classes; use fewer --dev-folds")
    for engine in [Engine(get_family(space.family), own) for own in datas]:
        for searched in signatures(space):
            engine.check(space.config(searched))
    _objectives(space, data)
    _check_used(space, data, request.target)
    card = _card(asked.protocol, [split_card(rule, table, request.target, used) for rule in asked.rules])
    if not card["parts"]["test"]["utterances"]:
        check_left(np.zeros(0), "test", companions)
    notes = card["notes"] + unlearnt(space, asked.protocol) + _lacking(companions, request.missing)
    return datas, card | {"notes": notes}


def _card(protocol: Protocol, cards: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A protocol's split card from those of its rotations: its parts are the first one's, a note has the others'."""
    first = cards[0]
    if len(cards) == 1:
        return first
    who = "; ".join(f"{n}: {', '.join(card['parts']['dev']['speakers'])}" for n, card in enumerate(cards, 1))
    note = f"Each configuration is trained {len(cards)} times, each fold developing in turn ({who}); parts are fold 1's"
    leaks = [leak for card in cards for leak in card["leaks"]]
    unique = [leak for n, leak in enumerate(leaks) if leak not in leaks[:n]]
    own = {"protocol": protocol.to_dict(), "caption": str(protocol), "leaks": unique}
    return first | own | {"notes": [note, *dict.fromkeys(note for card in cards for note in card["notes"])]}


def _lacking(companions: Mapping[str, Companion], missing: Missing) -> list[str]:
    """How many utterances have not got a further input, and what becomes of them; a sentence each."""
    rule = {"skip": "they are left out (--missing zero: zeros in its place)", "zero": "zeros stand in its place"}
    lacking = {name: int((companion.rows < 0).sum()) for name, companion in companions.items()}
    return [f"{count} utterances have no {name} features: {rule[missing]}" for name, count in lacking.items() if count]


def _check_used(space: SearchSpace, data: TrainingData, target: str) -> None:
    """Refuse a search of what changes nothing: its trials would be equal."""
    if idle := [n for n in get_family(space.family).unused(data.labels) if n in space.search]:
        raise ConfigError(
            f"search.{idle[0]}: with target {target} {' and '.join(idle)} change nothing of a {space.family}, so "
            "trials would be equal; choose another --target, or a space that searches something else"
        )


def _objectives(space: SearchSpace, data: TrainingData) -> list[dict[str, str]]:
    """What is searched for. Raises :class:`ConfigError` when the family has no such development metric."""
    family, labels = get_family(space.family), data.labels
    if not space.objectives:
        return [{"metric": family.objective(labels), "mode": "max"}]
    outputs: dict[str, torch.Tensor] = {labels.task: torch.zeros(1, data.dev.utterances, labels.outputs)}
    known = {task: torch.from_numpy(codes) for task, codes in data.dev.labels_U.items()}
    there = [f"dev_{name}" for name in family.metrics(outputs, known, labels)]
    for metric in (objective.metric for objective in space.objectives):
        if metric not in (*there, LAST_EPOCH, SECONDS):
            raise ConfigError(f"objective {metric}: no such metric for this target; {one_of(metric, there)}")
    return [objective.model_dump() for objective in space.objectives]


def create(request: TuneRequest, uri: str, make_room: Callable[[], None] = lambda: None) -> Study:
    """The study of a new search, in its folder. Raises what is wrong with it while nothing is written.

    `make_room` is called in between, to have an old study's folder out of the way.
    """
    space, name = request.space, request.name or f"{request.space.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    if space.method == "grid":
        space.grid()  # raises for a range without a step
    asked = _asked(request)
    datas, card = _checked(request, asked)
    objectives = _objectives(space, datas[0])
    warm = taken(request.warm_start, request.root, space, objectives)
    if warm:
        check_apart(request.warm_start, request.root, request.protocol, asked.table, request.target)
    meta = _meta(request, asked.section, objectives, uri) | {"warm_start": [start.told() for start in warm]}
    card["notes"] += [start.note() for start in warm]
    import yaml

    contexts = [data.context() for data in datas]
    context = contexts[0] | ({"rotations": contexts} if len(contexts) > 1 else {})
    files = {"split.json": as_json(card), "context.json": as_json(context)}
    files["space.yaml"] = yaml.safe_dump(meta["space"], sort_keys=False)
    if warm:
        files[WARM] = warm_text(warm)
    make_room()
    return Study.create(name, meta, request.root, files)


def _meta(
    request: TuneRequest, section: Mapping[str, Any], objectives: Sequence[Mapping[str, str]], uri: str
) -> dict[str, Any]:
    """What study.json says of a search."""
    from sersearch import __version__
    from sersearch.provenance import git_commit, versions
    from sersearch.redaction import redact_uri

    space = request.space
    return {
        "created": datetime.now(UTC).isoformat(timespec="microseconds"),
        "sersearch": __version__,
        "git_commit": git_commit(Path(__file__).parent) or git_commit(Path.cwd()),
        "versions": versions(),
        "space": space.model_dump(mode="json"),
        "method": space.method,
        "pruning": space.pruning.kind,
        "seed": request.seed,
        "trials": len(space.grid()) if space.method == "grid" else space.trials,
        "epochs": space.epochs,
        "family": space.family,
        "objective": dict(objectives[0]),
        "objectives": [dict(objective) for objective in objectives],
        "lanes": request.lanes,
        "precision": request.precision,
        "compile": request.compile,
        "epoch_limit": request.epoch_limit,
        "storage": None if request.storage is None else full_name(place(request.storage)),
        "data": dict(section),
        "tracking": {"uri": redact_uri(uri), "experiment_id": None, "run_id": None},
        "state": "running",
    }


def check_same(study: Study, request: TuneRequest) -> None:
    """Raise :class:`StudyError` where `request` asks for another search than `study` is, saying what differs.

    How it is run (lanes, compilation, limits) stays as it was begun.
    """
    objectives = [objective.model_dump() for objective in request.space.objectives] or [study.meta["objective"]]
    asked = _meta(request, _asked(request).section, objectives, "")
    # A study of an earlier version doesn't name what was added since.
    known = {
        "space": SearchSpace.model_validate(study.meta["space"]).model_dump(mode="json"),
        "seed": study.meta["seed"],
        "objective": study.meta["objective"],
        "precision": how(study.meta)["precision"],
        "storage": study.meta.get("storage"),
        "data": study.meta["data"],
    }
    differences = [line for name, value in known.items() for line in _differences(value, asked[name], name)]
    differences += _differences(
        [start["name"] for start in study.meta.get("warm_start", [])],
        [Study.open(name, request.root).name for name in request.warm_start],
        "warm_start",
    )
    if differences:
        raise StudyError(
            f"study {study.name} exists and is another search: {'; '.join(differences)}. `--resume {study.argument}` "
            "goes on with it as it was begun, --fresh begins anew, --name names another"
        )


def _differences(before: Any, now: Any, name: str) -> Iterator[str]:
    """What differs between two plain values, by name."""
    before, now = (json.loads(json.dumps(value)) for value in (before, now))
    if isinstance(before, dict) and isinstance(now, dict):
        for key in [*before, *(key for key in now if key not in before)]:
            yield from _differences(before.get(key), now.get(key), f"{name}.{key}")
    elif before != now:
        yield f"{name} was {json.dumps(before)}, now {json.dumps(now)}"


def check_unaltered(study: Study) -> None:
    """Raise :class:`StudyError` when the data of `study` are other ones than when it began."""
    data = study.meta["data"]
    known = [(data["path"], data["features"], data["hash"]), (data.get("aux"), data["features"], data.get("aux_hash"))]
    known += [(data["path"], c["features"], c["hash"]) for c in data.get("companions", {}).values()]
    for path, features, digest in known:
        if path is None:
            continue
        table = open_table(path, features, data.get("cross") if path == data["path"] else None)
        if table.card["hash"] != digest:
            raise StudyError(f"{path}: its features were changed since study {study.name} began; start a new study")
        table.check_shards()


__all__ = ["DryRun", "TuneRequest", "check_same", "check_unaltered", "create", "dry_run"]
