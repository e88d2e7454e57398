"""Figure 3: two ablations on CREMA-D."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table, Test
from sersearch.papers.multimodal_ladder.parts import PROTOCOL, model

FIGURES = {"Precision": "test_precision", "Recall": "test_ua", "F1": "test_f1"}
MODELS = {
    "Full framework": "multimodal_ladder",
    "Ablation 1, without unimodal cross-layer ladders": "without_unimodal",
    "Ablation 2, without the audiovisual ladder": "without_audiovisual",
}
ABLATED = tuple(MODELS)[1:]

PIECE = Table(
    title="Ablation analysis: macro precision, recall and F1 in per cent",
    source="Goncalves & Busso, ICASSP 2023, figure 3, section 5.2",
    corpora=("crema_d",),
    protocol=PROTOCOL,
    notes=(
        "The text has numbers of the full framework alone, table 1's; of the ablations it says that they cost 2.2% and "
        "up to 6.1% (absolute).",
    ),
    columns=tuple(("", label) for label in FIGURES),
    rows=tuple(
        Row(label, tuple(Cell(model(name), figure) for figure in FIGURES.values())) for label, name in MODELS.items()
    ),
    numbers={"crema_d": "Full framework | 80.3 | 80.4 | 80.2"},
    test=Test(name="paired_t", marks=dict.fromkeys(ABLATED, ""), all="★", untested=ABLATED),
    drawn="bars",
    percent=True,
    measure="per cent",
)
