"""Removal of silent pauses.

The rule is that of `librosa.effects.split`, and the tests hold this to it; written out here because librosa's
version costs every process, `sersearch predict` included, seconds of imports and compilation.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

HOP = 512  # samples: 32 ms at 16 kHz
BLOCKS = 4  # a frame is 4 hops, 128 ms, centred on the hop's first sample


def remove_silence(samples: NDArray[np.float32], top_db: float) -> NDArray[np.float32]:
    """`samples` (n,) at 16 kHz without the 32 ms stretches whose 128 ms surroundings are `top_db` below the loudest.

    What remains is joined. At least one stretch, the loudest, always remains.
    """
    frames = 1 + len(samples) // HOP
    margin = BLOCKS // 2 * HOP
    padded = np.zeros((frames - 1 + BLOCKS) * HOP)
    usable = samples[: len(padded) - margin]
    padded[margin : margin + len(usable)] = usable
    blocks = np.square(padded).reshape(-1, HOP).sum(axis=1)
    power = sum(blocks[i : i + frames] for i in range(BLOCKS)) / (BLOCKS * HOP)
    decibels = 10 * np.log10(np.maximum(power, 1e-10))
    loud = decibels - decibels.max() > -top_db
    voiced: NDArray[np.float32] = samples[np.repeat(loud, HOP)[: len(samples)]]
    return voiced
