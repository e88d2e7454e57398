"""Predictions of labelled utterances: their table as CSV, and what it shows as a picture.

Classes give a confusion matrix, attributes a picture of predicted against true values. The tables' columns:

    id, label, predicted, <a posterior for each class>
    id, <attribute>, <attribute>_predicted, ...            on the corpus's scale

In a corpus of several conditions, `condition` follows `id` in the table of the test part.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.data.atomic import atomic
from sersearch.errors import DataError
from sersearch.figures import encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from sersearch.data.batches import LabelSpace
    from sersearch.training import Predictions

PREDICTIONS = "dev_predictions.csv"
"""In a checkpoint, the development predictions of the best epoch."""

MOST = 64
"""Classes that a picture has room for."""

_LEADING = ["id", "label", "predicted"]
_SUFFIX = "_predicted"


# --- writing ----------------------------------------------------------------------------------------------------------


def prediction_rows(ids: Sequence[str], truth: Tensor, outputs: Tensor, space: LabelSpace) -> Iterator[list[Any]]:
    """Header and rows of a table: of label codes (U,) and posteriors (U, C), or of attributes (U, A), both on scale."""
    if space.attributes:
        yield ["id", *(column for name in space.attributes for column in (name, name + _SUFFIX))]
        # 7 digits: what float32 holds.
        for name, pairs in zip(ids, np.stack([truth.numpy(), outputs.numpy()], axis=-1), strict=True):
            yield [name, *(f"{value:.7g}" for value in pairs.ravel())]
        return
    yield [*_LEADING, *space.emotion]
    for name, label, posteriors in zip(ids, truth.tolist(), outputs.tolist(), strict=True):
        guess = posteriors.index(max(posteriors))
        yield [name, space.emotion[label], space.emotion[guess], *map(repr, posteriors)]


def predictions_csv(*predictions: Predictions) -> str:
    """The table of a lane's development predictions, or of several lanes', one after the other.

    Attributes are on the corpus's scale.
    """
    text = io.StringIO(newline="")
    for number, part in enumerate(predictions):
        space, truth, outputs = part.space, part.labels, part.outputs
        if space.attributes:
            truth, outputs = space.denormed(truth.double()), space.denormed(outputs.double())
        rows = prediction_rows(part.ids, truth, outputs, space)
        csv.writer(text).writerows(islice(rows, min(number, 1), None))  # one header
    return text.getvalue()


# --- reading and drawing ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Confusion:
    """What class predictions show."""

    classes: tuple[str, ...]
    counts: np.ndarray
    """Utterances (C, C), true class by row."""

    name = "confusion"

    @property
    def utterances(self) -> int:
        """How many were predicted."""
        return int(self.counts.sum())

    def draw(self) -> Figure:
        """The confusion matrix: colour and percentage by true class, counts below."""
        return _draw_confusion(self.classes, self.counts)


@dataclass(frozen=True, eq=False)
class Scatter:
    """What attribute predictions show."""

    attributes: tuple[str, ...]
    truth: np.ndarray
    """(U, A), as `predicted`."""
    predicted: np.ndarray

    name = "scatter"

    @property
    def utterances(self) -> int:
        """How many were predicted."""
        return len(self.truth)

    def draw(self) -> Figure:
        """Predicted against true values, a panel an attribute, with its CCC."""
        return _draw_scatter(self)


def read_predictions(path: Path, condition: str | None = None) -> Confusion | Scatter:
    """What a table of predictions shows; of utterances of `condition` alone, where it is given.

    Raises :class:`DataError` when the file is not such a table.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            header = list(reader.fieldnames or [])
            rows = [row for row in reader if condition is None or row.get("condition") == condition]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    if header[1:2] == ["condition"]:
        del header[1]
    if len(header) > len(_LEADING) + MOST:
        raise DataError(f"{path}: {len(header)} columns; a picture has room for {MOST} classes")
    attributes = tuple(header[1::2])
    if attributes and header == ["id", *(column for name in attributes for column in (name, name + _SUFFIX))]:
        return _scatter(path, attributes, rows)
    if len(header) > len(_LEADING) and header[:3] == _LEADING:
        return _confusion(path, tuple(header[3:]), rows)
    raise DataError(
        f"{path}: not a table of predictions; expected the columns id, label, predicted and one for each class, or id "
        f"and for each attribute NAME, NAME{_SUFFIX}; found {', '.join(header) or 'none'}"
    )


