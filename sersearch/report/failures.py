"""Trials that failed, by their reasons, with links to what they logged."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

from sersearch.report import tables
from sersearch.report.summary import Summary
from sersearch.study import TrialRecord

_MOST = 24
"""Trials of one reason that are named."""


def failures(summary: Summary, page: Path) -> list[dict[str, object]]:
    """By reason, the most frequent first: trials with links to their logs from the folder `page`, how many more there
    are, and what the first was.
    """
    found: dict[str, list[TrialRecord]] = {}
    for trial in summary.failed:
        found.setdefault(trial.reason or "unknown", []).append(trial)
    return [
        {
            "reason": reason,
            "trials": [(str(trial.number), _log(summary, trial, page)) for trial in trials[:_MOST]],
            "more": max(len(trials) - _MOST, 0),
            "example": ", ".join(f"{name} = {tables.text(v)}" for name, v in trials[0].searched.items()),
        }
        for reason, trials in sorted(found.items(), key=lambda item: -len(item[1]))
    ]


def _log(summary: Summary, trial: TrialRecord, page: Path) -> str:
    """A link to a trial's log; empty where it has none."""
    path = summary.study.folder / "logs" / f"trial-{trial.number:04d}.jsonl"
    return quote(os.path.relpath(path.resolve(), page.resolve())) if path.is_file() else ""
