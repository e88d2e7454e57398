"""A search from request to result: checks, the study's folder, Ray Tune, the journal, MLflow, and resuming."""

from __future__ import annotations

import gc
import json
import logging
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sersearch.data.atomic import write_json
from sersearch.data.batches import TrainingData
from sersearch.data.companions import Companion, Missing, check_left, choose, complete
from sersearch.data.place import full_name
from sersearch.data.protocols import Protocol, split_card
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError, StudyError, one_of
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.study import STUDIES, Study
from sersearch.training import CPU_ENVIRONMENT, Engine, Precision
from sersearch.tuning.notes import unlearnt
from sersearch.tuning.space import SearchSpace, signature_count, signatures
from sersearch.tuning.trainable import device, load_data

OnEvent = Callable[[str, int, dict[str, Any]], None]
"""Called with what the journal gets: event (start, epoch, end), trial and fields.

First with `begin`, the number of trials, the metric that is searched for and the split card's notes; last, where
nothing interrupts it, with `finished` and the study, before Ray ends: Ray can take the process with it.
"""

SPOOL = "mlflow_spool.jsonl"
"""Of a study's folder, what MLflow hasn't got yet."""

SERVER_CPUS, CLIENT_CPUS = 0.9, 0.001
"""Of a core, what a lane server and each of its clients reserve: one server a core, and clients beside it."""

RETRIES = 2
"""Times that a trial whose process died starts again from its last checkpoint."""

_QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
}


@dataclass(frozen=True, kw_only=True)
class TuneRequest:
    """What a search is asked to do, checked as it is made into a study."""

    space: SearchSpace
    data: Path
    protocol: Protocol
    target: str = "emotion"
    aux: Path | None = None
    missing: Missing = "skip"
    """What becomes of utterances without a further input that the family takes, such as visual features."""
    name: str | None = None
    root: Path = STUDIES
    seed: int = 0
    concurrency: int | None = None
    lanes: int | Literal["auto"] = 1
    """Trials that are trained as one model on each GPU, or core; `auto`: as many as fit the GPU and pay, 1 on CPU."""
    precision: Precision = "float32"
    """Of the products that trials compute."""
    compile: bool | None = None
    """Whether steps are compiled; None: on a GPU, where they are measured to be faster."""
    tracking_uri: str | None = None


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
    train_segments: int
    dev_segments: int
    split: dict[str, Any]
    epoch_seconds: float
    """Of one trial on one core, estimated from a few steps."""
    longest_hours: float
    """If no trial is pruned or stops early."""
    disk_bytes: int
    """Checkpoints in Ray's folder and in MLflow."""


def tune(request: TuneRequest, on_event: OnEvent | None = None) -> Study:
    """Run a new search to its end.

    Raises what the checks find (:class:`ConfigError`, :class:`DataError`, :class:`StudyError`, :class:`TrackingError`)
    before Ray starts, and KeyboardInterrupt, with the study resumable, when it is interrupted.
    """
    from sersearch.tracking import check_uri, default_uri

    if request.tracking_uri is None:
        request.root.parent.mkdir(parents=True, exist_ok=True)
    uri = request.tracking_uri or default_uri(request.root.parent)
    check_uri(uri)
    study = _create(request, uri)
    return _run(study, request.concurrency, uri, on_event)


def resume(
    name: str,
    root: Path,
    on_event: OnEvent | None = None,
    concurrency: int | None = None,
    tracking_uri: str | None = None,
) -> Study:
    """Go on with a study: finished trials stay, unfinished ones continue from their checkpoints.

    A finished study of which MLflow hasn't got everything is sent. `tracking_uri` is for a server whose password isn't
    kept. Raises :class:`StudyError` when `name` isn't a study, is finished, is held, or its data were changed.
    """
    from sersearch.tracking import check_uri

    study = Study.open(name, root)
    unsent = (study.folder / SPOOL).is_file()
    if study.meta["state"] == "finished" and not unsent:
        raise StudyError(f"study {study.name} is finished; `sersearch report {study.name}` shows it")
    data = study.meta["data"]
    known = [(data["path"], data["features"], data["hash"]), (data.get("aux"), data["features"], data.get("aux_hash"))]
    known += [(data["path"], c["features"], c["hash"]) for c in data.get("companions", {}).values()]
    for path, features, digest in known:
        if path is not None and FeatureTable.open(path, features).card["hash"] != digest:
            raise StudyError(f"{path}: its features were changed since study {study.name} began; start a new study")
    uri = tracking_uri or study.meta["tracking"]["uri"]
    if tracking_uri or "***@" in uri:
        check_uri(uri)
    return _run(study, concurrency, uri, on_event)


