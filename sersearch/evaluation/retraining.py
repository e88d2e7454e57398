"""A study's configurations trained again with other seeds: each in a process of its own, and each kept as it is done.

    evaluation/seeds/trial-0003/seed-1/    what one is, the best epochs' weights (`LaneState`, nested `MembersState`)

The test part is not looked at here.
"""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sersearch.data.batches import TrainingData, auxiliary_data, training_data
from sersearch.data.sums import write_with_sums
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError, StudyError
from sersearch.evaluation.look import Look, turns_of
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.study import Study, TrialRecord
from sersearch.training import CPU_ENVIRONMENT, Engine, LaneState, Members, MembersState, pretrain, pretraining_config
from sersearch.training.lane import Weights

if TYPE_CHECKING:
    from multiprocessing.sharedctypes import Synchronized

Event = Callable[[int, str], None]
Job = tuple[int, int]
"""A trial and a seed."""


def outcome(study: Study, trial: int, seed: int) -> Path:
    """The folder of a trained model."""
    return study.folder / "evaluation" / "seeds" / f"trial-{trial:04d}" / f"seed-{seed}"


def trained(study: Study, record: TrialRecord, seed: int) -> bool:
    """Whether a trial's configuration is already trained with a seed, to its end, and the files are whole."""
    folder = outcome(study, record.number, seed)
    try:
        state = (LaneState if len(turns_of(study)) == 1 else MembersState).load(folder)
    except DataError:
        return False
    lanes = state.lanes if isinstance(state, MembersState) else [state]
    asked = get_family(study.meta["family"]).config.from_dict(record.params).to_dict()
    return all((s.config, s.seed, s.epochs) == (asked, seed, study.meta["space"]["epochs"]) for s in lanes)


def retrain(study: Study, jobs: Sequence[Job], workers: int | None = None, on_event: Event | None = None) -> None:
    """Train what isn't there, as the search did: up to its epochs, the best one by the development set.

    By default a process a core, or a GPU where there are any. Raises :class:`StudyError` where a training diverges,
    and where a process dies; KeyboardInterrupt says how many are trained. What is trained then stays.
    """
    records = {trial: study.trial(trial) for trial, _ in jobs}
    missing = [(trial, seed) for trial, seed in jobs if not trained(study, records[trial], seed)]
    done = len(jobs) - len(missing)
    if not missing:
        return
    at_once = min(workers or torch.cuda.device_count() or len(os.sched_getaffinity(0)), len(missing))
    if on_event is not None:
        on_event(-1, f"trains {len(missing)} of {len(jobs)} models, {at_once} at a time")
    failed: list[str] = []
    try:
        with _processes(at_once) as pool:
            running = _submitted(pool, study, missing)
            for future in as_completed(running):
                (trial, seed), (reason, said) = running[future], future.result()
                failed += [f"trial {trial} with seed {seed}: {reason}"] if reason else []
                done += not reason
                if on_event is not None:
                    on_event(seed, f"trial {trial}: {reason or said} ({done} of {len(jobs)} models are trained)")
    except KeyboardInterrupt:
        raise KeyboardInterrupt(
            f"{done} of {len(jobs)} models are trained; the same command trains the others"
        ) from None
    except BrokenProcessPool:
        raise StudyError(
            f"study {study.name}: a training process died, as it does where memory is short; {done} of {len(jobs)} "
            "models are trained, and the same command, perhaps with fewer --workers, trains the others"
        ) from None
    if failed:
        raise StudyError(
            f"study {study.name}: {'; '.join(failed)}. Figures without these runs would be too good, so nothing was "
            "tested: choose another --trial, or name other --seeds, and say so where you report it"
        )


# --- processes --------------------------------------------------------------------------------------------------------


@contextmanager
def _processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes that end when this one leaves the block or dies, whatever they are doing."""
    context = multiprocessing.get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    started: Synchronized[int] = context.Value("i", 0)
    pool = ProcessPoolExecutor(count, context, initializer=_begin, initargs=(theirs, started))
    try:
        with _environment(CPU_ENVIRONMENT):
            yield pool
    except BaseException:
        ours.close()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
        ours.close()
        theirs.close()


def _submitted(pool: ProcessPoolExecutor, study: Study, jobs: Sequence[Job]) -> dict[Future[tuple[str, str]], Job]:
    """Jobs by their futures. Ctrl-C at the terminal is for this process alone: its children are born deaf to it."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        return {pool.submit(_train, str(study.folder.resolve()), *job): job for job in jobs}
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have `values` in the environment, which children read as they start."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _begin(parent: Connection, started: Synchronized[int]) -> None:
    """Set up a training process: one thread, or the next GPU, and its end."""

    def end_with_it() -> None:
        try:
            parent.recv()
        except (EOFError, OSError):
            os._exit(1)

    threading.Thread(target=end_with_it, daemon=True).start()
    with started.get_lock():
        number, started.value = started.value, started.value + 1
    if torch.cuda.is_available():
        torch.cuda.set_device(number % torch.cuda.device_count())
    else:
        torch.set_num_threads(1)


