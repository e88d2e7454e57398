"""Visual features from files: OpenFace's CSV and NumPy arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sersearch.audio import Embeddings, OpenFace, visual_from_card
from sersearch.audio.visual import INTENSITIES, PRESENCES
from sersearch.errors import AudioError, ConfigError


def openface(
    path: Path, times: list[float], *, gap: str = " ", lacking: str = "", failed: tuple[int, ...] = ()
) -> Path:
    """A CSV of OpenFace in which the first intensity is the frame's number, or 0 in frames that `failed`."""
    units = [name for name in (*INTENSITIES, *PRESENCES) if name != lacking]
    lines = [("," + gap).join(["frame", "face_id", "timestamp", "confidence", "success", *units])]
    for number, time in enumerate(times):
        tracked = number not in failed
        values = [number, 0, time, 0.98, int(tracked), float(number * tracked), *([0.5] * (len(units) - 1))]
        lines.append(("," + gap).join(map(str, values)))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_openface_has_17_intensities_and_18_presences_a_frame(tmp_path: Path) -> None:
    assert (len(INTENSITIES), len(PRESENCES), OpenFace().dims) == (17, 18, 35)
    for gap in (" ", ""):
        found = OpenFace().read(openface(tmp_path / "a.csv", [n / 30 for n in range(10)], gap=gap))
        assert (found.shape, found.dtype) == ((10, 35), np.float32)
        assert found[:, 0].tolist() == list(range(10))
        assert set(found[:, 1:].ravel()) == {0.5}


@given(rate=st.floats(10, 60), count=st.integers(2, 80), start=st.floats(0, 0.04))
def test_frames_are_the_nearest_in_time_on_the_grid(
    tmp_path_factory: pytest.TempPathFactory, rate: float, count: int, start: float
) -> None:
    times = [round(start + n / rate, 3) for n in range(count)]
    found = OpenFace().read(openface(tmp_path_factory.getbasetemp() / "grid.csv", times))[:, 0]
    assert len(found) == round(times[-1] * 30) + 1
    for place, frame in enumerate(found):
        distance = np.abs(np.array(times) - place / 30)
        reach = 1.5 * np.median(np.diff(times))
        assert distance[int(frame)] == pytest.approx(distance.min(), abs=1e-9) or distance.min() > reach - 1e-3


def test_the_grid_begins_with_the_audio_and_gaps_are_untracked(tmp_path: Path) -> None:
    late = openface(tmp_path / "late.csv", [1 + n / 30 for n in range(60)])
    found = OpenFace().read(late)
    assert (len(found), found[:30, 0].tolist(), found[30:, 0].tolist()) == (90, [0] * 30, list(range(60)))
    assert OpenFace().read(late, 2, 3)[:, 0].tolist() == list(range(30, 60)), "at 2 s stands what was seen then"
    with pytest.raises(AudioError, match="only 0 of 15 frames"):
        OpenFace().read(late, 0, 0.5)
    with pytest.raises(AudioError, match="only 59 of 150 frames"):
        OpenFace().read(openface(tmp_path / "later.csv", [(n + 92) / 30 for n in range(58)]))
    gap = openface(tmp_path / "gap.csv", [n / 30 for n in (*range(10), *range(40, 50))])
    with pytest.raises(AudioError, match="only 22 of 50 frames"):  # one more on either side is within 1.5 frames
        OpenFace().read(gap)
    slow = openface(tmp_path / "slow.csv", [n / 10 for n in range(5)])
    assert OpenFace().read(slow)[:, 0].tolist() == [0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4], "10 a second have no gaps"


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([n * 33.3 for n in range(9)], r"timestamps are 33\.3 apart and end at 266\.4; expected seconds"),
        ([n / 1000 for n in range(9)], r"timestamps are 0\.001 apart"),
        ([1.0, 1.0, 1.0], "timestamps are 0 apart"),
        ([1.7e9 + n / 30 for n in range(9)], r"end at 1\.7e\+09"),
    ],
)
def test_timestamps_that_are_no_seconds_of_the_audio(tmp_path: Path, times: list[float], message: str) -> None:
    with pytest.raises(AudioError, match=message):
        OpenFace().read(openface(tmp_path / "a.csv", times))


