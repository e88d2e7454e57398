"""How figures look: colours that colour-blind readers tell apart, sizes that papers take, labels that are only text."""

from __future__ import annotations

from contextlib import AbstractContextManager
from io import BytesIO
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito's palette, "Color Universal Design" (2008).
BLUE, ORANGE, GREEN, RED, PURPLE, SKY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7", "#56B4E9"
CYCLE = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY)
SOFT = "0.72"
"""What stands behind."""
MAP = "viridis"
STATES = {"complete": BLUE, "pruned": SOFT, "failed": RED, "running": ORANGE, "interrupted": ORANGE}
HATCHES = {"failed": "xxx", "running": "...", "interrupted": "..."}

_RC: dict[str, Any] = {
    "font.size": 9,
    "font.family": "DejaVu Sans",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "pdf.fonttype": 42,  # TrueType, as publishers ask: Type 3 is refused
    "svg.fonttype": "path",  # looks alike where the font isn't
    "svg.hashsalt": "sersearch",  # the same figure gives the same bytes
}

_MOST = 44
_METADATA: dict[str, dict[str, Any]] = {
    # Without dates and versions, the same figure gives the same bytes.
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
    "png": {"Software": None},
}


def styled() -> AbstractContextManager[None]:
    """In which figures are made and written."""
    import matplotlib

    return matplotlib.rc_context(_RC)  # type: ignore[arg-type]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def encoded(figure: Figure, kind: str, **how: Any) -> bytes:
    """A figure as a png, svg or pdf; `how` as `savefig` takes it. The same figure gives the same bytes."""
    content = BytesIO()
    figure.savefig(content, format=kind, metadata=_METADATA[kind], **how)
    return content.getvalue()


def plain(text: Any, most: int = _MOST) -> str:
    """A text as matplotlib shows it literally: on one line, not too long, without mathematics between two $."""
    flat = " ".join(str(text).split())
    short = flat if len(flat) <= most else f"{flat[: most - 1]}…"
    return short.replace("$", r"\$")


def tick(value: Any) -> str:
    """A hyperparameter's value on an axis."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value, 26)
    return f"{value:.1f}" if isinstance(value, float) and value.is_integer() else f"{value:g}"


def whole_numbers(axes: Axes, last: int) -> None:
    """Let the x axis count from 1 to `last`."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(0.5, last + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(9, integer=True, min_n_ticks=1))


def grid(axes: Axes) -> None:
    """Faint lines behind what is drawn."""
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
