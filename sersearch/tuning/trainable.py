"""What runs in a trial's process: the engine, and a report with a checkpoint each epoch."""

from __future__ import annotations

import hashlib
import json
import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, fields, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar

import torch
from filelock import FileLock
from ray import tune
from safetensors import SafetensorError
from safetensors.torch import load, save

from sersearch.data.batches import TrainingData, auxiliary_data
from sersearch.data.joined import open_table
from sersearch.data.place import is_local, place
from sersearch.data.sums import check_sums, with_sums, write_with_sums
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.logs import gathered, stack_file
from sersearch.predictions import PREDICTIONS, predictions_csv
from sersearch.training import (
    Engine,
    EpochResult,
    LaneState,
    Members,
    MembersState,
    Predictions,
    pretrain,
    pretraining_config,
)
from sersearch.tuning.client import REPORT, MachineError, Order, Shared, failure, report, retried, write_files
from sersearch.tuning.data import device, how, load_data, seeds, turns
from sersearch.tuning.watchdog import Watchdog

log = logging.getLogger(__name__)
T = TypeVar("T")

PRETRAINED = "model.safetensors"
"""In a folder of pre-trained weights."""
FAILED = ".failed"
"""Ends the name of a file that says why there are none. A resume tries again."""


def train(config: Order, shared: Shared) -> None:
    """The trainable: trains the trial `config` of the study that `shared` describes.

    An error in a trial is its own failure, told with its reason; a dead process is left to Tune's retries, and what
    ails the machine (no room, data that can't be read) ends the search, which a resume goes on with.
    """
    last = 0
    with gathered() as logged:
        try:
            for result, files in _epochs(config, shared):
                last = result.epoch
                _report(config["trial"], result, files, logged.fetch())
        except Exception as error:
            log.error("epoch %d failed", last + 1, exc_info=error)
            tune.report(failure(config["trial"], last + 1, error, logged.fetch()))


Files = Callable[[Mapping[str, Any]], dict[str, bytes]]
"""Makes the files of a checkpoint that Tune is told with."""


def _epochs(config: Order, shared: Shared) -> Iterator[tuple[EpochResult, Files]]:
    order = {**config, "checkpoints": retried(config["checkpoints"])}
    last, epochs, files = (_several if is_several(shared) else _alone_in)(order, shared)
    if last is not None:
        yield last, files
    watchdog, stack = _watchdog(shared["home"], shared["epoch_limit"]), stack_of(shared, config["trial"])
    while True:
        with watchdog.epoch(stack):
            result = next(epochs, None)
        if result is None:
            return
        yield result, files


def _alone_in(order: Order, shared: Shared) -> tuple[EpochResult | None, Iterator[EpochResult], Files]:
    """A trial of one training, the only lane of an engine: its last epoch, if it is told again, and those to come."""
    start = begin(order, shared, device())
    engine = start.engine()
    lane = start.join(engine)
    log.info("trains on %s", start.device)
    last = None if start.last is None else replace(start.last, lane=lane)
    return last, engine.epochs(), partial(checkpoint_files, engine, lane)


def is_several(shared: Shared) -> bool:
    """Whether a trial has several members, seeds or rotations, and its figures are their means."""
    return len(turns(shared)) * len(seeds(shared)) > 1


def _several(order: Order, shared: Shared) -> tuple[EpochResult | None, Iterator[EpochResult], Files]:
    """The same of a trial with several members."""
    family, where, stack = get_family(shared["family"]), device(), stack_of(shared, order["trial"])
    own = family.config.from_dict(order["params"])
    datas = [_data(section, own, shared["family"], stack) for section in turns(shared)]
    metric = shared["objective"]["metric"]
    engines = [Engine(family, data, where, objective=metric, **how(shared)) for data in datas]
    state, last = _members_known(place(shared["home"]), order["checkpoints"])
    weights: list[dict[str, torch.Tensor] | None] = []
    if state is None and shared["data"]["aux"] is not None:
        for rotation, data in enumerate(datas):
            turn = rotation if len(datas) > 1 else None
            weights += [pretrained({**shared, "seed": seed}, own, data, where, stack, turn) for seed in seeds(shared)]
    members = Members(engines, own, seeds(shared), shared["space"]["epochs"], state, weights)
    log.info("trains %d members on %s", len(engines) * len(seeds(shared)), where)

    def epochs() -> Iterator[EpochResult]:
        while not members.done:
            yield (result := members.epoch())
            if result.failed:
                return

    return last, epochs(), partial(_members_files, members)


