"""The runs of one study in MLflow: the only place that imports it."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sersearch.predictions import PREDICTIONS, prediction_artifacts
from sersearch.provenance import versions
from sersearch.tracking.spool import Event
from sersearch.tracking.uri import artifact_location

Warn = Callable[[str, Exception | None], None]
# MLflow says how a run ended in three words; the tag `sersearch.state` keeps ours.
STATUS = {
    "complete": "FINISHED",
    "finished": "FINISHED",
    "failed": "FAILED",
    "pruned": "KILLED",
    "interrupted": "KILLED",
}
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",  # we try again ourselves, and look first what came of the request
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_LOUD = ("mlflow", "alembic", "sqlalchemy.engine", "urllib3.connectionpool")
_REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "NOT_IMPLEMENTED"}
# MLflow's answer to what its database does not take, but also to some of what fails while a database is restarted.
_DOUBTFUL, _DOUBTS = "BAD_REQUEST", 3
_FILE_REFUSED = (400, 411, 413, 414, 415, 422)
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _RUNS_AT_ONCE = 1000, 100, 200
_PARAM_LENGTH, _TAG_LENGTH, _KEY_LENGTH = 500, 5000, 250  # the least that servers since MLflow 1.x take


@dataclass
class _Run:
    """A run as MLflow has it; times in ms since 1970."""

    id: str
    start: int
    running: bool = True
    step: int = 0
    """The last one of its metrics."""
    stamp: int = 0
    """That step's time."""
    filled: int = 0
    """How many parameters and tags it had when it was looked up."""


EVENTS = ("begin", "artifacts", "reconcile", "trial_start", "epoch", "trial_end", "finish")
"""Kinds of events."""


