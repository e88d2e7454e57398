"""Table 3: the size of the unlabelled set, with 10 clusters."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table, Test
from sersearch.papers.deepemocluster.parts import ATTRIBUTES, PROTOCOL, semi_supervised, supervised

SIZES = {"fully supervised": 0, "15K unlabeled": 15_000, "40K unlabeled": 40_000}

PIECE = Table(
    title="DeepEmoCluster with 10 clusters: CCC by the number of unlabelled sentences",
    source="Lin, Sridhar & Busso, ICASSP 2021, table 3, section 5.3",
    corpora=("msp_podcast",),
    protocol=PROTOCOL,
    notes=(
        'The paper marks what is better than "the model trained with only 10-clusters", taken as fully supervised.',
    ),
    columns=tuple(("", label) for label in SIZES),
    rows=tuple(
        Row(
            label,
            tuple(
                Cell(semi_supervised(name, size) if size else supervised(name), f"test_ccc_{name}")
                for size in SIZES.values()
            ),
        )
        for label, name in ATTRIBUTES.items()
    ),
    numbers={
        "msp_podcast": """
            Aro. | 0.6502 | 0.6504  | 0.6611*
            Dom. | 0.5426 | 0.5400  | 0.5400
            Val. | 0.1510 | 0.1714* | 0.1572
        """
    },
    test=Test(name="student_t", marks={"fully supervised": "*"}, within="row"),
    over="subsets",
)
