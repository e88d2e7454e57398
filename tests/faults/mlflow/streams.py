"""A study's events, told to a tracker and its journal as a search does, and what MLflow has of them in the end."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sersearch.study import Study
from sersearch.tracking import Tracker

META = {
    "created": "2026-01-02T03:04:05.000006",
    "sersearch": "0.1.0",
    "git_commit": "0" * 40,
    "method": "tpe",
    "seed": 7,
    "objective": {"metric": "dev_ua", "mode": "max"},
    "data": {"path": "data/demo", "protocol": {"name": "official"}, "aux": None},
    "space": {"name": "space"},
    "state": "running",
}
STATES = ("complete", "pruned", "failed", "complete")
FIRST_MS = 1_800_000_000_000
Call = tuple[str, tuple[Any, ...]]
_telling = threading.local()


def study(root: Path, name: str = "study", **changes: Any) -> Study:
    """The study in its folder, made where there is none."""
    if (root / name / "study.json").exists():
        return Study.open(name, root)
    made = Study.create(name, META | changes, root)
    (made.folder / "space.yaml").write_text("name: space\n")
    return made


def tracker(of: Study, uri: str) -> Tracker:
    return Tracker(uri, of.meta["space"]["name"], of.name, of.spool)


def begin(of: Study, uri: str) -> Tracker:
    subject = tracker(of, uri)
    subject.begin(of.meta, [of.folder / "space.yaml"])
    return subject


def calls(of: Study, trials: int = 6, epochs: int = 8, at_once: int = 3) -> Iterator[Call]:
    """What is told of `trials`, of which `at_once` run side by side; an epoch takes a second."""
    now = FIRST_MS
    for first in range(0, trials, at_once):
        numbers = range(first, min(first + at_once, trials))
        for number in numbers:
            yield "trial_start", (number, {"alpha": 0.1 * number, "widths": [32, 64], "name": f"trial {number}"})
        for epoch in range(1, epochs + 1):
            for number in numbers:
                now += 1000
                yield "epoch", (number, epoch, metrics(number, epoch), now)
        for number in numbers:
            yield "trial_end", (number, STATES[number % 4], f"reason {number}", files(of, number))


def metrics(number: int, epoch: int) -> dict[str, float]:
    undefined = math.nan if number % 4 == 2 else -0.0
    return {"dev_ua": 0.01 * number + 0.001 * epoch, "train_loss": 1 / epoch, "undefined": undefined}


def files(of: Study, number: int) -> list[Path]:
    """A trial's artifacts: a file, and predictions, which get a picture, of the first trial."""
    folder = of.folder / f"checkpoint {number}"
    folder.mkdir(exist_ok=True)
    (folder / "state.json").write_text(f"[{number}]")
    if number == 0:
        (folder / "dev_predictions.csv").write_text("id,valence,valence_predicted\na,1.5,2\nb,3,3.5\n")
    return sorted(folder.iterdir())


@dataclass
class Teller:
    """Tells a tracker and the study's journal, and measures how long the tracker takes.

    What is :func:`for_others` fails when it is done in a call of the tracker.
    """

    of: Study
    tracker: Tracker
    pause: float = 0.0
    """Seconds between two calls."""
    seconds: list[float] = field(default_factory=list)

    def tell(self, told: Iterator[Call], until: Callable[[], bool] = lambda: False, most: int = 10**9) -> None:
        """Tell at most `most` calls of `told`, until `until` holds."""
        for _, (kind, arguments) in zip(range(most), told, strict=False):
            self.call(kind, *arguments)
            write(self.of, kind, arguments)
            if until():
                return
            time.sleep(self.pause)

    def call(self, name: str, *arguments: Any) -> None:
        began, _telling.what = time.perf_counter(), name
        try:
            getattr(self.tracker, name)(*arguments)
        finally:
            _telling.what = None
        self.seconds.append(time.perf_counter() - began)


def for_others(waits: Callable[..., Any]) -> Callable[..., Any]:
    """A function that waits for a server or a disk, which whoever tells a tracker of a trial must not do."""

    def checked(*args: Any, **kwargs: Any) -> Any:
        told = getattr(_telling, "what", None)
        assert told is None, f"{told}() waits for {waits.__name__}(), which is the thread's"
        return waits(*args, **kwargs)

    return checked


def write(of: Study, kind: str, arguments: tuple[Any, ...]) -> None:
    """Write a call into the journal."""
    number = arguments[0]
    if kind == "trial_start":
        of.append("start", number, params=arguments[1], searched={})
    elif kind == "epoch":
        values = {name: value if math.isfinite(value) else None for name, value in arguments[2].items()}
        of.append("epoch", number, epoch=arguments[1], metrics=values, value=values["dev_ua"], seconds=1.0)
    else:
        of.append("end", number, state=arguments[1], reason=arguments[2])


def until(subject: Tracker, holds: Callable[[], bool]) -> None:
    """Wait until something holds of a tracker: a server may take two minutes to start, and is asked once a minute."""
    deadline = time.monotonic() + 400
    while not holds():
        assert time.monotonic() < deadline, (len(subject._spool), subject.warnings)
        time.sleep(0.05)


def sent(subject: Tracker) -> None:
    """Wait until all that was told is sent."""
    until(subject, lambda: len(subject._spool) == 0)


def undisturbed(root: Path, uri: str, name: str = "study", **size: int) -> dict[Any, Any]:
    """What MLflow has of a study that nothing disturbed."""
    of = study(root / "undisturbed", name)
    subject = begin(of, uri)
    Teller(of, subject).tell(calls(of, **size))
    subject.finish("finished")
    subject.close(120)
    assert subject.warnings == []
    return runs(uri, name)


def runs(uri: str, name: str = "study", space: str = "space", run_id: str | None = None) -> dict[Any, Any]:
    """All of a study in MLflow: by trial, its own, of id `run_id`, by None, each once."""
    from mlflow.exceptions import MlflowException
    from mlflow.tracking.client import MlflowClient

    client = MlflowClient(tracking_uri=uri)
    with suppress(MlflowException):
        client.search_experiments()  # on a connection that the server may have closed
    (experiment,) = client.search_experiments(filter_string=f"name = '{space}'")
    found: dict[Any, Any] = {}
    for run in client.search_runs([experiment.experiment_id], f"tags.`sersearch.study` = '{name}'", max_results=50000):
        tags = dict(run.data.tags)
        number = tags.get("sersearch.trial")
        parent = tags.pop("mlflow.parentRunId", None)
        if run_id not in (None, parent, run.info.run_id):
            continue
        key = None if number is None else int(number)
        assert key not in found, f"trial {number} has two runs"
        assert run.info.end_time is None or run.info.end_time >= run.info.start_time
        history = {metric: client.get_metric_history(run.info.run_id, metric) for metric in run.data.metrics}
        found[key] = {
            "status": run.info.status,
            "params": run.data.params,
            "tags": {tag: tags.get(f"sersearch.{tag}") for tag in ("trial", "state", "reason", "version")},
            "latest": {metric: _plain(value) for metric, value in run.data.metrics.items()},
            "metrics": {
                metric: [(m.step, _plain(m.value), None if number is None else m.timestamp) for m in points]
                for metric, points in history.items()
            },
            "artifacts": {file.path: file.file_size for file in client.list_artifacts(run.info.run_id)},
            "parent": parent,
            "id": run.info.run_id,
        }
    study_id = found[None].pop("id")
    for key, run in found.items():
        if key is not None:
            assert run.pop("parent") == study_id
            run.pop("id")
    return found


def _plain(value: float) -> float | str:
    return "nan" if math.isnan(value) else value