def dry_run(request: TuneRequest) -> DryRun:
    """What `request` would run, with one configuration's first steps timed on its data. Writes nothing."""
    space = request.space
    data, section, card = _data(request)
    config = space.config(space.paper_point() or space.middle())
    _prepare_environment()
    # In a process of its own: the settings that trials have are read as a process starts.
    with ProcessPoolExecutor(1, get_context("spawn")) as child:
        seconds, steps, size = child.submit(_cost, section, config, space.family, request.precision).result()
    trials = len(space.grid()) if space.method == "grid" else space.trials
    cores = request.concurrency or os.cpu_count() or 1
    return DryRun(
        trials=trials,
        epochs=space.epochs,
        steps=steps,
        groups=signature_count(space),
        lanes=request.lanes,
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


def _prepare_environment() -> None:
    """What training processes want in their environment: they inherit this one's as they start."""
    for name, value in {**CPU_ENVIRONMENT, **_QUIET}.items():
        os.environ.setdefault(name, value)


def _data(request: TuneRequest) -> tuple[Any, dict[str, Any], dict[str, Any]]:
    """Training data, the study's `data` section and the split card. Raises what is wrong with any of them."""
    space = request.space
    table = FeatureTable.open(request.data, space.features)
    protocol = request.protocol.split(table, request.target).protocol
    aux = None if request.aux is None else FeatureTable.open(request.aux, space.features)
    chosen = choose(table, get_family(space.family).companions)
    companions = {name: Companion.open(table, features) for name, features in chosen.items()}
    section = {
        "path": full_name(request.data),
        "aux": None if request.aux is None else full_name(request.aux),
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
    data = load_data(section, space.config(space.paper_point() or space.middle()), space.family)
    if data.labels.task == "emotion" and len(data.labels.emotion) < 2:
        raise DataError(
            f"{table.root}: {request.target} has one class, {data.labels.emotion[0]}: nothing to tell apart"
        )
    engine = Engine(get_family(space.family), data)
    for point in signatures(space):
        engine.check(space.config(point))
    _objective(space, data)
    _check_used(space, data, request.target)
    used = complete(companions) if request.missing == "skip" else None
    card = split_card(protocol, table, request.target, used)
    if not card["parts"]["test"]["utterances"]:
        check_left(np.zeros(0), "test", companions)
    notes = card["notes"] + unlearnt(space, protocol) + _lacking(companions, request.missing)
    return data, section, card | {"notes": notes}


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


def _objective(space: SearchSpace, data: TrainingData) -> str:
    """The development metric that is searched for. Raises :class:`ConfigError` when the family has no such metric."""
    family, labels = get_family(space.family), data.labels
    if space.objective is None:
        return family.objective(labels)
    outputs: dict[str, torch.Tensor] = {labels.task: torch.zeros(1, data.dev.utterances, labels.outputs)}
    known = {task: torch.from_numpy(codes) for task, codes in data.dev.labels_U.items()}
    there = [f"dev_{name}" for name in family.metrics(outputs, known, labels)]
    if space.objective.metric not in there:
        problem = f"objective {space.objective.metric}: no such metric for this target"
        raise ConfigError(f"{problem}; {one_of(space.objective.metric, there)}")
    return space.objective.metric


def _create(request: TuneRequest, uri: str) -> Study:
    from sersearch import __version__
    from sersearch.provenance import git_commit, versions
    from sersearch.tracking import redact

    space = request.space
    if space.method == "grid":
        space.grid()  # raises for a range without a step, while nothing is written
    name = request.name or f"{space.name}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    data, section, card = _data(request)
    meta = {
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
        "objective": {"metric": _objective(space, data), "mode": "max"},
        "lanes": request.lanes,
        "precision": request.precision,
        "compile": request.compile,
        "data": section,
        "tracking": {"uri": redact(uri), "experiment_id": None, "run_id": None},
        "state": "running",
    }
    study = Study.create(name, meta, request.root)
    import yaml

    (study.folder / "space.yaml").write_text(yaml.safe_dump(meta["space"], sort_keys=False), "utf-8")
    write_json(study.folder / "split.json", card)
    write_json(study.folder / "context.json", data.context())
    return study


def _run(study: Study, concurrency: int | None, uri: str, on_event: OnEvent | None) -> Study:
    from sersearch.tracking import Tracker

    with study.hold():
        study.write_meta(state="running")
        space = SearchSpace.model_validate(study.meta["space"])
        tracker = Tracker(uri, space.name, study.name, study.folder / SPOOL)
        tracker.begin(study.meta, [study.folder / name for name in ("space.yaml", "split.json", "study.json")])
        state = "interrupted"
        if on_event is not None:
            notes = json.loads((study.folder / "split.json").read_text("utf-8")).get("notes", [])
            metric = study.meta["objective"]["metric"]
            on_event("begin", -1, {"trials": study.meta["trials"], "metric": metric, "notes": notes})
        with ExitStack() as stack:
            try:
                stack.enter_context(_ray())
                stack.enter_context(_terminable())
                _fit(study, space, concurrency, tracker, on_event)
                state = "finished"
            except KeyboardInterrupt:
                raise KeyboardInterrupt(f"`sersearch tune --resume {study.folder}` goes on") from None
            finally:
                _settle(study, tracker)
                tracker.finish(state)
                tracker.close()
                ids = {"experiment_id": tracker.experiment_id, "run_id": tracker.run_id}
                study.write_meta(state=state, tracking={**study.meta["tracking"], **ids}, warnings=tracker.warnings)
            if on_event is not None:
                on_event("finished", -1, {"study": study})
    return study


@contextmanager
def _ray() -> Iterator[None]:
    """The Ray that is there, or a quiet one of our own."""
    _prepare_environment()  # before ray is imported
    import ray

    started = not ray.is_initialized()
    try:
        if started:
            ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        yield
    finally:
        if started:
            # What Tune leaves in cycles refers to Ray. Collected by another thread while Ray ends, it ends the process.
            gc.collect()
            ray.shutdown()


@contextmanager
def _terminable() -> Iterator[None]:
    """SIGTERM is what Ctrl-C is, in place of what Ray does then; in the main thread, where alone that can be said."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _settle(study: Study, tracker: Any) -> None:
    """End trials that were cut off as interrupted: a resume goes on with them."""
    for record in study.trials():
        if record.state == "running":
            study.append("end", record.number, state="interrupted", reason="the search was interrupted")
            tracker.trial_end(record.number, "interrupted", "the search was interrupted", [])


def _fit(study: Study, space: SearchSpace, concurrency: int | None, tracker: Any, on_event: OnEvent | None) -> None:
    import ray.tune as rt

    from sersearch.tuning.asha import overdue, scheduler
    from sersearch.tuning.journal import Journal
    from sersearch.tuning.search import StudySearcher, most_at_once

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.ERROR)
    journal = Journal(study, tracker, on_event)
    for record in overdue(space, study.trials()):
        journal.end_pruned(record.number, record.epochs[-1]["epoch"])
    searcher = StudySearcher(space, study.meta["seed"], study.trials(), study.folder)
    asked = concurrency or (most_at_once(space) if space.method == "tpe" else searcher.left)
    with _trainable(study, space, min(searcher.left, asked)) as (train, at_once):
        rt.Tuner(
            train,
            tune_config=rt.TuneConfig(
                metric="value",
                mode="max",
                search_alg=searcher,
                scheduler=scheduler(space, study.trials()),
                num_samples=searcher.left,
                max_concurrent_trials=concurrency or min(at_once, asked),
                reuse_actors=True,
                trial_name_creator=lambda trial: f"trial-{trial.config['trial']:04d}",
                trial_dirname_creator=lambda trial: f"trial-{trial.config['trial']:04d}",
            ),
            run_config=rt.RunConfig(
                name=f"run-{time.time_ns()}",
                storage_path=str((study.folder / "ray").resolve()),
                checkpoint_config=rt.CheckpointConfig(num_to_keep=1),
                failure_config=rt.FailureConfig(max_failures=RETRIES),
                callbacks=[journal],
                verbose=0,
            ),
        ).fit()


@contextmanager
def _trainable(study: Study, space: SearchSpace, wanted: int) -> Iterator[tuple[Any, int]]:
    """The trainable with its resources, and the trials that there is room for at once; of `wanted` ones, lane servers.

    With lanes, a lane server holds each GPU, or core, and a trial is only its client.
    """
    import ray
    import ray.tune as rt

    from sersearch.tuning import client, trainable

    gpus, cpus = int(ray.cluster_resources().get("GPU", 0)), int(ray.cluster_resources()["CPU"])
    lanes = _lanes(study, space, gpus)
    if lanes == 1:
        yield rt.with_resources(trainable.train, {"cpu": 1, "gpu": 1 if gpus else 0}), gpus or cpus
        return
    from sersearch.tuning.lanes import LaneServer

    names = [f"lanes-{time.time_ns()}-{n}" for n in range(min(gpus or cpus, math.ceil(max(wanted, 1) / lanes)))]
    # A call that waits takes a thread: one of each lane's client, and of clients that died or ask for a lane.
    options = {"num_cpus": SERVER_CPUS, "num_gpus": 1 if gpus else 0, "max_concurrency": 2 * lanes + 16}
    kind = ray.remote(LaneServer)
    servers = [kind.options(name=name, max_restarts=-1, **options).remote(lanes) for name in names]
    try:
        ray.get([server.held.remote() for server in servers])
        yield rt.with_resources(partial(client.train, servers=names), {"cpu": CLIENT_CPUS}), lanes * len(names)
    finally:
        for server in servers:
            ray.kill(server)


def _lanes(study: Study, space: SearchSpace, gpus: int) -> int:
    """Lanes on each GPU, or core. Those of `auto` are measured on one of the GPUs, and written down in the study."""
    import ray

    asked: int | Literal["auto"] = study.meta.get("lanes", 1)
    if asked != "auto":
        return asked
    if not gpus:
        return 1
    from sersearch.tuning.lanes import measured_lanes

    points = [space.config(point).to_dict() for point in signatures(space)]
    measure = ray.remote(num_gpus=1, max_calls=1)(measured_lanes)
    lanes: int = ray.get(measure.remote(str(study.folder.resolve()), points))
    study.write_meta(lanes_measured=lanes)
    return lanes
