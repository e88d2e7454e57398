"""What happened by epoch: objective and losses, over the trials that were still alive and of the best one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.figures import BLUE, CYCLE, ORANGE, SOFT, grid, new_figure, plain, whole_numbers
from sersearch.report.picture import Picture
from sersearch.report.summary import Summary, condition_name, counts
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_SIDES = (("train", "training", ORANGE, "--"), ("dev", "development", BLUE, "-"))
_MOST_LINES = 200
"""Beyond, lines of trials are pixels in the vector formats, too."""


def learning_picture(summary: Summary) -> Picture:
    """:func:`learning_curves` in the report."""
    n = counts([trial for trial in summary.trials if trial.epochs])
    caption = (
        f"{summary.label} by epoch. Mean and standard deviation are over the trials still running at each epoch, whose "
        f"number is below: pruning leaves the better ones, so the mean rises for that reason, too. {summary.provenance}"
    )
    alt = f"{summary.label} by epoch of {n}; the best trial reaches {summary.score(summary.best):.3f}"
    return Picture("learning_curves", "Learning curves", caption, learning_curves(summary), alt)


def learning_curves(summary: Summary) -> Figure:
    """The objective by epoch: a thin line a trial, their mean and deviation, and below how many trials that is over."""
    from matplotlib.ticker import MaxNLocator

    figure = new_figure(6.4, 4.6)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    alive = [trial for trial in summary.trials if trial.epochs]
    table = by_epoch(alive, summary.metric, lambda event: _objective(summary, event))
    epochs = np.arange(1, table.shape[1] + 1)
    width, raster = 0.7 if len(alive) <= _MOST_LINES else 0.3, len(alive) > _MOST_LINES
    for trial, row in zip(alive, table, strict=True):
        if trial.number != summary.best.number:
            above.plot(epochs, row, color=SOFT, linewidth=width, marker=_marker(row), rasterized=raster)
    count = _band(above, table, BLUE, "mean ± standard deviation", highest=1.0)
    _best_line(above, summary, alive, table)
    above.plot([], [], color=SOFT, linewidth=0.7, label="other trials")
    above.set_ylabel(plain(summary.label))
    above.legend(fontsize=8, loc="lower right")
    grid(above)
    below.bar(epochs, count, width=0.8, color="0.8")
    below.set_ylim(0, count.max() * 1.25)
    below.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    below.set_ylabel("trials")
    below.set_xlabel("epoch")
    whole_numbers(below, len(epochs))
    return figure


def condition_picture(summary: Summary) -> Picture | None:
    """:func:`condition_curves` in the report; None for a study of one condition."""
    if not summary.conditions:
        return None
    how = (
        "over all conditions together, by which the trial and its epoch were chosen, and in each of them."
        if summary.mixed
        else "on clean speech, by which the trial and its epoch were chosen, and on noisy copies of the same "
        "utterances, by which nothing was."
    )
    title = f"Development set by condition, best trial ({summary.best.number})"
    caption = f"{summary.label} by epoch: {how} {summary.provenance}"
    return Picture("conditions", title, caption, condition_curves(summary))


def condition_curves(summary: Summary) -> Figure:
    """The best trial's metric by epoch, a line a condition of the development set."""
    first, selects = ("all", "all conditions") if summary.mixed else ("clean", "clean speech")
    best, names = summary.best, {first: summary.metric, **summary.conditions}
    figure = new_figure(6.4, 3.6)
    axes = figure.add_subplot()
    tables = [by_epoch([best], key)[0] for key in names.values()]
    epochs = np.arange(1, len(tables[0]) + 1)
    markers = "osv^DPX"
    for position, (name, values) in enumerate(zip(names, tables, strict=True)):
        color = CYCLE[(position - 1) % len(CYCLE)] if position else "black"
        marker = markers[position % len(markers)]
        axes.plot(
            epochs, values, color=color, linewidth=1.3, label=plain(condition_name(name)), marker=marker, markersize=3
        )
    _chosen(axes, summary, f"best epoch, on {selects}")
    axes.set_ylabel(plain(summary.label))
    axes.set_xlabel("epoch")
    axes.legend(fontsize=8)
    grid(axes)
    whole_numbers(axes, len(epochs))
    return figure


def loss_names(summary: Summary) -> dict[str, str]:
    """Losses that training or development reports, and what else is watched in training, by what follows the part:
    `loss_reconstruction`, `loss_emotion`, `nmi`, ...; as words.
    """
    found = {name for trial in summary.trials for event in trial.epochs for name in event["metrics"]}
    names = {name.partition("_")[2] for name in found if name.startswith(("train_", "dev_loss_"))}
    return {name: name.removeprefix("loss_").replace("_", " ") for name in sorted(names)}


def loss_picture(summary: Summary) -> Picture | None:
    """:func:`loss_curves` in the report; None where no loss was told."""
    names = loss_names(summary)
    if not names:
        return None
    caption = (
        "Each loss on training and development data, and what else was watched in training: mean and standard "
        f"deviation over the trials still running at each epoch, and of what else was watched the best trial. "
        f"{summary.provenance}"
    )
    alt = f"Training and development by epoch: {', '.join(names.values())}"
    return Picture("losses", "Losses by epoch", caption, loss_curves(summary), alt)


