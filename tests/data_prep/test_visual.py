"""Which file of visual features is whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.visual import with_visual
from sersearch.data.schema import Utterance
from sersearch.errors import DataError


def faces(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(folder / name, np.zeros((3, 5)))
    return folder


def rows(*paths: str) -> list[Utterance]:
    return [Utterance(id=f"u{n}", path=path, speaker="s", corpus="made") for n, path in enumerate(paths)]


def found(utterances: list[Utterance], folder: Path) -> list[str | None]:
    made = with_visual(utterances, folder)
    return [None if row.visual is None else str(Path(row.visual).relative_to(folder.resolve())) for row in made]


def test_files_are_found_by_name_and_by_folder_where_names_repeat(tmp_path: Path) -> None:
    folder = faces(tmp_path, "x/a.npy", "ann/001.npy", "bob/001.npy")
    utterances = rows("wav/a.wav", "wav/ann/001.wav", "wav/bob/001.flac", "wav/c.wav")
    assert found(utterances, folder) == ["x/a.npy", "ann/001.npy", "bob/001.npy", None]


def test_spans_of_one_file_share_its_visual_file(tmp_path: Path) -> None:
    assert found(rows("a.wav", "a.wav"), faces(tmp_path, "a.npy")) == ["a.npy", "a.npy"]


def test_what_is_not_clear_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"001\.npy may be of ann/001\.wav and of bob/001\.wav"):
        with_visual(rows("ann/001.wav", "bob/001.wav"), faces(tmp_path / "one", "001.npy"))
    with pytest.raises(DataError, match=r"may both be of 001\.wav"):
        with_visual(rows("001.wav"), faces(tmp_path / "two", "ann/001.npy", "bob/001.npy"))
    (tmp_path / "none").mkdir()
    with pytest.raises(DataError, match="no visual features found"):
        with_visual(rows("a.wav"), tmp_path / "none")
    with pytest.raises(DataError, match="no such folder"):
        with_visual(rows("a.wav"), tmp_path / "absent")
