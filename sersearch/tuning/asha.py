"""ASHA whose rungs survive a restart: Tune doesn't save a scheduler's state, the journal has what it is made of."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from sersearch.study import TrialRecord
from sersearch.tuning.space import SearchSpace


class ReplayedASHA(AsyncHyperBandScheduler):  # type: ignore[misc]
    """Asynchronous successive halving in one bracket; rungs know trials by our numbers, which outlive a driver."""

    def __init__(self, space: SearchSpace, history: Sequence[TrialRecord]) -> None:
        super().__init__(
            time_attr="epoch",
            max_t=space.epochs,
            grace_period=space.pruning.grace_epochs,
            reduction_factor=space.pruning.reduction_factor,
            stop_last_trials=False,
        )
        self.stopped: set[int] = set()
        """Trials of `history` that their last epoch didn't let go on."""
        events = [(e["order"], record.number, e) for record in history for e in record.epochs]
        for _, number, event in sorted(events, key=lambda e: e[0]):
            if event["value"] is not None:
                decision = self._rung(number, event["epoch"], event["value"])
                if decision == TrialScheduler.STOP and not event.get("done"):
                    self.stopped.add(number)

    def _rung(self, number: int, epoch: int, value: float) -> str:
        (bracket,) = self._brackets
        decision: str = bracket.on_result(SimpleNamespace(trial_id=number), epoch, value)
        return decision

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> str:
        """STOP at a rung that the trial isn't good enough for. A failed or finished trial ends by itself."""
        if result["failed"] or result["done_by_itself"] or not math.isfinite(result["value"]):
            return str(TrialScheduler.CONTINUE)
        return self._rung(result["trial"], result["epoch"], result["value"])

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Mapping[str, Any]) -> None:
        """A finished trial's last value counts for the rungs that it reached."""
        if result.get("done_by_itself") and not result["failed"]:
            self._rung(result["trial"], result["epoch"], result["value"])
        self._trial_info.pop(trial.trial_id, None)


def scheduler(space: SearchSpace, history: Sequence[TrialRecord]) -> TrialScheduler:
    """The scheduler of `space`, as it was after the trials of `history`."""
    return ReplayedASHA(space, history) if space.pruning.kind == "asha" else FIFOScheduler()


def overdue(space: SearchSpace, history: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Trials that ASHA stopped and a kill kept from ending: a resume must not let them go on."""
    if space.pruning.kind != "asha":
        return []
    stopped = ReplayedASHA(space, history).stopped
    return [record for record in history if record.number in stopped and record.unfinished]