def _members_known(home: Path, names: list[str]) -> tuple[MembersState | None, EpochResult | None]:
    """What :func:`_known` finds, of several members."""
    return _newest(home, names, MembersState.load, lambda state: state.epoch, lambda state: state.done)


@lru_cache(maxsize=4)
def _watchdog(home: str, limit: float | None) -> Watchdog:
    """One for all trials of a study in this process: each knows how long those before it took."""
    return Watchdog(limit)


def stack_of(shared: Shared, trial: int) -> Path | None:
    """Where a process says what took it too long; None where no disk is shared."""
    home = place(shared["home"])
    if not is_local(home) or not home.is_dir():
        return None
    file = stack_file(home, trial)
    file.parent.mkdir(exist_ok=True)
    return file


@dataclass(frozen=True)
class Start:
    """All that a trial's training begins with, here or at a lane server."""

    shared: Shared
    config: Config
    data: TrainingData
    state: LaneState | None
    """Where it goes on."""
    last: EpochResult | None
    """The last epoch, once more, of a trial that was cut off after it and before its end: Tune needs a report."""
    weights: dict[str, torch.Tensor] | None
    """Pre-trained ones, of a trial that doesn't go on."""
    device: str

    def engine(self) -> Engine:
        """A new engine that it can be trained on."""
        family, metric = get_family(self.shared["family"]), self.shared["objective"]["metric"]
        return Engine(family, self.data, self.device, objective=metric, **how(self.shared))

    def join(self, engine: Engine) -> int:
        """Make it a lane of `engine`; returns the lane's number."""
        epochs = self.shared["space"]["epochs"]
        return engine.join(self.config, self.shared["seed"], epochs, state=self.state, weights=self.weights)


def begin(config: Order, shared: Shared, where: str) -> Start:
    """Read what the trainable's `config` names. Raises what is wrong with it."""
    own, stack = get_family(shared["family"]).config.from_dict(config["params"]), stack_of(shared, config["trial"])
    data = _data(shared["data"], own, shared["family"], stack)
    state, last = _known(place(shared["home"]), config["checkpoints"])
    weights = None
    if state is None and shared["data"]["aux"] is not None:
        weights = pretrained(shared, own, data, where, stack)
    return Start(shared, own, data, state, last, weights, where)


def _data(where: dict[str, Any], config: Config, family: str, stack: Path | None) -> TrainingData:
    """Its training data. Raises :class:`MachineError` when they can't be read here, as they could in the driver."""
    try:
        with Watchdog(None).epoch(stack):
            return load_data(where, config, family)
    except DataError:
        try:
            open_table(where["path"], where["features"], where.get("cross"))
        except DataError as error:
            raise MachineError(str(error)) from error
        raise


def _known(home: Path, names: list[str]) -> tuple[LaneState | None, EpochResult | None]:
    """The newest checkpoint that is intact and, of a trial that was done, its last epoch.

    Without one, the trial begins anew, and gives the same as it would have.
    """
    return _newest(home, names, LaneState.load, lambda state: state.progress.epoch, lambda state: state.progress.done)


def _newest(
    home: Path, names: list[str], load: Callable[[Path], T], epoch: Callable[[T], int], done: Callable[[T], bool]
) -> tuple[T | None, EpochResult | None]:
    for name in names:
        try:
            state = load(home / name)
            last = _result(home / name) if done(state) else None
        except DataError as error:
            log.warning("%s; the checkpoint before it is taken", error)
            continue
        log.info("goes on after epoch %d, from %s", epoch(state), name)
        return state, last
    return None, None


