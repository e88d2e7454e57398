"""Subsets of a test set, over which figures have a mean, a deviation and a test of significance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sersearch.errors import DataError


def subsets(names: Sequence[str], count: int = 4, seed: int = 0) -> np.ndarray:
    """The subset, 0 ... `count` - 1, of each test utterance (N,); utterances of one name stay together.

    By the utterances' ids they are subsets of the same size, up to one: Lin et al., ICASSP 2021, section 5.1, "randomly
    split the original test set into four subsets with the same size and run five trials", which gives 20 results a
    model. By the speakers' names they are speaker-independent partitions, as those over which Parthasarathy & Busso,
    TASLP 2020, section V-B, have the mean and deviation of a corpus that is tested on. The names alone decide, in
    whatever order: models that are compared are tested on the same subsets. Of noisy copies, give the originals' ids.

    Raises :class:`DataError` for fewer names than subsets.
    """
    distinct = sorted(set(names))
    if not 1 <= count <= len(distinct):
        raise DataError(
            f"{count} subsets of a test set need as many utterances, or speakers, and it has {len(distinct)}; use fewer"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    subset = {distinct[index]: place % count for place, index in enumerate(order)}
    return np.array([subset[name] for name in names], np.int64)


__all__ = ["subsets"]
