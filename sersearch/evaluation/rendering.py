"""A comparison for people: CSV, Markdown, LaTeX, a table for the terminal, and a bar chart."""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.data.atomic import atomic
from sersearch.errors import StudyError
from sersearch.evaluation.comparison import TESTS, Comparison, Pair, Row
from sersearch.figures import encoded, styled
from sersearch.markup import latex, markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.table import Table

_NAMES = ("study", "family", "against")
"""Columns that a narrow terminal breaks; figures it never does."""

_CI = 3
"""Of the columns, the interval: in a terminal it stands below the mean."""

_NONE = "–"  # noqa: RUF001 - an en dash is what a table has where there is nothing


def write_comparison(comparison: Comparison, folder: Path, name: str = "comparison") -> list[Path]:
    """Write it as NAME.csv, .md, .tex, .png and .pdf into `folder`; return their paths.

    Raises :class:`StudyError` where the folder cannot be written.
    """
    texts = {"csv": to_csv, "md": to_markdown, "tex": to_latex}
    try:
        for suffix, render in texts.items():
            with atomic(folder / f"{name}.{suffix}") as temporary:
                temporary.write_text(render(comparison), "utf-8")
        with styled():
            figure = chart(comparison)
            for suffix in ("png", "pdf"):
                with atomic(folder / f"{name}.{suffix}") as temporary:
                    temporary.write_bytes(encoded(figure, suffix))
    except OSError as error:
        raise StudyError(f"{folder}: the comparison cannot be written ({error.strerror or error})") from error
    return [folder / f"{name}.{suffix}" for suffix in (*texts, "png", "pdf")]


# --- tables -----------------------------------------------------------------------------------------------------------


