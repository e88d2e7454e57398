"""Figure 3: the multi-task model against single-task ones."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Part, Row, Table
from sersearch.papers.mtl_aae.parts import CORPORA, FOUR, NOTES, SPEAKERS_OUT, model

TARGETS = {
    "Categorical": FOUR,
    "Activation, 3 levels": "activation_levels",
    "Valence, 3 levels": "valence_levels",
    "3 clusters": "clusters3",
}


def _models(target: str) -> dict[str, Part]:
    return {
        "MTL": model("mtl", target),
        "STL": model("stl", target),
        "CNN": model("stl", target, "cnn"),
        "AE": model("stl", target, "ae"),
    }


PIECE = Table(
    title="Benchmarking: the multi-task model, its single-task version, a single-task CNN and autoencoder",
    source="Latif et al., TAFFC 2020, figure 3, section 5.1",
    corpora=CORPORA,
    protocol=SPEAKERS_OUT,
    notes=(*NOTES, "The text has no numbers of the figure."),
    columns=tuple(("", label) for label in TARGETS),
    rows=tuple(
        Row(name, tuple(Cell(_models(target)[name], "test_ua") for target in TARGETS.values()))
        for name in ("MTL", "STL", "CNN", "AE")
    ),
    drawn="bars",
    over="repetitions",
    percent=True,
    measure="UA (%)",
)
