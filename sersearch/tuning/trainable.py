"""What runs in a trial's process: the engine, and a report with a checkpoint each epoch."""

from __future__ import annotations

import csv
import hashlib
import math
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from ray import tune
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from sersearch.data.atomic import atomic
from sersearch.data.batches import TrainingData, auxiliary_data, training_data
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError, SersearchError
from sersearch.families import get_family
from sersearch.family import Config
from sersearch.study import Study
from sersearch.training import Engine, EpochResult, LaneState, Predictions, pretrain

PREDICTIONS = "dev_predictions.csv"


def device() -> str:
    """cuda where this process was given a GPU, else cpu with one thread: Tune runs one trial a core."""
    if torch.cuda.is_available():
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


@lru_cache(maxsize=4)
def study_data(
    path: str, features: str, target: str, aux: str | None, protocol: tuple[tuple[str, Any], ...], view: Any
) -> TrainingData:
    """Training data, opened once a process: reused trial processes share it, and all processes the mapped pages."""
    table = FeatureTable.open(path, features)
    split = Protocol.from_dict(dict(protocol)).split(table, target)
    return training_data(table, split, view, target, None if aux is None else FeatureTable.open(aux, features))


def load_data(data: dict[str, Any], config: Config, family: str) -> TrainingData:
    """The training data that a study's `data` section names, in `config`'s segments."""
    protocol = tuple(sorted(data["protocol"].items()))
    view = get_family(family).view(config)
    return study_data(data["path"], data["features"], data["target"], data["aux"], protocol, view)


def train(config: dict[str, Any]) -> None:
    """The trainable. `config`: study (folder), trial (number), params (of the family), checkpoint (folder or None).

    Every report has all of `value`, `failed` and `done_by_itself`: Tune ends the whole experiment when one lacks the
    metric. An error in a trial is its own failure, told with its reason; only a dead process is left to Tune's retries.
    """
    last = 0
    try:
        for result, engine in _epochs(config):
            last = result.epoch
            _report(config["trial"], result, engine)
    except Exception as error:
        text = str(error) if isinstance(error, SersearchError) else f"{type(error).__name__}: {error}"
        tune.report(_result(config["trial"], last + 1, failed=True, reason=text.strip().splitlines()[0]))


def _epochs(config: dict[str, Any]) -> Any:
    where = device()
    study = Study.open(Path(config["study"]))
    meta = study.meta
    family = get_family(meta["family"])
    hyperparameters = family.config.from_dict(config["params"])
    data = load_data(meta["data"], hyperparameters, meta["family"])
    retried = tune.get_checkpoint()
    folder = config["checkpoint"] if retried is None else retried.path
    state = None if folder is None else _state(Path(folder))
    weights = None
    if state is None and meta["data"]["aux"] is not None:
        weights = pretrained(study, hyperparameters, data, where)
    engine = Engine(family, data, where)
    lane = engine.join(hyperparameters, meta["seed"], meta["space"]["epochs"], state=state, weights=weights)
    if state is not None and state.progress.done:
        yield _last_epoch(study, config["trial"], lane, state), engine
    for result in engine.epochs():
        yield result, engine


def _state(folder: Path) -> LaneState | None:
    """A checkpoint; None for a damaged one: the trial begins anew, and gives the same as it would have."""
    try:
        return LaneState.load(folder)
    except DataError:
        return None


def _last_epoch(study: Study, trial: int, lane: int, state: LaneState) -> EpochResult:
    """The last epoch, once more: its trial was cut off after it and before its end. Tune needs a report to end one."""
    (event,) = (e for e in study.trial(trial).epochs if e["epoch"] == state.progress.epoch)
    return EpochResult(
        lane=lane,
        epoch=event["epoch"],
        metrics={name: math.nan if v is None else v for name, v in event["metrics"].items()},
        value=event["value"],
        best=event["best"],
        done=True,
        failed=False,
        reason=state.progress.reason,
        seconds=event["seconds"],
    )


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


def _result(trial: int, epoch: int, *, failed: bool, reason: str, **fields: Any) -> dict[str, Any]:
    empty = {"value": math.nan, "best": False, "done_by_itself": True, "metrics": {}, "seconds": 0.0}
    return {**empty, "trial": trial, "epoch": epoch, "failed": failed, "reason": reason, **fields}


def _report(trial: int, result: EpochResult, engine: Engine) -> None:
    report = _result(
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
    if result.failed:
        tune.report(report)
        return
    with tempfile.TemporaryDirectory() as folder:
        engine.state(result.lane).save(Path(folder))
        write_predictions(engine.predictions(result.lane), Path(folder) / PREDICTIONS)
        tune.report(report, checkpoint=tune.Checkpoint.from_directory(folder))


def write_predictions(predictions: Predictions, path: Path) -> None:
    """Development predictions as CSV: id, label, predicted, and a posterior per class."""
    classes = predictions.classes
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "label", "predicted", *classes])
        for id_, label, row in zip(predictions.ids, predictions.labels, predictions.posteriors, strict=True):
            posteriors = [repr(float(p)) for p in row]
            writer.writerow([id_, classes[int(label)], classes[int(row.argmax())], *posteriors])