def test_240_frames_a_second_and_two_faces_a_frame_are_plausible(tmp_path: Path) -> None:
    fast = openface(tmp_path / "fast.csv", [round(n / 240, 3) for n in range(241)])
    assert OpenFace().read(fast)[:, 0].tolist() == [8 * n for n in range(31)]
    two = openface(tmp_path / "two.csv", [n / 30 for n in range(4) for _ in range(2)])
    assert len(OpenFace().read(two)) == 4


@pytest.mark.parametrize("column", ["AU01_r", "success"])
def test_a_bad_cell_is_a_frame_without_a_face(tmp_path: Path, column: str) -> None:
    path = openface(tmp_path / "a.csv", [n / 30 for n in range(5)])
    assert OpenFace().read(spoil(path, column, 3))[:, 0].tolist() == [0, 1, 2, 2, 4]


def test_a_timestamp_that_is_no_number_is_refused(tmp_path: Path) -> None:
    path = openface(tmp_path / "a.csv", [n / 30 for n in range(5)])
    with pytest.raises(AudioError, match=r"a\.csv: its timestamps are not all numbers"):
        OpenFace().read(spoil(path, "timestamp", 3))


def spoil(path: Path, column: str, row: int) -> Path:
    """Write `abc` into a cell."""
    lines = [line.split(", ") for line in path.read_text().splitlines()]
    lines[row + 1][lines[0].index(column)] = "abc"
    path.write_text("\n".join(", ".join(line) for line in lines) + "\n")
    return path


def test_a_frame_that_was_lost_is_its_neighbour(tmp_path: Path) -> None:
    times = [n / 30 for n in range(10) if n not in (3, 4)]
    assert OpenFace().read(openface(tmp_path / "a.csv", times))[:, 0].tolist() == [0, 1, 2, 2, 3, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file of visual features"),
        ("", "not a CSV file of OpenFace"),
        ("a,b\n1,2\n", "no column timestamp, AU01_r, AU02_r; expected a CSV file of OpenFace"),
    ],
)
def test_what_is_not_openface_s(tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "a.csv").write_text(text)
    with pytest.raises(AudioError, match=message):
        OpenFace().read(tmp_path / "a.csv")


def test_damage_in_openface_s(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="no column AU28_c"):
        OpenFace().read(openface(tmp_path / "a.csv", [0, 0.1], lacking="AU28_c"))
    with pytest.raises(AudioError, match="its timestamps do not ascend"):
        OpenFace().read(openface(tmp_path / "a.csv", [0.1, 0]))
    with pytest.raises(AudioError, match="no frames"):
        OpenFace().read(openface(tmp_path / "a.csv", []))


def test_arrays_are_sequences_and_a_vector_is_one_of_length_1(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(12, dtype=np.int64).reshape(3, 4))
    np.save(tmp_path / "b.npy", np.arange(4, dtype=np.float64))
    visual = Embeddings.of([tmp_path / "a.npy"])
    assert visual.dims == Embeddings.of([tmp_path / "b.npy"]).dims == 4
    assert visual.read(tmp_path / "a.npy").tolist() == np.arange(12).reshape(3, 4).tolist()
    assert visual.read(tmp_path / "b.npy").tolist() == [[0, 1, 2, 3]]
    assert visual_from_card(visual.card()) == visual
    assert visual_from_card({"features": "mel"}) is None