def _confusion(path: Path, classes: tuple[str, ...], rows: Sequence[dict[str, str]]) -> Confusion:
    place = {name: i for i, name in enumerate(classes)}
    counts = np.zeros((len(classes), len(classes)), dtype=np.int64)
    for row in rows:
        label, predicted = row["label"], row["predicted"]
        if label not in place or predicted not in place:
            unknown = label if label not in place else predicted
            raise DataError(f"{path}: the class {unknown!r} has no column of posteriors")
        counts[place[label], place[predicted]] += 1
    return Confusion(classes, counts)


def _scatter(path: Path, attributes: tuple[str, ...], rows: Sequence[dict[str, str]]) -> Scatter:
    try:
        pairs = np.array([[[float(row[n]), float(row[n + _SUFFIX])] for n in attributes] for row in rows])
    except (ValueError, TypeError) as error:
        raise DataError(f"{path}: {error}; expected a number for each attribute") from None
    pairs = pairs.reshape(-1, len(attributes), 2)
    if not (np.abs(pairs) < 1e30).all():
        raise DataError(f"{path}: expected a number for each attribute; found some that are NaN, infinite or near that")
    return Scatter(attributes, pairs[..., 0], pairs[..., 1])


def recalls(counts: np.ndarray) -> np.ndarray:
    """Row-wise shares (C, C) of `counts` (C, C); rows without an utterance are NaN. UA is the diagonal's mean."""
    totals = counts.sum(axis=1, keepdims=True)
    shares: np.ndarray = np.divide(counts, totals, out=np.full(counts.shape, np.nan), where=totals > 0)
    return shares


def _draw_confusion(classes: tuple[str, ...], counts: np.ndarray) -> Figure:
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


def _draw_scatter(scatter: Scatter) -> Figure:
    import torch
    from matplotlib.figure import Figure

    from sersearch.metrics import ccc

    both = np.concatenate([scatter.truth, scatter.predicted])
    figure = Figure(figsize=(3.3 * len(scatter.attributes) + 0.3, 3.6), dpi=150, layout="constrained")
    panels = figure.subplots(1, len(scatter.attributes), squeeze=False)[0]
    for a, (name, axes) in enumerate(zip(scatter.attributes, panels, strict=True)):
        truth, predicted = scatter.truth[:, a], scatter.predicted[:, a]
        agreement = float(ccc(torch.from_numpy(predicted.copy()), torch.from_numpy(truth.copy())))
        low, high = (both[:, a].min(), both[:, a].max()) if len(both) else (0.0, 1.0)
        margin = 0.04 * (high - low) or 0.5
        axes.plot([low, high], [low, high], color="0.7", linewidth=1, zorder=1)
        # The fainter, the more there are, so that thousands do not hide where most lie.
        axes.scatter(truth, predicted, s=9, alpha=float(np.clip(20 / np.sqrt(len(truth) + 1), 0.1, 0.8)), linewidths=0)
        axes.set_xlim(low - margin, high + margin)
        axes.set_ylim(low - margin, high + margin)
        axes.set_aspect("equal")
        axes.set_xlabel("true")
        axes.set_ylabel("predicted")
        title = axes.set_title(f"{name}: CCC {agreement:.3f}, {len(truth)} utterances", fontsize=9)
        title.set_parse_math(False)
    return figure


def prediction_artifacts(path: Path, out_dir: Path) -> list[Path]:
    """Write `confusion.csv` (true class by row, counts) and `confusion.png`, or `scatter.png`, into `out_dir`.

    Returns their paths. Raises :class:`DataError` when `path` is not a table of predictions.
    """
    shown = read_predictions(path)
    picture = out_dir / f"{shown.name}.png"
    with atomic(picture) as temporary:
        temporary.write_bytes(encoded(shown.draw(), "png"))
    if isinstance(shown, Scatter):
        return [picture]
    table = out_dir / "confusion.csv"
    with atomic(table) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["true", *shown.classes])
        writer.writerows([name, *row] for name, row in zip(shown.classes, shown.counts.tolist(), strict=True))
    return [table, picture]
