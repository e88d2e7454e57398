"""Which file of visual features belongs to which utterance: the one that is called as its audio is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from sersearch.audio.visual import called_as
from sersearch.data.schema import Rejected, Utterance


def with_visual(utterances: Sequence[Utterance], folder: Path, rejected: Iterable[Rejected] = ()) -> list[Utterance]:
    """The utterances with their files in `folder`; those of rejected ones are nobody else's.

    Raises what :func:`sersearch.audio.visual.called_as` raises.
    """
    found = called_as([row.path for row in utterances], folder, [row.path for row in rejected])
    return [replace(row, visual=str(found[row.path])) if row.path in found else row for row in utterances]
