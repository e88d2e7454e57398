"""A piece for people: the terminal, CSV, Markdown, LaTeX, and pictures."""

from __future__ import annotations

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sersearch.data.atomic import atomic
from sersearch.errors import StudyError
from sersearch.figures import CYCLE, encoded, grid, new_figure, styled
from sersearch.markup import LATEX, markdown
from sersearch.papers.declaration import Piece, Table
from sersearch.papers.making import Made

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from rich.console import RenderableType

_KINDS = ("png", "svg", "pdf")
"""Of a picture's metadata, what would differ between two equal ones."""


def write(name: str, piece: Piece, made: Sequence[Made], out: Path) -> list[Path]:
    """Write it below `out` as CSV, Markdown and LaTeX, and where it is a figure as PNG, SVG and PDF; their paths.

    Raises :class:`StudyError` where the folder cannot be written.
    """
    stem = name.replace("/", "_")
    written = []
    try:
        for suffix, text in {"csv": to_csv(made), "md": to_markdown(name, made), "tex": to_latex(made)}.items():
            with atomic(out / f"{stem}.{suffix}") as temporary:
                temporary.write_text(text, "utf-8")
            written.append(out / f"{stem}.{suffix}")
        for number, own in enumerate(made):
            ending = "" if len(made) == 1 else f"_{number + 1}"
            if own.figure is not None or (isinstance(piece, Table) and piece.drawn):
                written += _pictures(piece, own, out / f"{stem}{ending}")
    except OSError as error:
        raise StudyError(f"{out}: {name} cannot be written ({error.strerror or error}); --out names another") from error
    return written


# --- tables -----------------------------------------------------------------------------------------------------------


def to_csv(made: Sequence[Made]) -> str:
    """A line for each row of each corpus."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    for own in made:
        writer.writerow(["corpus", *_names(own)])
        writer.writerows([own.heading, *line] for line in own.lines)
    return text.getvalue()


def to_markdown(name: str, made: Sequence[Made]) -> str:
    """A table for each corpus, its caption below."""
    pieces = [f"# {name}\n"]
    for own in made:
        head = _names(own)
        lines = [head, ["---", *["---:"] * (len(head) - 1)], *own.lines]
        escaped = [line if n == 1 else [markdown(cell) for cell in line] for n, line in enumerate(lines)]
        table = "".join(f"| {' | '.join(line)} |\n" for line in escaped)
        pieces.append(f"## {markdown(own.heading)}\n\n{table}\n{markdown(own.caption)}\n")
    return "\n".join(pieces)


def _names(made: Made) -> list[str]:
    """Of the columns, in one line: of a paper's number, the column that it stands beside."""
    groups = made.groups or ("",) * (len(made.head) - 1)
    names = [made.head[0]]
    for group, name in zip(groups, made.head[1:], strict=True):
        names.append(f"{names[-1]}, paper" if name == "paper" else f"{group} {name}".strip())
    return names


def to_latex(made: Sequence[Made]) -> str:
    """A table environment for each corpus, for `booktabs`."""
    return "\n".join(["% \\usepackage{booktabs}", *map(_environment, made)]) + "\n"


