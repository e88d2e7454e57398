"""What the best trial predicts for the development set, and what its family has drawn of it, such as its clusters."""

from __future__ import annotations

import csv
from collections.abc import Iterator

from sersearch.errors import StudyError
from sersearch.predictions import PREDICTIONS, Confusion, read_predictions
from sersearch.report.picture import Picture
from sersearch.report.summary import Summary


def predictions_picture(summary: Summary) -> Picture:
    """A confusion matrix, or predicted against true values. Raises what keeps it from being drawn."""
    best = summary.best
    if best.checkpoint is None:
        raise StudyError("the trial's checkpoint is not in the study's folder")
    shown = read_predictions(best.checkpoint / PREDICTIONS)
    rows: list[list[object]] = []
    if isinstance(shown, Confusion):
        what = "Confusion matrix"
        rows = [["true", *shown.classes], *([n, *r] for n, r in zip(shown.classes, shown.counts.tolist(), strict=True))]
        said = "; ".join(
            f"of {name} {own[i]} of {own.sum()} right"
            for i, (name, own) in enumerate(zip(shown.classes, shown.counts, strict=True))
        )
    else:
        what, said = "Predicted and true values", ", ".join(shown.attributes)
    title = f"{what} of the best trial ({best.number})"
    caption = f"Development set, epoch {best.best_epoch}. n = {shown.utterances} utterances. {summary.provenance}"
    return Picture(shown.name, title, caption, shown.draw(), f"{title}: {said}", rows)


def family_pictures(summary: Summary) -> Iterator[Picture]:
    """The family's own pictures, with the tables of the same names."""
    best = summary.best
    for path in sorted(best.checkpoint.glob("*.png")) if best.checkpoint is not None else []:
        title = f"{path.stem.replace('_', ' ')}, best trial ({best.number})"
        table, rows = path.with_suffix(".csv"), []
        if table.is_file():
            with table.open(newline="", encoding="utf-8", errors="replace") as file:
                rows = list(csv.reader(file))
        caption = f"Training set; the trial's best epoch is {best.best_epoch}. {summary.provenance}"
        yield Picture(path.stem, title, caption, path.read_bytes(), title, rows)
