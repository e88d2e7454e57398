"""Table 6: what each auxiliary task does for dimensional emotions."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table
from sersearch.papers.mtl_aae.parts import CORPORA, NOTES, SPEAKERS_OUT, Tasks, model

TASKS: dict[str, Tasks] = {"Gender": "gender", "Speaker": "speaker", "Both": "mtl"}
TARGETS = {
    ("Levels", "Activation"): "activation_levels",
    ("Levels", "Valence"): "valence_levels",
    ("Joint space", "3 Clusters"): "clusters3",
    ("Joint space", "5 Clusters"): "clusters5",
}

PIECE = Table(
    title="Impact of auxiliary tasks on dimensional emotions, by secondary tasks",
    source="Latif et al., TAFFC 2020, table 6, section 6.1",
    corpora=CORPORA,
    protocol=SPEAKERS_OUT,
    notes=(*NOTES, "The table doesn't name its measure: UA (%) is taken."),
    columns=tuple(TARGETS),
    rows=tuple(
        Row(name, tuple(Cell(model(tasks, target), "test_ua") for target in TARGETS.values()))
        for name, tasks in TASKS.items()
    ),
    numbers={
        "iemocap": """
            Gender  | 62.6±1.3 | 61.4±1.2 | 65.7±1.3 | 53.2±0.8
            Speaker | 63.7±1.2 | 60.8±0.8 | 64.8±1.5 | 54.2±1.2
            Both    | 64.5±1.5 | 62.2±1.0 | 65.1±0.9 | 55.1±1.4
        """,
        "msp_improv": """
            Gender  | 53.7±2.1 | 53.4±1.8 | 60.1±1.5 | 43.6±1.5
            Speaker | 52.6±2.5 | 52.6±2.3 | 61.4±1.0 | 43.1±1.2
            Both    | 54.6±1.4 | 55.4±1.6 | 62.1±1.8 | 44.3±1.3
        """,
    },
    over="repetitions",
    percent=True,
    measure="UA",
)
