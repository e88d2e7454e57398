"""Table II: trained on MSP-Podcast, tested on IEMOCAP and MSP-IMPROV."""

from __future__ import annotations

from typing import Any

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import LOSO, Table, Test
from sersearch.papers.ladder.parts import ATTRIBUTES, GRID, ladder_mtl, ladder_stl, mtl, row, stl

LABELLED: dict[str, Any] = {"cross": True, "protocol": Protocol("cross", develop_on="source")}
UNLABELLED: dict[str, Any] = {"cross": True, "protocol": Protocol("cross", develop_on="source", target_audio="all")}
MODELS = {
    "STL": stl("table2", **LABELLED),
    "MTL": mtl("table2", **LABELLED),
    "Lad + L + STL": ladder_stl("table2", "L", **LABELLED),
    "Lad + L + MTL": ladder_mtl("table2", "L", **LABELLED),
    "Lad + UL + STL": ladder_stl("table2", "UL", **UNLABELLED),
    "Lad + UL + MTL": ladder_mtl("table2", "UL", **UNLABELLED),
    "WC Baseline": stl("table2-within", within=True, protocol=LOSO, each="fold"),
}

PIECE = Table(
    title="Cross-corpus evaluation: CCC of ladder networks trained on one corpus and tested on another",
    source="Parthasarathy & Busso, TASLP 2020, table II, section V-B",
    corpora=("iemocap", "msp_improv"),
    trained=("msp_podcast",),
    protocol=f"trained and developed on one corpus; {GRID}; mean and deviation over the tested corpus's speakers",
    notes=(
        "The paper's partitions of the tested corpus are speaker-independent, how many it doesn't say: here each "
        "speaker is one, and the within-corpus baseline (WC, the STL model) leaves each of them out in turn.",
        "UL learns from all audio of the tested corpus, without its labels.",
    ),
    repeated="cross",
    columns=tuple(("", name) for name in ATTRIBUTES),
    rows=tuple(row(label, ("test", parts)) for label, parts in MODELS.items()),
    numbers={
        "iemocap": """
            STL            | 0.560±0.122   | 0.135±0.070   | 0.378±0.103
            MTL            | 0.584±0.078   | 0.144±0.067   | 0.370±0.097
            Lad + L + STL  | 0.590±0.074•* | 0.154±0.052•  | 0.391±0.107•*
            Lad + L + MTL  | 0.589±0.065•  | 0.141±0.056   | 0.408±0.103•*
            Lad + UL + STL | 0.603±0.043•* | 0.092±0.071   | 0.476±0.076•*
            Lad + UL + MTL | 0.623±0.036•* | 0.235±0.056•* | 0.441±0.086•*
            WC Baseline    | 0.661±0.051   | 0.487±0.044   | 0.512±0.055
        """,
        "msp_improv": """
            STL            | 0.471±0.112   | 0.235±0.078   | 0.440±0.134
            MTL            | 0.442±0.116   | 0.231±0.082   | 0.449±0.128
            Lad + L + STL  | 0.490±0.108*  | 0.287±0.075•* | 0.436±0.130
            Lad + L + MTL  | 0.480±0.107*  | 0.293±0.073•* | 0.464±0.123•*
            Lad + UL + STL | 0.547±0.094•* | 0.349±0.087•* | 0.463±0.096•*
            Lad + UL + MTL | 0.547±0.094•* | 0.328±0.091•* | 0.463±0.096•*
            WC Baseline    | 0.599±0.112   | 0.408±0.090   | 0.471±0.098
        """,
    },
    test=Test(name="paired_t", marks={"STL": "•", "MTL": "*"}, untested=("WC Baseline",)),
    over="speakers",
)