def test_arrays_that_cannot_be(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    visual = Embeddings(dims=4)
    for array, message in (
        (np.zeros((2, 3)), "vectors of 3 numbers; the corpus's others have 4"),
        (np.zeros((2, 2, 4)), r"shape \(2, 2, 4\), float64; expected numbers"),
        (np.array(["a"]), "expected numbers"),
        (np.full((2, 4), np.nan), "only 0 of 2 frames have a tracked face"),
    ):
        np.save(path, array)
        with pytest.raises(AudioError, match=message):
            visual.read(path)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(AudioError, match=r"a\.npy: not a NumPy array, or a damaged one$"):
        visual.read(path)
    with pytest.raises(ConfigError, match=r"--features visual: .*not a NumPy array, or a damaged one$"):
        Embeddings.of([path])
    np.savez(tmp_path / "b.npz", a=np.zeros((2, 4)))
    with pytest.raises(AudioError, match="not a NumPy array"):
        visual.read((tmp_path / "b.npz").rename(path))


def test_most_files_decide_on_the_width_and_damaged_ones_do_not_count(tmp_path: Path) -> None:
    paths = [tmp_path / f"{n}.npy" for n in range(7)]
    for path, width in zip(paths, (3, 5, 5, 5, 3, 5, 5), strict=True):
        np.save(path, np.zeros((2, width)))
    paths[0].write_bytes(b"")
    paths[1].write_bytes(b"PK\x03\x04 no zip")
    paths[2].write_bytes(paths[2].read_bytes()[:-1])
    paths[3].write_text("no array at all")
    assert Embeddings.of(paths[4:]).dims == Embeddings.of(paths).dims == 5
    for path in paths[:4]:
        with pytest.raises(AudioError, match=r"not a NumPy array, or a damaged one$"):
            Embeddings(dims=5).read(path)
    with pytest.raises(AudioError, match="vectors of 3 numbers"):
        Embeddings(dims=5).read(paths[4])


def test_what_float32_cannot_hold_is_not_tracked(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([[1.0], [1e300], [3.0], [4.0]]))
    assert Embeddings(dims=1).read(tmp_path / "a.npy").tolist() == [[1], [1], [3], [4]]


def test_a_span_has_its_own_frames(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.arange(30.0)[:, None])
    visual = Embeddings(dims=1)
    assert visual.read(tmp_path / "a.npy", 0.1, 0.4).ravel().tolist() == list(range(3, 12))
    assert visual.read(tmp_path / "a.npy", 0.9).ravel().tolist() == [27, 28, 29]
    with pytest.raises(AudioError, match="no frames from 2 to 3 s"):
        visual.read(tmp_path / "a.npy", 2, 3)
    np.save(tmp_path / "b.npy", np.ones(1))
    assert visual.read(tmp_path / "b.npy", 2, 3).tolist() == [[1]], "a vector is that of all spans"


def test_frames_without_a_tracked_face_take_the_nearest_one_s_values(tmp_path: Path) -> None:
    array = np.arange(16.0).reshape(8, 2)
    array[[0, 3, 4], 1], array[7] = np.nan, np.inf
    np.save(tmp_path / "a.npy", array)
    found = Embeddings(dims=2).read(tmp_path / "a.npy")
    assert found[:, 0].tolist() == [2, 2, 4, 4, 10, 10, 12, 12]
    assert np.isfinite(found).all()
    path = openface(tmp_path / "a.csv", [n / 30 for n in range(6)], failed=(0, 2, 3))
    assert OpenFace().read(path)[:, 0].tolist() == [1, 1, 1, 4, 4, 5]


def test_files_without_the_column_success_have_tracked_all(tmp_path: Path) -> None:
    path = openface(tmp_path / "a.csv", [n / 30 for n in range(3)], failed=(1,))
    path.write_text(path.read_text().replace("success", "seen"))
    assert OpenFace().read(path)[:, 0].tolist() == [0, 0, 2]


def test_a_clip_with_few_tracked_frames_is_refused(tmp_path: Path) -> None:
    path = openface(tmp_path / "a.csv", [n / 30 for n in range(90)], failed=tuple(range(3, 90)))
    with pytest.raises(AudioError, match=r"a.csv: only 3 of 90 frames have a tracked face"):
        OpenFace().read(path)
    assert OpenFace().read(path, 0, 0.2)[:, 0].tolist() == [0, 1, 2, 2, 2, 2], "half of the span's frames suffice"
    with pytest.raises(AudioError, match="only 0 of 30 frames"):
        OpenFace().read(path, 1, 2)
    one = openface(tmp_path / "b.csv", [0.0], failed=(0,))
    with pytest.raises(AudioError, match="only 0 of 1 frames"):
        OpenFace().read(one)
