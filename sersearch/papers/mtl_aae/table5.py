"""Table 5: what each auxiliary task does for categorical emotions."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table
from sersearch.papers.mtl_aae.parts import CORPORA, NOTES, SPEAKERS_OUT, model

MODELS = {"Gender": model("gender"), "Speaker": model("speaker"), "Both": model("mtl")}

PIECE = Table(
    title="Impact of auxiliary tasks on categorical emotions, by secondary tasks",
    source="Latif et al., TAFFC 2020, table 5, section 6.1",
    corpora=CORPORA,
    protocol=SPEAKERS_OUT,
    notes=NOTES,
    columns=(("", "WA (%)"), ("", "UA (%)")),
    rows=tuple(Row(name, (Cell(part, "test_wa"), Cell(part, "test_ua"))) for name, part in MODELS.items()),
    numbers={
        "iemocap": """
            Gender  | 67.5±1.5 | 66.1±1.7
            Speaker | 67.2±1.3 | 65.9±1.6
            Both    | 68.5±1.2 | 66.7±1.4
        """,
        "msp_improv": """
            Gender  | 60.1±1.2 | 59.3±1.1
            Speaker | 60.5±1.2 | 59.1±1.5
            Both    | 62.5±1.4 | 60.2±1.2
        """,
    },
    over="repetitions",
    percent=True,
    measure="accuracy",
)
