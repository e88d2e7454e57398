"""The panels of what happened by epoch, of studies written by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes

from sersearch.report import curves
from sersearch.report.summary import Summary
from sersearch.study import Study
from tests.report import studies


def panels(folder: Path, epochs: int) -> dict[str, Axes]:
    """Two trials of 10 and 30 clusters, the second the better; clusters of one epoch are compared with the last's."""
    writer = studies.Writer(folder)
    for number, clusters in enumerate((10, 30)):
        writer.event("start", number, params={"clusters": clusters}, searched={"clusters": clusters})
        for epoch in range(1, epochs + 1):
            metrics = {"train_loss_labelled": 2 / epoch, "dev_loss_labelled": -1.0 * number, "dev_ua": 0.5}
            metrics["train_smallest_cluster"] = 0.3 / clusters * (1 - number / 2)
            if epoch > 1:
                metrics["train_nmi"] = 0.2 * (1 + number)
            if number == 0:
                metrics["train_of_the_first"] = 0.1
            value = 0.4 + 0.1 * number
            writer.event(
                "epoch",
                number,
                epoch=epoch,
                metrics=metrics,
                value=value,
                best=epoch == 1,
                seconds=1.0,
                checkpoint=None,
            )
    figure = curves.loss_curves(Summary(Study.open(folder)))
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def test_what_is_watched_has_the_best_trials_line(tmp_path: Path) -> None:
    found = panels(tmp_path / "hand", 4)
    assert list(found) == ["labelled", "nmi", "of the first", "smallest cluster"]
    labels = {name: [line.get_label() for line in axes.lines] for name, axes in found.items()}
    assert labels == {
        "labelled": ["training", "development"],
        "nmi": ["training", "best trial (1)"],
        "of the first": ["training"],
        "smallest cluster": ["training", "best trial (1)"],
    }
    mean, best = found["smallest cluster"].lines
    assert mean.get_ydata() == pytest.approx([(0.03 + 0.005) / 2] * 4)
    assert best.get_ydata() == pytest.approx([0.005] * 4)
    assert best.get_color() == "black"


def test_a_single_value_is_a_point(tmp_path: Path) -> None:
    found = panels(tmp_path / "hand", 2)
    assert [line.get_marker() for line in found["nmi"].lines] == [".", "."], "there is none in epoch 1"
    assert {line.get_marker() for line in found["labelled"].lines} == {""}


def test_a_band_is_below_0_only_where_values_are(tmp_path: Path) -> None:
    found = panels(tmp_path / "hand", 3)

    def lowest(axes: Axes) -> float:
        return float(min(np.min(path.vertices[:, 1]) for band in axes.collections for path in band.get_paths()))

    # Of 0.03 and 0.005 the mean is 0.0175, the deviation 0.0177; of 0 and -1: -0.5 and 0.707.
    assert lowest(found["smallest cluster"]) == 0
    assert lowest(found["labelled"]) == pytest.approx(-0.5 - 0.5**0.5)
