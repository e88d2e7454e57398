"""K-means against scikit-learn's, and what a lane's clusters may not depend on."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.metrics import normalized_mutual_info_score
from torch import Tensor

from sersearch.errors import DataError
from sersearch.families.deepemocluster import kmeans as module
from sersearch.families.deepemocluster.kmeans import kmeans


def mixture(samples: int = 6000, dims: int = 16, parts: int = 12, spread: float = 0.5, seed: int = 0) -> Tensor:
    """Samples (S, H) about some centres, away from the origin."""
    draws = torch.Generator().manual_seed(seed)
    centres = torch.randn(parts, dims, generator=draws)
    of = torch.randint(parts, (samples,), generator=draws)
    return 5 + centres[of] + spread * torch.randn(samples, dims, generator=draws)


def rngs(*seeds: int) -> list[np.random.Generator]:
    return [np.random.default_rng(seed) for seed in seeds]


def inertia(x_SH: Tensor, codes_S: Tensor) -> float:
    """Sum of squared distances to the clusters' own means."""
    parts = [x_SH[codes_S == code] for code in codes_S.unique()]
    return float(sum((part - part.mean(dim=0)).square().sum() for part in parts))


@pytest.mark.parametrize("spread", [0.3, 1.0, 3.0])
@pytest.mark.parametrize("clusters", [3, 10, 30])
def test_the_inertia_is_scikit_learn_s(clusters: int, spread: float) -> None:
    x = mixture(spread=spread)
    ours = kmeans(x.expand(5, -1, -1), clusters, rngs(*range(5)), 20).inertia.numpy()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [KMeans(clusters, n_init=1, max_iter=20, random_state=s).fit(x.numpy()).inertia_ for s in range(5)]
    assert np.mean(ours) < 1.01 * np.mean(theirs)
    assert np.max(ours) < 1.01 * np.max(theirs)


def test_parts_that_lie_apart_are_found() -> None:
    draws = torch.Generator().manual_seed(0)
    of = torch.randint(5, (500,), generator=draws)
    x = 100 * torch.eye(5, 8)[of] + torch.randn(500, 8, generator=draws)
    codes, found = kmeans(x[None], 5, rngs(0), 20)
    assert normalized_mutual_info_score(of.numpy(), codes[0].numpy()) == pytest.approx(1)
    assert found[0].item() == pytest.approx(inertia(x, codes[0]), rel=1e-4)
    assert codes.dtype == torch.int64
    assert found.dtype == torch.float64


def test_clusters_are_of_the_nearest_centre_when_nothing_moves_any_more() -> None:
    x = mixture(800, parts=4).double()
    codes = kmeans(x[None], 4, rngs(0), 200).codes[0]
    centres = torch.stack([x[codes == code].mean(dim=0) for code in range(4)])
    assert torch.equal(torch.cdist(x, centres).argmin(dim=1), codes)


def test_iterations_lower_the_inertia_and_end() -> None:
    x = mixture(20_000, spread=2.0)[None]
    found = [kmeans(x, 10, rngs(0), count).inertia.item() for count in (1, 3, 20, 400, 500)]
    assert found[0] > found[1] > found[2] >= found[3] == found[4]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_lane_gets_what_it_gets_alone(dtype: torch.dtype) -> None:
    x = torch.stack([mixture(seed=seed) for seed in range(3)]).to(dtype)
    together = kmeans(x, 7, rngs(5, 6, 7), 20)
    for lane in range(3):
        alone = kmeans(x[lane : lane + 1], 7, rngs(5 + lane), 20)
        assert torch.equal(alone.codes[0], together.codes[lane])
        assert alone.inertia[0] == together.inertia[lane]


def test_the_seed_decides() -> None:
    x = mixture(spread=2.0)[None]
    first, again, other = (kmeans(x, 10, rngs(seed), 20).codes for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_blocks_change_nothing_but_rounding(monkeypatch) -> None:
    x = mixture(1000).double()[None]
    whole = kmeans(x, 8, rngs(0), 20)
    monkeypatch.setattr(module, "BLOCK", {"cpu": 7})
    parts = kmeans(x, 8, rngs(0), 20)
    assert torch.equal(whole.codes, parts.codes)
    assert whole.inertia.item() == pytest.approx(parts.inertia.item())


def test_an_offset_takes_nothing_away() -> None:
    x = mixture(spread=0.1)
    near, far = (kmeans(s[None], 12, rngs(0), 20) for s in (x, x + 1000))
    assert normalized_mutual_info_score(near.codes[0], far.codes[0]) > 0.99


# --- few samples ------------------------------------------------------------------------------------------------------


def test_as_many_clusters_as_samples() -> None:
    codes, found = kmeans(mixture(22)[None], 22, rngs(0), 20)
    assert sorted(codes[0].tolist()) == list(range(22))
    assert found.item() == pytest.approx(0, abs=1e-3)


def test_no_cluster_is_empty_where_samples_are_alike() -> None:
    for x in (torch.zeros(9, 4), torch.tensor([[0.0], [0.0], [0.0], [0.0], [5.0], [5.0], [9.0]])):
        codes = kmeans(x[None], 6, rngs(0), 20).codes[0]
        assert codes.unique().tolist() == list(range(6))
        again = kmeans(x[None], 6, rngs(0), 20).codes[0]
        assert torch.equal(codes, again)


def test_an_empty_cluster_gets_the_farthest_sample() -> None:
    x = torch.tensor([[0.0], [1.0], [2.0], [30.0]])
    squares = x.square().sum(dim=1)
    codes, distances, centres = module._assign(x, squares, torch.tensor([[1.0], [500.0], [900.0]]))
    assert codes.tolist() == [2, 0, 0, 1], "of two samples equally far the first"
    assert distances.tolist() == [0, 0, 1, 0]
    assert centres.flatten().tolist() == [1.5, 30, 0]


def test_more_clusters_than_samples() -> None:
    with pytest.raises(DataError, match=r"30 clusters of 22 chunks: each needs one at least; ask for fewer"):
        kmeans(mixture(22)[None], 30, rngs(0), 20)
