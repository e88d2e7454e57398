"""What runs in a trial's process: the engine, and a report with a checkpoint each epoch."""

from __future__ import annotations

import hashlib
import math
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from ray import tune
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sersearch.data.atomic import atomic
from sersearch.data.batches import SegmentView, TrainingData, auxiliary_data, training_data
from sersearch.data.companions import Companion, Missing, without_missing
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.predictions import PREDICTIONS, predictions_csv
from sersearch.study import Study
from sersearch.training import Engine, EpochResult, LaneState, pretrain
from sersearch.tuning.client import failure, report, write_files


def device() -> str:
    """cuda where this process was given a GPU, else cpu with one thread: Tune runs one trial a core."""
    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


@lru_cache(maxsize=4)
def study_data(
    path: str,
    features: str,
    target: str,
    aux: str | None,
    protocol: tuple[tuple[str, Any], ...],
    view: SegmentView,
    companions: tuple[tuple[str, str, SegmentView], ...],
    missing: Missing,
) -> TrainingData:
    """Training data, opened once a process: reused trial processes share it, and all processes the mapped pages.

    `companions`: name, feature set and view of each further input.
    """
    table = FeatureTable.open(path, features)
    split = Protocol.from_dict(dict(protocol)).split(table, target)
    further = {name: (Companion.open(table, own), own_view) for name, own, own_view in companions}
    if missing == "skip":
        split = without_missing(split, {name: companion for name, (companion, _) in further.items()})
    pool = None if aux is None else FeatureTable.open(aux, features)
    return training_data(table, split, view, target, pool, further)


def load_data(data: dict[str, Any], config: Config, family: str) -> TrainingData:
    """The training data that a study's `data` section names, in `config`'s segments."""
    protocol = tuple(sorted(data["protocol"].items()))
    made = get_family(family)
    views = made.companion_views(config)
    companions = tuple((name, c["features"], views[name]) for name, c in data.get("companions", {}).items())
    where = data["path"], data["features"], data["target"], data["aux"]
    return study_data(*where, protocol, made.view(config), companions, data.get("missing", "skip"))


