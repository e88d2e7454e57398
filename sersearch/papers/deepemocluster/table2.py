"""Table 2: fully supervised, against three baselines."""

from __future__ import annotations

from sersearch.papers.declaration import Cell, Row, Table, Test
from sersearch.papers.deepemocluster.parts import ATTRIBUTES, PROTOCOL, supervised

MODELS = {
    "CNN-regressor": "cnn_regressor",
    "CNN-AE": "cnn_ae",
    "CNN-VAE": "cnn_vae",
    "DeepEmoCluster (10-clusters)": "deepemocluster",
}

PIECE = Table(
    title="Fully supervised: CCC of DeepEmoCluster and three baselines",
    source="Lin, Sridhar & Busso, ICASSP 2021, table 2, section 5.2",
    corpora=("msp_podcast",),
    protocol=PROTOCOL,
    columns=tuple(("", label) for label in MODELS),
    rows=tuple(
        Row(label, tuple(Cell(supervised(name, model), f"test_ccc_{name}") for model in MODELS.values()))
        for label, name in ATTRIBUTES.items()
    ),
    numbers={
        "msp_podcast": """
            Aro. | 0.6177 | 0.6338 | 0.5586 | 0.6502*†‡
            Dom. | 0.4928 | 0.5111 | 0.4800 | 0.5426*†‡
            Val. | 0.1696 | 0.1354 | 0.1826 | 0.1510†
        """
    },
    test=Test(
        name="student_t",
        marks={"CNN-regressor": "*", "CNN-AE": "†", "CNN-VAE": "‡"},
        within="row",
        untested=("CNN-regressor", "CNN-AE", "CNN-VAE"),
    ),
    over="subsets",
)
