"""MLflow: experiment = search space, parent run = study, child run = trial.

One thread of the driver writes everything, from a queue that is also a file (:mod:`sersearch.tracking.spool`): when
the server is away the events stay there and go out later, training goes on, and nothing here raises to the caller.
Sending an event twice does what sending it once does (:mod:`sersearch.tracking.store`), so events whose fate is
unknown are simply sent again. Files go apart from the rest: storage for artifacts that is away holds up nothing else.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from sersearch.errors import StudyError, TrackingError
from sersearch.redaction import redact, redact_uri
from sersearch.study import Study
from sersearch.tracking.spool import Event, Spool
from sersearch.tracking.store import EVENTS, STATUS, Store, now, refused, shortened
from sersearch.tracking.uri import absolute, page

__all__ = ["Tracker"]

_EVENTS_AT_ONCE = 500
_LAST_AT_ONCE = 50
"""Where the tracker closes, which looks whether some have been sent."""
_LEAVING_S = 5.0
"""For the event that is being sent: a figure that is drawn as Python ends would end it with an abort."""
_FIRST_WAIT, _LONGEST_WAIT = 1.0, 60.0


class Tracker:
    """Writes one study into MLflow from a background thread. No method raises or waits for the server.

    `uri` (without its secrets), `experiment_id` and `run_id` (both None until the server has answered) may go into the
    study's metadata; `warnings` lists what the user should hear of. Call :func:`check_uri` first.
    """

    def __init__(self, uri: str, space_name: str, study_name: str, spool: Path) -> None:
        self.uri = redact_uri(absolute(uri))
        self.warnings: list[str] = []
        self._uri = absolute(uri)
        self._names = space_name, study_name
        self._spool = Spool(spool)
        self._store: Store | None = None
        self._thread: threading.Thread | None = None
        self._news = threading.Condition()
        self._closing = False
        self._closed = False

    @property
    def experiment_id(self) -> str | None:
        """MLflow's id of the experiment, None until it is known."""
        return self._store.experiment_id if self._store else None

    @property
    def run_id(self) -> str | None:
        """MLflow's id of the study's run, None until it is known."""
        return self._store.parent if self._store else None

    @property
    def page(self) -> str | None:
        """Where a browser shows the study's run; None without a server, and until it has answered."""
        return page(self.uri, self.experiment_id, self.run_id)

    def begin(self, meta: Mapping[str, Any], artifacts: Sequence[Path]) -> None:
        """Start or go on with the study of `meta` (study.json's content; `created` tells it from namesakes).

        What an earlier process could not send goes out now, and runs that it left RUNNING although the study's journal
        says that they are over are ended.
        """
        # A begin and a finish of an earlier process are superseded by this one's.
        left = [event for event in self._left() if event["event"] not in ("begin", "finish")]
        told = json.loads(redact(json.dumps(meta, default=str)))
        first = _event("begin", meta=told), _event("artifacts", paths=_names(artifacts))
        self._start(meta, [*first, *left, _event("reconcile", trials=_over(self._folder))])

    def trial_start(self, number: int, params: Mapping[str, Any]) -> None:
        """A trial starts, or goes on, with the full configuration `params`."""
        self._add("trial_start", trial=number, params=dict(params))

    def epoch(self, number: int, epoch: int, metrics: Mapping[str, float], time_ms: int) -> None:
        """The metrics of a trial's epoch, counted from 1, at `time_ms` since 1970; one that was told before stands."""
        self._add("epoch", trial=number, epoch=epoch, metrics=dict(metrics), at=int(time_ms))

    def trial_end(self, number: int, state: str, reason: str, artifacts: Sequence[Path]) -> None:
        """A trial ends: complete, pruned, failed or interrupted. A dev_predictions.csv gets its picture."""
        if artifacts:
            self._add("artifacts", trial=number, paths=_names(artifacts))
        self._add("trial_end", trial=number, state=state, reason=reason)

    def finish(self, state: str) -> None:
        """The study is over: finished, interrupted or failed.

        Runs of trials that are RUNNING are ended as the journal says, and as interrupted where it doesn't. The study's
        run gets the best trial's development value, as `best_<objective>`.
        """
        self._add("finish", state=state, trials=_over(self._folder), **_best(self._folder))

    def close(self, seconds: float = 30.0, most: float = math.inf) -> None:
        """Wait until all is sent, as long as something is within `seconds`, and `most` seconds in all.

        What cannot be sent waits in the spool for a resume.
        """
        with self._news:
            self._closing = True
            self._news.notify_all()
        until, left = time.monotonic() + most, math.inf
        while self._thread is not None and self._thread.is_alive() and len(self._spool) < left:
            left = len(self._spool)
            self._thread.join(max(0.0, min(seconds, until - time.monotonic())))
        with self._news:
            self._closed = True  # a thread that still waits for an answer must not touch what others find in the spool
            self._spool.close()
        if self._thread is not None:
            self._thread.join(_LEAVING_S)
        if left := len(self._spool):
            resume = f"`sersearch tune --resume {Study(self._folder, {}).argument}` sends them"
            self._warn(f"{left} MLflow events wait in {self._spool.path}; {resume}")

    def settle(self, meta: Mapping[str, Any]) -> int:
        """In place of all the above, end what a driver that died has left; nobody else may run the study meanwhile.

        What waits in the spool is sent. Runs that are RUNNING then are ended as the journal says, and those of which
        it doesn't, with the study's own, as interrupted (KILLED). Returns how many runs were ended. Raises
        :class:`TrackingError` when not all could be sent, as :meth:`close` waits; the rest stays in the spool.
        """
        # What a dead driver's `finish` said is no longer so: a study's state is what study.json says.
        self._start(meta, [event for event in self._left() if event["event"] != "finish"])
        state = str(meta.get("state", "running"))
        self.finish("interrupted" if state == "running" else state)
        self.close()
        if self._spool or self._store is None:
            raise TrackingError("; ".join(self.warnings))
        return self._store.ended

    def _left(self) -> list[Event]:
        """What an earlier process has left, but no files from elsewhere: studies are handed on."""
        folder, left = self._folder.resolve(), []
        for event in self._spool.load():
            if event["event"] == "artifacts":
                inside = [path for path in event.get("paths", []) if Path(path).resolve().is_relative_to(folder)]
                event = {**event, "paths": inside}
            if event["event"] in EVENTS:
                left.append(event)
        return left

    @property
    def _folder(self) -> Path:
        return self._spool.path.parent

    def _start(self, meta: Mapping[str, Any], events: list[Event]) -> None:
        space, study = self._names
        self._store = Store(self._uri, space, study, str(meta.get("created", "")), self._warn)
        self._spool.start(events)
        self._thread = threading.Thread(target=self._run, args=(self._store,), name="mlflow", daemon=True)
        self._thread.start()

    def _add(self, kind: str, **fields: Any) -> None:
        with self._news:
            self._spool.add(_event(kind, **fields))
            self._news.notify_all()
        if self._spool.disk_error:
            self._warn(f"{self._spool.path} cannot be written; MLflow events stay in memory", self._spool.disk_error)

    def _run(self, store: Store) -> None:
        """The thread: send the oldest events, forget them, again; wait longer after each failure."""
        wait, alone, failures, put_off = _FIRST_WAIT, 0, 0, 0
        while events := self._oldest(1 if alone else _LAST_AT_ONCE if self._closing else _EVENTS_AT_ONCE):
            try:
                store.send(takewhile(lambda _: not self._closed, events))
            except Exception as error:  # whatever MLflow raises, training goes on
                answered = store.connected
                store.forget()
                if answered and len(events) > 1:  # sent alone, each meets its own fate
                    alone = len(events)
                    continue
                failures = failures + 1 if answered else 0
                if answered and refused(error, failures):
                    self._warn(f"MLflow refused a {events[0]['event']} event, which is left out", error)
                elif answered and events[0]["event"] == "artifacts":
                    self._warn(f"MLflow at {self.uri} stores no files now; they are kept and sent later", error)
                    failures, put_off = 0, put_off + 1
                    # Where only files are left and the tracker closes, each is tried once more.
                    if not (self._put_off() or self._pause(_LONGEST_WAIT) or put_off < len(self._spool)):
                        return
                    continue
                else:
                    hiccup = wait == _FIRST_WAIT  # such as a connection that the server had closed
                    if not hiccup:
                        away = f"MLflow at {self.uri} is away; events are kept in {self._spool.path} and sent later"
                        self._warn(away, error)
                    if not (self._pause(wait) or hiccup):
                        return
                    wait = min(2 * wait, _LONGEST_WAIT)
                    continue
            with self._news:
                if self._closed:
                    return
                self._spool.remove(len(events))
            wait, alone, failures, put_off = _FIRST_WAIT, max(0, alone - 1), 0, 0

    def _oldest(self, count: int) -> list[Event]:
        """Up to `count` events, waiting for the first; [] when there is none and none will come."""
        with self._news:
            self._news.wait_for(lambda: len(self._spool) > 0 or self._closing)
        return [] if self._closed else self._spool.first(count)

    def _put_off(self) -> bool:
        """Put files, which come first, behind all else; False, and the first one last, where there is nothing else."""
        oldest = self._spool.first(_EVENTS_AT_ONCE)
        files = list(takewhile(lambda event: event["event"] == "artifacts", oldest))
        others = len(files) < len(oldest)
        with self._news:
            for event in [] if self._closed else files if others else files[:1]:
                self._spool.add(event)
                self._spool.remove(1)
        return others

    def _pause(self, seconds: float) -> bool:
        """Wait before trying again; False when the tracker is to be closed, and there is no time to."""
        if self._closing:
            return False
        self._spool.sync()
        with self._news:
            self._news.wait_for(lambda: self._closing, timeout=seconds)
        return True

    def _warn(self, sentence: str, error: Exception | None = None) -> None:
        """Record a warning once, whatever the error behind it, and never with a secret in it."""
        if any(warning.startswith(redact(sentence)) for warning in self.warnings):
            return
        reason = f": {_first_line(error)}" if error else ""
        text = redact(sentence + reason)
        password = urlsplit(self._uri).password if "@" in self._uri else None
        self.warnings.append(text.replace(password, "***") if password else text)


