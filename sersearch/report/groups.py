"""The score by speaker and by condition: of the best trial on development data, of the tested one on the test part."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.data.conditions import CLEAN, by_noise
from sersearch.errors import DataError, SersearchError, StudyError
from sersearch.figures import BLUE, ORANGE, grid, new_figure, plain
from sersearch.predictions import PREDICTIONS
from sersearch.report.picture import Picture
from sersearch.report.scores import Scored, interval, score
from sersearch.report.summary import Summary, condition_name

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MOST_NAMES = 40
"""Groups beyond which only the table names them."""
_COLOURS = {"development": (BLUE, ""), "test": (ORANGE, "///")}
_INTERVAL = "Whiskers are 95% bootstrap intervals over utterances, where there is a table of predictions."


@dataclass(frozen=True)
class Bar:
    """A group's score."""

    part: str
    """development or test."""
    group: str
    utterances: int | None
    value: float
    low: float = math.nan
    """Of the interval; NaN where there is none, as `high`."""
    high: float = math.nan


def metric_of(summary: Summary) -> str:
    """The objective without its part: ua, ccc, ccc_valence, ..."""
    return summary.metric.removeprefix("dev_")


def development(summary: Summary) -> Scored:
    """The best trial's development predictions. Raises what keeps them from being read."""
    folder = summary.best.checkpoint
    if folder is None:
        raise StudyError(f"trial {summary.best.number}'s checkpoint is not in the study's folder")
    return Scored.read(folder / PREDICTIONS)


def speaker_bars(summary: Summary, test: dict[str, Any]) -> tuple[list[Bar], str]:
    """Development speakers by value, then test speakers; and why there are none of development, empty where they are.

    Raises that reason where there are no test speakers either.
    """
    metric, found, missing = metric_of(summary), [], ""
    try:
        scored = development(summary)
        speakers = _speakers(summary, scored.ids)
        found = [_bar(scored.of(speakers == name), metric, "development", name) for name in sorted(set(speakers))]
    except SersearchError as reason:
        missing = str(reason)
        if not test.get("speakers"):
            raise
    tested, alone = _tested(summary, test), len(test.get("speakers") or {}) == 1
    for name, figures in (test.get("speakers") or {}).items():
        own = tested if tested is None or alone else tested.of(_where(summary, tested.ids, name))
        found.append(_from_figures("test", name, figures, metric, own))
    return sorted(found, key=lambda bar: (bar.part, bar.value, bar.group)), missing


def condition_bars(summary: Summary, test: dict[str, Any]) -> list[Bar]:
    """The best trial's development figures by condition, then the test's; none of a study of one condition."""
    at_best, metric = summary.at_best(summary.best), metric_of(summary)
    names = summary.conditions if summary.mixed else {CLEAN: summary.metric, **summary.conditions}
    told = {name: at_best.get(key) for name, key in names.items()} if summary.conditions else {}
    found = [Bar("development", name, None, float(value)) for name, value in told.items() if value is not None]
    conditions = test.get("conditions") or {}
    tested = _read_tested(summary) if conditions else None
    for name in by_noise(conditions):
        own = None if tested is None else tested.of(tested.condition == name)
        found.append(_from_figures("test", name, conditions[name], metric, own))
    return found


def speaker_picture(summary: Summary, test: dict[str, Any]) -> Picture:
    """Bars by speaker."""
    bars, missing = speaker_bars(summary, test)
    few = [bar for bar in bars if bar.part == "development"]
    alone = " One development speaker: how much speakers differ can't be told from this." if len(few) == 1 else ""
    title = f"{summary.label.removeprefix('development ')} by speaker"
    epoch = summary.best_epoch(summary.best)
    developed = (
        f"No development figures: {missing}."
        if missing
        else f"Development: best trial ({summary.best.number}), epoch {epoch}, which these speakers helped to choose."
    )
    caption = (
        f"{developed} {_test_words(test)} {_INTERVAL} Of classes, only those that a speaker has count.{alone} "
        f"{summary.provenance}"
    )
    return Picture("speakers", title, caption, _chart(bars, summary), _alt(title, bars), _rows(bars))


def by_condition_picture(summary: Summary, test: dict[str, Any]) -> Picture | None:
    """Bars by condition; None for a study of one condition."""
    bars = condition_bars(summary, test)
    if not bars:
        return None
    title = f"{summary.label.removeprefix('development ')} by condition"
    caption = (
        f"Development: best trial ({summary.best.number}), epoch {summary.best_epoch(summary.best)}. "
        f"{_test_words(test)} {_INTERVAL} {summary.provenance}"
    )
    return Picture("by_condition", title, caption, _chart(bars, summary), _alt(title, bars), _rows(bars))


