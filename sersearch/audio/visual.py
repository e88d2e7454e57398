"""Visual features of an utterance, from the file that another program wrote: OpenFace's CSV, or a NumPy array.

They are not extracted here, but read, checked and stored beside the audio's, in the same order of utterances.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.card import make_card
from sersearch.errors import AudioError, ConfigError, DataError

INTENSITIES = tuple(f"AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCES = tuple(f"AU{n:02d}_c" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
COLUMNS = ("timestamp", *INTENSITIES, *PRESENCES)
SUFFIXES = (".csv", ".npy")
LAYOUT = "a folder of visual features has a .csv (OpenFace) or .npy file for each audio file, called as it is"
STEPS = (1 / 240 - 5e-4, 0.5)  # s, between two of OpenFace's frames; it rounds its timestamps to 1 ms
LONGEST = 24 * 3600  # s, which no timestamp exceeds
SPARSEST = 10  # s a row: a few rows must not stand for a day


@dataclass(frozen=True)
class Visual:
    """What both sets have in common."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # goes up when the same parameters give other numbers

    dims: int
    frame_rate: float = 30.0
    """Frames a second from t = 0: OpenFace's are moved onto it by their timestamps; an array is taken to have it."""

    def card(self) -> dict[str, Any]:
        """As an audio extractor's: plain JSON."""
        return make_card(self, frame_rate=self.frame_rate, dtype="float32", packages=("numpy",), rate=None)

    def read(self, path: Path, start: float | None = None, end: float | None = None) -> NDArray[np.float32]:
        """The file's features from `start` to `end` (s; None: its own ends), (N_v, dims) float32.

        A file of one row, a vector, is that of all its spans. Frames in which no face was tracked, whose values aren't
        all finite, take those of the nearest in which one was. Raises :class:`AudioError` for what isn't such a file,
        for a span without a frame, and where fewer than half of the frames were tracked.
        """
        if not path.is_file():
            raise AudioError(f"{path}: no such file of visual features")
        matrix = self._read(path)
        if len(matrix) > 1:
            last = len(matrix) if end is None else round(end * self.frame_rate)
            matrix = matrix[round((start or 0) * self.frame_rate) : last]
        if len(matrix) == 0:
            span = "" if start is None and end is None else f" from {start or 0:g} to {end or 'its end'} s"
            raise AudioError(f"{path}: no frames{span}")
        with np.errstate(over="ignore"):  # what float32 can't hold becomes infinite
            matrix = matrix.astype(np.float32)
        tracked = np.flatnonzero(np.isfinite(matrix).all(axis=1))
        if 2 * len(tracked) < len(matrix):
            raise AudioError(f"{path}: only {len(tracked)} of {len(matrix)} frames have a tracked face")
        return np.ascontiguousarray(matrix[tracked[_nearest(tracked, np.arange(len(matrix)))]])

    def _read(self, path: Path) -> NDArray[Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class OpenFace(Visual):
    """Action units of OpenFace 2's CSV: 17 intensities (0 to 5), then 18 presences (0 or 1), a frame: (N_v, 35).

    Where its column `success` is 0 no face was tracked, whatever the values; nor where a value is no number, nor at
    times with no row within one and a half of the file's frames.
    """

    name: ClassVar[str] = "openface"
    version: ClassVar[int] = 2

    dims: int = len(INTENSITIES) + len(PRESENCES)

    def _read(self, path: Path) -> NDArray[Any]:
        import pandas as pd  # here, because a prediction from audio needs none

        try:
            table = pd.read_csv(path, skipinitialspace=True, low_memory=False)
        except (ValueError, OSError) as error:
            raise AudioError(f"{path}: not a CSV file of OpenFace ({error})") from error
        if missing := [name for name in COLUMNS if name not in table]:
            raise AudioError(f"{path}: no column {', '.join(missing[:3])}; expected a CSV file of OpenFace")
        table = table[[name for name in (*COLUMNS, "success") if name in table]].apply(pd.to_numeric, errors="coerce")
        units: NDArray[Any] = table[[*INTENSITIES, *PRESENCES]].to_numpy(float, copy=True)
        if "success" in table:
            units[(table["success"].isna() | (table["success"] == 0)).to_numpy()] = np.nan
        times = table["timestamp"].to_numpy(float)
        if not np.isfinite(times).all():
            raise AudioError(f"{path}: its timestamps are not all numbers")
        if (np.diff(times) < 0).any():
            raise AudioError(f"{path}: its timestamps do not ascend")
        return units if len(times) < 2 else self._on_grid(path, times, units)

    def _on_grid(self, path: Path, times: NDArray[Any], units: NDArray[Any]) -> NDArray[Any]:
        """Rows (N, 35) at `times` (N,) as frames from t = 0: each is the nearest row, NaN where that's far."""
        steps = np.diff(np.unique(times))
        step = float(np.median(steps)) if len(steps) else 0.0
        if not STEPS[0] <= step <= STEPS[1] or times[-1] > min(LONGEST, SPARSEST * len(times)):
            raise AudioError(
                f"{path}: its timestamps are {step:g} apart and end at {times[-1]:g}; expected seconds of the audio, "
                "240 to 2 frames in each"
            )
        grid = np.arange(max(round(times[-1] * self.frame_rate) + 1, 0)) / self.frame_rate
        nearest = _nearest(times, grid)
        frames: NDArray[Any] = units[nearest]
        frames[np.abs(times[nearest] - grid) > 1.5 * step + 1e-6] = np.nan
        return frames


@dataclass(frozen=True)
class Embeddings(Visual):
    """Rows of a NumPy array (N_v, D), such as a face network's; a vector (D,) is a sequence of length 1."""

    name: ClassVar[str] = "visual"

    @classmethod
    def of(cls, paths: Iterable[Path]) -> Embeddings:
        """The set to which the arrays in `paths` belong: most of them decide on D. Raises :class:`ConfigError`."""
        widths: Counter[int] = Counter()
        reason = "no files of visual features"
        for path in paths:
            try:
                widths[_array(path).shape[-1]] += 1
            except AudioError as error:
                reason = str(error)
        if not widths:
            raise ConfigError(f"--features visual: {reason}")
        return cls(dims=widths.most_common(1)[0][0])

    def _read(self, path: Path) -> NDArray[Any]:
        array = np.atleast_2d(_array(path))
        if array.shape[1] != self.dims:
            raise AudioError(f"{path}: vectors of {array.shape[1]} numbers; the corpus's others have {self.dims}")
        return array


def _nearest(points: NDArray[Any], grid: NDArray[Any]) -> NDArray[Any]:
    """For each value of `grid` the place of the nearest of the ascending `points`, of two the earlier one's."""
    if len(points) < 2:
        return np.zeros(len(grid), np.int64)
    after = np.searchsorted(points, grid).clip(1, len(points) - 1)
    nearest: NDArray[Any] = after - (grid - points[after - 1] <= points[after] - grid)
    return nearest


def beside(audio: Sequence[Path], where: Path | None) -> dict[Path, Path]:
    """The audio files' files of visual features: `where`, of a single one, or those in that folder, if any.

    Raises :class:`ConfigError` for a `where` that can't be, and what :func:`called_as` raises.
    """
    if where is None:
        return {}
    if where.is_dir():
        found = called_as([str(path) for path in audio], where)
        return {path: found[str(path)] for path in audio if str(path) in found}
    if not where.is_file():
        raise ConfigError(f"{where}: no such file or folder of visual features")
    if len(audio) > 1:
        raise ConfigError(f"{where} is one file, for {len(audio)} audio files; name a folder: {LAYOUT}")
    return dict.fromkeys(audio, where)


def called_as(paths: Sequence[str], folder: Path, rivals: Iterable[str] = ()) -> dict[str, Path]:
    """The files of visual features in `folder` by the audio files `paths` whose they are.

    A file is of the audio file whose path ends most as its own does: `ann/001.npy` of `wav/ann/001.wav`, and of
    `bob/001.wav` only if nobody called `ann/001` is there. `rivals` are further audio files that have theirs, too.
    Raises :class:`DataError` where that isn't clear, :class:`ConfigError` where nothing is called as an audio file.
    """
    files = _below(folder)
    claims: dict[str, list[str]] = {name: [] for names in files.values() for name in names}
    for path in dict.fromkeys(paths):
        for name in _names(path):
            if name in claims:
                claims[name].append(path)
    taken = {name for path in rivals for name in _names(path) if name in claims}
    owned: dict[str, list[Path]] = {}
    for file, names in files.items():
        if longest := next((name for name in names if claims[name] or name in taken), None):
            owned.setdefault(longest, []).append(file)
    found: dict[str, Path] = {}
    for path in dict.fromkeys(paths):
        if mine := next((name for name in _names(path) if name in owned), None):
            found[path] = _only(path, owned[mine], claims[mine]).resolve()
    if paths and not found:
        raise ConfigError(f"no file in {folder} is called as an audio file; {LAYOUT}")
    return found


def _only(path: str, files: list[Path], owners: list[str]) -> Path:
    """The one of `files` that is of `path` and of no other of its `owners`."""
    if len(files) > 1:
        raise DataError(f"{files[0]} and {files[1]} may both be of {path}; {LAYOUT}")
    if len(owners) > 1:
        raise DataError(f"{files[0]} may be of {owners[0]} and of {owners[1]}; {LAYOUT}, in the same folders")
    return files[0]


def _below(folder: Path) -> dict[Path, list[str]]:
    """The files of visual features below `folder`, and the names that each may be called by, longest first."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; {LAYOUT}")
    below = sorted(path for path in folder.rglob("*") if path.suffix in SUFFIXES and not path.name.startswith("."))
    if not below:
        raise DataError(f"{folder}: no visual features found; {LAYOUT}")
    return {path: _names(path.relative_to(folder)) for path in below}


def _names(path: Path | str) -> list[str]:
    """`a/b/c`, `b/c` and `c` of `a/b/c.wav`."""
    path = Path(path)
    parts = (*path.parts[:-1], path.stem)
    return ["/".join(parts[start:]) for start in range(len(parts))]


def _array(path: Path) -> NDArray[Any]:
    """The array in `path`, mapped: its header is read now, its numbers when they are looked at."""
    try:
        array: NDArray[Any] = np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # of damaged files NumPy raises what its parsers do
        raise AudioError(f"{path}: not a NumPy array, or a damaged one") from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not array.size:
        raise AudioError(f"{path}: shape {array.shape}, {array.dtype}; expected numbers (N_v, D)")
    return array
