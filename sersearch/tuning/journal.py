"""Tune's events, written to the study's journal, to MLflow and to whoever watches."""

from __future__ import annotations

import math
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ray.tune import Callback

from sersearch.study import Study

KEPT = ("model*.safetensors", "state.json", "*.csv", "*.png")
"""Of a checkpoint, what goes to MLflow."""


class Journal(Callback):  # type: ignore[misc]
    """Runs in the driver: one writer, so that an epoch is recorded once and in order."""

    def __init__(self, study: Study, tracker: Any, on_event: Any) -> None:
        self._study, self._tracker = study, tracker
        self._on_event = on_event or (lambda event, trial, fields: None)
        self._started: set[int] = set()
        self._replaced = {r.number: r.checkpoint for r in study.trials() if r.checkpoint is not None}

    def __getstate__(self) -> dict[str, Any]:
        """Tune saves its callbacks for a restore of its own, which we don't use: a resume reads the journal instead."""
        return {}

    def _append(self, event: str, trial: int, **fields: Any) -> None:
        self._study.append(event, trial, **fields)
        self._on_event(event, trial, fields)

    def on_trial_start(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial begins, or begins again after its process died."""
        number = trial.config["trial"]
        if number in self._started:
            return
        self._started.add(number)
        params = trial.config["params"]
        self._append("start", number, params=params, searched=trial.config["searched"])
        self._tracker.trial_start(number, params)

    def on_trial_result(self, iteration: int, trials: Any, trial: Any, result: Mapping[str, Any], **info: Any) -> None:
        """An epoch of a trial. A failed trial's report has no value: its end tells the reason."""
        if result["failed"]:
            return
        number, epoch = result["trial"], result["epoch"]
        metrics = {name: v if math.isfinite(v) else None for name, v in result["metrics"].items()}
        checkpoint = Path(trial.storage.trial_fs_path) / result["checkpoint_dir_name"]
        self._append(
            "epoch",
            number,
            epoch=epoch,
            metrics=metrics,
            value=result["value"],
            best=result["best"],
            done=result["done_by_itself"],
            seconds=result["seconds"],
            checkpoint=str(checkpoint.relative_to(self._study.folder.resolve())),
        )
        # Of an earlier run of this study, the trial's checkpoint is superseded now.
        if old := self._replaced.pop(number, None):
            shutil.rmtree(old, ignore_errors=True)
        self._tracker.epoch(number, epoch, result["metrics"], int(result.get("timestamp", time.time())) * 1000)

    def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial ends: by itself, failed or not, or stopped by ASHA."""
        last = trial.last_result
        if last.get("failed"):
            self.end(trial.config["trial"], "failed", last["reason"])
        elif last.get("done_by_itself"):
            self.end(trial.config["trial"], "complete", last["reason"])
        else:
            self.end_pruned(trial.config["trial"], last.get("epoch"))

    def on_trial_error(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
        """A trial whose process died more often than it is started again."""
        lines = Path(trial.error_file).read_text().strip().splitlines() if trial.error_file else []
        message = lines[-1] if lines else "no message"
        self.end(trial.config["trial"], "failed", f"the trial's process died: {message}")

    def end_pruned(self, number: int, epoch: int) -> None:
        """Trial `number` was stopped by ASHA after `epoch`."""
        self.end(number, "pruned", f"stopped by ASHA after epoch {epoch}")

    def end(self, number: int, state: str, reason: str) -> None:
        """Trial `number` has ended, with the last checkpoint's files for MLflow."""
        self._append("end", number, state=state, reason=reason)
        record = self._study.trial(number)
        files = []
        if record.checkpoint is not None:
            files = [path for pattern in KEPT for path in sorted(record.checkpoint.glob(pattern))]
        self._tracker.trial_end(number, state, reason, files)