def _environment(made: Made) -> str:
    heads = []
    if made.groups:
        spans = [(name, len(list(own))) for name, own in groupby(made.groups)]
        heads.append(" & ".join(["", *(rf"\multicolumn{{{n}}}{{c}}{{{_latex(name)}}}" for name, n in spans)]) + r" \\")
    heads.append(" & ".join(map(_latex, made.head)) + r" \\")
    body = [" & ".join(map(_latex, line)) + r" \\" for line in made.lines]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(made.heading + '. ' + made.caption)}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(made.head) - 1)}}}",
            r"\toprule",
            *heads,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def to_rich(made: Made) -> RenderableType:
    """A table for the terminal, with its caption below."""
    from rich import box
    from rich.console import Group
    from rich.padding import Padding
    from rich.table import Table as RichTable
    from rich.text import Text

    tables = []
    groups = made.groups or ("",) * (len(made.head) - 1)
    for group in dict.fromkeys(groups):  # side by side they are too wide for a terminal
        shown = [number for number, own in enumerate(groups, start=1) if own == group]
        title = " - ".join(filter(None, (made.heading, group)))
        table = RichTable(box=box.SIMPLE, title=Text(title), title_justify="left", padding=(0, 1, 0, 0))
        for number in (0, *shown):  # where there is no room, lines are broken and no number is cut
            words = " ".join(line[number] for line in made.lines).split()
            width = max(map(len, words), default=1)
            table.add_column(Text(made.head[number]), justify="right" if number else "left", min_width=width)
        for line in made.lines:
            table.add_row(Text(line[0]), *(Text(line[number]) for number in shown))
        tables.append(table)
    return Group(*tables, Padding(Text(made.caption, style="dim"), (0, 2)))


_MARKED = LATEX | str.maketrans(
    {
        "•": r"$^{\bullet}$",
        "*": r"$^{*}$",
        "★": r"$^{\star}$",
        "†": r"\textsuperscript{\textdagger}",
        "‡": r"\textsuperscript{\textdaggerdbl}",
    }
)


def _latex(text: str) -> str:
    return text.translate(_MARKED)


# --- pictures ---------------------------------------------------------------------------------------------------------


def _pictures(piece: Piece, made: Made, stem: Path) -> list[Path]:
    with styled():
        figure = draw(piece, made)
        written = []
        for suffix in _KINDS:
            path = stem.with_name(f"{stem.name}.{suffix}")
            with atomic(path) as temporary:
                temporary.write_bytes(encoded(figure, suffix))
            written.append(path)
    return written


def draw(piece: Piece, made: Made) -> Figure:
    """A figure, its caption below."""
    figure = new_figure(9.0, 5.4)
    if made.figure is not None:
        made.figure(figure)
    else:
        assert isinstance(piece, Table)
        _draw_bars(figure.add_subplot(), piece, made)
    caption = textwrap.fill(f"{made.heading}. {made.caption}", 190)
    figure.supxlabel(caption, x=0.01, ha="left", fontsize=6, parse_math=False)
    return figure


def _draw_bars(axes: Axes, piece: Table, made: Made) -> None:
    """Groups of bars, a group a column; error bars where there are several runs; the paper's numbers as ticks."""
    places, width = np.arange(len(piece.columns)), 0.8 / len(made.bars)
    paper = {line[0]: line[2::2] for line in made.lines} if "paper" in made.head else {}
    for number, row in enumerate(made.bars):
        offset = places + (number - (len(made.bars) - 1) / 2) * width
        values = np.array([np.nan if value is None else value for value in row.values])
        errors = [0.0 if deviation is None else deviation for deviation in row.deviations]
        shown = errors if any(errors) else None
        axes.bar(offset, values, 0.92 * width, color=CYCLE[number % len(CYCLE)], label=row.label, yerr=shown, capsize=2)
        for place, value, error, mark in zip(offset, values, errors, row.marks, strict=True):
            if mark and np.isfinite(value):
                axes.annotate(mark, (place, max(value, 0) + error), ha="center", fontsize=9, parse_math=False)
        for place, text in zip(offset, paper.get(row.label, ()), strict=False):
            if match := re.match(r"\d+\.\d+", text):
                axes.plot([place - width / 2, place + width / 2], [float(match[0])] * 2, color="black", linewidth=1.2)
    if any(re.match(r"\d", text) for texts in paper.values() for text in texts):
        axes.plot([], [], color="black", linewidth=1.2, label="the paper's number")
    axes.set_xticks(places, [f"{group}\n{label}".strip() for group, label in piece.columns], fontsize=8)
    axes.set_ylabel(piece.measure)
    axes.axhline(0, color="0.3", linewidth=0.8)
    axes.legend(fontsize=7, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    grid(axes)


__all__ = ["draw", "to_csv", "to_latex", "to_markdown", "to_rich", "write"]
