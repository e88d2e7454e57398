"""Text for Markdown and LaTeX, with what has a meaning there escaped."""

from __future__ import annotations

import re
from html import escape

LATEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": "$<$",
        ">": "$>$",
        "±": r"$\pm$",
        "–": "--",  # noqa: RUF001
        "†": r"\textdagger{}",
        "‡": r"\textdaggerdbl{}",
        "§": r"\S{}",
        "¶": r"\P{}",
    }
)
"""For `str.translate`; a table whose marks are raised adds its own."""


def latex(text: str) -> str:
    """`text` as LaTeX prints it."""
    return text.translate(LATEX)


def markdown(text: str) -> str:
    """`text` as Markdown shows it, in one line and without any HTML of its own."""
    return escape(re.sub(r"([\\`*_|\[\]#])", r"\\\1", " ".join(text.split())), quote=False)


__all__ = ["LATEX", "latex", "markdown"]
