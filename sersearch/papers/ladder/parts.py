"""The ladder paper's models (section IV-C), named as in its tables."""

from __future__ import annotations

from typing import Any

from sersearch.papers.declaration import AROUSAL, DOMINANCE, VALENCE, Cell, Part, Row

ATTRIBUTES = {"Arousal": AROUSAL, "Valence": VALENCE, "Dominance": DOMINANCE}
"""In the order of the columns."""
GRID = "alpha and beta by grid in steps of 0.1, with a winner for each attribute"


def stl(prefix: str, space: str = "ladder_baselines", **more: Any) -> dict[str, Part]:
    """The STL baseline by attribute."""
    return {
        name: Part(name=f"{prefix}-stl-{name}", space=space, search={"model": ["dense"]}, target=name, **more)
        for name in ATTRIBUTES.values()
    }


def mtl(prefix: str, space: str = "mtl_alpha_beta", **more: Any) -> dict[str, Part]:
    """The MTL baseline: one search, with a winner for each attribute."""
    part = Part(name=f"{prefix}-mtl", space=space, fixed={"model": "dense"}, target="attributes", **more)
    return dict.fromkeys(ATTRIBUTES.values(), part)


def ladder_stl(prefix: str, setting: str, space: str = "ladder_stl", **more: Any) -> dict[str, Part]:
    """Lad + L + STL, or Lad + UL + STL, by attribute."""
    return {
        name: Part(
            name=f"{prefix}-lad-{setting.lower()}-stl-{name}",
            space=space,
            search={"setting": [setting]},
            target=name,
            **more,
        )
        for name in ATTRIBUTES.values()
    }


def ladder_mtl(prefix: str, setting: str, space: str = "ladder_alpha_beta", **more: Any) -> dict[str, Part]:
    """Lad + L + MTL, or Lad + UL + MTL: one search, with a winner for each attribute."""
    name = f"{prefix}-lad-{setting.lower()}-mtl"
    return dict.fromkeys(
        ATTRIBUTES.values(), Part(name=name, space=space, fixed={"setting": setting}, target="attributes", **more)
    )


def row(label: str, *figures: tuple[str, dict[str, Part]]) -> Row:
    """A row with three cells for each figure, such as `dev`, one an attribute."""
    return Row(label, tuple(Cell(parts[name], f"{figure}_ccc_{name}") for figure, parts in figures for name in parts))