def loss_curves(summary: Summary) -> Figure:
    """Each of :func:`loss_names` by epoch: mean and deviation over the trials alive, both sides in one panel.

    What is watched beside losses often depends on what is searched, as the share of the smallest of K clusters does
    on K: there the best trial has a line of its own.
    """
    alive = [trial for trial in summary.trials if trial.epochs]

    def draw(axes: Axes, name: str) -> None:
        for side, label, color, _ in _SIDES:
            table = by_epoch(alive, f"{side}_{name}")
            if np.isfinite(table).any():
                _band(axes, table, color, label)
                if not name.startswith("loss_"):
                    _best_line(axes, summary, alive, table)

    return _panels(loss_names(summary), draw, max(len(trial.epochs) for trial in alive))


def best_picture(summary: Summary) -> Picture | None:
    """The best trial's losses on training and development data; None where none was told."""
    names, best = loss_names(summary), summary.best
    if not names:
        return None

    def draw(axes: Axes, name: str) -> None:
        for side, label, color, style in _SIDES:
            values = by_epoch([best], f"{side}_{name}")[0]
            if np.isfinite(values).any():
                epochs = np.arange(1, len(values) + 1)
                axes.plot(epochs, values, color=color, linestyle=style, label=label, marker=_marker(values))
        _chosen(axes, summary, "best epoch")

    caption = (
        f"The best trial's losses on training and development data. The line is its best epoch, "
        f"{summary.best_epoch(best)} of {len(best.epochs)}. One trial: no deviation. {summary.provenance}"
    )
    title = f"Training of the best trial ({best.number})"
    alt = f"Training and development losses of trial {best.number} by epoch: {', '.join(names.values())}"
    return Picture("best_trial", title, caption, _panels(names, draw, len(best.epochs)), alt)


def _panels(names: dict[str, str], draw: Callable[[Axes, str], None], epochs: int) -> Figure:
    """A panel for each of `names`, titled with its words."""
    columns = min(3, len(names))
    rows = math.ceil(len(names) / columns)
    figure = new_figure(3.1 * columns + 0.4, 2.4 * rows + 0.3)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    for (name, words), axes in zip(names.items(), panels, strict=False):
        draw(axes, name)
        axes.set_title(plain(words), fontsize=9)
        axes.set_xlabel("epoch", fontsize=8)
        axes.set_ylabel("loss" if name.startswith("loss_") else "value", fontsize=8)
        axes.tick_params(labelsize=7)
        grid(axes)
        whole_numbers(axes, epochs)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(fontsize=7)
    for axes in panels[len(names) :]:
        axes.set_axis_off()
    return figure


def _objective(summary: Summary, event: dict[str, Any]) -> float | None:
    value = event["value"] if summary.by is None else event["metrics"].get(summary.by)
    return None if value is None else float(value)


def by_epoch(
    trials: Sequence[TrialRecord], metric: str, read: Callable[[dict[str, Any]], float | None] | None = None
) -> np.ndarray:
    """A row a trial, a column an epoch, of `metric` or what `read` makes of an epoch; NaN where a trial has none."""
    table = np.full((len(trials), max(event["epoch"] for trial in trials for event in trial.epochs)), np.nan)
    for row, trial in zip(table, trials, strict=True):
        for event in trial.epochs:
            value = event["metrics"].get(metric) if read is None else read(event)
            row[event["epoch"] - 1] = np.nan if value is None else value
    return table


def _band(axes: Axes, table: np.ndarray, color: str, label: str, highest: float = np.inf) -> np.ndarray:
    """Draw mean and deviation over the rows that are finite at each epoch; return how many these are.

    Where no value is below 0, the band isn't either; nor is it above the `highest` that there can be.
    """
    finite = np.isfinite(table)
    count: np.ndarray = finite.sum(axis=0)
    over = np.maximum(count, 1)
    mean = np.where(count > 0, np.where(finite, table, 0).sum(axis=0) / over, np.nan)
    spread = np.sqrt(np.where(finite, (table - mean) ** 2, 0).sum(axis=0) / np.maximum(count - 1, 1))
    epochs = np.arange(1, table.shape[1] + 1)
    style = "--" if color == ORANGE else "-"
    axes.plot(epochs, mean, color=color, lw=1.6, linestyle=style, label=label, marker=_marker(mean), zorder=4)
    floor = -np.inf if (table[finite] < 0).any() else 0.0
    low, high = np.maximum(mean - spread, floor), np.minimum(mean + spread, max(highest, np.nanmax(mean)))
    axes.fill_between(epochs, low, high, color=color, alpha=0.25, linewidth=0, zorder=3)
    return count


def _best_line(axes: Axes, summary: Summary, trials: Sequence[TrialRecord], table: np.ndarray) -> None:
    """Draw the best trial's row, unless it is empty, of a table with a row for each of `trials`."""
    row = table[[trial.number for trial in trials].index(summary.best.number)]
    if not np.isfinite(row).any():
        return
    label = f"best trial ({summary.best.number})"
    axes.plot(np.arange(1, len(row) + 1), row, color="black", lw=1.3, label=label, marker=_marker(row), zorder=5)


def _chosen(axes: Axes, summary: Summary, label: str) -> None:
    if (epoch := summary.best_epoch(summary.best)) is not None:
        axes.axvline(epoch, color="0.5", linewidth=0.9, linestyle=":", label=label)


def _marker(values: np.ndarray) -> str:
    """A single value is a point: it has no line."""
    return "." if np.isfinite(values).sum() == 1 else ""
