"""Several studies beside each other: a table, and bars of those that were scored alike."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.errors import SersearchError
from sersearch.figures import BLUE, ORANGE, grid, new_figure, plain
from sersearch.report import tables
from sersearch.report.evaluated import Evaluated
from sersearch.report.groups import chance, development, metric_of
from sersearch.report.picture import Picture
from sersearch.report.scores import interval
from sersearch.report.summary import Summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEAD = [
    "study",
    "family",
    "space",
    "corpus",
    "protocol",
    "target",
    "metric",
    "development",
    "test",
    "trials",
    "training (h)",
]


@dataclass(frozen=True)
class Entry:
    """A study in a comparison."""

    summary: Summary
    value: float
    """Development, as `low` and `high` of its interval."""
    low: float
    high: float
    test: float
    """NaN before `evaluate`, as its interval."""
    test_low: float
    test_high: float

    @property
    def alike(self) -> tuple[str, ...]:
        """What must be the same for two studies' figures to stand in one chart."""
        data = self.summary.study.meta.get("data") or {}
        protocol = data.get("protocol") or self.summary.split.get("protocol") or {}
        rule = (protocol.get("name"), protocol.get("unlabeled_condition"), protocol.get("folds"))
        return tuple(map(str, (data.get("corpus"), data.get("target"), self.summary.metric, *rule)))

    @property
    def searched(self) -> tuple[str, ...]:
        """What must be the same, beside that, for two studies to be one search on other folds or seeds."""
        meta = self.summary.study.meta
        space = meta.get("space") or {}
        fixed = [f"{name}={value}" for name, value in sorted((space.get("fixed") or {}).items())]
        return (str(meta.get("family")), str(space.get("name")), str(meta.get("epochs", space.get("epochs"))), *fixed)


def entry(summary: Summary) -> Entry | None:
    """A study's figures; None where it has none."""
    try:
        value = summary.score(summary.best)
    except SersearchError:
        return None
    try:
        ends = interval(development(summary), metric_of(summary))
    except SersearchError:
        ends = math.nan, math.nan
    tested = Evaluated(summary)
    test = math.nan if tested.value is None else float(tested.value)
    return Entry(summary, value, *ends, test, *tested.interval)


def row(summary: Summary) -> list[str]:
    """A study's row of the table; :data:`HEAD` is its heading."""
    meta = summary.study.meta
    data, space = meta.get("data") or {}, meta.get("space") or {}
    try:
        value = tables.figure(summary.score(summary.best))
    except SersearchError:
        value = "none"
    tested = Evaluated(summary)
    missing = "cannot be read" if tested.used else "not evaluated"
    test = (tables.figure(tested.value) or "none") if tested.result else tested.mean or missing
    hours = sum(trial.seconds for trial in summary.trials) / 3600
    words = [meta.get("family"), space.get("name"), data.get("corpus"), summary.split.get("caption", "unknown")]
    words += [data.get("target"), summary.label.removeprefix("development ")]
    return [summary.study.name, *map(tables.text, words), value, test, str(len(summary.trials)), f"{hours:.3g}"]


def grouped(entries: Sequence[Entry]) -> list[list[Entry]]:
    """The groups of two or more studies of one corpus, target, metric and kind of protocol."""
    groups: dict[tuple[str, ...], list[Entry]] = {}
    for own in entries:
        groups.setdefault(own.alike, []).append(own)
    return [group for group in groups.values() if len(group) > 1]


def comparisons(groups: Sequence[Sequence[Entry]]) -> Iterator[Picture]:
    """A chart for each of :func:`grouped`."""
    for place, group in enumerate(groups):
        first = group[0].summary
        data = first.study.meta.get("data") or {}
        what = f"{first.label.removeprefix('development ')} of {data.get('target')}, {data.get('corpus')}"
        caption = (
            "Development: each study's best trial, which was selected by it; test: the evaluated trial. Whiskers are "
            "95% bootstrap intervals, of development figures over utterances, so how much speakers differ isn't in "
            "them; of test figures as `evaluate` found them. "
            f"{_splits(group)} {_means(group)}"
        ).rstrip()
        said = "; ".join(f"{e.summary.study.name} {e.value:.3f}, test {e.test:.3f}" for e in group)
        title = f"{what}: {len(group)} studies"
        yield Picture(f"comparison_{place + 1}", title, caption, _chart(group), f"{title}. {said}", _rows(group))


def _splits(group: Sequence[Entry]) -> str:
    """By which split, and with which seeds, studies were run, and a warning where it isn't one split."""
    captions = {e.summary.study.name: e.summary.split.get("caption", "protocol unknown") for e in group}
    seeds = ", ".join(sorted({str(e.summary.study.meta.get("seed", "unknown")) for e in group}))
    if len(set(captions.values())) == 1:
        return f"All by {next(iter(captions.values()))}; seed {seeds}."
    said = "; ".join(f"{name}: {caption}" for name, caption in captions.items())
    return f"One kind of protocol but not one split, so that bars differ by their speakers, too: {said}; seed {seeds}."


def _means(group: Sequence[Entry]) -> str:
    """Mean and deviation over studies that are one search on other folds or with other seeds; empty without any."""
    same: dict[tuple[str, ...], list[Entry]] = {}
    for own in group:
        same.setdefault(own.searched, []).append(own)
    said = []
    for searched, studies in same.items():
        if len(studies) < 2:
            continue
        words = [f"development {_moments([e.value for e in studies])}"]
        tested = [e.test for e in studies if math.isfinite(e.test)]
        words += [f"test {_moments(tested)} over {len(tested)}"] if len(tested) > 1 else []
        said.append(f"{searched[1]}, {len(studies)} studies: {', '.join(words)}")
    return f"Mean and standard deviation over studies that searched alike: {'; '.join(said)}." if said else ""


def _moments(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}"


def _chart(group: Sequence[Entry]) -> Figure:
    figure = new_figure(min(11.0, max(4.6, 0.75 * len(group) + 1.8)), 3.9)
    axes = figure.add_subplot()
    places = np.arange(len(group))
    sides = (
        ("development", [(e.value, e.low, e.high) for e in group], BLUE, "", -0.2),
        ("test", [(e.test, e.test_low, e.test_high) for e in group], ORANGE, "///", 0.2),
    )
    for label, figures, colour, hatch, shift in sides:
        values, low, high = np.array(figures).T
        axes.bar(places + shift, values, 0.38, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5, label=label)
        axes.vlines(places + shift, low, high, color="black", linewidth=1)
    names = [plain(e.summary.study.name, 24) for e in group]
    long = max(map(len, names)) * len(names) > 60
    turned: dict[str, Any] = {"rotation": 40, "ha": "right", "rotation_mode": "anchor"} if long else {}
    axes.set_xticks(places, names, fontsize=8, **turned)
    axes.set_ylabel(plain(group[0].summary.label.removeprefix("development ")))
    chance(axes, group[0].summary)
    figure.legend(fontsize=8, loc="outside upper right", ncols=3)
    grid(axes)
    axes.grid(visible=False, axis="x")
    return figure


def _rows(group: Sequence[Entry]) -> list[list[Any]]:
    head: list[Any] = ["study", "protocol", "development", "low", "high", "test", "test low", "test high"]
    return [
        head,
        *(
            [
                e.summary.study.name,
                e.summary.split.get("caption"),
                e.value,
                e.low,
                e.high,
                e.test,
                e.test_low,
                e.test_high,
            ]
            for e in group
        ),
    ]
