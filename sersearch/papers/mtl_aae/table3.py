"""Table 3: UA of categorical emotions, by ten folds and by leaving one speaker out."""

from __future__ import annotations

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import Cell, Row, Table
from sersearch.papers.mtl_aae.parts import CORPORA, NOTES, REPEATED, model

TEN = Protocol("kfold", folds=10)
MODELS = {
    "10-fold: CNN (multi-task)": model("mtl", kind="cnn", protocol=TEN),
    "10-fold: semi-supervised AE (multi-task)": model("mtl", kind="ae", protocol=TEN),
    "10-fold: semi-supervised AAE (proposed)": model("mtl", protocol=TEN),
    "LOSO: semi-supervised AAE (proposed)": model("mtl"),
    "LOSO: proposed (single task)": model("stl"),
}

PIECE = Table(
    title="Comparison with recent studies, categorical emotions",
    source="Latif et al., TAFFC 2020, table 3, section 5.2",
    corpora=CORPORA,
    protocol=(
        "10 folds with all speakers in each, the next fold develops, or leave one speaker out, the next one develops; "
        f"{REPEATED}, each of all folds"
    ),
    notes=NOTES,
    columns=(("", "UA (%)"),),
    rows=tuple(Row(label, (Cell(part, "test_ua"),)) for label, part in MODELS.items()),
    numbers={
        "iemocap": """
            10-fold: ProgNet (transfer learning) [88] | 65.7±1.8
            10-fold: CNN (multi-task)                 | 65.6±2.0
            10-fold: semi-supervised AE (multi-task)  | 66.4±1.6
            10-fold: semi-supervised AAE (proposed)   | 68.8±1.2
            LOSO: DBN (multi-task) [30]               | 62.2
            LOSO: CNN (multi-task) [106]              | 59.54
            LOSO: semi-supervised AAE (proposed)      | 66.7±1.4
            LOSO: CVAE-LSTM (single task) [20]        | 62.8
            LOSO: CNN (single task) [107]             | 64.2
            LOSO: proposed (single task)              | 64.5±1.5
        """,
        "msp_improv": """
            10-fold: ProgNet (transfer learning) [88] | 60.5±2.1
            10-fold: CNN (multi-task)                 | 59.5±2.4
            10-fold: semi-supervised AE (multi-task)  | 60.2±2.3
            10-fold: semi-supervised AAE (proposed)   | 63.6±1.7
            LOSO: semi-supervised AAE (proposed)      | 60.3±1.1
            LOSO: proposed (single task)              | 58.1±1.7
        """,
    },
    over="repetitions",
    percent=True,
    measure="UA",
)