def _result(checkpoint: Path) -> EpochResult:
    """The epoch of a checkpoint. Raises :class:`DataError` where it doesn't say."""
    try:
        told = json.loads(check_sums(checkpoint)[REPORT])
        known = {field.name: told[field.name] for field in fields(EpochResult) if field.name in told}
        return EpochResult(**known, lane=0, done=told["done_by_itself"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{checkpoint / REPORT}: not what a trial wrote ({type(error).__name__}: {error})") from error


def pretrained(
    shared: Shared, config: Config, data: TrainingData, where: str, stack: Path | None, rotation: int | None = None
) -> dict[str, torch.Tensor]:
    """Weights trained on the auxiliary corpus, once a static signature: the first trial that needs them makes them.

    And once a seed and a `rotation`, where there are several: their speakers differ.
    """
    family, home = get_family(shared["family"]), place(shared["home"])
    common = pretraining_config(family, config, shared["space"]["fixed"])
    of = (shared["seed"],) if rotation is None else (shared["seed"], rotation)
    key = hashlib.sha256(repr((sorted(common.to_dict().items()), *of)).encode()).hexdigest()[:12]
    folder, failed = home / f"pretrained-{key}", home / f"pretrained-{key}{FAILED}"
    with _alone(home / f".pretrained-{key}.lock"):
        loaded = _loaded(folder)
        if failed.is_file():
            raise DataError(failed.read_text("utf-8"))
        if loaded is None:
            with Watchdog(None).epoch(stack):
                aux = auxiliary_data(data, FeatureTable.open(shared["data"]["aux"], shared["data"]["features"]))
            watch = partial(Watchdog(None).epoch, stack)  # its epochs are others than those of a trial
            epochs = common.to_dict()["pretrain_epochs"]
            log.info("pre-training for %d epochs", epochs)
            try:
                weights = pretrain(family, common, aux, shared["seed"], epochs=epochs, device=where, watch=watch)
            except DataError as error:  # it would fail in every trial
                failed.write_text(str(error), "utf-8")
                raise
            loaded = {n: t.cpu().contiguous() for n, t in weights.items()}
            write_with_sums(folder, {PRETRAINED: save(loaded)})
    return loaded


def _alone(lock: Path) -> AbstractContextManager[Any]:
    """Keeps other processes out, on this machine or on all that share the disk; an object store knows no locks."""
    return FileLock(lock) if is_local(lock) else nullcontext()


def _loaded(folder: Path) -> dict[str, torch.Tensor] | None:
    """Pre-trained weights; None where they are missing or damaged."""
    try:
        loaded: dict[str, torch.Tensor] = load(check_sums(folder)[PRETRAINED])
    except (DataError, KeyError, SafetensorError):
        return None
    return loaded


def epoch_report(trial: int, result: EpochResult) -> dict[str, Any]:
    """What Tune is told of a lane's epoch."""
    return report(
        trial,
        result.epoch,
        failed=result.failed,
        reason=result.reason,
        value=result.value,
        best=result.best,
        done_by_itself=result.done,
        metrics=result.metrics,
        seconds=result.seconds,
    )


def _report(trial: int, result: EpochResult, files: Files, logged: list[dict[str, Any]]) -> None:
    told = epoch_report(trial, result)
    if result.failed:
        tune.report({**told, "log": logged})
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(files(told), Path(folder))
        tune.report({**told, "log": logged}, checkpoint=tune.Checkpoint.from_directory(folder))


def checkpoint_files(engine: Engine, lane: int, told: Mapping[str, Any]) -> dict[str, bytes]:
    """A checkpoint: a lane's state, what its best epoch predicts of the development set, and what Tune was told.

    Of a lane that is done it holds what the family shows of it, too.
    """
    shown = _shown(lambda: engine.artifacts(lane)) if engine.done(lane) else {}
    return _with_report([engine.predictions(lane)], told, {**shown, **engine.state(lane).files()})


def _members_files(members: Members, told: Mapping[str, Any]) -> dict[str, bytes]:
    """The same of several members; each utterance is predicted once, where rotations develop on others."""
    shown = _shown(members.artifacts) if members.done else {}
    return _with_report(members.predictions(), told, {**shown, **members.state().files()})


def _shown(artifacts: Callable[[], dict[str, bytes]]) -> dict[str, bytes]:
    try:
        return artifacts()
    except Exception as error:  # a picture that can't be drawn is no reason to lose what was trained
        warnings.warn(f"no pictures of the trial: {type(error).__name__}: {error}", stacklevel=2)
        return {}


def _with_report(
    predictions: Sequence[Predictions], told: Mapping[str, Any], files: Mapping[str, bytes]
) -> dict[str, bytes]:
    first = {PREDICTIONS: predictions_csv(*predictions).encode(), REPORT: json.dumps(told).encode()}
    return with_sums({**first, **files})