def _best(folder: Path) -> dict[str, Any]:
    """Of the study in `folder`: the objective with its `best` value so far, {} before any, and the `epochs` trained."""
    try:
        study = Study.open(folder)
        epochs, value = sum(len(trial.epochs) for trial in study.trials()), study.best().value
        best = {} if value is None else {str(study.meta["objective"]["metric"]): value}
    except (StudyError, OSError, ValueError, LookupError, TypeError):  # no journal, or none that can be read
        return {"best": {}, "epochs": 0}
    return {"best": best, "epochs": epochs}


def _over(folder: Path) -> dict[int, tuple[str, str]]:
    """State and reason of the trials that the journal of the study in `folder` says are over."""
    try:
        trials = Study.open(folder).trials()
    except (StudyError, OSError, ValueError, LookupError, TypeError):  # no journal, or none that can be read
        return {}
    return {trial.number: (trial.state, trial.reason) for trial in trials if trial.state in STATUS}


def _event(kind: str, **fields: Any) -> Event:
    return {"event": kind, "time": now(), **fields}


def _names(paths: Sequence[Path]) -> list[str]:
    return [str(path.absolute()) for path in paths]


def _first_line(error: Exception) -> str:
    return shortened((str(error).strip() or type(error).__name__).splitlines()[0], 300)
