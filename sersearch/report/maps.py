"""The objective against what was searched: heat maps of real points, curves, importance. Nothing is interpolated."""

from __future__ import annotations

import math
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.errors import StudyError
from sersearch.report.summary import Axis, Summary
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST_TRIALS = 8
"""Completed trials from which importance is estimated."""
_MAP = "viridis"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def heat_map(summary: Summary, x: Axis, y: Axis) -> Figure:
    """The best value at each tried pair of two hyperparameters: cells on a grid, points where one is continuous."""
    return _points(summary, x, y) if x.values is None or y.values is None else _cells(summary, x, y)


def _cells(summary: Summary, x: Axis, y: Axis) -> Figure:
    columns, rows = len(x.values or ()), len(y.values or ())
    cells: dict[tuple[int, int], list[TrialRecord]] = {}
    for t in summary.trials:
        if x.name in t.searched and y.name in t.searched:
            cells.setdefault((y.place(t.searched[y.name]), x.place(t.searched[x.name])), []).append(t)
    chosen = {place: _representative(summary, trials) for place, trials in cells.items()}
    values = np.full((rows, columns), np.nan)
    for place, trial in chosen.items():
        values[place] = np.nan if trial is None else _value(summary, trial)
    figure = _figure(max(4.2, 0.56 * columns + 1.9), max(3.2, 0.46 * rows + 1.6))
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap=_MAP, origin="lower", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), trial in chosen.items():
        if trial is None:
            if all(t.state == "failed" for t in cells[row, column]):  # others have only not got there yet
                axes.plot([column], [row], "x", color="tab:red", markersize=7)
            continue
        share = (values[row, column] - low) / (high - low) if high > low else 1.0
        color, whole = "black" if share > 0.6 else "white", trial.state == "complete"
        _cell(axes, row, column, values[row, column], whole, len(cells[row, column]), color)
        if trial.number == summary.best.number:
            _frame(axes, row, column)
    axes.set_xticks(range(columns), [_tick(v) for v in x.values or ()], rotation=0 if columns <= 12 else 90)
    axes.set_yticks(range(rows), [_tick(v) for v in y.values or ()])
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    _name(axes, x, y)
    figure.colorbar(image, ax=axes, label=summary.label)
    return figure


def _representative(summary: Summary, trials: list[TrialRecord]) -> TrialRecord | None:
    """The trial that a cell shows: the best; None if none has a value."""
    scored = [trial for trial in trials if summary.value(trial) is not None and trial.state != "failed"]
    return max(scored, key=lambda t: (_value(summary, t), -t.number), default=None)


def _cell(axes: Axes, row: int, column: int, value: float, whole: bool, count: int, color: str) -> None:
    from matplotlib.patches import Rectangle

    if not whole:
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=color, alpha=0.28, linewidth=0))
    text = f"{value:.3f}" + (f"\nn = {count}" if count > 1 else "")
    axes.text(column, row, text, ha="center", va="center", fontsize=7, color=color)


def _frame(axes: Axes, row: int, column: int) -> None:
    from matplotlib.patches import Rectangle

    corner = (column - 0.5, row - 0.5)
    axes.add_patch(Rectangle(corner, 1, 1, fill=False, edgecolor="tab:red", linewidth=2.5, zorder=5))


def _points(summary: Summary, x: Axis, y: Axis) -> Figure:
    figure = _figure(5.4, 4.2)
    axes = figure.add_subplot()
    scored = [t for t in summary.scored if x.name in t.searched and y.name in t.searched]
    values = [_value(summary, t) for t in scored]
    low, high = min(values), max(values)
    for whole, marker in ((True, "o"), (False, "^")):
        shown = [t for t in scored if (t.state == "complete") == whole]
        points = axes.scatter(
            [t.searched[x.name] for t in shown],
            [t.searched[y.name] for t in shown],
            c=[_value(summary, t) for t in shown],
            cmap=_MAP,
            vmin=low,
            vmax=high,
            marker=marker,
            s=55,
            edgecolors="0.3",
            linewidths=0.5,
            zorder=3,
        )
    best = summary.best.searched
    if x.name in best and y.name in best:
        axes.plot([best[x.name]], [best[y.name]], "o", ms=13, mfc="none", mec="tab:red", mew=2, zorder=4)
    lost = [t for t in summary.failed if x.name in t.searched and y.name in t.searched]
    axes.plot([t.searched[x.name] for t in lost], [t.searched[y.name] for t in lost], "x", color="tab:red")
    for axis, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        scale("log" if axis.log else "linear")
    axes.grid(color="0.92")
    _name(axes, x, y)
    figure.colorbar(points, ax=axes, label=summary.label)
    return figure


