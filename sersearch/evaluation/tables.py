"""One study's results for people: a table for the terminal, and everything as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from sersearch.errors import DataError
from sersearch.evaluation.results import Results, Spread, label, listed

if TYPE_CHECKING:
    from rich.table import Table

_NONE = "–"  # noqa: RUF001 - an en dash is what a table has where there is nothing

_WIDEST = len("[-0.123, 0.456]")
"""Of a figure: in a narrow terminal names are broken, and figures never."""


def to_rich(results: Results) -> Table:
    """Mean and deviation of each metric, and its interval; by fold, speaker, condition and metric that chose."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = Text(f"{results.study}: test set, {results.caption}", style="bold")
    table = Table(
        box=box.SIMPLE, title=title, title_justify="left", caption_justify="left", padding=0, collapse_padding=True
    )
    table.caption = Text(caption(results), style="dim", justify="left")
    table.add_column("", overflow="fold")
    for metric in results.metrics:
        table.add_column(Text(label(metric)), justify="right", min_width=_WIDEST)
    cells = [_cell(results, metric) for metric in results.metrics]
    table.add_row(Text("all"), *map(Text, cells), end_section=True)
    for kind, rows in _groups(results).items():
        for name, spreads in rows.items():
            table.add_row(Text(f"{kind} {name}".strip()), *(Text(_spread(spreads[m])) for m in results.metrics))
        table.add_section()
    for name, own in results.further.items():
        kind = "best by" if "metric" in _origin(own) else "condition"
        cells = [_cell(own, metric) for metric in results.metrics]
        table.add_row(Text(f"{kind} {name}"), *map(Text, cells))
        for condition, noisy in own.further.items():
            cells = [_cell(noisy, metric) for metric in results.metrics]
            table.add_row(Text(f"  condition {condition}"), *map(Text, cells))
    return table


def caption(results: Results) -> str:
    """What must be known to read the table, in sentences."""
    origin, seeds, every = _origin(results), results.seeds, [*results.summary.values()]
    found = next((own for own in every if own["by"]), every[0])
    notes = [
        f"{results.family}, target {results.target}" + (", synthetic corpus" if results.synthetic else ""),
        f"{_chosen(origin)}, trained anew with {len(seeds)} seed"
        f"{'s' * (len(seeds) > 1)} ({listed(seeds)}): mean ± sample standard deviation over runs",
    ]
    if found["by"]:
        what = "test part" if found["by"] == "fold" else found["by"]
        note = f" ({found['note']})" if found["note"] else ""
        notes.append(f"In brackets: 95% bootstrap interval by {what}, of {found['units']}{note}")
    else:
        notes.append(f"No 95% interval: {found['note']}")
    if before := sorted(
        {n for own in origin.get("studies", {"": origin}).values() for n in own.get("tested_before", ())}
    ):
        notes.append(f"The test set was used before, for trial {', '.join(map(str, before))}")
    return ". ".join(notes) + "."


def to_csv(results: Results) -> str:
    """A line for each figure, in full precision: those of runs, and what they sum up to."""
    head = ["best_by", "condition", "what", "name", "seed", "metric", "value", "deviation", "runs"]
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*head, "ci_low", "ci_high", "ci_by"])
    writer.writerows(_lines(results, "", ""))
    for name, own in results.further.items():
        best_by, condition = (name, "") if "metric" in _origin(own) else ("", name)
        writer.writerows(_lines(own, best_by, condition))
        for noise, noisy in own.further.items():
            writer.writerows(_lines(noisy, name, noise))
    return text.getvalue()


def _lines(results: Results, best_by: str, condition: str) -> Iterator[list[Any]]:
    own = [best_by, condition]
    for metric in results.metrics:
        for (seed, fold), score in results.runs(metric).items():
            yield [*own, "run", fold, seed, metric, _number(score), None, 1, None, None, None]
        for kind, rows in _groups(results).items():
            for name, spreads in rows.items():
                spread = spreads[metric]
                figures = [_number(spread.mean), spread.deviation, spread.n]
                yield [*own, kind or "fold", name, None, metric, *figures, None, None, None]
        found = results.summary[metric]
        figures = [found[key] for key in ("mean", "deviation", "runs", "low", "high", "by")]
        yield [*own, "all", None, None, metric, *figures]


def _groups(results: Results) -> dict[str, dict[str, dict[str, Spread]]]:
    """Figures by fold, where there are several, and by speaker, where a fold has several: kind, name, metric."""
    found: dict[str, dict[str, dict[str, Spread]]] = {}
    by = {metric: results.by_fold(metric) for metric in results.metrics}
    if len(results.folds) > 1:
        found[""] = {fold: {metric: by[metric][fold] for metric in by} for fold in results.folds}
    if any(len(set(results.parts[fold].speakers)) > 1 for fold in results.folds):
        try:
            own = {metric: results.by_speaker(metric) for metric in results.metrics}
        except DataError:  # outputs were not kept
            return found
        found["speaker"] = {name: {m: own[m][name] for m in own} for name in next(iter(own.values()))}
    return found


def _origin(results: Results) -> dict[str, Any]:
    """Of folds put together, the first one's, with all of them."""
    studies = results.origin.get("studies")
    if not studies:
        return dict(results.origin)
    first = next(iter(studies.values()))
    return {"studies": studies} | {key: first[key] for key in ("metric", "condition") if key in first}


def _chosen(origin: Mapping[str, Any]) -> str:
    """What was trained, and why that."""
    by_hand = any(own.get("by_hand") for own in origin.get("studies", {"": origin}).values())
    if "trial" not in origin:
        return "Trials, some of them named by hand" if by_hand else "The best trials on development data"
    how = "named by hand" if by_hand else f"chosen by {origin['metric']} on development data"
    return f"Trial {origin['trial']}, {how}"


def _cell(results: Results, metric: str) -> str:
    """Mean, deviation and, below, the interval."""
    found = results.summary[metric]
    ends = "" if found["low"] is None else f"\n[{found['low']:.3f}, {found['high']:.3f}]"
    return _spread(results.spread(metric)) + ends


def _spread(spread: Spread) -> str:
    if not math.isfinite(spread.mean):
        return _NONE
    return f"{spread.mean:.3f}" + ("" if spread.deviation is None else f" ± {spread.deviation:.3f}")


def _number(value: float) -> float | None:
    return value if math.isfinite(value) else None
