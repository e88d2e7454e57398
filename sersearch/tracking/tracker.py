"""MLflow: experiment = search space, parent run = study, child run = trial.

One thread of the driver writes everything, from a queue that is also a file (:mod:`sersearch.tracking.spool`): when
the server is away the events stay there and go out later, training goes on, and nothing here raises to the caller.
Sending an event twice does what sending it once does (runs are found by their tags, a metric carries its epoch's own
time), so events whose fate is unknown are simply sent again.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sersearch.errors import StudyError
from sersearch.tracking.spool import Spool
from sersearch.tracking.store import STATUS, Store, may_pass, now, shortened
from sersearch.tracking.uri import absolute, redact

__all__ = ["Tracker"]

_EVENTS_AT_ONCE = 500
_FIRST_WAIT, _LONGEST_WAIT, _CLOSE_SECONDS = 1.0, 60.0, 30.0


class Tracker:
    """Writes one study into MLflow from a background thread. No method raises or waits for the server.

    `uri` (without its secrets), `experiment_id` and `run_id` (both None until the server has answered) may go into the
    study's metadata; `warnings` lists what the user should hear of. Call :func:`check_uri` first.
    """

    def __init__(self, uri: str, space_name: str, study_name: str, spool: Path) -> None:
        self.uri = redact(absolute(uri))
        self.warnings: list[str] = []
        self._uri = absolute(uri)
        self._names = space_name, study_name
        self._spool = Spool(spool)
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._news = threading.Condition()
        self._closing = False

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, None until it is known."""
        return self._store.experiment_id if self._store else None

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the study's run, None until it is known."""
        return self._store.parent if self._store else None

    def begin(self, meta: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Start or go on with the study of `meta` (study.json's content; `created` tells it from namesakes).

        What an earlier process could not send goes out now, and runs that it left RUNNING although the study's journal
        says that they are over are ended.
        """
        space, study = self._names
        self._store = Store(self._uri, space, study, str(meta.get("created", "")), self._warn)
        # A begin and a finish of an earlier process are superseded by this one's.
        left = [event for event in self._spool.load() if event.get("event") not in ("begin", "finish")]
        first = {
            "event": "begin",
            "time": now(),
            "meta": json.loads(redact(json.dumps(meta, default=str))),
            "artifacts": _paths(artifacts),
        }
        over = {"event": "reconcile", "time": now(), "trials": _over(self._spool.path.parent)}
        self._spool.start([first, *left, over])
        self._thread = threading.Thread(target=self._run, name="mlflow", daemon=True)
        self._thread.start()

    def trial_start(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial starts, or goes on, with the full configuration `params`."""
        self._add("trial_start", trial=number, params=dict(params))

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float], time_ms: int) -> None:
        """The metrics of a trial's epoch; `time_ms` must be the same when the epoch is told again after a resume."""
        self._add("epoch", trial=number, epoch=epoch, metrics=dict(metrics), at=int(time_ms))

    def trial_end(self, number: int, state: str, reason: str, artifacts: Sequence[Path]) -> None:
        """A trial ends: complete, pruned, failed or interrupted. A dev_predictions.csv gets its picture."""
        self._add("trial_end", trial=number, state=state, reason=reason, artifacts=_paths(artifacts))

    def finish(self, state: str) -> None:
        """The study is over: finished, interrupted or failed. Trials still running are ended as interrupted.

        Its run gets the best trial's development value, as `best_<objective>`.
        """
        self._add("finish", state=state, best=_best(self._spool.path.parent))

    def close(self) -> None:
        """Wait until all is sent, at most half a minute; what cannot be sent waits in the spool for a resume."""
        with self._news:
            self._closing = True
            self._news.notify_all()
        if self._thread is not None:
            self._thread.join(_CLOSE_SECONDS)
        self._spool.close()
        if left := len(self._spool):
            self._warn(f"{left} MLflow events wait in {self._spool.path}; resuming the study sends them")

    def _add(self, kind: str, **fields: Any) -> None:
        with self._news:
            self._spool.add({"event": kind, "time": now(), **fields})
            self._news.notify_all()
        if self._spool.disk_error:
            self._warn(f"{self._spool.path} cannot be written ({self._spool.disk_error}); MLflow events stay in memory")

    def _run(self) -> None:
        """The thread: send the oldest events, forget them, again; wait longer after each failure."""
        wait, one_by_one = _FIRST_WAIT, 0
        while self._store is not None:
            with self._news:
                self._news.wait_for(lambda: len(self._spool) > 0 or self._closing)
            events = self._spool.first(1 if one_by_one else _EVENTS_AT_ONCE)
            if not events:
                return
            try:
                self._store.send(events)
            except Exception as error:  # whatever MLflow raises, training goes on
                if may_pass(error, self._store):
                    self._store.forget()
                    self._spool.sync()
                    self._warn(
                        f"MLflow at {self.uri} is away; events are kept in {self._spool.path} and sent later", error
                    )
                    if self._closing:
                        return
                    with self._news:
                        self._news.wait_for(lambda: self._closing, timeout=wait)
                    wait = min(2 * wait, _LONGEST_WAIT)
                    continue
                self._store.forget()
                if not one_by_one:  # one of them is refused: find out which
                    one_by_one = len(events)
                    continue
                self._warn(f"MLflow refused a {events[0].get('event')} event, which is left out", error)
            self._spool.remove(len(events))
            wait, one_by_one = _FIRST_WAIT, max(0, one_by_one - 1)

    def _warn(self, sentence: str, error: Exception | None = None) -> None:
        """Record a warning once, whatever the error behind it, and never with a secret in it."""
        if any(warning.startswith(redact(sentence)) for warning in self.warnings):
            return
        reason = f": {_first_line(error)}" if error else ""
        text = redact(sentence + reason)
        password = urlsplit(self._uri).password if "@" in self._uri else None
        self.warnings.append(text.replace(password, "***") if password else text)


def _best(folder: Path) -> dict[str, float]:
    """The objective and its best value so far, of the study in `folder`; {} before any."""
    from sersearch.study import Study

    try:
        study = Study.open(folder)
        value = study.best().value
        return {} if value is None else {str(study.meta["objective"]["metric"]): value}
    except (StudyError, OSError, ValueError, LookupError, TypeError):  # no journal, or none that can be read
        return {}


def _over(folder: Path) -> dict[int, tuple[str, str]]:
    """State and reason of the trials that the journal of the study in `folder` says are over."""
    from sersearch.study import Study

    try:
        trials = Study.open(folder).trials()
    except (StudyError, OSError, ValueError, LookupError, TypeError):  # no journal, or none that can be read
        return {}
    return {trial.number: (trial.state, trial.reason) for trial in trials if trial.state in STATUS}


def _paths(paths: Sequence[Path]) -> list[str]:
    return [str(path.absolute()) for path in paths]


def _first_line(error: Exception) -> str:
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0], 300)
