"""Time and what it cost: seconds by trial, and how many trials were training at each moment."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.errors import StudyError
from sersearch.figures import BLUE, HATCHES, STATES, grid, new_figure
from sersearch.report.picture import Picture
from sersearch.report.summary import Summary, counts
from sersearch.report.tables import duration
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes


BINS = 120
"""Of the picture over time."""
_MOST_BARS = 100
"""Trials beyond which each is a line."""


@dataclass(frozen=True)
class Cost:
    """What a search took."""

    trials: int
    """That finished an epoch."""
    training: float
    """Seconds of all epochs of all trials."""
    wall: float
    """Seconds from the first epoch's begin to the last one's end, pauses between resumes included."""
    most: int
    """Trials that trained at once."""

    @property
    def utilisation(self) -> float:
        """The share of time in which as many trials as ever did were training."""
        return self.training / (self.wall * self.most)


def epochs_of(trials: list[TrialRecord]) -> np.ndarray:
    """Begin and end (E, 2) of each epoch of `trials`, s since 1970: the journal's time less how long it took."""
    spans = [(event["time"] - event["seconds"], event["time"]) for trial in trials for event in trial.epochs]
    return np.array(spans, float).reshape(-1, 2)


def running(spans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """When the number of epochs under way changes (E,), and what it is from then on (E,)."""
    times = np.concatenate([spans[:, 0], spans[:, 1]])
    steps = np.repeat([1, -1], len(spans))
    order = np.lexsort((steps, times))  # at one moment, what ends first: trials that follow on are not two
    return times[order], steps[order].cumsum()


def cost(summary: Summary) -> Cost:
    """What the study took. Raises :class:`StudyError` before the first epoch's end."""
    trained = [trial for trial in summary.trials if trial.epochs]
    if not trained:
        raise StudyError("no trial finished an epoch")
    spans = epochs_of(trained)
    wall = float(spans[:, 1].max() - spans[:, 0].min())
    _, count = running(_joined(spans))
    training = float((spans[:, 1] - spans[:, 0]).sum())
    return Cost(len(trained), training, max(wall, 1e-9), int(count.max()))


def under_way(spans: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """The mean number of epochs under way (B,) between each two of `edges` (B + 1,)."""

    def until(times: np.ndarray) -> np.ndarray:
        """For each edge, how long it was from each of `times` on, summed."""
        ordered, sums = np.sort(times), np.concatenate([[0.0], np.cumsum(np.sort(times))])
        before = np.searchsorted(ordered, edges)
        found: np.ndarray = before * edges - sums[before]
        return found

    busy: np.ndarray = np.diff(until(spans[:, 0]) - until(spans[:, 1]))
    return busy / np.diff(edges)


def _joined(spans: np.ndarray) -> np.ndarray:
    """Epochs shortened by a hundredth of a second: the journal's clock isn't the trial's, and one may seem to begin
    before the last has ended.
    """
    shorter = np.stack([spans[:, 0] + 0.005, spans[:, 1] - 0.005], axis=1)
    fine: np.ndarray = np.where(shorter[:, :1] < shorter[:, 1:], shorter, spans)
    return fine


def facts(summary: Summary) -> list[tuple[str, str]]:
    """The same in words, for a table."""
    found = cost(summary)
    lanes = summary.study.meta.get("lanes", 1)
    shared = " at most: trials share the device in lanes, and each counts all of it" if lanes != 1 else ""
    return [
        ("training time of all trials", f"{duration(found.training)} ({found.training / 3600:.3g} h){shared}"),
        ("core hours", f"{found.training / 3600:.3g}, at one core a trial as on CPUs{shared}"),
        ("from first to last epoch", f"{duration(found.wall)}, pauses included"),
        ("trials an hour", _count(3600 * found.trials / found.wall)),
        ("trials at once, at most", str(found.most)),
        ("utilisation", f"{100 * min(found.utilisation, 1):.0f}% of that many all the time"),
        ("seconds a trial", _spread(summary)),
    ]


def _count(number: float) -> str:
    return f"{number:,.0f}" if number >= 100 else f"{number:.3g}"


def _spread(summary: Summary) -> str:
    seconds = [trial.seconds for trial in summary.trials if trial.epochs]
    if len(seconds) == 1:
        return f"{seconds[0]:.3g} (one trial)"
    return f"{np.mean(seconds):.3g} ± {np.std(seconds, ddof=1):.2g}, {min(seconds):.3g} to {max(seconds):.3g}"


def cost_picture(summary: Summary) -> Picture:
    """Seconds by trial, and the trials under way over time."""
    found = cost(summary)
    figure = new_figure(7.4, 4.6)
    above, below = figure.subplots(2, 1)
    _by_trial(above, summary)
    _over_time(below, summary)
    caption = (
        "Above: training time by trial, by how it ended. Below: the mean number of trials that were training, over "
        "time, from the journal: when epochs ended and how long they took; gaps are preparation, waiting and pauses. "
        f"{counts(summary.trials)}, {duration(found.training)} of training in {duration(found.wall)}."
    )
    alt = f"Seconds by trial, and trials under way over time: at most {found.most}"
    rows: list[list[Any]] = [["trial", "state", "epochs", "seconds"]]
    rows += [[t.number, t.state, len(t.epochs), t.seconds] for t in summary.trials]
    return Picture("cost", "Time and utilisation", caption, figure, alt, rows)


def _by_trial(axes: Axes, summary: Summary) -> None:
    from matplotlib.ticker import MaxNLocator

    for state in dict.fromkeys(trial.state for trial in summary.trials):
        own = [trial for trial in summary.trials if trial.state == state]
        numbers, seconds = [t.number for t in own], [t.seconds for t in own]
        colour = STATES.get(state, "0.4")
        if len(summary.trials) > _MOST_BARS:
            axes.vlines(numbers, 0, seconds, color=colour, label=state, linewidth=0.8)
        else:
            axes.bar(numbers, seconds, color=colour, hatch=HATCHES.get(state), label=state, width=0.85)
    axes.set_ylim(bottom=0)
    axes.set_xlabel("trial")
    axes.set_ylabel("training time (s)")
    axes.xaxis.set_major_locator(MaxNLocator(12, integer=True, min_n_ticks=1))
    axes.set_xlim(min(t.number for t in summary.trials) - 0.6, max(t.number for t in summary.trials) + 0.6)
    axes.legend(fontsize=7, loc="lower right", bbox_to_anchor=(1, 1), ncols=5)
    grid(axes)


def _over_time(axes: Axes, summary: Summary) -> None:
    from matplotlib.ticker import MaxNLocator

    spans = epochs_of([t for t in summary.trials if t.epochs])
    edges = np.linspace(spans[:, 0].min(), max(spans[:, 1].max(), spans[:, 0].min() + 1e-9), BINS + 1)
    count, span = under_way(spans, edges), edges[-1] - edges[0]
    unit, word = (3600.0, "h") if span > 7200 else (60.0, "min") if span > 120 else (1.0, "s")
    axes.stairs(count, (edges - edges[0]) / unit, fill=True, color=BLUE, alpha=0.6, linewidth=0)
    axes.set_xlabel(f"time since the first epoch began ({word})")
    axes.set_ylabel("trials under way")
    axes.set_ylim(0, count.max() * 1.15)
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    grid(axes)
