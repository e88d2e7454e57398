"""Tune's events, written to the study's journal, its logs, to MLflow and to whoever watches."""

from __future__ import annotations

import logging
import math
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from ray.tune import Callback

from sersearch.logs import log_file, plain, stack_file, write
from sersearch.redaction import redact
from sersearch.study import OnEvent, Study, TrialRecord
from sersearch.tuning.client import KEPT_CHECKPOINTS, RETRIES
from sersearch.tuning.leaving import Leaving
from sersearch.tuning.reaper import INTERRUPTED, interrupt
from sersearch.tuning.storage import Storage, as_os_errors, local_copies, relative, remove

KEPT = ("model*.safetensors", "state.json", "*.csv", "*.png")
"""Of a checkpoint, what goes to MLflow."""

GONE = ("is unavailable", "node has died", "node was terminated", "preempted")
"""In what Ray says of an actor, that it is its machine that is gone."""
MOST_GONE = 100
"""Times that a trial is moved to another machine."""

APART = 1000
"""Events after which those in the storage become one file: each is a request for whoever goes on."""

_log = logging.getLogger("sersearch.search")


class Journal(Callback):  # type: ignore[misc]
    """Runs in the driver: one writer, so that an epoch is recorded once and in order, whatever was trained again."""

    def __init__(
        self, study: Study, tracker: Any, leaving: Leaving, on_event: OnEvent | None, storage: Storage | None = None
    ) -> None:
        self._study, self._tracker, self._leaving, self._storage = study, tracker, leaving, storage
        self._watching = on_event
        self.again: Callable[[TrialRecord], None] = lambda record: None
        """Called with a trial that Tune has given up, as its machine was lost, and that is to be suggested again."""
        self._records = study.records()
        self._started: set[int] = set()
        self._earlier: dict[int, list[Path]] = {}
        self._newer: Counter[int] = Counter()
        self._gone: Counter[int] = Counter()

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks for a restore of its own, which we don't use: a resume reads the journal instead."""
        return {}

    def _append(self, event: str, trial: int, **fields: Any) -> None:
        """Write an event down, in the storage first. Where that fails, the search ends.

        What isn't written happens again in a resume, and what is in the storage alone is brought from there. The next
        event has the number of one that failed, so that there is no gap.
        """
        whole = {"event": event, "trial": trial, **fields, "time": time.time()}
        try:
            if self._storage is not None and not self._storage.add(whole, self._records.taken):
                return
            self._study.append(**whole)
            self._records.take(whole)
            if self._storage is not None and self._records.taken % APART == 0:
                self._storage.publish()
        except OSError as error:
            _log.error("the journal can't be written: %s", error)
            self._leaving.ask(f"the journal can't be written ({error})")

    def _tell(self, event: str, number: int, fields: dict[str, Any]) -> None:
        """Tell whoever watches; where that can't be printed (a log file on a full disk), the search goes on."""
        if self._watching is not None:
            with suppress(OSError):
                self._watching(event, number, fields)

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial begins, or begins again after its process died."""
        number = trial.config["trial"]
        self._leaving.running.add(number)
        if number in self._started:
            return
        self._started.add(number)
        params, searched = trial.config["params"], trial.config["searched"]
        self._tracker.trial_start(number, params)  # before the journal: MLflow knows what it was told twice
        self._append("start", number, params=params, searched=searched)
        self._tell("start", number, {"params": params, "searched": searched})

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: dict[str, Any], **info: Any) -> None:
        """An epoch of a trial. A failed trial's report has no value: its end tells the reason."""
        number, epoch = result["trial"], result["epoch"]
        self.log(number, result.pop("log", ()))
        if result["failed"]:
            if result["machine"]:
                self._leaving.ask(f"trial {number}: {result['reason']}")
            return
        where = relative(self._study.home, f"{trial.storage.trial_fs_path}/{result['checkpoint_dir_name']}")
        self._supersede(number)
        known = self._records.get(number)
        if known is not None and epoch <= len(known.epochs):
            self._append("again", number, epoch=epoch, checkpoint=where)
            return
        trial.max_failures = trial.num_failures + RETRIES  # of the next epoch
        metrics = {name: v if math.isfinite(v) else None for name, v in result["metrics"].items()}
        told = {"epoch": epoch, "metrics": metrics, "value": result["value"], "best": result["best"]}
        told |= {"done": result["done_by_itself"], "seconds": result["seconds"], "checkpoint": where}
        self._tracker.epoch(number, epoch, result["metrics"], int(result.get("timestamp", time.time())) * 1000)
        self._append("epoch", number, **told)
        self._tell("epoch", number, told)

    def _supersede(self, number: int) -> None:
        """Remove checkpoints of an earlier run of this study for which there are newer ones."""
        if number not in self._earlier:  # of no other trial: each folder is a request to an object store
            self._earlier[number] = self._there(number)
        self._newer[number] += 1
        earlier = self._earlier[number]
        while earlier and len(earlier) + self._newer[number] > KEPT_CHECKPOINTS:
            remove(earlier.pop())

    def _there(self, number: int) -> list[Path]:
        """A trial's checkpoints that are there, the last first; none where the storage doesn't say."""
        with suppress(OSError), as_os_errors(self._study.home):
            return list(self._records[number].checkpoints()) if number in self._records else []
        return []

    def on_trial_recover(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial's process died, and another one goes on with it.

        That a machine can't be reached any more is no fault of the trial, which may not even have begun there.
        """
        if self._moves(trial.config["trial"], self._died(trial, logging.WARNING)):
            trial.max_failures += 1

    def _moves(self, number: int, why: str) -> bool:
        """Whether a trial whose process died goes on elsewhere, its machine being lost."""
        gone = any(sign in why for sign in GONE)
        self._gone[number] += gone
        return gone and self._gone[number] <= MOST_GONE

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial ends: by itself, failed or not, stopped by ASHA, or because the search ends."""
        last, number = trial.last_result or {}, trial.config["trial"]
        self._leaving.ended(number)
        if number not in self._started:
            return  # it had no room yet
        if last.get("failed") and not last.get("machine"):
            self.end(number, "failed", last["reason"])
        elif last.get("done_by_itself") and not last.get("failed"):
            self.end(number, "complete", last["reason"])
        elif self._leaving.reason is not None:
            self.end(number, "interrupted", self._leaving.reason)
        else:
            self.end_pruned(number, last.get("epoch"))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial whose process died more often than it is started again, or that Tune doesn't start again.

        That is one whose machine was lost while it took over another trial's process.
        """
        number = trial.config["trial"]
        self.on_trial_start(iteration, trials, trial)  # should it never have begun
        self._leaving.ended(number)
        message = self._died(trial, logging.ERROR)
        if self._moves(number, message) and number in self._records:
            self.again(self._records[number])
            return
        epoch = len(self._records[number].epochs) + 1 if number in self._records else 1
        self.end(number, "failed", f"its process died {RETRIES + 1} times in epoch {epoch}: {message}")

    def _died(self, trial: Any, level: int) -> str:
        """Log how a trial's process died; in a line, why."""
        text = Path(trial.error_file).read_text("utf-8", errors="replace").strip() if trial.error_file else ""
        text = text.rpartition("Failure # ")[2].partition("\n")[2].strip()  # the last one, as Tune tells them
        lines = text.splitlines() or ["no message"]
        why = next((line for line in lines if "because" in line or "is unavailable" in line), lines[0]).strip()
        number = trial.config["trial"]
        stack = stack_file(self._study.home, number)
        if stack.is_file() and (hung := stack.read_text("utf-8", errors="replace")):
            why, text = "it took longer than it may", hung
            stack.unlink()
        self._note(number, level, f"the trial's process died: {why}", text)
        return why

    def end_pruned(self, number: int, epoch: int | None) -> None:
        """Trial `number` was stopped by ASHA after `epoch`."""
        self.end(number, "pruned", f"stopped by ASHA after epoch {epoch}")

    def end(self, number: int, state: str, reason: str) -> None:
        """Trial `number` has ended, with the last checkpoint's files for MLflow; another driver's has not."""
        if self._storage is not None and self._storage.lost.is_set():
            return
        reason = redact(reason)
        self._note(number, logging.WARNING if state == "failed" else logging.INFO, f"{state}: {reason}")
        record, files = self._records.get(number), []
        checkpoint = None if record is None or state == "interrupted" else record.checkpoint
        if checkpoint is not None:
            files = [path for pattern in KEPT for path in sorted(checkpoint.glob(pattern))]
            files = local_copies(files, self._study.folder / "artifacts" / f"trial-{number:04d}")
        self._tracker.trial_end(number, state, reason, files)
        self._append("end", number, state=state, reason=reason)
        self._tell("end", number, {"state": state, "reason": reason})

    def _note(self, number: int, level: int, message: str, traceback: str = "") -> None:
        """Log something of a trial that the driver knows."""
        told = plain(logging.LogRecord(_log.name, level, "", 0, message, None, None))
        self.log(number, [{**told, "traceback": redact(traceback)} if traceback else told])

    def log(self, number: int | None, records: Any) -> None:
        """Write log records of a trial, or of the search, to its file."""
        try:
            write(self._study.folder, number, records)
        except OSError as error:
            self._leaving.ask(f"{log_file(self._study.folder, number)} can't be written ({error.strerror})")
        for record in records:
            self._tell("log", -1 if number is None else number, dict(record))

    def settle(self) -> None:
        """End trials that were cut off as interrupted, here alone if need be: a resume goes on with them."""
        reason = self._leaving.reason or INTERRUPTED
        for record in self._records.sorted():
            if record.state == "running":
                self.end(record.number, "interrupted", reason)
        with suppress(OSError):
            interrupt(self._study, reason)


__all__ = ["Journal"]
