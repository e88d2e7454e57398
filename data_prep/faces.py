"""Face tracks of the demo corpus: what OpenFace would write of faces that move as the synthetic voices speak."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from sersearch.audio.visual import INTENSITIES, PRESENCES

FRAME_RATE = 30
LOST = 0.01  # share of frames without a face
# Mean intensities (0 to 5) by emotion, of action units that studies of posed faces name; the others are near 0.
UNITS = {
    "anger": {"AU04_r": 1.6, "AU07_r": 1.2, "AU23_r": 1.0},
    "happiness": {"AU06_r": 1.4, "AU12_r": 1.8, "AU07_r": 0.5},
    "neutral": {},
    "sadness": {"AU01_r": 1.2, "AU04_r": 0.8, "AU15_r": 1.1},
}
STRAY = 0.7  # deviation of a clip's intensities about its emotion's
COLUMNS = ("frame", "face_id", "timestamp", "confidence", "success", *INTENSITIES, *PRESENCES)


def write_face(path: Path, emotion: str, sound: NDArray[np.float64], rate: int) -> None:
    """Write the track of a clip, 30 frames a second, as OpenFace's CSV; its mouth follows the sound.

    The same clip gives the same track: random numbers are seeded by the file's name.
    """
    random = np.random.default_rng(zlib.crc32(path.stem.encode()))
    count = max(len(sound) * FRAME_RATE // rate, 1)
    means = np.array([UNITS[emotion].get(name, 0.1) for name in INTENSITIES])
    level = means + STRAY * random.standard_normal(len(means)) * (means > 0.1)
    moving = gaussian_filter1d(random.standard_normal((count, len(means))), sigma=5, axis=0, mode="reflect")
    intensities = level + moving + 0.1 * random.standard_normal((count, len(means)))
    loudness = np.array([np.abs(piece).mean() for piece in np.array_split(sound, count)])
    for name in ("AU25_r", "AU26_r"):
        intensities[:, INTENSITIES.index(name)] += 1.5 * loudness / (loudness.max() or 1)
    intensities = intensities.clip(0, 5)
    of_unit = [INTENSITIES.index(f"{name[:4]}_r") if f"{name[:4]}_r" in INTENSITIES else None for name in PRESENCES]
    present = np.stack([np.zeros(count) if i is None else intensities[:, i] > 1 for i in of_unit], axis=1)
    seen = random.random(count) >= LOST
    intensities[~seen], present[~seen] = 0, 0
    lines = [", ".join(COLUMNS)]
    for i in range(count):
        leading = f"{i + 1}, 0, {i / FRAME_RATE:.3f}, {0.98 if seen[i] else 0:.2f}, {int(seen[i])}"
        lines.append(", ".join([leading, *(f"{v:.2f}" for v in intensities[i]), *(f"{v:.0f}" for v in present[i])]))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", "utf-8")


__all__ = ["write_face"]
