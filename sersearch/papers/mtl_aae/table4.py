"""Table 4: trained on IEMOCAP, tested on MSP-IMPROV."""

from __future__ import annotations

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import Cell, Row, Table
from sersearch.papers.mtl_aae.parts import NOTES, REPEATED, model

PROPOSED = model("mtl", protocol=Protocol("cross"), cross=True)

PIECE = Table(
    title="Cross-corpus evaluation, categorical emotions",
    source="Latif et al., TAFFC 2020, table 4, section 5.3",
    corpora=("msp_improv",),
    trained=("iemocap",),
    protocol=f"trained on one corpus; of the tested one, speakers with 30% of it develop; {REPEATED}",
    notes=NOTES[:1],
    repeated="cross",
    columns=(("", "UA (%)"),),
    rows=(Row("Proposed", (Cell(PROPOSED, "test_ua"),)),),
    numbers={
        "msp_improv": """
            Attentive CNN [106]   | 45.76
            Conditional-GAN [109] | 45.40
            CycleGAN-DNN [108]    | 46.52±0.43
            Proposed              | 46.41±0.32
        """
    },
    percent=True,
    measure="UA",
)
