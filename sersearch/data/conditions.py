"""Conditions of a corpus with noisy copies, clean, snr10, ...: their order, and the parts that they make."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from sersearch.errors import DataError, one_of

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable

CLEAN = "clean"
"""The condition of speech without added noise."""
DEVIATION = "_std"
"""Ends the name of a metric's deviation over the members of a trial, where a condition would stand."""


def by_noise(conditions: Iterable[str]) -> list[str]:
    """Conditions of a corpus with noisy copies in order: clean, snr10, snr5, snr0, then others by name."""
    found = {name: re.fullmatch(r"snr(-?\d+(?:\.\d+)?)", name) for name in conditions}

    def order(name: str) -> tuple[bool, float, str]:
        match = found[name]
        return name != CLEAN, -float(match[1]) if match else math.inf, name

    return sorted(found, key=order)


def metrics_by_noise(metrics: Iterable[str]) -> list[str]:
    """Names of metrics, those of a condition (dev_ua_snr5) behind the others and in the order of :func:`by_noise`."""
    found = {name: re.search(r"_(clean|snr-?\d+(?:\.\d+)?)$", name) for name in metrics}
    place = {name: rank for rank, name in enumerate(by_noise({match[1] for match in found.values() if match}))}
    return sorted(found, key=lambda name: -1 if (match := found[name]) is None else place[match[1]])


def counted(table: FeatureTable, rows: np.ndarray) -> dict[str, int]:
    """Utterances of some rows by condition; none where the corpus has no conditions."""
    names = Counter(table.utterances["condition"].iloc[rows].dropna().tolist())
    return {name: names[name] for name in by_noise(names)}


def apart(
    unlabelled: str, table: FeatureTable, parts: Mapping[str, np.ndarray], training: np.ndarray
) -> dict[str, np.ndarray]:
    """Parts, as masks (N,), of a protocol that has labels from clean rows, unlabelled ones of one condition.

    `training` (N,) are all rows that may train. Raises :class:`DataError` where no row is of the condition.
    """
    condition = table.utterances["condition"].to_numpy(object)
    there = by_noise({name for name in condition if isinstance(name, str)})
    if unlabelled not in there:
        noisy = set(there) - {CLEAN}
        way = one_of(unlabelled, there) if noisy else "prepare it with --noise and --snr, which add noisy copies"
        raise DataError(f"{table.root}: --unlabeled-condition {unlabelled}: no utterance is of this condition; {way}")
    clean = condition == CLEAN
    pool = training & (condition == unlabelled)
    if unlabelled == CLEAN:
        pool &= parts["unlabelled"]
    elif (official := pool & (table.utterances["split"] == "unlabelled").to_numpy(bool)).any():
        pool = official
    noisy_dev = {f"dev {name}": parts["dev"] & (condition == name) for name in there if name != CLEAN}
    return {
        "train": parts["train"] & clean,
        "unlabelled": pool,
        "dev": parts["dev"] & clean,
        **{name: rows for name, rows in noisy_dev.items() if rows.any()},
    }


def mixed(table: FeatureTable, dev: np.ndarray) -> dict[str, np.ndarray]:
    """A development part (N,) of several conditions in each of them; nothing where it hasn't several."""
    condition = table.utterances["condition"].to_numpy(object)
    names = by_noise({name for name in condition[dev] if isinstance(name, str)})
    return {f"dev {name}": dev & (condition == name) for name in names} if len(names) > 1 else {}


def mixture(train: Mapping[str, int], dev: Mapping[str, int]) -> list[str]:
    """What to know of a protocol without an unlabelled condition, in sentences, from :func:`counted` conditions."""
    if len(train) < 2 and len(dev) < 2:
        return []
    return [
        f"The conditions are mixed: labels are learnt in {', '.join(train)}, and the development set, which selects, "
        f"holds {', '.join(dev)}. With --unlabeled-condition NAME, labels and selection are of clean speech alone, and "
        "NAME is learnt from without labels."
    ]


__all__ = ["CLEAN", "apart", "by_noise", "counted", "metrics_by_noise", "mixed", "mixture"]
