"""Figure 5: development CCC of arousal by epoch, over all models of the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sersearch.papers.declaration import AROUSAL, Content, Figure
from sersearch.papers.ladder.fig4 import PART

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected


def content(collected: Collected) -> Content:
    """A line an epoch."""
    study = collected.studies(PART)[0]
    by_epoch: dict[int, list[float]] = {}
    for trial in study.trials():
        for event in trial.epochs:
            value = event["metrics"].get(f"dev_ccc_{AROUSAL}")
            if value is not None:
                by_epoch.setdefault(event["epoch"], []).append(value)
    epochs = sorted(by_epoch)
    mean = np.array([np.mean(by_epoch[epoch]) for epoch in epochs])
    deviation = np.array([np.std(by_epoch[epoch]) for epoch in epochs])

    def draw(canvas: Canvas) -> None:
        axes = canvas.add_subplot()
        axes.plot(epochs, mean, color="tab:blue", marker="." if len(epochs) < 20 else "")
        axes.fill_between(epochs, mean - deviation, mean + deviation, color="tab:blue", alpha=0.25, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("development CCC, arousal")

    lines = [
        (str(epoch), f"{m:.3f}", f"{d:.3f}", str(len(by_epoch[epoch])))
        for epoch, m, d in zip(epochs, mean, deviation, strict=True)
    ]
    return Content(("epoch", "mean", "deviation", "models"), tuple(lines), draw)


PIECE = Figure(
    title="Lad + L + MTL: development CCC of arousal by epoch, mean and deviation over all points of alpha and beta",
    source="Parthasarathy & Busso, TASLP 2020, figure 5, section V-A",
    corpora=("msp_podcast",),
    protocol="grid in steps of 0.1",
    notes=("The text has no numbers of the figure.",),
    shown=(PART,),
    content=content,
)
