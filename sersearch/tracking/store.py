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
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
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
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its default holds a call for minutes; we retry ourselves
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "GIT_PYTHON_REFRESH": "quiet",
}
_LOUD = ("mlflow", "alembic", "sqlalchemy.engine", "urllib3.connectionpool")
_REFUSED = {"INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "INVALID_STATE", "NOT_IMPLEMENTED"}
_FILE_GONE = (FileNotFoundError, PermissionError, NotADirectoryError, IsADirectoryError)
_METRICS_AT_ONCE, _PARAMS_AT_ONCE = 1000, 100
_PARAM_LENGTH, _TAG_LENGTH, _KEY_LENGTH = 500, 5000, 250  # the least that servers since MLflow 1.x take


class Store:
    """One study's runs in MLflow; used by one thread alone. Methods raise what MLflow raises."""

    def __init__(self, uri: str, space: str, study: str, created: str, warn: Warn) -> None:
        self.experiment_id: str | None = None
        self.parent: str | None = None
        self._uri, self._space, self._study, self._warn = uri, space, study, warn
        # Studies of different people may share a name on a server; a digest needs no quoting in MLflow's filters.
        self._identity = hashlib.sha256(f"{study}\n{created}".encode()).hexdigest()[:16]
        self.client: Any = None
        self._trials: dict[int, str] = {}
        self._running: set[int] = set()

    def forget(self) -> None:
        """Look everything up again at the next event: the server may have lost or gained runs."""
        self.client = None
        self._trials, self._running = {}, set()

    def send(self, events: Sequence[Event]) -> None:
        """Write events in order; the metrics of a trial's successive epochs in one batch."""
        if self.client is None:
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
        assert self.parent is not None
        meta = event["meta"]
        self.client.update_run(self.parent, status="RUNNING")
        self._artifacts(self.parent, event["artifacts"])
        self.client.log_dict(self.parent, versions(), "versions.json")
        known = {"sersearch.version": meta.get("sersearch"), "mlflow.source.git.commit": meta.get("git_commit")}
        tags = {"sersearch.state": "running"} | {key: value for key, value in known.items() if value}
        left_out = {"name", "created", "sersearch", "git_commit", "versions", "space", "tracking", "state"}
        facts = _flat({key: value for key, value in meta.items() if key not in left_out})
        self._log(self.parent, facts, tags)

    def _reconcile(self, event: Event) -> None:
        for number, (state, reason) in event["trials"].items():
            if int(number) in self._running:
                self._end(self._trials[int(number)], state, reason, event["time"])
                self._running.discard(int(number))

    def _trial_start(self, event: Event) -> None:
        number = event["trial"]
        run_id = self._trial(number, event["time"])
        if number not in self._running:
            self.client.update_run(run_id, status="RUNNING")
            self._running.add(number)
        self._log(run_id, _flat(event["params"]), {"sersearch.state": "running"})

    def _trial_end(self, event: Event) -> None:
        run_id = self._trial(event["trial"], event["time"])
        self._artifacts(run_id, event["artifacts"])
        self._end(run_id, event["state"], event["reason"], event["time"])
        self._running.discard(event["trial"])

    def _finish(self, event: Event) -> None:
        from mlflow.entities import Metric

        assert self.parent is not None
        for number in sorted(self._running):
            self._end(self._trials[number], "interrupted", "the study ended", event["time"])
        self._running.clear()
        best = [Metric(_key(f"best_{name}"), value, event["time"], 0) for name, value in event["best"].items()]
        self.client.log_batch(self.parent, metrics=best)
        self._end(self.parent, event["state"], "", event["time"])

    # --- MLflow ---------------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Find or create the experiment, the study's run and the trials' runs."""
        for key, value in _ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow.tracking.client import MlflowClient

        for name in _LOUD:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        client = MlflowClient(tracking_uri=self._uri)
        experiment = client.get_experiment_by_name(self._space)
        if experiment is None:
            self.experiment_id = client.create_experiment(self._space, artifact_location=artifact_location(self._uri))
        else:
            self.experiment_id = experiment.experiment_id
            if experiment.lifecycle_stage == "deleted":
                client.restore_experiment(self.experiment_id)
                self._warn(f"the MLflow experiment {self._space!r} had been deleted and was restored", None)
        parent, token = None, None
        while True:
            runs = client.search_runs(
                [self.experiment_id], f"tags.`sersearch.id` = '{self._identity}'", max_results=1000, page_token=token
            )
            for run in runs:
                number = run.data.tags.get("sersearch.trial")
                if number is None:
                    parent = run.info.run_id
                    continue
                self._trials[int(number)] = run.info.run_id
                if run.info.status == "RUNNING":
                    self._running.add(int(number))
            token = runs.token
            if not token:
                break
        self.client = client
        self.parent = parent or self._create(self._study, {}, now())

    def _create(self, name: str, tags: Mapping[str, str], start_ms: int) -> str:
        tags = {"sersearch.study": self._study, "sersearch.id": self._identity, **tags}
        run = self.client.create_run(self.experiment_id, start_time=start_ms, tags=tags, run_name=name)
        return str(run.info.run_id)

    def _trial(self, number: int, start_ms: int) -> str:
        if number not in self._trials:
            tags = {"sersearch.trial": str(number), "mlflow.parentRunId": str(self.parent)}
            self._trials[number] = self._create(f"{self._study} trial {number}", tags, start_ms)
            self._running.add(number)
        return self._trials[number]

    def _log_epochs(self, number: int, events: Sequence[Event]) -> None:
        if not events:
            return
        from mlflow.entities import Metric

        run_id = self._trial(number, events[0]["time"])
        metrics = [
            Metric(_key(name), float(value), event["at"], event["epoch"])
            for event in events
            for name, value in event["metrics"].items()
        ]
        for batch in _slices(metrics, _METRICS_AT_ONCE):
            self.client.log_batch(run_id, metrics=batch)

    def _log(self, run_id: str, params: Mapping[str, str], tags: Mapping[str, str]) -> None:
        from mlflow.entities import Param, RunTag

        self.client.log_batch(run_id, tags=[RunTag(key, shortened(value, _TAG_LENGTH)) for key, value in tags.items()])
        pairs = [Param(_key(key), shortened(value, _PARAM_LENGTH)) for key, value in params.items()]
        for batch in _slices(pairs, _PARAMS_AT_ONCE):
            self.client.log_batch(run_id, params=batch)

    def _end(self, run_id: str, state: str, reason: str, end_ms: int) -> None:
        self._log(run_id, {}, {"sersearch.state": state, **({"sersearch.reason": reason} if reason else {})})
        self.client.set_terminated(run_id, STATUS.get(state, "KILLED"), end_ms)

    def _artifacts(self, run_id: str, paths: Sequence[str]) -> None:
        """Upload files, and the picture of a dev_predictions.csv; a file that is gone is left out."""
        with tempfile.TemporaryDirectory() as folder:
            drawn: list[Path] = []
            for path in map(Path, paths):
                if path.name == PREDICTIONS:
                    try:
                        drawn = prediction_artifacts(path, Path(folder))
                    except Exception as error:  # no picture is worth a trial's end
                        self._warn("a picture of a trial's predictions is missing in MLflow", error)
            for path in chain(map(Path, paths), drawn):
                try:
                    self.client.log_artifact(run_id, str(path))
                except Exception as error:
                    if may_pass(error, self):
                        raise
                    self._warn(f"the artifact {path.name} is missing in MLflow", error)


def may_pass(error: Exception, store: Store) -> bool:
    """Whether trying again may help: the server or the disk is away, not the event wrong."""
    code = getattr(error, "error_code", None)
    away = isinstance(error, OSError) and not isinstance(error, _FILE_GONE)
    return store.client is None or away or (code is not None and code not in _REFUSED)


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
    """`text` in at most `length` characters."""
    return text if len(text) <= length else text[: length - 3] + "..."


def now() -> int:
    """MLflow's time: ms since 1970."""
    return int(time.time() * 1000)
