"""The table of trials as CSV (everything) and Markdown (what people compare)."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from sersearch.data.atomic import atomic
from sersearch.data.conditions import metrics_by_noise
from sersearch.markup import markdown
from sersearch.report.summary import Summary
from sersearch.study import TrialRecord


def best_metrics(summary: Summary, trial: TrialRecord) -> dict[str, Any]:
    """What was reported in the epoch that the trial's value is of; what is of a condition last, from clean to noisy."""
    metrics = summary.at_best(trial)
    return {name: metrics[name] for name in metrics_by_noise(metrics)}


def write_csv(summary: Summary, path: Path) -> None:
    """Each trial with its whole configuration and all metrics of its best epoch; column names as in the journal."""
    params = list(dict.fromkeys(name for trial in summary.trials for name in trial.params))
    metrics = metrics_by_noise(sorted({name for trial in summary.trials for name in best_metrics(summary, trial)}))
    head = ["trial", "state", "reason", "value", "best_epoch", "epochs", "seconds"]
    with atomic(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        # A scheduled learning rate is both: what the trial began with, and what it had come to.
        writer.writerow([*head, *params, *(f"{n}_at_best" if n in {*head, *params} else n for n in metrics)])
        for trial in summary.trials:
            at_best = best_metrics(summary, trial)
            fixed = [trial.number, trial.state, trial.reason, trial.value, trial.best_epoch, len(trial.epochs)]
            writer.writerow(
                [*fixed, round(trial.seconds, 3), *(trial.params.get(n) for n in params), *map(at_best.get, metrics)]
            )


def columns(summary: Summary) -> list[str]:
    """The headings of :func:`row`."""
    return ["trial", *(axis.name for axis in summary.axes), summary.label, "best epoch", "epochs", "time", "ended"]


def row(summary: Summary, trial: TrialRecord) -> list[str]:
    """One trial as people read it."""
    state = trial.state + (f": {trial.reason}" if trial.reason else "")
    epochs, best = str(len(trial.epochs)), text(summary.best_epoch(trial))
    value, time = figure(summary.value(trial)), duration(trial.seconds)
    return [str(trial.number), *_searched(summary, trial), value, best, epochs, time, state]


def _searched(summary: Summary, trial: TrialRecord) -> list[str]:
    return [text(trial.searched.get(axis.name)) for axis in summary.axes]


def write_markdown(head: list[str], rows: list[list[str]], path: Path) -> None:
    """A table, such as the trials, best first, in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    cells = [[markdown(cell) if i != 1 else cell for cell in line] for i, line in enumerate(lines)]
    with atomic(path) as temporary:
        temporary.write_text("".join(f"| {' | '.join(line)} |\n" for line in cells), "utf-8")


def ranked(summary: Summary) -> list[TrialRecord]:
    """Trials by value, best first; failed ones and those without a value last."""
    scored = sorted(summary.scored, key=lambda trial: (-summary.score(trial), trial.number))
    numbers = {trial.number for trial in scored}
    return [*scored, *(trial for trial in summary.trials if trial.number not in numbers)]


def winners(summary: Summary) -> tuple[list[str], list[list[str]]]:
    """Heading and rows of a table of what is best by the objective and by each attribute; no rows for one winner."""
    scores = [summary, *summary.winners] if summary.winners else []
    rows = [
        [s.label, figure(s.value(s.best)), str(s.best.number), *_searched(s, s.best), text(s.best_epoch(s.best))]
        for s in scores
    ]
    return ["best by", "value", "trial", *(axis.name for axis in summary.axes), "epoch"], rows


def figure(value: float | None) -> str:
    """A metric's value: four places, nothing for None."""
    return "" if value is None else f"{value:.4f}"


def text(value: Any) -> str:
    """A value as people read it: six digits at most, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.6g}"
    return ", ".join(map(text, value)) if isinstance(value, (list, tuple)) else str(value)


def duration(seconds: float) -> str:
    """Seconds as 42 s, 3 min 5 s or 2 h 10 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
