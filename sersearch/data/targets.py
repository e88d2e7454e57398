"""What is predicted: classes (emotions, levels of an attribute, clusters of two), or attributes themselves.

Classes are those of Latif et al., TAFFC 2020, section 5 (multi-task adversarial autoencoder); attributes, one alone or
three at once, those of Parthasarathy & Busso, TASLP 2020, section IV (ladder networks; their arousal is `activation`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sersearch.errors import ConfigError, DataError, one_of

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable

ATTRIBUTES = ("activation", "valence", "dominance")
"""In the order of Eq. 2 of the ladder paper: arousal, valence, dominance."""

TARGETS = (
    "emotion",
    "emotion4",
    *ATTRIBUTES,
    "attributes",
    "activation_levels",
    "valence_levels",
    "clusters3",
    "clusters5",
)

FOUR = ("anger", "happiness", "neutral", "sadness")
"""The categorical emotions of section 5: the classes of `emotion4`."""

LEVELS = {"activation": ("low", "medium", "high"), "valence": ("negative", "neutral", "positive")}

MEDIUM = (2.0, 3.5)
"""Upper ends of the low and the medium level on a scale of 1 to 5, both inclusive: Table 2, IEMOCAP."""
MEDIUM_MSP_IMPROV = (2.5, 3.5)
"""The same for MSP-IMPROV: Table 2."""
SLACK = 0.5
"""How far, on a scale of 1 to 5, a rating may lie outside: IEMOCAP has valences of 5.5, which count as positive."""

_COLUMNS = {
    **{name: (name,) for name in ATTRIBUTES},
    "attributes": ATTRIBUTES,
    "activation_levels": ("activation",),
    "valence_levels": ("valence",),
    "clusters3": ("valence", "activation"),
    "clusters5": ("valence", "activation"),
}


def attributes_of(target: str) -> tuple[str, ...]:
    """The attributes that `target` predicts: one for a single task (STL), three for several (MTL), none for classes."""
    return _COLUMNS[target] if target in (*ATTRIBUTES, "attributes") else ()


def columns_of(target: str) -> tuple[str, ...]:
    """The columns of a manifest in which an utterance with a label for `target` has a value."""
    return _COLUMNS.get(target, ("emotion",))


def labelled(table: FeatureTable, target: str) -> np.ndarray:
    """Which utterances have a label for `target`, (N,) bool; the official split "unlabelled" never has one.

    Raises :class:`ConfigError` for an unknown target.
    """
    if target not in TARGETS:
        raise ConfigError(f"target {target!r} is unknown; {one_of(target, TARGETS)}")
    rows = table.utterances
    known: np.ndarray = (rows["split"] != "unlabelled").fillna(True).to_numpy(bool)
    for column in columns_of(target):
        known = known & rows[column].notna().to_numpy(bool)
    return known & rows["emotion"].isin(FOUR).to_numpy(bool) if target == "emotion4" else known


def target_values(table: FeatureTable, target: str) -> np.ndarray:
    """The attributes of `target` (N, A) float64 on the corpus's own scale; NaN where an utterance is unlabelled."""
    known = labelled(table, target)
    columns = [table.utterances[name].to_numpy(np.float64, na_value=np.nan) for name in attributes_of(target)]
    values: np.ndarray = np.where(known[:, None], np.stack(columns, axis=1), np.nan)
    return values


def target_codes(table: FeatureTable, target: str, train_rows: np.ndarray) -> tuple[np.ndarray, tuple[str, ...]]:
    """Class codes (N,) int64 of all utterances, -1 = unlabelled, and the classes in the order of their codes.

    - `emotion`: the table's emotions, sorted; `emotion4`: the paper's four, others count as unlabelled.
    - `activation_levels`, `valence_levels`: three levels by Table 2. Utterances of MSP-IMPROV have boundaries of their
      own; all others get IEMOCAP's, after the scale (`attribute_scale` of corpus.json) is mapped to 1 ... 5.
    - `clusters3`, `clusters5`: K-means in the valence-activation space, clusters numbered by valence, then activation.
      The paper fits the centres on the whole corpus, test speakers included; here they are fitted on the labelled
      ones of `train_rows`, so that the test part stays unseen, and the other utterances go to the nearest centre.

    Raises :class:`DataError` for attributes on an unknown scale or well outside it, and for fewer distinct training
    points than clusters.
    """
    known = labelled(table, target)
    if target in ("emotion", "emotion4"):
        names = table.utterances["emotion"].to_numpy(object)
        classes = tuple(sorted(set(names[known]))) if target == "emotion" else FOUR
        code = {name: number for number, name in enumerate(classes)}
        return np.array([code[n] if k else -1 for n, k in zip(names, known, strict=True)], np.int64), classes
    if target.endswith("_levels"):
        attribute = target.removesuffix("_levels")
        return _levels(table, attribute, known), LEVELS[attribute]
    count = int(target.removeprefix("clusters"))
    codes = _clusters(table, known, np.asarray(train_rows, np.int64), count)
    return codes, tuple(f"cluster{number}" for number in range(1, count + 1))