def _test_words(test: dict[str, Any]) -> str:
    if not test:
        return "No test figures: the study isn't evaluated."
    return f"Test: trial {test['trial']}{', and not the first one tested' if test.get('tested_before') else ''}."


def _speakers(summary: Summary, ids: np.ndarray) -> np.ndarray:
    """The speaker of each utterance: the development set's only one, or as the prepared corpus says."""
    known = ((summary.split.get("parts") or {}).get("dev") or {}).get("speakers") or []
    if len(known) == 1:
        return np.full(len(ids), known[0], object)
    by_id = summary.speakers
    if missing := [name for name in ids if name not in by_id]:
        raise DataError(f"{len(missing)} utterances, such as {missing[0]}, are not in the prepared corpus any more")
    return np.array([by_id[name] for name in ids], object)


def _where(summary: Summary, ids: np.ndarray, speaker: str) -> np.ndarray:
    return np.array([summary.speakers.get(name) == speaker for name in ids], bool)


def _read_tested(summary: Summary) -> Scored | None:
    """The test part's predictions; None where they can't be read."""
    try:
        return Scored.read(summary.study.folder / "evaluation" / "predictions.csv")
    except DataError:
        return None


def _tested(summary: Summary, test: dict[str, Any]) -> Scored | None:
    """The test part's predictions that its figures are of; None without them, or without their speakers."""
    found = _read_tested(summary) if test else None
    if len(test.get("speakers") or {}) > 1:
        try:
            _ = summary.speakers
        except SersearchError:
            return None
    condition = test.get("condition")
    return found if found is None or condition is None else found.of(found.condition == condition)


def _bar(scored: Scored, metric: str, part: str, group: str) -> Bar:
    return Bar(part, group, len(scored), score(scored, metric), *interval(scored, metric))


def _from_figures(part: str, group: str, figures: dict[str, Any], metric: str, scored: Scored | None) -> Bar:
    """A bar of what `evaluate` wrote, with the interval that its predictions give."""
    value = figures.get(metric)
    ends = interval(scored, metric) if scored is not None and len(scored) else (math.nan, math.nan)
    return Bar(part, group, figures.get("utterances"), math.nan if value is None else float(value), *ends)


def _chart(bars: list[Bar], summary: Summary) -> Figure:
    """A bar a group, with names where there are not too many."""
    from matplotlib.patches import Patch

    figure = new_figure(min(10.0, max(4.2, 0.42 * len(bars) + 1.8)), 3.6)
    axes = figure.add_subplot()
    for place, bar in enumerate(bars):
        colour, hatch = _COLOURS[bar.part]
        axes.bar(place, bar.value, color=colour, hatch=hatch, edgecolor="white", width=0.8, linewidth=0.5)
        if math.isfinite(bar.low):
            axes.plot([place, place], [bar.low, bar.high], color="black", linewidth=1)
    if len(bars) <= MOST_NAMES:
        names = [plain(condition_name(b.group), 20) + (f"\nn = {b.utterances}" if b.utterances else "") for b in bars]
        turned = len(bars) > 6
        axes.set_xticks(range(len(bars)), names, fontsize=7, rotation=90 if turned else 0)
    else:
        axes.set_xticks([])
        axes.set_xlabel(f"{len(bars)} groups by value; the table names them")
    parts = list(dict.fromkeys(bar.part for bar in bars))
    patches = [Patch(facecolor=_COLOURS[p][0], hatch=_COLOURS[p][1], edgecolor="white", label=p) for p in parts]
    lines = [line] if (line := chance(axes, summary)) is not None else []
    figure.legend(handles=[*patches, *lines], fontsize=8, loc="outside upper right", ncols=3)
    axes.set_ylabel(plain(summary.label.removeprefix("development ")))
    grid(axes)
    axes.grid(visible=False, axis="x")
    return figure


def chance(axes: Axes, summary: Summary) -> Any:
    """Draw the line of guessing, where the score has one: UA of C classes, 1 / C; None elsewhere."""
    classes = summary.split.get("classes") or []
    if metric_of(summary) != "ua" or not classes:
        return None
    return axes.axhline(1 / len(classes), color="0.35", linewidth=1, linestyle=":", label="chance", zorder=3)


def _alt(title: str, bars: list[Bar]) -> str:
    said = "; ".join(f"{bar.part} {bar.group} {bar.value:.3f}" for bar in bars[:MOST_NAMES])
    return f"{title}: {said}{'; ...' if len(bars) > MOST_NAMES else ''}"


def _rows(bars: list[Bar]) -> list[list[Any]]:
    head: list[Any] = ["part", "group", "utterances", "value", "low", "high"]
    return [head, *([b.part, b.group, b.utterances, b.value, b.low, b.high] for b in bars)]