def to_csv(comparison: Comparison) -> str:
    """Everything in full precision: a line for each study and baseline, without a test for the first baseline."""
    head = ["study", "family", "metric", "runs", "mean", "deviation", "ci_low", "ci_high", "ci_by", "ci_method"]
    head += ["baseline", "difference", "test", "tails", "n", "n_baseline", "statistic", "df", "p", "p_corrected"]
    head += ["correction", "effect_size", "effect", "better", "note"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    for row, pair in _lines(comparison):
        spread, ci = row.spread, row.interval
        line: list[Any] = [row.study, row.family, comparison.metric, spread.n, spread.mean, spread.deviation]
        line += [None] * 4 if ci is None else [ci.low, ci.high, ci.by, ci.method]
        if pair is not None:
            found = pair.outcome
            line += [pair.baseline, found.difference, comparison.test, found.tails, *found.n, found.statistic, found.df]
            line += [found.p, pair.p_corrected, comparison.correction, TESTS[comparison.test].effect, found.effect]
            line += [pair.better, found.note]
        writer.writerow(line + [None] * (len(head) - len(line)))
    return text.getvalue()


def to_markdown(comparison: Comparison) -> str:
    """A table with its caption below."""
    head, rows = _table(comparison, markdown, lambda value, marks: f"{value} {marks}")
    lines = [head, ["---"] * len(head), *rows]
    table = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    return f"{table}\n{markdown(comparison.caption)}\n"


def to_latex(comparison: Comparison) -> str:
    """A table environment for `booktabs`, the marks raised, ready for \\input."""
    head, rows = _table(comparison, latex, lambda value, marks: f"{value}\\textsuperscript{{{marks}}}")
    lines = [
        r"% \usepackage{booktabs}",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{latex(comparison.caption)}}}",
        rf"\begin{{tabular}}{{{'l' * 2 + 'r' * 2 + 'l' + 'r' * (len(head) - 5)}}}",
        r"\toprule",
        " & ".join(head) + r" \\",
        r"\midrule",
        *(" & ".join(row) + r" \\" for row in rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_rich(comparison: Comparison) -> Table:
    """A table for the terminal, with its caption below."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    head, rows = _table(comparison, str, lambda value, marks: f"{value} {marks}")
    caption = Text(comparison.caption, style="dim", justify="left")
    table = Table(box=box.SIMPLE, caption=caption, caption_justify="left", padding=0, collapse_padding=True)
    for name in (*head[:_CI], *head[_CI + 1 :]):
        told = name in _NAMES
        table.add_column(Text(name), overflow="fold", no_wrap=not told, justify="left" if told else "right")
    for row in rows:
        figure = "\n".join(filter(None, row[_CI - 1 : _CI + 1]))
        table.add_row(*map(Text, [*row[: _CI - 1], figure, *row[_CI + 1 :]]))
    return table


def _table(
    comparison: Comparison, escape: Callable[[str], str], marked: Callable[[str, str], str]
) -> tuple[list[str], list[list[str]]]:
    """Head and rows as people read them; every text is escaped, and a value with marks put together by `marked`."""
    test = TESTS[comparison.test]
    p = "p (Holm)" if comparison.correction else "p"
    head = ["study", "family", comparison.label, "95% CI", "against", "difference", "statistic", p, test.effect]
    rows, last = [], None
    for row, pair in _lines(comparison):
        value = f"{row.spread.mean:.3f}"
        if row.spread.deviation is not None:
            value += f" ± {row.spread.deviation:.3f}"
        figure = marked(escape(value), escape(row.marks)) if row.marks else escape(value)
        own = [escape(row.study), escape(row.family), figure, escape(_interval(row))]
        rows.append((own if row is not last else [""] * 4) + [escape(cell) for cell in _tested(pair)])
        last = row
    return [escape(name) for name in head], rows


def _lines(comparison: Comparison) -> Iterator[tuple[Row, Pair | None]]:
    """Each study with each of its tests, or None where it has none."""
    for row in comparison.rows:
        pairs = [pair for pair in comparison.pairs if pair.study == row.study]
        yield from ((row, pair) for pair in pairs or (None,))


def _interval(row: Row) -> str:
    return _NONE if row.interval is None else f"[{row.interval.low:.3f}, {row.interval.high:.3f}]"


def _tested(pair: Pair | None) -> list[str]:
    if pair is None:
        return [_NONE] * 5
    found = pair.outcome
    name = "z" if found.df is None else f"t({found.df:.4g})"
    p = found.p if pair.p_corrected is None else pair.p_corrected
    figures = [f"{found.difference:+.3f}", f"{name} = {found.statistic:.2f}", "< 0.001" if p < 0.001 else f"{p:.3f}"]
    return [pair.baseline, *figures, f"{found.effect:.2f}"]


# --- chart ------------------------------------------------------------------------------------------------------------


def chart(comparison: Comparison) -> Figure:
    """A bar a study with the marks above it, as in figures 6 to 8 of the ladder paper, and the caption below.

    Error bars are standard deviations over runs, or bootstrap intervals where studies have but one run each.
    """
    from matplotlib.figure import Figure

    rows = comparison.rows
    means = np.array([row.spread.mean for row in rows])
    errors, what = _errors(comparison, means)
    width = max(4.8, 0.9 * len(rows) + 1.2)
    figure = Figure(figsize=(width, 3.9), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    colors = ["0.75" if row.study in comparison.baselines else "tab:blue" for row in rows]
    axes.bar(range(len(rows)), means, width=0.6, color=colors, yerr=errors, ecolor="0.25", capsize=3)
    tops = means.clip(min=0) if errors is None else np.maximum(means + errors[1], 0)
    for place, (row, top) in enumerate(zip(rows, tops, strict=True)):
        axes.annotate(
            row.marks, (place, top), (0, 2), textcoords="offset points", ha="center", fontsize=12, parse_math=False
        )
    axes.margins(y=0.12)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.set_xticks(range(len(rows)), [row.study for row in rows])
    for label in axes.get_xticklabels():
        label.set_parse_math(False)  # a study may have a $ in its name
        if len(rows) > 4:
            label.set(rotation=30, ha="right", rotation_mode="anchor")
    axes.set_ylabel(comparison.label)
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    caption = textwrap.fill(f"{comparison.caption} {what}.", int(20 * width))
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=6.5, parse_math=False)
    return figure


def _errors(comparison: Comparison, means: np.ndarray) -> tuple[np.ndarray | None, str]:
    """Lengths of the error bars (2, R), below and above the bars' ends, and what they are."""
    deviations = [row.spread.deviation for row in comparison.rows]
    if None not in deviations:
        return np.array([deviations, deviations], np.float64), "Error bars: standard deviation"
    limits = [(row.interval.low, row.interval.high) for row in comparison.rows if row.interval is not None]
    if len(limits) < len(means):
        return None, "Without error bars, as studies have one run each"
    low, high = np.array(limits).T
    # BCa may shift an interval so far that its end is on the other side of the mean.
    by = " and ".join(sorted({row.interval.by for row in comparison.rows if row.interval is not None}))
    return np.array([means - low, high - means]).clip(min=0), f"Error bars: 95% bootstrap interval by {by}"