def strata(table: FeatureTable, target: str) -> np.ndarray:
    """Groups (N,) by which folds are balanced: the classes; thirds of attributes where these, or clusters, are learnt.

    (Clusters need the training part, which the folds decide.)
    """
    columns = attributes_of(target) or (("valence", "activation") if target.startswith("clusters") else ())
    if not columns:
        return target_codes(table, target, np.zeros(0, np.int64))[0]
    known = labelled(table, target)
    points = table.utterances.loc[known, list(columns)].to_numpy(np.float64)
    group = np.zeros(len(points), np.int64)
    for values in points.T:
        group = 3 * group + np.searchsorted(np.quantile(values, (1 / 3, 2 / 3)), values)
    groups = np.full(len(known), -1, np.int64)
    groups[known] = group
    return groups


def _levels(table: FeatureTable, attribute: str, known: np.ndarray) -> np.ndarray:
    values = _on_scale(table, attribute, known)
    corpus = table.utterances["corpus"].str.lower().str.replace("-", "_", regex=False)
    # side="left": a value on a boundary belongs to the level below it.
    own, common = (np.searchsorted(ends, values, side="left") for ends in (MEDIUM_MSP_IMPROV, MEDIUM))
    levels = np.where((corpus == "msp_improv").to_numpy(bool), own, common)
    return np.where(known, levels, -1).astype(np.int64)


def _on_scale(table: FeatureTable, attribute: str, known: np.ndarray) -> np.ndarray:
    """The attribute (N,) mapped from the corpus's scale to 1 ... 5."""
    scale = table.corpus.get("attribute_scale")
    if scale is None:
        raise DataError(
            f"{table.root}: levels of {attribute} need the scale on which it was rated, but corpus.json has no "
            "attribute_scale; prepare the corpus with its scale (csv: --set attribute_scale=[1,7]), or use clusters"
        )
    low, high = float(scale[0]), float(scale[1])
    values = table.utterances[attribute].to_numpy(np.float64, na_value=np.nan)
    # Rounded, so that a mapped value that falls on a boundary is on it.
    mapped = np.round(affine(values, (low, high), (1, 5)), 6)
    outside = np.flatnonzero(known & ~(np.abs(mapped - 3) <= 2 + SLACK))
    if len(outside):
        name, value = table.utterances["id"].iloc[outside[0]], values[outside[0]]
        raise DataError(
            f"{table.root}: {attribute} {value:g} of utterance {name} is outside the corpus's scale of {low:g} to "
            f"{high:g} ({len(outside)} such utterances); correct the labels or attribute_scale and prepare again"
        )
    return mapped


def affine(values: np.ndarray, source: tuple[float, float], target: tuple[float, float]) -> np.ndarray:
    """Attribute values rated on the scale `source` as they would read on `target`: ends to ends, straight between.

    The ladder paper (TASLP 2020, section V-B) maps MSP-Podcast's 1 to 7 so onto the scales of other corpora.
    """
    moved: np.ndarray = target[0] + (values - source[0]) * (target[1] - target[0]) / (source[1] - source[0])
    return moved


def _clusters(table: FeatureTable, known: np.ndarray, train_rows: np.ndarray, count: int) -> np.ndarray:
    from sklearn.cluster import KMeans

    points = table.utterances[["valence", "activation"]].to_numpy(np.float64, na_value=np.nan)
    training = points[train_rows[known[train_rows]]]
    distinct = len(np.unique(training, axis=0))
    if distinct < count:
        raise DataError(
            f"{count} clusters need at least {count} distinct pairs of valence and activation in the training part, "
            f"it has {distinct}; use another target"
        )
    centres = KMeans(count, n_init=10, random_state=0).fit(training).cluster_centers_
    centres = centres[np.lexsort((centres[:, 1], centres[:, 0]))]
    codes = np.full(len(points), -1, np.int64)
    codes[known] = np.square(points[known][:, None] - centres).sum(axis=-1).argmin(axis=1)
    return codes
