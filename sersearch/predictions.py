"""The confusion matrix of a trial's development predictions, as CSV and as a picture."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from sersearch.data.atomic import atomic
from sersearch.errors import DataError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_LEADING = ["id", "label", "predicted"]


def read_confusion(predictions_csv: Path) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes and their (C, C) counts, true class by row, from columns `id, label, predicted, <one per class>`.

    Utterances without a label do not count. Raises :class:`DataError` when the file is not such a table.
    """
    try:
        with predictions_csv.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = [(row["label"], row["predicted"]) for row in reader] if header[:3] == _LEADING else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{predictions_csv}: cannot be read ({error})") from error
    classes = tuple(header[3:])
    if not classes or header[:3] != _LEADING:
        raise DataError(
            f"{predictions_csv}: not a table of predictions; expected the columns id, label, predicted "
            f"and one for each class, found {', '.join(header) or 'none'}"
        )
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for label, predicted in rows:
        if not label:
            continue
        if label not in place or predicted not in place:
            unknown = label if label not in place else predicted
            raise DataError(f"{predictions_csv}: the class {unknown!r} has no column of posteriors")
        counts[place[label], place[predicted]] += 1
    return classes, counts


def recalls(counts: np.ndarray) -> np.ndarray:
    """Row-wise shares (C, C) of `counts` (C, C); rows without an utterance are NaN. UA is the diagonal's mean."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return shares


def draw_confusion(classes: tuple[str, ...], counts: np.ndarray) -> Figure:
    """The confusion matrix: colour and percentage by true class, counts below. `counts` is (C, C), true by row."""
    from matplotlib.figure import Figure

    shares = recalls(counts)
    side = max(3.6, 0.85 * len(classes) + 1.9)
    figure = Figure(figsize=(side + 0.6, side), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        if counts[row].sum():
            text = f"{100 * share:.0f}%\n{counts[row, column]}"
            axes.text(
                column, row, text, ha="center", va="center", fontsize=8, color="white" if share > 0.55 else "black"
            )
    names = [f"{name} (n = {total})" for name, total in zip(classes, counts.sum(axis=1), strict=True)]
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(classes)), names)
    for label in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        label.set_parse_math(False)  # a class may have a $ in its name
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    total = counts.sum()
    ua = np.nanmean(np.diag(shares)) if total else float("nan")
    wa = np.trace(counts) / total if total else float("nan")
    axes.set_title(f"UA {ua:.3f}, WA {wa:.3f}, {total} utterances", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def confusion_artifacts(predictions_csv: Path, out_dir: Path) -> list[Path]:
    """Write `confusion.csv` (true class by row, counts) and `confusion.png` into `out_dir`; return their paths.

    Raises :class:`DataError` when `predictions_csv` is not a table of predictions.
    """
    classes, counts = read_confusion(predictions_csv)
    table, picture = out_dir / "confusion.csv", out_dir / "confusion.png"
    with atomic(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true", *classes])
        writer.writerows([name, *row] for name, row in zip(classes, counts.tolist(), strict=True))
    with atomic(picture) as temporary:
        draw_confusion(classes, counts).savefig(temporary, format="png", metadata={"Software": None})
    return [table, picture]
