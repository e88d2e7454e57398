"""Trials by two figures at once, and those that no other is better than in both."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, islice
from typing import TYPE_CHECKING

import numpy as np

from sersearch.errors import StudyError
from sersearch.figures import BLUE, RED, SOFT, grid, new_figure, plain
from sersearch.report.picture import Picture
from sersearch.report.summary import Summary, pretty
from sersearch.study import SECONDS, TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MOST_PANELS = 6


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Places of the points that no other one is at least as good as in both and better in one; more is better."""
    kept: list[int] = []
    highest = -np.inf
    for place in sorted(range(len(points)), key=lambda i: (-points[i][0], -points[i][1])):
        x, y = points[place]
        if y > highest or (kept and (x, y) == points[kept[-1]]):
            kept.append(place)
            highest = y
    return kept


def pareto_picture(summary: Summary) -> Picture:
    """Each two of several objectives; of one, it against training time, and each two of several attributes' CCCs."""
    trials = summary.scored
    if len(trials) < 2:
        raise StudyError("one trial has a value; a front needs two or more")
    names = [f"dev_ccc_{name}" for name in summary.attributes] if len(summary.attributes) > 1 else []
    pairs: list[tuple[str, str]] = [(SECONDS, summary.metric), *combinations(names, 2)]
    if len(summary.objectives) > 1:  # training time as x
        pairs = list(combinations(sorted(summary.objectives, key=lambda name: name != SECONDS), 2))
    pairs = list(islice(pairs, _MOST_PANELS))
    columns = min(3, len(pairs))
    rows = -(-len(pairs) // columns)
    figure = new_figure(3.4 * columns + 0.6, 3.1 * rows + 0.3)
    panels = list(figure.subplots(rows, columns, squeeze=False).flat)
    table: list[list[object]] = [["x", "y", "trial", "x value", "y value"]]
    for axes, (x, y) in zip(panels, pairs, strict=False):
        table += [[x, y, *line] for line in _panel(axes, summary, trials, x, y)]
    for axes in panels[len(pairs) :]:
        axes.set_axis_off()
    caption = (
        "Each point is a trial at its best epoch; triangles were pruned or did not finish. Those on the line are not "
        "dominated: no other trial is at least as good in both figures and better in one. The ring is the best trial. "
        f"Training time is over all epochs, without preparation and waiting. {summary.provenance}"
    )
    on = [str(line[2]) for line in table[1:] if (line[0], line[1]) == pairs[0]]
    against = "training time" if pairs[0][0] == SECONDS else pretty(pairs[0][0])
    alt = f"Pareto fronts; of {pretty(pairs[0][1])} against {against}, the front is trials {', '.join(on)}"
    return Picture("pareto", "Pareto fronts", caption, figure, alt, table)


def _panel(axes: Axes, summary: Summary, trials: Sequence[TrialRecord], x: str, y: str) -> list[list[float]]:
    """Draw two figures of trials; the front's trials with both figures."""
    known = {t.number: (a, b) for t in trials for a, b in [(_read(summary, t, x), _read(summary, t, y))]}
    places = {n: (a, b) for n, (a, b) in known.items() if a is not None and b is not None}
    shown = [t for t in trials if t.number in places]
    sign = -1.0 if x == SECONDS else 1.0  # of seconds, fewer are better
    kept = front([(sign * places[t.number][0], places[t.number][1]) for t in shown])
    line = sorted(([t.number, *places[t.number]] for t in (shown[i] for i in kept)), key=lambda p: p[1:])
    for whole, marker, colour in ((True, "o", BLUE), (False, "^", SOFT)):
        some = np.array([places[t.number] for t in shown if (t.state == "complete") == whole]).reshape(-1, 2)
        axes.scatter(some[:, 0], some[:, 1], marker=marker, s=18, color=colour, linewidths=0, zorder=3)
    axes.plot([p[1] for p in line], [p[2] for p in line], color=RED, linewidth=1.1, marker="o", mfc="none", zorder=4)
    if (best := places.get(summary.best.number)) is not None:
        axes.plot(*[[v] for v in best], "o", ms=12, mfc="none", mec="black", mew=1.6, zorder=5)
    grid(axes)
    axes.set_xlabel("training time (s)" if x == SECONDS else plain(pretty(x)), fontsize=8)
    axes.set_ylabel(plain(pretty(y)), fontsize=8)
    axes.tick_params(labelsize=7)
    return line


def _read(summary: Summary, trial: TrialRecord, name: str) -> float | None:
    """A figure of the epoch that the trial's value is of."""
    if name == SECONDS:
        return trial.seconds
    if name == summary.metric:
        return summary.value(trial)
    value = summary.at_best(trial).get(name)
    return None if value is None else float(value)
