"""Table 1: against three baselines on CREMA-D."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table, Test
from sersearch.papers.multimodal_ladder.parts import PROTOCOL, model

FIGURES = {
    ("Macro", "Prec."): "test_precision",
    ("Macro", "Rec."): "test_ua",
    ("Macro", "F1"): "test_f1",
    **{("Micro", name): "test_wa" for name in ("Prec.", "Rec.", "F1")},
}
MODELS = {
    "Our Method": "multimodal_ladder",
    "Baseline 1 [4]": "auxformer",
    "Baseline 2 [10]": "mult",
    "Baseline 3 [3]": "parthasarathy",
}
BASELINES = tuple(MODELS)[1:]

PIECE = Table(
    title="The multimodal ladder network and three baselines: precision, recall and F1 in per cent",
    source="Goncalves & Busso, ICASSP 2023, table 1, section 5.1",
    corpora=("crema_d",),
    protocol=PROTOCOL,
    notes=("With one class an utterance, micro-averaged precision, recall and F1 are one figure, the accuracy.",),
    columns=tuple(FIGURES),
    rows=tuple(
        Row(label, tuple(Cell(model(name), figure) for figure in FIGURES.values())) for label, name in MODELS.items()
    ),
    numbers={
        "crema_d": """
            Our Method      | 80.3★ | 80.4★ | 80.2★ | 80.3★ | 80.3★ | 80.3★
            Baseline 1 [4]  | 76.5  | 75.7  | 75.5  | 75.7  | 75.7  | 75.5
            Baseline 2 [10] | 71.6  | 71.0  | 70.6  | 71.0  | 71.0  | 71.0
            Baseline 3 [3]  | 60.6  | 57.8  | 56.3  | 58.0  | 58.0  | 58.0
        """
    },
    test=Test(name="paired_t", marks=dict.fromkeys(BASELINES, ""), all="★", untested=BASELINES),
    percent=True,
    measure="per cent",
)
