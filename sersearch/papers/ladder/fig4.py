"""Figure 4: development CCC over alpha and beta, a panel for each attribute."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sersearch.papers.declaration import Content, Figure
from sersearch.papers.ladder.parts import ATTRIBUTES
from sersearch.papers.ladder.table1 import MODELS

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

PART = next(iter(MODELS["Lad + L + MTL"].values()))


def content(collected: Collected) -> Content:
    """A line a point of the grid."""
    trials = [trial for trial in collected.studies(PART)[0].trials() if trial.value is not None]
    points = [(trial.searched["alpha"], trial.searched["beta"]) for trial in trials]
    figures = {
        label: [found[0] if (found := t.best_of(f"dev_ccc_{name}")) else np.nan for t in trials]
        for label, name in ATTRIBUTES.items()
    }
    best = {label: points[int(np.nanargmax(values))] for label, values in figures.items()}

    def draw(canvas: Canvas) -> None:
        axes = canvas.subplots(1, len(figures))
        for panel, (label, values) in zip(axes, figures.items(), strict=True):
            alphas, betas = (sorted({point[n] for point in points}) for n in (0, 1))
            cells = np.full((len(betas), len(alphas)), np.nan)
            for (alpha, beta), value in zip(points, values, strict=True):
                cells[betas.index(beta), alphas.index(alpha)] = value
            shown = panel.imshow(cells, origin="lower", cmap="viridis")
            column, row = alphas.index(best[label][0]), betas.index(best[label][1])
            panel.plot([column], [row], "*", ms=11, mfc="white", mec="black")
            panel.set_xticks(range(len(alphas)), [f"{a:g}" for a in alphas], fontsize=7)
            panel.set_yticks(range(len(betas)), [f"{b:g}" for b in betas], fontsize=7)
            panel.set_xlabel("alpha")
            panel.set_ylabel("beta")
            panel.set_title(f"{label}: {best[label][0]:g}, {best[label][1]:g}", fontsize=9)
            canvas.colorbar(shown, ax=panel, shrink=0.6)

    lines = [
        (f"{alpha:g}", f"{beta:g}", *(f"{figures[label][n]:.3f}" for label in figures))
        for n, (alpha, beta) in enumerate(points)
    ]
    return Content(("alpha", "beta", *figures), tuple(lines), draw)


PIECE = Figure(
    title="Lad + L + MTL: development CCC over alpha (arousal) and beta (valence); a star for the best point",
    source="Parthasarathy & Busso, TASLP 2020, figure 4, section IV-D",
    corpora=("msp_podcast",),
    protocol="grid in steps of 0.1; each point's best epoch for that attribute",
    notes=("The paper's best point for arousal is alpha 0.7, beta 0.3; the text has no other numbers of the figure.",),
    shown=(PART,),
    content=content,
)
