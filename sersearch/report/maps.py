"""The objective against what was searched: heat maps of real points, and curves. Nothing is interpolated."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.figures import BLUE, MAP, RED, grid, new_figure, plain, tick
from sersearch.report.picture import Picture, slug
from sersearch.report.summary import Axis, Summary, same
from sersearch.report.tables import text
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_MAPS = 10
_MARKS = "the star is the paper's own point where it lies in the space; x marks trials that failed."


def map_pictures(summary: Summary, suffix: str = "") -> Iterator[Picture]:
    """Heat maps of the searched pairs, or a curve where there is one hyperparameter; names end in `suffix`."""
    if len(summary.axes) == 1 and summary.scored:
        (axis,) = summary.axes
        caption = (
            "Each point is a trial; triangles were pruned or did not finish. The dotted line is the paper's own value. "
            f"{summary.provenance}"
        )
        alt = f"{summary.label} against {axis.name}; {_best(summary)}"
        title, figure = f"{summary.label} over {axis.name}", parameter_curve(summary, axis)
        yield Picture(f"curve_{slug(axis.name)}{suffix}", title, caption, figure, alt)
    others = "; with other hyperparameters searched, too, the best over them" if len(summary.axes) > 2 else ""
    count = len(summary.axes) * (len(summary.axes) - 1) // 2
    left = f" The first {MOST_MAPS} of {count} pairs are shown." if count > MOST_MAPS else ""
    for x, y in islice(summary.pairs, MOST_MAPS):
        if not any(x.name in t.searched and y.name in t.searched for t in summary.scored):
            continue
        if x.values is None or y.values is None:
            how = f"Each point is a trial; triangles were pruned or did not finish. The ring is the best; {_MARKS}"
        else:
            how = (
                f"Each coloured cell was tried and shows its best value{others}; blank cells were not tried, and "
                "nothing is interpolated. Hatched cells come from trials that were pruned or did not finish. "
                f"The best is framed in black and white; {_MARKS}"
            )
        alt = f"Heat map of {summary.label} over {x.name} and {y.name}; {_best(summary)}"
        name, title = f"heatmap_{slug(x.name)}_{slug(y.name)}{suffix}", f"{summary.label} over {x.name} and {y.name}"
        yield Picture(name, title, f"{how}{left} {summary.provenance}", heat_map(summary, x, y), alt)


def _best(summary: Summary) -> str:
    at = ", ".join(f"{name} {text(value)}" for name, value in summary.best.searched.items())
    return f"the best is {summary.score(summary.best):.3f} at {at}"


def heat_map(summary: Summary, x: Axis, y: Axis) -> Figure:
    """The best value at each tried pair of two hyperparameters: cells on a grid, points where one is continuous."""
    return _points(summary, x, y) if x.values is None or y.values is None else _cells(summary, x, y)


# --- cells ------------------------------------------------------------------------------------------------------------


def _cells(summary: Summary, x: Axis, y: Axis) -> Figure:
    columns, rows = len(x.values or ()), len(y.values or ())
    cells: dict[tuple[int, int], list[TrialRecord]] = {}
    for t in summary.trials:
        if x.name in t.searched and y.name in t.searched:
            cells.setdefault((y.place(t.searched[y.name]), x.place(t.searched[x.name])), []).append(t)
    chosen = {place: _representative(summary, trials) for place, trials in cells.items()}
    values = np.full((rows, columns), np.nan)
    for place, trial in chosen.items():
        values[place] = np.nan if trial is None else summary.score(trial)
    figure = new_figure(max(4.2, 0.56 * columns + 1.9), max(3.2, 0.46 * rows + 1.6))
    axes = figure.add_subplot()
    image = axes.imshow(values, cmap=MAP, origin="lower", aspect="auto")
    low, high = np.nanmin(values), np.nanmax(values)
    for (row, column), trial in chosen.items():
        if trial is None:
            if all(t.state == "failed" for t in cells[row, column]):  # others have only not got there yet
                axes.plot([column], [row], "x", color=RED, markersize=7)
            continue
        share = (values[row, column] - low) / (high - low) if high > low else 1.0
        colour, whole = "black" if share > 0.6 else "white", trial.state == "complete"
        _cell(axes, row, column, values[row, column], whole, len(cells[row, column]), colour)
        if trial.number == summary.best.number:
            _frame(axes, row, column)
    _star_cell(axes, summary, x, y)
    _ticks(axes, x, y)
    axes.set_xticks(np.arange(columns + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(rows + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="minor", length=0)
    _name(axes, x, y)
    figure.colorbar(image, ax=axes, label=plain(summary.label))
    return figure


def _representative(summary: Summary, trials: Sequence[TrialRecord]) -> TrialRecord | None:
    """The trial that a cell shows: the best; None if none has a value."""
    scored = [trial for trial in trials if summary.value(trial) is not None and trial.state != "failed"]
    return max(scored, key=lambda t: (summary.score(t), -t.number), default=None)


def _cell(axes: Axes, row: int, column: int, value: float, whole: bool, count: int, colour: str) -> None:
    from matplotlib.patches import Rectangle

    if not whole:
        corner = (column - 0.5, row - 0.5)
        axes.add_patch(Rectangle(corner, 1, 1, fill=False, hatch="////", edgecolor=colour, alpha=0.28, linewidth=0))
    said = f"{value:.3f}" + (f"\nn = {count}" if count > 1 else "")
    axes.text(column, row, said, ha="center", va="center", fontsize=7, color=colour)


def _frame(axes: Axes, row: int, column: int) -> None:
    """Black about white: seen on every colour, by every reader."""
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import Normal, Stroke

    frame = Rectangle((column - 0.46, row - 0.46), 0.92, 0.92, fill=False, edgecolor="white", linewidth=1.4, zorder=5)
    frame.set_path_effects([Stroke(linewidth=4, foreground="black"), Normal()])
    axes.add_patch(frame)


def _star_cell(axes: Axes, summary: Summary, x: Axis, y: Axis) -> None:
    places = [
        [i for i, value in enumerate(axis.values or ()) if axis.name in summary.paper and same(value, own)]
        for axis in (x, y)
        for own in [summary.paper.get(axis.name)]
    ]
    if all(places):
        _star(axes, places[0][0] - 0.34, places[1][0] + 0.3)


def _star(axes: Axes, x: Any, y: Any) -> None:
    axes.plot([x], [y], "*", ms=9, mfc="white", mec="black", mew=0.8, zorder=6)


# --- points -----------------------------------------------------------------------------------------------------------


def _points(summary: Summary, x: Axis, y: Axis) -> Figure:
    figure = new_figure(5.4, 4.2)
    axes = figure.add_subplot()
    scored = [t for t in summary.scored if x.name in t.searched and y.name in t.searched]
    values = [summary.score(t) for t in scored]
    for whole, marker in ((True, "o"), (False, "^")):
        shown = [t for t in scored if (t.state == "complete") == whole]
        points = axes.scatter(
            [_at(x, t.searched[x.name]) for t in shown],
            [_at(y, t.searched[y.name]) for t in shown],
            c=[summary.score(t) for t in shown],
            cmap=MAP,
            vmin=min(values),
            vmax=max(values),
            marker=marker,
            s=55 if len(scored) <= 200 else 18,
            edgecolors="0.3",
            linewidths=0.5,
            zorder=3,
        )
    best, paper = summary.best.searched, summary.paper
    if x.name in best and y.name in best:
        axes.plot([_at(x, best[x.name])], [_at(y, best[y.name])], "o", ms=13, mfc="none", mec="black", mew=2, zorder=4)
    if all(axis.name in paper and axis.holds(paper[axis.name]) for axis in (x, y)):
        _star(axes, _at(x, paper[x.name]), _at(y, paper[y.name]))
    lost = [t for t in summary.failed if x.name in t.searched and y.name in t.searched]
    at = [(_at(x, t.searched[x.name]), _at(y, t.searched[y.name])) for t in lost]
    axes.plot([p[0] for p in at], [p[1] for p in at], "x", color=RED)
    for axis, scale in ((x, axes.set_xscale), (y, axes.set_yscale)):
        scale("log" if axis.log else "linear")
    _ticks(axes, x, y)
    grid(axes)
    _name(axes, x, y)
    figure.colorbar(points, ax=axes, label=plain(summary.label))
    return figure


def parameter_curve(summary: Summary, x: Axis) -> Figure:
    """The value of each trial against the one hyperparameter that was searched."""
    figure = new_figure(5.4, 3.6)
    axes = figure.add_subplot()
    for whole, colour, label in ((True, BLUE, "complete"), (False, "0.45", "pruned or unfinished")):
        shown = [t for t in summary.scored if (t.state == "complete") == whole and x.name in t.searched]
        if not shown:
            continue
        points = sorted((_at(x, t.searched[x.name]), summary.score(t)) for t in shown)
        style = ("o-" if x.numeric else "o") if whole else "^"
        at, values = [p[0] for p in points], [p[1] for p in points]
        axes.plot(at, values, style, color=colour, mfc=colour if whole else "white", linewidth=0.8, label=label)
    at_best = _at(x, summary.best.searched[x.name])
    axes.plot([at_best], [summary.score(summary.best)], "o", ms=13, mfc="none", mec="black", mew=2, label="best")
    if x.name in summary.paper and x.holds(summary.paper[x.name]):
        axes.axvline(_at(x, summary.paper[x.name]), color="0.4", linestyle=":", linewidth=1.2, label="paper's own")
    if not x.numeric:
        axes.set_xticks(range(len(x.values or ())), [tick(value) for value in x.values or ()])
        _turn(axes, x)
    elif x.log:
        axes.set_xscale("log")
    axes.set_xlabel(plain(x.name))
    axes.set_ylabel(plain(summary.label))
    grid(axes)
    axes.legend(fontsize=8)
    return figure


def _at(axis: Axis, value: Any) -> Any:
    """Where a value stands on an axis of points: a number at itself, a name at its place."""
    return value if axis.numeric else axis.place(value)


def _ticks(axes: Axes, x: Axis, y: Axis) -> None:
    """Write an axis's values where it has a cell, or a place, for each."""
    cells = x.values is not None and y.values is not None
    if cells or not x.numeric:
        axes.set_xticks(range(len(x.values or ())), [tick(value) for value in x.values or ()])
        _turn(axes, x)
    if cells or not y.numeric:
        axes.set_yticks(range(len(y.values or ())), [tick(value) for value in y.values or ()])


def _turn(axes: Axes, x: Axis) -> None:
    long = max((len(tick(value)) for value in x.values or ()), default=0)
    if len(x.values or ()) > 12 or long * len(x.values or ()) > 60:
        for label in axes.get_xticklabels():
            label.set(rotation=90 if long < 6 else 40, ha="center" if long < 6 else "right", rotation_mode="anchor")


def _name(axes: Axes, x: Axis, y: Axis) -> None:
    axes.set_xlabel(plain(x.name))
    axes.set_ylabel(plain(y.name))