class Store:
    """One study's runs in MLflow; used by one thread alone. Methods raise what MLflow raises.

    After an error, :meth:`forget` what is known. An event may be sent again whatever came of it: runs are found by
    their tags, and epochs that a run has are left out.
    """

    def __init__(self, uri: str, space: str, study: str, created: str, warn: Warn) -> None:
        self.experiment_id: str | None = None
        self.connected = False
        """Whether the study's runs have been looked up since the last :meth:`forget`."""
        self.ended = 0
        """Runs that were RUNNING and have been ended."""
        self._begun = False
        """Whether the study's run is this process's: then its end is, too, should another have ended it meanwhile."""
        self._uri, self._space, self._study, self._warn = uri, space, study, warn
        # Studies of different people may share a name on a server; a digest needs no quoting in MLflow's filters.
        self._identity = hashlib.sha256(f"{study}\n{created}".encode()).hexdigest()[:16]
        self._client: Any = None
        self._runs: dict[int | None, _Run] = {}
        """By trial; the study's own by None."""

    @property
    def parent(self) -> str | None:
        """MLflow's id of the study's run, None until it is known."""
        run = self._runs.get(None)
        return None if run is None else run.id

    def forget(self) -> None:
        """Look everything up again at the next event: the server may have lost or gained runs and metrics."""
        self.connected = False

    def send(self, events: Iterable[Event]) -> None:
        """Write events in order; the metrics of a trial's successive epochs in one batch."""
        if not self.connected:
            self._connect()
        epochs: dict[int, list[Event]] = defaultdict(list)
        for event in events:
            if event["event"] == "epoch":
                epochs[event["trial"]].append(event)
                continue
            for number in [event["trial"]] if "trial" in event else list(epochs):
                self._log_epochs(number, epochs.pop(number, []))
            getattr(self, "_" + event["event"])(event)
        for number, waiting in epochs.items():
            self._log_epochs(number, waiting)

    # --- events ---------------------------------------------------------------------------------------------------

    def _begin(self, event: Event) -> None:
        meta, run = event["meta"], self._run(None, event["time"])
        self._set_running(run)
        self._begun = True
        known = {"sersearch.version": meta.get("sersearch"), "mlflow.source.git.commit": meta.get("git_commit")}
        tags = {"sersearch.state": "running"} | {key: value for key, value in known.items() if value}
        left_out = {"name", "created", "sersearch", "git_commit", "versions", "space"}
        left_out |= {"tracking", "state", "warnings", "given"}  # which change: MLflow's parameters don't
        facts = _flat({key: value for key, value in meta.items() if key not in left_out})
        self._log(run, facts, tags)

    def _reconcile(self, event: Event) -> None:
        for number, (state, reason) in event["trials"].items():
            run = self._runs.get(int(number))
            if run is not None and run.running:
                self._end(run, state, reason, event["time"])

    def _trial_start(self, event: Event) -> None:
        run = self._run(event["trial"], event["time"])
        self._set_running(run)
        self._log(run, _flat(event["params"]), {"sersearch.state": "running"})

    def _trial_end(self, event: Event) -> None:
        self._end(self._run(event["trial"], event["time"]), event["state"], event["reason"], event["time"])

    def _artifacts(self, event: Event) -> None:
        """Upload a run's files, and the picture of a dev_predictions.csv; a file that is gone is left out."""
        run = self._run(event.get("trial"), event["time"])
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            if "trial" not in event:
                (folder / "versions.json").write_text(json.dumps(versions(), indent=2))
            for path in map(Path, event["paths"]):
                if not (path.is_file() and os.access(path, os.R_OK)):
                    self._warn(f"the artifact {path.name} is missing in MLflow", OSError(f"{path} cannot be read"))
                    continue
                if path.name == PREDICTIONS:
                    self._draw(path, folder)
                self._upload(run, path)
            for file in sorted(folder.iterdir()):
                self._upload(run, file)

    def _finish(self, event: Event) -> None:
        self._look_up()  # requests that were given up may have made runs by now
        self._reconcile(event)
        for number, run in self._runs.items():
            if number is not None and run.running:
                self._end(run, "interrupted", "the study ended", event["time"])
        parent = self._runs.get(None)
        if parent is not None and (parent.running or self._begun):
            best = {f"best_{name}": value for name, value in event["best"].items()}
            # Their step is what the study has trained by then, so that MLflow shows the last as the latest.
            self._log_metrics(parent, [(event["epochs"], event["time"], best)])
            self._end(parent, event["state"], "", event["time"])

    # --- MLflow ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Find or create the experiment, and find the study's runs."""
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow.exceptions import MlflowException
        from mlflow.tracking.client import MlflowClient

        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._client = MlflowClient(tracking_uri=self._uri)
        experiment = self._client.get_experiment_by_name(self._space)
        if experiment is None:
            try:
                self._client.create_experiment(self._space, artifact_location=artifact_location(self._uri))
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another study at the same time
                    raise
            experiment = self._client.get_experiment_by_name(self._space)
        self.experiment_id = experiment.experiment_id
        if experiment.lifecycle_stage == "deleted":
            self._client.restore_experiment(self.experiment_id)
            self._warn(f"the MLflow experiment {self._space!r} had been deleted and was restored", None)
        self._look_up()
        self.connected = True

    def _look_up(self) -> None:
        """Learn which runs the study has.

        A server may do what was asked of it after we have given up and asked again. Of two runs of a trial the one
        with more in it goes on and the other is deleted.
        """
        found: dict[int | None, list[_Run]] = defaultdict(list)
        for run in self._search():
            metrics = run.data.to_proto().metrics  # which, unlike `run.data.metrics`, tell their steps
            step, stamp = max(((metric.step, metric.timestamp) for metric in metrics), default=(0, 0))
            number = run.data.tags.get("sersearch.trial")
            known = _Run(run.info.run_id, run.info.start_time, run.info.status == "RUNNING", step, stamp)
            known.filled = len(run.data.params) + len(run.data.tags)
            found[None if number is None else int(number)].append(known)
        for runs in found.values():
            runs.sort(key=lambda run: (run.step, run.filled, run.id))
            for run in runs[:-1]:
                self._client.delete_run(run.id)
        self._runs = {number: runs[-1] for number, runs in found.items()}

    def _search(self) -> Iterator[Any]:
        token, mine = None, f"tags.`sersearch.id` = '{self._identity}'"
        while True:
            runs = self._client.search_runs([self.experiment_id], mine, max_results=_RUNS_AT_ONCE, page_token=token)
            yield from runs
            token = runs.token
            if not token:
                return

    def _run(self, number: int | None, start_ms: int) -> _Run:
        """The run of trial `number`, or the study's own, made where there is none."""
        if number not in self._runs:
            name, tags = self._study, {"sersearch.study": self._study, "sersearch.id": self._identity}
            if number is not None:
                name = f"{self._study} trial {number}"
                tags |= {"sersearch.trial": str(number), "mlflow.parentRunId": self._run(None, start_ms).id}
            made = self._client.create_run(self.experiment_id, start_time=start_ms, tags=tags, run_name=name)
            self._runs[number] = _Run(made.info.run_id, start_ms)
        return self._runs[number]

    def _set_running(self, run: _Run) -> None:
        if not run.running:
            self._client.update_run(run.id, status="RUNNING")
            run.running = True

    def _log_epochs(self, number: int, events: Sequence[Event]) -> None:
        if events:
            run = self._run(number, events[0]["time"])
            self._log_metrics(run, [(event["epoch"], event["at"], event["metrics"]) for event in events])

    def _log_metrics(self, run: _Run, points: Sequence[tuple[int, int, Mapping[str, float]]]) -> None:
        """Log `points` (step, ms since 1970, values) in the order of their steps; what the run has is left out.

        A batch holds whole steps, as it is written whole or not at all. Times rise with the steps, also where the
        clock was set back: by them MLflow orders what it shows of a metric.
        """
        from mlflow.entities import Metric

        batch: list[Any] = []
        for step, at, values in points:
            if step <= run.step:
                continue
            if len(batch) + len(values) > _METRICS_AT_ONCE:
                self._client.log_batch(run.id, metrics=batch)
                batch = []
            run.step, run.stamp = step, max(at, run.stamp + 1)
            batch += [Metric(_key(name), float(value), run.stamp, step) for name, value in values.items()]
        if batch:
            self._client.log_batch(run.id, metrics=batch)

    def _log(self, run: _Run, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        pairs = [RunTag(key, shortened(value, _TAG_LENGTH)) for key, value in tags.items()]
        self._client.log_batch(run.id, tags=pairs)
        for batch in _slices([Param(_key(k), shortened(v, _PARAM_LENGTH)) for k, v in params.items()], _PARAMS_AT_ONCE):
            self._client.log_batch(run.id, params=batch)

    def _end(self, run: _Run, state: str, reason: str, end_ms: int) -> None:
        self._log(run, {}, {"sersearch.state": state, **({"sersearch.reason": reason} if reason else {})})
        # No run ends before it began, whatever the clock did meanwhile.
        self._client.set_terminated(run.id, STATUS.get(state, "KILLED"), max(end_ms, run.start, run.stamp))
        self.ended += run.running
        run.running = False

    def _draw(self, path: Path, folder: Path) -> None:
        try:
            prediction_artifacts(path, folder)
        except Exception as error:  # no picture is worth a trial's end
            self._warn("a picture of a trial's predictions is missing in MLflow", error)

    def _upload(self, run: _Run, file: Path) -> None:
        try:
            self._client.log_artifact(run.id, str(file))
        except Exception as error:  # of whatever library the artifacts' storage needs
            status = getattr(getattr(error, "response", None), "status_code", None)
            if status not in _FILE_REFUSED and getattr(error, "error_code", None) not in _REFUSED:
                raise OSError(str(error)) from error
            self._warn(f"the artifact {file.name} is missing in MLflow", error)


def refused(error: Exception, times: int) -> bool:
    """Whether `error`, which an event met `times` times in a row, is the event's own: trying again can't help."""
    code = getattr(error, "error_code", None)
    if code is None:
        return not isinstance(error, OSError)
    return code in _REFUSED or (code == _DOUBTFUL and times >= _DOUBTS)


def _slices(items: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Nested mappings as `outer.inner` -> text; what is None is left out."""
    flat: dict[str, str] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        elif value is not None:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value, default=str)
    return flat


def _key(name: str) -> str:
    """`name` with only the characters that MLflow takes in keys."""
    return re.sub(r"[^\w\-./ ]", "_", name, flags=re.ASCII)[:_KEY_LENGTH]


def shortened(text: str, length: int) -> str:
    """`text` in at most `length` characters, without those that databases don't take."""
    text = text.replace("\0", "").encode("utf-8", "replace").decode()
    return text if len(text) <= length else text[: length - 3] + "..."


def now() -> int:
    """MLflow's time: ms since 1970."""
    return int(time.time() * 1000)
