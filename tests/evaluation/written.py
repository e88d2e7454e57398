"""Results of studies written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from sersearch.evaluation.results import HeldOut, Results

ATTRIBUTES = ("activation", "valence", "dominance")
RNG = np.random.default_rng(0)
VALUES = RNG.normal(4, 1, (120, 3))


def part(ids: range, labels: np.ndarray) -> HeldOut:
    """Ten utterances a speaker."""
    return HeldOut(tuple(f"u{i:04}" for i in ids), tuple(f"s{i // 10:03}" for i in ids), labels)


def scored(study: str, scores: dict[int, dict[str, float]], **changes: Any) -> Results:
    """UA without outputs, on test parts of four utterances of a speaker."""
    folds = dict.fromkeys(fold for own in scores.values() for fold in own)
    parts = {fold: part(range(10 * n, 10 * n + 4), np.array([0, 0, 1, 1])) for n, fold in enumerate(folds)}
    given = {"classes": ("anger", "joy"), "target": "emotion", "scores": {"ua": scores}, "parts": parts}
    return Results(**{"study": study, "family": "aae", "protocol": "LOSO", **given, **changes})


def learnt(study: str, noise: float, seeds: int = 3, attributes: tuple[str, ...] = ATTRIBUTES) -> Results:
    """Attributes with the noise that each seed has of its own, on one test part of 12 speakers."""
    columns = [ATTRIBUTES.index(name) for name in attributes]
    truth = VALUES[:, columns]
    outputs = {
        seed: {"test": truth + noise * np.random.default_rng((seed, *study.encode())).normal(size=truth.shape)}
        for seed in range(seeds)
    }
    return Results.from_outputs(
        study=study,
        family="ladder",
        protocol="official split",
        target=attributes[0] if len(attributes) == 1 else "attributes",
        attributes=attributes,
        parts={"test": part(range(120), truth)},
        outputs=outputs,
    )


FOLDS = ("s1", "s2", "s3")


def by_fold(*values: float) -> dict[str, float]:
    return dict(zip(FOLDS, values, strict=True))


OURS = scored("ours", {0: by_fold(0.5, 0.6, 0.7), 1: by_fold(0.6, 0.7, 0.8)})
BASE = scored("base", {0: by_fold(0.4, 0.6, 0.5), 1: by_fold(0.5, 0.6, 0.7)})


def ccc_alone(study: str, score: float, n: int = 7341) -> Results:
    ids = tuple(map(str, range(n)))
    return Results(
        study=study,
        family="ladder",
        protocol="official split",
        target="valence",
        attributes=("valence",),
        scores={"ccc_valence": {0: {"test": score}}},
        parts={"test": HeldOut(ids, ids, np.zeros((n, 1)))},
    )
