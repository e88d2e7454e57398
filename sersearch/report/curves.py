"""What happened by epoch: the objective and the losses, over the trials that were still alive at each epoch."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.report.summary import Summary
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDES = (("train", "training", "tab:orange"), ("dev", "development", "tab:blue"))


def learning_curves(summary: Summary) -> Figure:
    """The objective by epoch: a thin line a trial, their mean and deviation, and below how many trials that is over."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(6.4, 4.6), dpi=150, layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    alive = [trial for trial in summary.trials if trial.epochs]
    table = _by_epoch(alive, lambda event: event["value"])
    epochs = np.arange(1, table.shape[1] + 1)
    for trial, row in zip(alive, table, strict=True):
        if trial.number != summary.best.number:
            above.plot(epochs, row, color="0.72", linewidth=0.7, marker=_marker(row))
    count = _band(above, table, "tab:blue", "mean ± standard deviation")
    _best_line(above, summary, alive, table)
    above.plot([], [], color="0.72", linewidth=0.7, label="other trials")
    above.set_ylabel(summary.label)
    above.legend(fontsize=8, loc="lower right")
    above.grid(color="0.92")
    below.bar(epochs, count, width=0.8, color="0.8")
    below.set_ylim(0, count.max() * 1.25)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set_ylabel("trials")
    below.set_xlabel("epoch")
    _epoch_axis(below, len(epochs))
    return figure


def condition_curves(summary: Summary) -> Figure:
    """The best trial's metric by epoch, a line a condition of the development set."""
    from matplotlib.figure import Figure

    first, selects = ("all", "all conditions") if summary.mixed else ("clean", "clean speech")
    best, names = summary.best, {first: summary.metric, **summary.conditions}
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    tables = [_by_epoch([best], lambda event, key=key: event["metrics"].get(key))[0] for key in names.values()]  # type: ignore[misc]
    epochs = np.arange(1, len(tables[0]) + 1)
    for position, (name, values) in enumerate(zip(names, tables, strict=True)):
        color = f"C{position}" if position else "black"
        axes.plot(epochs, values, color=color, linewidth=1.3, label=name, marker=_marker(values))
    if (chosen := summary.best_epoch(best)) is not None:
        axes.axvline(chosen, color="0.6", linewidth=0.8, linestyle="--", label=f"best epoch, on {selects}")
    axes.set_ylabel(summary.label)
    axes.set_xlabel("epoch")
    axes.legend(fontsize=8)
    axes.grid(color="0.92")
    _epoch_axis(axes, len(epochs))
    return figure


def loss_names(summary: Summary) -> dict[str, str]:
    """Losses that training or development reports, and what else is watched in training, by what follows the part:
    `loss_reconstruction`, `loss_emotion`, `nmi`, ...; as words.
    """
    found = {name for trial in summary.trials for event in trial.epochs for name in event["metrics"]}
    names = {name.partition("_")[2] for name in found if name.startswith(("train_", "dev_loss_"))}
    return {name: name.removeprefix("loss_").replace("_", " ") for name in sorted(names)}


def loss_curves(summary: Summary) -> Figure:
    """Each of :func:`loss_names` by epoch: mean and deviation over the trials alive, both sides in one panel.

    What is watched beside losses often depends on what is searched, as the share of the smallest of K clusters does
    on K: there the best trial has a line of its own.
    """
    from matplotlib.figure import Figure

    names = loss_names(summary)
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = Figure(figsize=(3.1 * columns + 0.4, 2.4 * rows + 0.3), dpi=150, layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    alive = [trial for trial in summary.trials if trial.epochs]
    for (name, words), axes in zip(names.items(), panels, strict=False):
        for side, label, color in _SIDES:
            table = _by_epoch(alive, lambda event, key=f"{side}_{name}": event["metrics"].get(key))  # type: ignore[misc]
            if np.isfinite(table).any():
                _band(axes, table, color, label)
                if not name.startswith("loss_"):
                    _best_line(axes, summary, alive, table)
        axes.set_title(words, fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.grid(color="0.92")
        _epoch_axis(axes, max(event["epoch"] for trial in alive for event in trial.epochs))
        axes.legend(fontsize=7)
    for axes in list(figure.axes)[len(names) :]:
        axes.set_axis_off()
    return figure


def _by_epoch(trials: list[TrialRecord], read: Callable[[dict[str, Any]], float | None]) -> np.ndarray:
    """A row a trial, a column an epoch; NaN where a trial has none."""
    table = np.full((len(trials), max(event["epoch"] for trial in trials for event in trial.epochs)), np.nan)
    for row, trial in zip(table, trials, strict=True):
        for event in trial.epochs:
            value = read(event)
            row[event["epoch"] - 1] = np.nan if value is None else value
    return table


def _band(axes: Axes, table: np.ndarray, color: str, label: str) -> np.ndarray:
    """Draw mean and deviation over the rows that are finite at each epoch; return how many these are.

    Where no value is below 0, the band isn't either.
    """
    finite = np.isfinite(table)
    count: np.ndarray = finite.sum(axis=0)
    over = np.maximum(count, 1)
    mean = np.where(count > 0, np.where(finite, table, 0).sum(axis=0) / over, np.nan)
    spread = np.sqrt(np.where(finite, (table - mean) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1))
    epochs = np.arange(1, table.shape[1] + 1)
    axes.plot(epochs, mean, color=color, linewidth=1.6, label=label, marker=_marker(mean))
    floor = -np.inf if (table[finite] < 0).any() else 0.0
    axes.fill_between(epochs, np.maximum(mean - spread, floor), mean + spread, color=color, alpha=0.18, linewidth=0)
    return count


def _best_line(axes: Axes, summary: Summary, trials: list[TrialRecord], table: np.ndarray) -> None:
    """Draw the best trial's row, unless it is empty, of a table with a row for each of `trials`."""
    row = table[[trial.number for trial in trials].index(summary.best.number)]
    if not np.isfinite(row).any():
        return
    label = f"best trial ({summary.best.number})"
    axes.plot(np.arange(1, len(row) + 1), row, color="tab:red", linewidth=1.3, label=label, marker=_marker(row))


def _marker(values: np.ndarray) -> str:
    """A single value is a point: it has no line."""
    return "." if np.isfinite(values).sum() == 1 else ""


def _epoch_axis(axes: Axes, epochs: int) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, epochs + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))
