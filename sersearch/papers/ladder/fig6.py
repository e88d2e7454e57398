"""Figure 6: table I as bars, without the two-step baseline."""

from __future__ import annotations

from dataclasses import replace

from sersearch.papers.ladder import table1

PIECE = replace(
    table1.PIECE,
    title="Within-corpus evaluation, functionals: CCC on the development and the test set",
    source="Parthasarathy & Busso, TASLP 2020, figure 6, section V-A (the numbers are table I's)",
    rows=table1.PIECE.rows[1:],
    numbers={"msp_podcast": table1.PIECE.numbers["msp_podcast"].strip().partition("\n")[2]},
    drawn="bars",
)
