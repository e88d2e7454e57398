"""Figure 5: UA over alpha at beta 0.5, and over beta at alpha 1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sersearch.evaluation.results import Spread
from sersearch.papers.declaration import LOSO, Content, Figure, Part
from sersearch.papers.mtl_aae.parts import CORPORA, FOUR

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

TARGETS = {"Categorical": FOUR, "Activation": "activation_levels", "Valence": "valence_levels"}
STEPS = tuple(round(0.1 * step, 1) for step in range(1, 11))
LINES = {"alpha": (STEPS, {"beta": 0.5}), "beta": (STEPS[:-1], {"alpha": 1.0})}


def _part(target: str, weight: str) -> Part:
    values, fixed = LINES[weight]
    return Part(
        name=f"fig5-{target}-{weight}",
        space="aae_alpha_beta",
        search={weight: values},
        fixed=fixed,
        target=target,
        protocol=LOSO,
        each="fold",
        aux=True,
    )


PARTS = {(label, weight): _part(target, weight) for label, target in TARGETS.items() for weight in LINES}


def content(collected: Collected) -> Content:
    """A line a value of alpha or beta."""
    found: dict[tuple[str, str], dict[float, Spread]] = {}
    for (label, weight), part in PARTS.items():
        values: dict[float, list[float]] = {}
        for study in collected.studies(part):
            for trial in study.trials():
                if trial.value is not None:
                    values.setdefault(trial.searched[weight], []).append(100 * trial.value)
        found[label, weight] = {x: Spread.of(values[x]) for x in sorted(values)}

    def draw(canvas: Canvas) -> None:
        for panel, label in zip(canvas.subplots(1, len(TARGETS), sharey=True), TARGETS, strict=True):
            for weight, marker in (("alpha", "o"), ("beta", "s")):
                spreads = found[label, weight]
                panel.plot([*spreads], [s.mean for s in spreads.values()], marker=marker, markersize=4, label=weight)
            panel.set_title(label, fontsize=9)
            panel.set_xlabel("alpha (beta 0.5), beta (alpha 1)")
            panel.legend(fontsize=7)
        canvas.axes[0].set_ylabel("development UA (%)")

    lines = [
        (
            label,
            weight,
            f"{x:g}",
            f"{own.mean:.1f}",
            "-" if own.deviation is None else f"{own.deviation:.1f}",
            str(own.n),
        )
        for (label, weight), spreads in found.items()
        for x, own in spreads.items()
    ]
    return Content(("target", "varied", "value", "UA (%)", "deviation", "speakers"), tuple(lines), draw)


PIECE = Figure(
    title="Impact of the trade-off parameters: UA over alpha at beta 0.5, and over beta at alpha 1",
    source="Latif et al., TAFFC 2020, figure 5, section 6.3",
    corpora=CORPORA,
    protocol="leave one speaker out, the next speaker develops; mean over speakers of the best epoch's development UA",
    notes=(
        "The paper doesn't say whether its UA is of development or test data; settled here: of development data, since "
        "alpha and beta are chosen by it.",
        "The text has no numbers of the figure, but that alpha from 0.4 to 0.6 and beta from 0.4 to 0.7 are best.",
    ),
    shown=tuple(PARTS.values()),
    content=content,
)
