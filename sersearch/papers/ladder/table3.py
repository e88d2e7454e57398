"""Table III: convolutional ladder networks on low-level features, within MSP-Podcast."""

from __future__ import annotations

from sersearch.papers.declaration import Part, Table, Test
from sersearch.papers.ladder.parts import ATTRIBUTES, GRID, ladder_mtl, ladder_stl, mtl, row, stl

FEATURES = {"LLD-CNN": "lld", "MFB-CNN": "mfb"}


def _models(features: str) -> dict[str, dict[str, Part]]:
    prefix, space = f"table3-{features}", f"ladder_cnn_{features}"
    return {
        "STL": stl(prefix, space),
        "MTL": mtl(prefix, space),
        "Lad+STL+L": ladder_stl(prefix, "L", space),
        "Lad+MTL+L": ladder_mtl(prefix, "L", space),
        "Lad+STL+UL": ladder_stl(prefix, "UL", space),
        "Lad+MTL+UL": ladder_mtl(prefix, "UL", space),
    }


LLD, MFB = (_models(features) for features in FEATURES.values())

PIECE = Table(
    title="Ladder networks with low-level features: CCC of CNNs on the test set",
    source="Parthasarathy & Busso, TASLP 2020, table III, section V-C",
    corpora=("msp_podcast",),
    protocol=f"one training each, the best epoch by the development set; {GRID}",
    columns=tuple((group, name) for group in FEATURES for name in ATTRIBUTES),
    rows=tuple(row(label, ("test", LLD[label]), ("test", MFB[label])) for label in LLD),
    numbers={
        "msp_podcast": """
            STL        | 0.756   | 0.244   | 0.682 | 0.733 | 0.204  | 0.659
            MTL        | 0.759   | 0.223   | 0.684 | 0.738 | 0.254• | 0.659
            Lad+STL+L  | 0.768•  | 0.274•* | 0.687 | 0.744 | 0.200  | 0.659
            Lad+MTL+L  | 0.769•  | 0.274•* | 0.681 | 0.741 | 0.200  | 0.659
            Lad+STL+UL | 0.769•  | 0.279•* | 0.687 | 0.743 | 0.232• | 0.655
            Lad+MTL+UL | 0.771•* | 0.269*  | 0.685 | 0.740 | 0.184  | 0.656
        """
    },
    test=Test(name="fisher_z", marks={"STL": "•", "MTL": "*"}),
)
