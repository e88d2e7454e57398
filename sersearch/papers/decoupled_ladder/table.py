"""The slides' table: CCC in noise."""

from __future__ import annotations

from sersearch.data.protocols import Protocol
from sersearch.papers.declaration import AROUSAL, DOMINANCE, VALENCE, Cell, Part, Row, Table

ATTRIBUTES = {"Arousal": AROUSAL, "Valence": VALENCE, "Dominance": DOMINANCE}
CONDITIONS = {"Clean": "clean", "10dB": "snr10", "5dB": "snr5", "0dB": "snr0"}
TRIALS = 20


def _part(model: str, attribute: str, condition: str) -> Part:
    """A model whose unlabelled speech is of the tested condition; the dense network has none."""
    space, search = {
        "dense": ("ladder_baselines", {"model": ["dense"]}),
        "ladder": ("ladder_stl", {"setting": ["UL"]}),
        "decoupled": ("decoupled_ladder_noisy", {"setting": ["UL"]}),
    }[model]
    learnt = "clean" if model == "dense" else condition
    return Part(
        name=f"{model}-{attribute}" + ("" if model == "dense" else f"-{condition}"),
        space=space,
        search=search,
        target=attribute,
        protocol=Protocol("official", unlabeled_condition=learnt),
        seeds=TRIALS,
    )


def _row(label: str, model: str) -> Row:
    return Row(
        label,
        tuple(
            Cell(_part(model, name, condition), f"test_ccc_{name}@{condition}")
            for name in ATTRIBUTES.values()
            for condition in CONDITIONS.values()
        ),
    )


PIECE = Table(
    title="CCC in noise, unlabelled speech from the tested condition",
    source="Leem et al., Interspeech 2021, slides, the table of results",
    corpora=("msp_podcast",),
    protocol="labels from clean speech, which develops, too; average over 20 trials",
    notes=("One attribute at a time: the slides don't say.",),
    noisy=True,
    columns=tuple((attribute, condition) for attribute in ATTRIBUTES for condition in CONDITIONS),
    rows=(
        _row("Dense network", "dense"),
        _row("Ladder network", "ladder"),
        _row("Decoupled ladder network", "decoupled"),
    ),
    numbers={
        "msp_podcast": (
            "Dense network | 0.631 | 0.248 | 0.229 | 0.192"
            " | 0.296 | 0.151 | 0.120 | 0.104 | 0.562 | 0.253 | 0.252 | 0.215\n"
            "Ladder network | 0.627 | 0.438 | 0.424 | 0.364"
            " | 0.280 | 0.146 | 0.129 | 0.111 | 0.545 | 0.381 | 0.385 | 0.339\n"
            "Decoupled ladder network | 0.625 | 0.488 | 0.460 | 0.402"
            " | 0.283 | 0.160 | 0.126 | 0.114 | 0.556 | 0.450 | 0.436 | 0.397"
        )
    },
)
