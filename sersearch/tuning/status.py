"""What is going on in a study, from its files alone: also from another shell, or after its driver has died."""

from __future__ import annotations

import time
from collections import Counter
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from sersearch.errors import printable
from sersearch.logs import log_file
from sersearch.study import SETTLE, Study, TrialRecord
from sersearch.tracking.spool import Spool
from sersearch.tuning.progress import duration, figure, label, short

RECENT_S = 3600.0
"""Of the last hour at most is what trials an hour, and the time that is left, are told by."""


def show(study: Study) -> None:
    """Print it."""
    console, trials = Console(), study.trials()
    for line in (_driver(study), _trials(study, trials), _pace(study, trials), *_waiting(study)):
        if line:
            console.print(printable(line), highlight=False, markup=False, soft_wrap=True)
    if running := [record for record in trials if record.state == "running"]:
        console.print(_table(study, running))
    for record in trials:
        if record.state == "failed":
            where = log_file(study.folder, record.number)
            log = f"; {where}" if where.is_file() else ""
            line = printable(f"Trial {record.number} failed: {record.reason}{log}")
            console.print(line, highlight=False, markup=False, soft_wrap=True)
    if any(record.state == "failed" for record in trials):
        line = printable(f"`{study.again('--retry-failed')}` runs failed trials again")
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _driver(study: Study) -> str:
    """Who runs it, or why nobody does."""
    driver, again = study.driver, f"`{study.again()}` goes on"
    if driver is not None and driver.get("purpose") == SETTLE:
        return f"Study {study.name}: its driver has ended, and what it left is being settled; {again}"
    if driver is not None:
        return f"Study {study.name}: is run by process {driver.get('pid')} on {driver.get('host')}"
    state = study.meta["state"]
    if state == "finished":
        return f"Study {study.name}: finished"
    return f"Study {study.name}: {'its driver was killed' if state == 'running' else state}; {again}"


def _trials(study: Study, trials: list[TrialRecord]) -> str:
    counts = Counter(record.state for record in trials)
    told = [f"{counts[state]} {state}" for state in ("complete", "pruned", "failed", "interrupted", "running")]
    told = [text for text in told if not text.startswith("0 ")]
    done = [record for record in trials if record.value is not None and record.state != "failed"]
    metric = label(study.meta["objective"]["metric"])
    text = f"{len(trials)} of {study.meta['trials']} trials begun{': ' if told else ''}{', '.join(told)}"
    if not done:
        return text
    best = max(done, key=lambda record: (record.value, -record.number))
    return f"{text}; best: trial {best.number}, development {metric} {figure(best.value)}"


def _pace(study: Study, trials: list[TrialRecord]) -> str:
    """Trials an hour since the driver began, and how long the rest takes at that."""
    if study.driver is None:
        return ""
    now, begun = time.time(), (study.folder / ".lock").stat().st_mtime
    since = max(begun, now - RECENT_S)
    ends = sum(record.ended is not None and record.ended > since for record in trials)
    left = study.meta["trials"] - sum(record.ended is not None for record in trials)
    if not ends or not left:
        return ""
    each = (now - since) / ends
    return f"{3600 / each:.0f} trials an hour, about {duration(each * left)} left"


def _waiting(study: Study) -> list[str]:
    """What MLflow hasn't got, and what it was warned of."""
    events = len(Spool(study.spool).load())
    waiting = [f"{events} events wait to be sent to MLflow at {study.meta['tracking']['uri']}"] if events else []
    return waiting + [f"Warning: {warning}" for warning in study.meta.get("warnings", [])]


def _table(study: Study, running: list[TrialRecord]) -> Table:
    metric = label(study.meta["objective"]["metric"])
    table = Table(title="running", title_justify="left")
    for name in ("trial", *running[0].searched, "epoch", metric, "last epoch"):
        table.add_column(escape(name), justify="right", overflow="fold")
    for record in running:
        last: dict[str, Any] = record.epochs[-1] if record.epochs else {}
        ago = f"{duration(max(0.0, time.time() - last['time']))} ago" if last else "none yet"
        values = [escape(short(value)) for value in record.searched.values()]
        table.add_row(str(record.number), *values, str(last.get("epoch", "")), figure(last.get("value")), ago)
    return table


__all__ = ["show"]
