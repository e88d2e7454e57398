"""Table I: within MSP-Podcast, CCC on the development and the test set."""

from __future__ import annotations

from sersearch.papers.declaration import Table, Test
from sersearch.papers.ladder.parts import ATTRIBUTES, GRID, ladder_mtl, ladder_stl, mtl, row, stl

LADDER_L = ladder_stl("table1", "L", svr=True)
MODELS = {
    "STL": stl("table1"),
    "MTL": mtl("table1"),
    "Lad + L + STL": LADDER_L,
    "Lad + L + MTL": ladder_mtl("table1", "L"),
    "Lad + UL + STL": ladder_stl("table1", "UL"),
    "Lad + UL + MTL": ladder_mtl("table1", "UL"),
}

PIECE = Table(
    title="Within-corpus evaluation: CCC of ladder networks on functionals, development and test set",
    source="Parthasarathy & Busso, TASLP 2020, table I, section V-A",
    corpora=("msp_podcast",),
    protocol=f"one training each, the best epoch by the development set; {GRID}",
    columns=tuple((group, name) for group in ("Development", "Test") for name in ATTRIBUTES),
    rows=(
        row("[43] Lad + L + STL + SVR", ("svr_dev", LADDER_L), ("svr_test", LADDER_L)),
        *(row(label, ("dev", parts), ("test", parts)) for label, parts in MODELS.items()),
    ),
    numbers={
        "msp_podcast": """
            [43] Lad + L + STL + SVR | 0.768   | 0.355 | 0.696  | 0.739   | 0.202 | 0.650
            STL                      | 0.773   | 0.491 | 0.713  | 0.743   | 0.312 | 0.670
            MTL                      | 0.782   | 0.509 | 0.726  | 0.745   | 0.293 | 0.671
            Lad + L + STL            | 0.793•* | 0.489 | 0.732• | 0.765•* | 0.303 | 0.678
            Lad + L + MTL            | 0.795•* | 0.497 | 0.736• | 0.763•* | 0.293 | 0.690•*
            Lad + UL + STL           | 0.792•* | 0.489 | 0.733• | 0.770•* | 0.301 | 0.700•*
            Lad + UL + MTL           | 0.792•* | 0.489 | 0.733• | 0.770•* | 0.301 | 0.700•*
        """
    },
    test=Test(name="fisher_z", marks={"STL": "•", "MTL": "*"}),
)
