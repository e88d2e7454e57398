"""Figure 3: arousal in the clusters with its highest and its lowest mean, without and with the regressor."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from sersearch.families.deepemocluster.analysis import BINS
from sersearch.papers.declaration import AROUSAL, Content, Figure
from sersearch.papers.deepemocluster.parts import supervised

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

PANELS = {
    "(a) unsupervised": replace(supervised(AROUSAL, "unsupervised"), seeds=1),
    "(b) supervised": replace(supervised(AROUSAL), seeds=1),
}
ENDS = {"lowest": "tab:blue", "highest": "tab:red"}


def content(collected: Collected) -> Content:
    """A line a panel and cluster."""
    found = {label: collected.clusters(part, AROUSAL) for label, part in PANELS.items()}
    ends = {label: dict(zip(ENDS, (own.large()[0], own.large()[-1]), strict=True)) for label, own in found.items()}

    def draw(canvas: Canvas) -> None:
        for panel, (label, clusters) in zip(canvas.subplots(1, 2, sharey=True), found.items(), strict=True):
            bins = np.histogram_bin_edges(clusters.values, BINS).tolist()
            for name, colour in ENDS.items():
                own = clusters.values[clusters.codes == ends[label][name]]
                said = f"{name} mean, {own.mean():.2f}"
                panel.hist(own, bins, weights=np.full(len(own), 1 / len(own)), color=colour, alpha=0.55, label=said)
            panel.set_xlabel("arousal")
            panel.set_title(label, fontsize=9)
            panel.legend(fontsize=7)
        canvas.axes[0].set_ylabel("share of the cluster")

    lines = []
    for label, clusters in found.items():
        for name, cluster in ends[label].items():
            own = clusters.values[clusters.codes == cluster]
            lines.append((label, name, str(cluster), str(len(own)), f"{own.mean():.3f}", f"{own.std():.3f}"))
    return Content(("model", "mean is", "cluster", "chunks", "mean", "deviation"), tuple(lines), draw)


PIECE = Figure(
    title="Arousal in the clusters with the lowest and the highest mean, without and with the emotional regressor",
    source="Lin, Sridhar & Busso, ICASSP 2021, figure 3, section 5.4",
    corpora=("msp_podcast",),
    protocol="clusters of the labelled training chunks in the last epoch; 10 clusters, fully supervised",
    notes=(
        "Of clusters with at least half of an even share of the chunks: the means of tiny ones are the farthest out by "
        "chance.",
        "The text has no numbers of the figure, nor the number of clusters that it is of.",
    ),
    shown=tuple(PANELS.values()),
    content=content,
)
