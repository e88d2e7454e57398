"""Visual features of an utterance, from the file that another program wrote: OpenFace's CSV, or a NumPy array.

They are not extracted here, but read, checked and stored beside the audio's, in the same order of utterances.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from sersearch.audio.card import make_card
from sersearch.errors import AudioError, ConfigError

INTENSITIES = tuple(f"AU{n:02d}_r" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 45))
PRESENCES = tuple(f"AU{n:02d}_c" for n in (1, 2, 4, 5, 6, 7, 9, 10, 12, 14, 15, 17, 20, 23, 25, 26, 28, 45))
SUFFIXES = (".csv", ".npy")


@dataclass(frozen=True)
class Visual:
    """What both sets have in common."""

    name: ClassVar[str]
    version: ClassVar[int] = 1  # goes up when the same parameters give other numbers

    dims: int
    frame_rate: float = 30.0
    """Frames a second: OpenFace's are moved onto this grid by their timestamps; an array is taken to have it."""

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
        tracked = np.flatnonzero(np.isfinite(matrix).all(axis=1))
        if 2 * len(tracked) < len(matrix):
            raise AudioError(f"{path}: only {len(tracked)} of {len(matrix)} frames have a tracked face")
        return np.ascontiguousarray(matrix[tracked[_nearest(tracked, np.arange(len(matrix)))]], np.float32)

    def _read(self, path: Path) -> NDArray[Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class OpenFace(Visual):
    """Action units of OpenFace 2's CSV: 17 intensities (0 to 5), then 18 presences (0 or 1), a frame: (N_v, 35).

    Where its column `success` is 0 no face was tracked, whatever the values.
    """

    name: ClassVar[str] = "openface"
    version: ClassVar[int] = 2

    dims: int = len(INTENSITIES) + len(PRESENCES)

    def _read(self, path: Path) -> NDArray[Any]:
        import pandas as pd  # here, because a prediction from audio needs none

        try:
            table = pd.read_csv(path, skipinitialspace=True)
        except (ValueError, OSError) as error:
            raise AudioError(f"{path}: not a CSV file of OpenFace ({error})") from error
        if missing := [name for name in ("timestamp", *INTENSITIES, *PRESENCES) if name not in table]:
            raise AudioError(f"{path}: no column {', '.join(missing[:3])}; expected a CSV file of OpenFace")
        times = table["timestamp"].to_numpy(float)
        units: NDArray[Any] = table[[*INTENSITIES, *PRESENCES]].to_numpy(float, copy=True)
        if not np.isfinite(times).all() or (np.diff(times) < 0).any():
            raise AudioError(f"{path}: its timestamps do not ascend")
        if "success" in table:
            units[table["success"].to_numpy() == 0] = np.nan
        if len(times) < 2:
            return units
        grid = times[0] + np.arange(round((times[-1] - times[0]) * self.frame_rate) + 1) / self.frame_rate
        on_grid: NDArray[Any] = units[_nearest(times, grid)]
        return on_grid


@dataclass(frozen=True)
class Embeddings(Visual):
    """Rows of a NumPy array (N_v, D), such as a face network's; a vector (D,) is a sequence of length 1."""

    name: ClassVar[str] = "visual"

    @classmethod
    def of(cls, path: Path) -> Embeddings:
        """The set to which the array in `path` belongs: its D decides. Raises :class:`ConfigError`."""
        try:
            return cls(dims=int(_array(path).shape[-1]))
        except AudioError as error:
            raise ConfigError(f"--features visual: {error}") from None

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


def beside(audio: Path, where: Path | None) -> Path | None:
    """The file of an audio file's visual features: `where`, or in that folder the one that is called as the audio is.

    None where there is none. Raises :class:`AudioError` for a `where` that doesn't exist.
    """
    if where is None or where.is_file():
        return where
    if not where.is_dir():
        raise AudioError(f"{where}: no such file or folder of visual features")
    return next((path for suffix in SUFFIXES if (path := where / f"{audio.stem}{suffix}").is_file()), None)


def _array(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise AudioError(f"{path}: not a NumPy array ({error})") from error
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or not array.size:
        seen = f"shape {array.shape}, {array.dtype}" if isinstance(array, np.ndarray) else "several arrays"
        raise AudioError(f"{path}: {seen}; expected numbers (N_v, D)")
    return array