def how(meta: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an engine that say how a study computes."""
    return {"precision": meta.get("precision", "float32"), "compile": meta.get("compile")}


def train(config: dict[str, Any]) -> None:
    """The trainable. `config`: study (folder), trial (number), params (of the family), checkpoint (folder or None).

    An error in a trial is its own failure, told with its reason; only a dead process is left to Tune's retries.
    """
    last = 0
    try:
        for result, engine in _epochs(config):
            last = result.epoch
            _report(config["trial"], result, engine)
    except Exception as error:
        tune.report(failure(config["trial"], last + 1, error))


def _epochs(config: dict[str, Any]) -> Iterator[tuple[EpochResult, Engine]]:
    retried = tune.get_checkpoint()
    start = begin(config if retried is None else {**config, "checkpoint": retried.path}, device())
    engine = start.engine()
    lane = start.join(engine)
    if (last := start.last_epoch(lane)) is not None:
        yield last, engine
    for result in engine.epochs():
        yield result, engine


@dataclass(frozen=True)
class Start:
    """All that a trial's training begins with, here or at a lane server."""

    study: Study
    trial: int
    config: Config
    data: TrainingData
    state: LaneState | None
    """Where it goes on."""
    weights: dict[str, torch.Tensor] | None
    """Pre-trained ones, of a trial that doesn't go on."""
    device: str

    def engine(self) -> Engine:
        """A new engine that it can be trained on."""
        meta = self.study.meta
        family, metric = get_family(meta["family"]), meta["objective"]["metric"]
        return Engine(family, self.data, self.device, objective=metric, **how(meta))

    def join(self, engine: Engine) -> int:
        """Make it a lane of `engine`; returns the lane's number."""
        meta = self.study.meta
        return engine.join(self.config, meta["seed"], meta["space"]["epochs"], state=self.state, weights=self.weights)

    def last_epoch(self, lane: int) -> EpochResult | None:
        """The last epoch, once more, of a trial that was cut off after it and before its end; else None.

        Tune needs a report to end a trial.
        """
        if self.state is None or not self.state.progress.done:
            return None
        progress = self.state.progress
        (event,) = (e for e in self.study.trial(self.trial).epochs if e["epoch"] == progress.epoch)
        return EpochResult(
            lane=lane,
            epoch=event["epoch"],
            metrics={name: math.nan if v is None else v for name, v in event["metrics"].items()},
            value=event["value"],
            best=event["best"],
            done=True,
            failed=False,
            reason=progress.reason,
            seconds=event["seconds"],
        )


def begin(config: dict[str, Any], where: str) -> Start:
    """Read what the trainable's `config` names. Raises what is wrong with it."""
    study = Study.open(Path(config["study"]))
    meta = study.meta
    own = get_family(meta["family"]).config.from_dict(config["params"])
    data = load_data(meta["data"], own, meta["family"])
    state = None if config["checkpoint"] is None else _state(Path(config["checkpoint"]))
    weights = None
    if state is None and meta["data"]["aux"] is not None:
        weights = pretrained(study, own, data, where)
    return Start(study, config["trial"], own, data, state, weights, where)


def _state(folder: Path) -> LaneState | None:
    """A checkpoint; None for a damaged one: the trial begins anew, and gives the same as it would have."""
    try:
        return LaneState.load(folder)
    except DataError:
        return None


def pretrained(study: Study, config: Config, data: TrainingData, where: str) -> dict[str, torch.Tensor]:
    """Weights trained on the auxiliary corpus, once a static signature: the first trial that needs them makes them.

    Lane hyperparameters are the space's fixed values or the paper's, not the trial's, so that all trials start alike.
    """
    meta = study.meta
    family = get_family(meta["family"])
    static = {name: value for name, value in config.to_dict().items() if name not in config.lane_names()}
    common = family.config.from_dict({**meta["space"]["fixed"], **static})
    key = hashlib.sha256(repr((sorted(common.to_dict().items()), meta["seed"])).encode()).hexdigest()[:12]
    path = study.folder / f"pretrained-{key}.safetensors"
    failure = path.with_suffix(".failed")
    with FileLock(study.folder / f".pretrained-{key}.lock"):
        if failure.is_file():
            raise DataError(failure.read_text("utf-8"))
        loaded = _loaded(path)
        if loaded is None:
            aux = auxiliary_data(data, FeatureTable.open(meta["data"]["aux"], meta["data"]["features"]))
            epochs = common.to_dict()["pretrain_epochs"]
            try:
                weights = pretrain(family, common, aux, meta["seed"], epochs=epochs, device=where)
            except DataError as error:  # it would fail in every trial
                failure.write_text(str(error), "utf-8")
                raise
            loaded = {n: t.cpu().contiguous() for n, t in weights.items()}
            with atomic(path) as temporary:
                save_file(loaded, temporary)
    return loaded


def _loaded(path: Path) -> dict[str, torch.Tensor] | None:
    """The tensors of a file; None where it is missing or damaged."""
    try:
        loaded: dict[str, torch.Tensor] = load_file(path)
    except (OSError, SafetensorError):
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


def _report(trial: int, result: EpochResult, engine: Engine) -> None:
    if result.failed:
        tune.report(epoch_report(trial, result))
        return
    with tempfile.TemporaryDirectory() as folder:
        write_files(checkpoint_files(engine, result.lane), Path(folder))
        tune.report(epoch_report(trial, result), checkpoint=tune.Checkpoint.from_directory(folder))


def checkpoint_files(engine: Engine, lane: int) -> dict[str, bytes]:
    """A lane's state, what its best epoch predicts of the development set, and of a lane that is done what it shows."""
    shown: dict[str, bytes] = {}
    if engine.done(lane):
        try:
            shown = engine.artifacts(lane)
        except Exception as error:  # a picture that can't be drawn is no reason to lose what was trained
            warnings.warn(f"no pictures of the trial: {type(error).__name__}: {error}", stacklevel=2)
    predictions = predictions_csv(engine.predictions(lane)).encode()
    return {PREDICTIONS: predictions, **shown, **engine.state(lane).files()}