# --- one training -----------------------------------------------------------------------------------------------------


def _train(folder: str, trial: int, seed: int) -> tuple[str, str]:
    """Train and keep one; why it failed, and what to say of it otherwise."""
    study = Study.open(folder)
    begun = [_begun(folder, trial, turn) for turn in turns_of(study)]
    family, metric, config = get_family(study.meta["family"]), study.meta["objective"]["metric"], begun[0][1]
    device = "cuda" if torch.cuda.is_available() else "cpu"
    how: dict[str, Any] = {"precision": study.meta.get("precision", "float32"), "compile": study.meta.get("compile")}
    engines = [Engine(family, data, device, objective=metric, **how) for _, _, data in begun]
    weights = [_pretrained(look, config, data, seed, device) for look, _, data in begun]
    done = (_alone if len(engines) == 1 else _in_turns)(engines, config, seed, study.meta["space"]["epochs"], weights)
    if isinstance(done, str):
        return done, ""
    write_with_sums(outcome(study, trial, seed), done.files)
    return "", f"best epoch {done.best} of {done.last}, {metric} {done.value:.4f}"


@dataclass(frozen=True)
class _Trained:
    """A training that is over: its best epoch, the last one, the best one's value, and what is kept."""

    best: int
    last: int
    value: float
    files: dict[str, bytes]


def _alone(
    engines: Sequence[Engine], config: Config, seed: int, epochs: int, weights: Sequence[Weights | None]
) -> _Trained | str:
    """One training, or why it failed."""
    (engine,) = engines
    lane = engine.join(config, seed, epochs, weights=weights[0])
    for result in engine.epochs():
        if result.failed:
            return result.reason
    state = engine.state(lane)
    at = state.progress
    assert at.best_value is not None
    return _Trained(at.best_epoch, at.epoch, at.best_value, _models(state).files())


def _in_turns(
    engines: Sequence[Engine], config: Config, seed: int, epochs: int, weights: Sequence[Weights | None]
) -> _Trained | str:
    """A training for each development fold of a nested protocol; as in the search, the best epoch is their mean's."""
    members = Members(engines, config, [seed], epochs, weights=weights)
    while not members.done:
        result = members.epoch()
        if result.failed:
            return result.reason
    state = members.state()
    best = state.marks[state.objective]
    kept = dataclasses.replace(state, lanes=tuple(map(_models, state.lanes)), lasts=(None,) * len(engines))
    return _Trained(best.epoch, state.epoch, best.value, kept.files())


def _models(state: LaneState) -> LaneState:
    """What is kept of a training that is over: its models are enough."""
    return dataclasses.replace(state, weights={}, slots={}, best_outputs={}, codes={}, best_codes={}, watched=[])


@lru_cache(maxsize=32)
def _begun(folder: str, trial: int, rotation: int) -> tuple[Look, Config, TrainingData]:
    """What all seeds of a trial begin with, read once a process and development fold."""
    study = Study.open(folder)
    look, family = Look.of(study, rotation), get_family(study.meta["family"])
    config, data = family.config.from_dict(study.trial(trial).params), study.meta["data"]
    views = family.companion_views(config)
    further = {name: (companion, views[name]) for name, companion in look.companions.items()}
    pool = None if data.get("aux") is None else FeatureTable.open(data["aux"], data["features"])
    return look, config, training_data(look.table, look.split, family.view(config), data["target"], pool, further)


def _pretrained(look: Look, config: Config, data: TrainingData, seed: int, device: str) -> Weights | None:
    """Weights of the auxiliary corpus, which a seed's training has of its own; None without one."""
    meta = look.study.meta
    if meta["data"].get("aux") is None:
        return None
    family = get_family(meta["family"])
    common = pretraining_config(family, config, meta["space"]["fixed"])
    aux = auxiliary_data(data, FeatureTable.open(meta["data"]["aux"], meta["data"]["features"]))
    return pretrain(family, common, aux, seed, epochs=common.to_dict()["pretrain_epochs"], device=device)
