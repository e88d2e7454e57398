"""Which file of visual features is whose."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from data_prep.rows import _extractors
from data_prep.visual import with_visual
from sersearch.audio import Embeddings
from sersearch.data.schema import Rejected, Utterance
from sersearch.errors import ConfigError, DataError


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


def test_a_speaker_without_files_has_nobody_else_s(tmp_path: Path) -> None:
    many = faces(tmp_path / "many", *(f"s{n}/u0.npy" for n in range(5)))
    paths = [f"wav/s{n}/u0.wav" for n in range(6)]
    assert found(rows(*paths), many) == [*(f"s{n}/u0.npy" for n in range(5)), None]
    one = faces(tmp_path / "one", "s0/u0.npy")
    assert found(rows("s5/u0.wav", "s0/u0.wav"), one) == [None, "s0/u0.npy"]
    assert found(rows("s5/u0.wav"), one) == ["s0/u0.npy"], "nobody else is there"


def test_files_of_rejected_utterances_are_nobody_else_s(tmp_path: Path) -> None:
    folder = faces(tmp_path, "s0/u0.npy", "s5/u1.npy")
    made = with_visual(rows("s5/u0.wav", "s5/u1.wav"), folder, [Rejected("u", "s0/u0.wav", "no label")])
    assert [row.visual and Path(row.visual).name for row in made] == [None, "u1.npy"]


def test_a_file_that_two_may_have_is_nobody_s_by_default(tmp_path: Path) -> None:
    folder = faces(tmp_path, "ann/001.npy", "misc/001.npy")
    with pytest.raises(DataError, match=r"misc/001\.npy may be of ann/001\.wav and of bob/001\.wav"):
        with_visual(rows("ann/001.wav", "bob/001.wav"), folder)
    assert found(rows("ann/001.wav"), folder) == ["ann/001.npy"]


def test_a_folder_of_other_names_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^no file in .*faces is called as an audio file"):
        with_visual(rows("a.wav", "b.wav"), faces(tmp_path / "faces", "x.npy"))


def test_most_arrays_decide_on_the_width(tmp_path: Path) -> None:
    folder = faces(tmp_path, "a.npy", "b.npy", "c.npy")
    np.save(folder / "a.npy", np.zeros((3, 4)))
    (folder / "d.npy").write_bytes(b"damaged")
    utterances = with_visual(rows("d.wav", "a.wav", "b.wav", "c.wav"), folder)
    assert _extractors(["visual"], utterances) == [Embeddings(dims=5)]


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
