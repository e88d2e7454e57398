"""K-means for several lanes: Lloyd's algorithm on the device where the features lie.

K lanes, S samples, H dimensions, C clusters, N samples that are drawn to start from, B samples of a block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sersearch.errors import DataError

STARTING_SAMPLES = 2**14
"""Samples from which the first centres are drawn: as good as all, and a fraction of the work."""

STARTS, STEPS = 4, 5
"""Starts that are tried on those samples, for so many iterations each."""

BLOCK = {"cpu": 2**12, "cuda": 2**18}
"""Samples whose distances are held at once: 4 MiB of features on a CPU, which its cache holds."""


class Clustering(NamedTuple):
    """What K-means found in each lane."""

    codes: Tensor
    """Cluster of each sample (K, S) int64; every cluster has a sample."""
    inertia: Tensor
    """Sum of squared distances to the nearest centre (K,) float64."""


def kmeans(features_KSH: Tensor, clusters: int, rngs: Sequence[np.random.Generator], iterations: int) -> Clustering:
    """`iterations` of Lloyd's algorithm, fewer where nothing changes any more, in each lane by a generator of its own.

    Lanes are clustered one by one: their number then changes no rounding, so that a lane gets what it would get
    alone, and each is work enough for a device. Centres start as in k-means++ (Arthur & Vassilvitskii, SODA 2007), the
    better of several candidates each. Raises :class:`DataError` for more clusters than samples.
    """
    samples = features_KSH.shape[1]
    if clusters > samples:
        raise DataError(
            f"{clusters} clusters of {samples} chunks: each needs one at least; ask for fewer (--set clusters=...), or "
            "bring more data"
        )
    found = []
    for features_SH, rng in zip(features_KSH, rngs, strict=True):
        x_SH = features_SH.to(torch.promote_types(features_SH.dtype, torch.float32))
        # About their mean, so that float32 resolves the distances.
        centred_SH = x_SH - x_SH.mean(dim=0)
        found.append(_lloyd(centred_SH, _start(centred_SH, clusters, rng), iterations))
    return Clustering(torch.stack([own.codes_S for own in found]), torch.stack([own.inertia for own in found]))


class _State(NamedTuple):
    """One lane's clusters."""

    codes_S: Tensor
    inertia: Tensor
    centres_CH: Tensor
    """Means of the clusters."""


def _lloyd(x_SH: Tensor, centres_CH: Tensor, iterations: int) -> _State:
    """The clusters after `iterations` moves of the centres, or when a move has changed no sample's cluster."""
    squares_S = x_SH.square().sum(dim=1)
    codes_S, distances_S, centres_CH = _assign(x_SH, squares_S, centres_CH)
    for _ in range(iterations):
        after_S, distances_S, centres_CH = _assign(x_SH, squares_S, centres_CH)
        if torch.equal(after_S, codes_S):
            break
        codes_S = after_S
    return _State(codes_S, distances_S.double().sum(), centres_CH)


def _assign(x_SH: Tensor, squares_S: Tensor, centres_CH: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each sample's nearest centre (S,) and its squared distance (S,), and the means of the clusters so made (C, H)."""
    halves_C1 = centres_CH.square().sum(dim=1, keepdim=True) / 2
    numbers_C1 = torch.arange(len(centres_CH), device=x_SH.device)[:, None]
    sums_CH = torch.zeros_like(centres_CH, dtype=torch.float64)
    codes, scores = [], []
    for x_BH in torch.split(x_SH, BLOCK.get(x_SH.device.type, BLOCK["cpu"])):
        # Clusters lead, so that minima are taken over rows: several times as fast on a CPU.
        score_B, code_B = torch.addmm(halves_C1, centres_CH, x_BH.T, alpha=-1).min(dim=0)
        # A product with zeros and ones, unlike a scattered sum, comes out alike each time on a GPU.
        sums_CH += (code_B == numbers_C1).to(x_BH.dtype) @ x_BH
        codes.append(code_B)
        scores.append(score_B)
    codes_S = torch.cat(codes)
    distances_S = (squares_S + 2 * torch.cat(scores)).clamp_(min=0)
    counts_C = torch.bincount(codes_S, minlength=len(centres_CH))
    if not counts_C.all():
        _fill(x_SH, codes_S, distances_S, sums_CH, counts_C)
    return codes_S, distances_S, (sums_CH / counts_C[:, None]).to(x_SH.dtype)


def _fill(x_SH: Tensor, codes_S: Tensor, distances_S: Tensor, sums_CH: Tensor, counts_C: Tensor) -> None:
    """Give each empty cluster the sample that is farthest from its centre, the first of several, in place."""
    farthest = np.argsort(-distances_S.cpu().numpy(), kind="stable")
    codes, counts = codes_S.cpu().numpy(), counts_C.cpu().numpy().copy()
    chosen = iter(farthest)
    for empty in np.flatnonzero(counts == 0):
        # No cluster is emptied for another: with as many samples as clusters there is always one to spare.
        sample = next(int(s) for s in chosen if counts[codes[s]] > 1)
        old = int(codes_S[sample])
        counts[old] -= 1
        for cluster, sign in ((old, -1), (int(empty), 1)):
            sums_CH[cluster] += sign * x_SH[sample]
            counts_C[cluster] += sign
        codes_S[sample], distances_S[sample] = int(empty), 0


def _start(x_SH: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """First centres (C, H): on at most `STARTING_SAMPLES`, the best of some starts after some iterations.

    It runs on the CPU, so that every device starts alike.
    """
    samples = len(x_SH)
    drawn = np.sort(rng.choice(samples, max(clusters, min(samples, STARTING_SAMPLES)), replace=False, shuffle=False))
    x_NH = x_SH[torch.from_numpy(drawn).to(x_SH.device)].cpu()
    starts = [_lloyd(x_NH, _spread(x_NH, clusters, rng), STEPS) for _ in range(STARTS)]
    return min(starts, key=lambda start: float(start.inertia)).centres_CH.to(x_SH.device)


def _spread(x_NH: Tensor, clusters: int, rng: np.random.Generator) -> Tensor:
    """Samples (C, H) far from one another, by greedy k-means++."""
    squares_N = x_NH.square().sum(dim=1)
    trials = 2 + int(np.log(clusters))  # scikit-learn's number
    candidates, nearest_N = rng.integers(len(x_NH), size=1), torch.full_like(squares_N, torch.inf)
    chosen = []
    for _ in range(clusters):
        some = torch.from_numpy(candidates)
        distances_N = squares_N + squares_N[some, None] - 2 * x_NH[some] @ x_NH.T
        closer = torch.minimum(nearest_N, distances_N.clamp_(min=0))
        best = int(closer.double().sum(dim=1).argmin())
        chosen.append(int(candidates[best]))
        nearest_N = closer[best]
        reach = np.cumsum(nearest_N.double().numpy())
        candidates = np.searchsorted(reach, rng.random(trials) * reach[-1]).clip(max=len(x_NH) - 1)
    return x_NH[chosen]


__all__ = ["Clustering", "kmeans"]