def parameter_curve(summary: Summary, x: Axis) -> Figure:
    """The value of each trial against the one hyperparameter that was searched."""
    figure = _figure(5.4, 3.6)
    axes = figure.add_subplot()
    named = x.values is not None and not x.numeric
    for whole, color, label in ((True, "tab:blue", "complete"), (False, "0.45", "pruned or unfinished")):
        shown = [t for t in summary.scored if (t.state == "complete") == whole and x.name in t.searched]
        points = sorted((x.place(v) if named else v, _value(summary, t)) for t in shown for v in [t.searched[x.name]])
        style = ("o-" if not named else "o") if whole else "^"
        at, values = [p[0] for p in points], [p[1] for p in points]
        axes.plot(at, values, style, color=color, mfc=color if whole else "white", linewidth=0.8, label=label)
    best = summary.best.searched[x.name]
    at_best = x.place(best) if named else best
    axes.plot([at_best], [_value(summary, summary.best)], "o", ms=13, mfc="none", mec="tab:red", mew=2, label="best")
    if named:
        axes.set_xticks(range(len(x.values or ())), [str(value) for value in x.values or ()])
    elif x.log:
        axes.set_xscale("log")
    axes.set_xlabel(x.name)
    axes.set_ylabel(summary.label)
    axes.grid(color="0.92")
    axes.legend(fontsize=8)
    return figure


def importance(summary: Summary) -> dict[str, float]:
    """Share of the completed trials' variance that each searched hyperparameter explains (fANOVA, Hutter et al. 2014).

    Raises :class:`StudyError` with the reason when there is too little to estimate it from.
    """
    trials = [t for t in summary.complete if all(axis.name in t.searched for axis in summary.axes)]
    if len(trials) < LEAST_TRIALS:
        raise StudyError(f"{len(trials)} completed trials; importance needs {LEAST_TRIALS} or more")
    axes = [axis for axis in summary.axes if len({str(t.searched[axis.name]) for t in trials}) > 1]
    if len(axes) < 2:
        raise StudyError("fewer than two hyperparameters differ between the completed trials")
    if len({summary.value(t) for t in trials}) == 1:
        raise StudyError("all completed trials have the same value")
    shares = _fanova(summary, trials, axes)
    return dict(sorted(shares.items(), key=lambda item: -item[1]))


def _fanova(summary: Summary, trials: list[TrialRecord], axes: list[Axis]) -> dict[str, float]:
    import optuna

    distributions: dict[str, Any] = {}
    for axis in axes:
        seen = [t.searched[axis.name] for t in trials]
        if not axis.numeric:
            choices = tuple(dict.fromkeys(map(str, seen)))
            distributions[axis.name] = optuna.distributions.CategoricalDistribution(choices)
        else:
            distributions[axis.name] = optuna.distributions.FloatDistribution(min(seen), max(seen), log=axis.log)
    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        study = optuna.create_study(direction="maximize")
        for trial in trials:
            params = {a.name: float(v) if a.numeric else str(v) for a in axes for v in [trial.searched[a.name]]}
            value = summary.value(trial)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    finally:
        optuna.logging.set_verbosity(verbosity)
    return {name: float(share) for name, share in shares.items()}


def importance_chart(shares: dict[str, float]) -> Figure:
    """Bars, the most important hyperparameter on top."""
    figure = _figure(5.4, 0.42 * len(shares) + 1.0)
    axes = figure.add_subplot()
    bars = axes.barh(list(shares), list(shares.values()), color="tab:blue", height=0.6)
    axes.bar_label(bars, [f"{share:.2f}" for share in shares.values()], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.1)
    axes.set_xlabel("share of the explained variance (fANOVA)")
    return figure


def _name(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(x.name)
    axes.set_ylabel(y.name)


def _value(summary: Summary, trial: TrialRecord) -> float:
    value = summary.value(trial)
    return math.nan if value is None else value


def _tick(value: Any) -> str:
    return f"{value:.1f}" if isinstance(value, float) and value.is_integer() else f"{value:g}"
