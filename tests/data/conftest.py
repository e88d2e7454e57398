"""Feature tables in memory, for tests of what reads a table and never its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

COLUMNS = ("gender", "emotion", "sentence", "split", "activation", "valence", "dominance", "start", "end", "condition")


class MemoryTable:
    """As much of a FeatureTable as protocols, targets and the normaliser use."""

    def __init__(self, rows: list[dict[str, Any]], corpus: dict[str, Any], matrices: list[np.ndarray]) -> None:
        self.root = Path("data/small")
        self.corpus = corpus
        self.utterances = pd.DataFrame(
            [
                {
                    **dict.fromkeys(COLUMNS),
                    "id": f"u{number:04}",
                    "path": f"u{number:04}.wav",
                    "corpus": "small",
                    "duration": 3.6,
                    "audio_sha256": f"hash{number}",
                    **row,
                }
                for number, row in enumerate(rows)
            ]
        )
        for name in ("activation", "valence", "dominance"):
            self.utterances[name] = self.utterances[name].astype(np.float32)
        self.frames = np.concatenate(matrices) if matrices else np.zeros((0, 2), np.float32)
        self.offsets = np.cumsum([0, *map(len, matrices)])

    @property
    def dims(self) -> int:
        return self.frames.shape[1]

    def __len__(self) -> int:
        return len(self.utterances)

    def __getitem__(self, row: int) -> np.ndarray:
        return self.frames[self.offsets[row] : self.offsets[row + 1]]


@pytest.fixture(scope="session")
def memory_table() -> Callable[..., MemoryTable]:
    def make(
        rows: list[dict[str, Any]], corpus: dict[str, Any] | None = None, matrices: list[np.ndarray] | None = None
    ) -> MemoryTable:
        return MemoryTable(rows, {"corpus": "small", "attribute_scale": None, **(corpus or {})}, matrices or [])

    return make


@pytest.fixture(scope="session")
def spoken(memory_table: Callable[..., MemoryTable]) -> Callable[..., MemoryTable]:
    """A table of `speakers` who each say `each` utterances of each emotion, and `free` unlabelled ones."""

    def make(
        speakers: int = 7, emotions: tuple[str, ...] = ("sad", "anger", "joy"), each: int = 4, free: int = 2
    ) -> MemoryTable:
        rows = []
        for number in range(speakers):
            speaker = {"speaker": f"S{number:02}", "gender": "female" if number % 2 else "male"}
            rows += [{**speaker, "emotion": emotion} for emotion in emotions for _ in range(each)]
            rows += [dict(speaker) for _ in range(free)]
        return memory_table(rows)

    return make
