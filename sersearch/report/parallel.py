"""Parallel coordinates: each trial a line over all that was searched, to its value."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.errors import StudyError
from sersearch.figures import MAP, new_figure, plain, tick
from sersearch.report.picture import Picture
from sersearch.report.summary import Axis, Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_TICKS = 6


@dataclass(frozen=True)
class _Scale:
    """Where on an upright axis from 0 to 1 a value lies, and which values are written beside it."""

    name: str
    place: Callable[[Any], float]
    marks: Sequence[Any]


def parallel_picture(summary: Summary) -> Picture | None:
    """The picture; None where fewer than two hyperparameters were searched."""
    trials = [t for t in summary.scored if all(axis.name in t.searched for axis in summary.axes)]
    if len(summary.axes) < 2:
        return None
    if not trials:
        raise StudyError("no trial has a value for all that was searched")
    values = np.array([summary.score(t) for t in trials])
    scales = [_scale(axis, [t.searched[axis.name] for t in trials]) for axis in summary.axes]
    scales.append(_numeric(summary.label, values.tolist(), log=False))
    lines = [
        [*(s.place(t.searched[s.name]) for s in scales[:-1]), scales[-1].place(value)]
        for t, value in zip(trials, values, strict=True)
    ]
    figure = new_figure(min(11.0, 1.5 * len(scales) + 1.6), 4.0)
    axes = figure.add_subplot()
    order = np.argsort(values, kind="stable")  # the better, the further in front
    drawn = [list(enumerate(lines[i])) for i in order]
    _draw(axes, drawn, values[order], [trials[i].state == "complete" for i in order], summary.label)
    if summary.best in trials:
        best = lines[trials.index(summary.best)]
        axes.plot(range(len(scales)), best, color="black", linewidth=2.6, zorder=5)
        axes.plot(range(len(scales)), best, color="white", linewidth=0.9, linestyle="--", zorder=6)
    for x, scale in enumerate(scales):
        _upright(axes, x, scale)
    axes.set_xticks(range(len(scales)), [plain(scale.name, 22) for scale in scales])
    caption = (
        f"Each line is a trial, from what was searched to {summary.label}, by which it is coloured; thin dashed lines "
        f"were pruned or did not finish, the black and white line is the best trial. {summary.provenance}"
    )
    alt = f"Parallel coordinates of {len(trials)} trials over {', '.join(s.name for s in scales)}"
    return Picture("parallel", "Trials over all hyperparameters", caption, figure, alt)


def _draw(axes: Axes, lines: list[Any], values: np.ndarray, whole: list[bool], label: str) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.collections import LineCollection
    from matplotlib.colors import Normalize

    norm = Normalize(values.min(), values.max())
    collection = LineCollection(
        lines,
        array=values,
        cmap=MAP,
        norm=norm,
        linewidths=[1.2 if w else 0.6 for w in whole],
        linestyles=["solid" if w else "dashed" for w in whole],
        alpha=float(np.clip(12 / math.sqrt(len(lines) + 1), 0.25, 0.9)),
        rasterized=len(lines) > 200,
    )
    axes.add_collection(collection)
    axes.figure.colorbar(ScalarMappable(norm, MAP), ax=axes, label=plain(label), pad=0.08)
    axes.set_xlim(-0.25, len(lines[0]) - 0.75)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_visible(False)


def _upright(axes: Axes, x: int, scale: _Scale) -> None:
    axes.axvline(x, color="0.3", linewidth=0.8, zorder=4)
    box = {"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 0.6}
    for mark in scale.marks:
        axes.text(x + 0.04, scale.place(mark), tick(mark), fontsize=7, va="center", bbox=box, zorder=7)


def _scale(axis: Axis, seen: list[Any]) -> _Scale:
    if axis.numeric:
        return _numeric(axis.name, seen, axis.log)
    last = max(len(axis.values or ()) - 1, 1)
    return _Scale(axis.name, lambda value: axis.place(value) / last, axis.values or ())


def _numeric(name: str, seen: list[float], log: bool) -> _Scale:
    """From the lowest value that was seen to the highest; in the middle where there is one."""
    low, high = min(seen), max(seen)
    turn = math.log if log and low > 0 else float
    span = turn(high) - turn(low)

    def place(value: float) -> float:
        return (turn(value) - turn(low)) / span if span else 0.5

    known = sorted(set(seen))
    if len(known) > _TICKS:
        shares = np.linspace(turn(low), turn(high), 5)
        known = [float(f"{(math.exp(s) if turn is math.log else s):.3g}") for s in shares]
    return _Scale(name, place, known)
