"""Table 4: the number of clusters, with 40K unlabelled sentences."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table, Test
from sersearch.papers.deepemocluster.parts import ATTRIBUTES, PROTOCOL, semi_supervised

CLUSTERS = (10, 20, 30)

PIECE = Table(
    title="DeepEmoCluster with 40K unlabelled sentences: CCC by the number of clusters",
    source="Lin, Sridhar & Busso, ICASSP 2021, table 4, section 5.3",
    corpora=("msp_podcast",),
    protocol=PROTOCOL,
    columns=tuple(("", f"{count}-clusters") for count in CLUSTERS),
    rows=tuple(
        Row(label, tuple(Cell(semi_supervised(name, 40_000, count), f"test_ccc_{name}") for count in CLUSTERS))
        for label, name in ATTRIBUTES.items()
    ),
    numbers={
        "msp_podcast": """
            Aro. | 0.6611 | 0.6491  | 0.6416
            Dom. | 0.5400 | 0.5459  | 0.5490*
            Val. | 0.1572 | 0.1756* | 0.1752*
        """
    },
    test=Test(name="student_t", marks={"10-clusters": "*"}, within="row"),
    over="subsets",
)
