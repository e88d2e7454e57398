"""Figure 5: development CCC of arousal by epoch, over all models of the grid."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sersearch.evaluation.results import Spread
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
    spreads = {epoch: Spread.of(by_epoch[epoch]) for epoch in sorted(by_epoch)}

    def draw(canvas: Canvas) -> None:
        axes, epochs = canvas.add_subplot(), list(spreads)
        mean = [own.mean for own in spreads.values()]
        low, high = ([own.mean + side * (own.deviation or 0.0) for own in spreads.values()] for side in (-1, 1))
        axes.plot(epochs, mean, color="tab:blue", marker="." if len(epochs) < 20 else "")
        axes.fill_between(epochs, low, high, color="tab:blue", alpha=0.25, linewidth=0)
        axes.set_xlabel("epoch")
        axes.set_ylabel("development CCC, arousal")

    lines = [
        (str(epoch), f"{own.mean:.3f}", "-" if own.deviation is None else f"{own.deviation:.3f}", str(own.n))
        for epoch, own in spreads.items()
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
