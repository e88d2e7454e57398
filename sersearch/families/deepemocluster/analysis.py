"""What the clusters have to do with emotion: section 5.4 and figure 3, as numbers, tables and pictures.

N labelled chunks, K clusters, C classes. Every chunk has the label of its sentence (section 4.1).
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.figures import encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sersearch.data.batches import TrainingData

BINS = 20
"""Of a histogram."""


def mutual_information(codes: np.ndarray, others: np.ndarray) -> float:
    """Normalised mutual information of two clusterings (N,): 1 for the same one, whatever the clusters' numbers."""
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(codes, others))


def explained(values: np.ndarray, codes: np.ndarray) -> float:
    """Share of the variance of `values` (N,) that lies between clusters (eta squared)."""
    values = values.astype(np.float64)
    counts = np.bincount(codes)
    means = np.bincount(codes, values) / np.maximum(counts, 1)
    total = np.square(values - values.mean()).sum()
    return float((counts * np.square(means - values.mean())).sum() / total) if total else 0.0


# --- tables and pictures ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class AttributeClusters:
    """An attribute by cluster."""

    attribute: str
    values: np.ndarray
    """(N,), on the corpus's scale."""
    codes: np.ndarray
    """Cluster of each chunk (N,)."""

    def rows(self) -> Iterator[list[Any]]:
        """Header and a row a cluster, by mean: its number, size and share, mean and deviation of the attribute."""
        yield ["cluster", "chunks", "share", "mean", "std"]
        for cluster in self._by_mean():
            own = self.values[self.codes == cluster]
            share = len(own) / len(self.codes)
            yield [int(cluster), len(own), *(f"{value:.6g}" for value in (share, own.mean(), own.std()))]

    def large(self) -> list[int]:
        """By mean, the clusters with at least half of an even share of the chunks (:attr:`least`).

        The means of tiny ones are the farthest out by chance. All clusters, where fewer than two are so large.
        """
        order = self._by_mean()
        found = [cluster for cluster in order if (self.codes == cluster).sum() >= self.least]
        return found if len(found) >= 2 else order

    @property
    def least(self) -> int:
        """Half of an even share of the chunks."""
        return math.ceil(len(self.codes) / len(np.unique(self.codes)) / 2)

    def draw(self) -> Figure:
        """Figure 3: histograms of the attribute in the clusters with its highest and lowest mean, of large ones."""
        from matplotlib.figure import Figure

        figure = Figure(figsize=(5.0, 3.4), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        order, title = self.large(), None
        if len(order) < len(np.unique(self.codes)):
            title = f"of {len(order)} clusters with at least {self.least} chunks"
        bins = np.histogram_bin_edges(self.values, BINS).tolist()
        for cluster, colour, name in ((order[0], "tab:blue", "lowest"), (order[-1], "tab:red", "highest")):
            own = self.values[self.codes == cluster]
            label = f"cluster {cluster}, {name} mean {own.mean():.2f}, {len(own)} chunks"
            axes.hist(own, bins, weights=np.full(len(own), 1 / len(own)), color=colour, alpha=0.55, label=label)
            axes.axvline(own.mean(), color=colour, linewidth=1)
        axes.set_xlabel(self.attribute)
        axes.set_ylabel("share of the cluster")
        axes.set_ylim(0, 1.25 * axes.get_ylim()[1])  # room for the legend
        axes.legend(fontsize=7, loc="upper center", title=title, title_fontsize=7)
        axes.set_title(f"between clusters lies {explained(self.values, self.codes):.1%} of the variance", fontsize=9)
        return figure

    def _by_mean(self) -> list[int]:
        found = np.unique(self.codes)
        return [int(c) for c in sorted(found, key=lambda c: (self.values[self.codes == c].mean(), c))]


@dataclass(frozen=True, eq=False)
class ClassClusters:
    """Classes by cluster, where these are predicted; the paper predicts attributes."""

    classes: tuple[str, ...]
    labels: np.ndarray
    """Class of each chunk (N,)."""
    codes: np.ndarray
    """Cluster of each chunk (N,)."""

    def counts(self) -> tuple[np.ndarray, np.ndarray]:
        """The clusters' numbers (K,), the largest first, and their chunks by class (K, C)."""
        clusters, place = np.unique(self.codes, return_inverse=True)
        counts = np.zeros((len(clusters), len(self.classes)), np.int64)
        np.add.at(counts, (place, self.labels), 1)
        order = np.argsort(-counts.sum(axis=1), kind="stable")
        return clusters[order], counts[order]

    def rows(self) -> Iterator[list[Any]]:
        """Header and a row a cluster: its number, size and share, and its chunks of each class."""
        yield ["cluster", "chunks", "share", *self.classes]
        clusters, counts = self.counts()
        for cluster, row in zip(clusters.tolist(), counts, strict=True):
            yield [cluster, int(row.sum()), f"{row.sum() / len(self.codes):.6g}", *row.tolist()]

    def draw(self) -> Figure:
        """A map of the classes' shares in each cluster."""
        from matplotlib.figure import Figure

        clusters, counts = self.counts()
        shares = counts / counts.sum(axis=1, keepdims=True)
        height = max(3.0, 0.3 * len(clusters) + 1.6)
        figure = Figure(figsize=(0.8 * len(self.classes) + 2.6, height), dpi=150, layout="constrained")
        axes = figure.add_subplot()
        shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        for (row, column), share in np.ndenumerate(shares):
            colour = "white" if share > 0.55 else "black"
            axes.text(column, row, f"{100 * share:.0f}%", ha="center", va="center", fontsize=7, color=colour)
        axes.set_xticks(range(len(self.classes)), self.classes, rotation=45, ha="right", rotation_mode="anchor")
        for label in axes.get_xticklabels():
            label.set_parse_math(False)  # a class may have a $ in its name
        names = [f"{cluster} (n = {row.sum()})" for cluster, row in zip(clusters, counts, strict=True)]
        axes.set_yticks(range(len(clusters)), names, fontsize=7)
        axes.set_ylabel("cluster")
        nmi = mutual_information(self.labels, self.codes)
        axes.set_title(f"mutual information of clusters and classes {nmi:.3f}", fontsize=9)
        figure.colorbar(shown, ax=axes, label="share of the cluster", shrink=0.8)
        return figure


def cluster_distributions(data: TrainingData, codes_S: np.ndarray) -> dict[str, AttributeClusters | ClassClusters]:
    """By attribute, or as `emotion`, what is predicted in the clusters of the labelled training chunks.

    `codes_S` are the clusters of all training segments (S,): an epoch's `Relabelled.codes["cluster"]`.
    """
    chunks = np.flatnonzero(data.train.labelled_S)
    labels = data.train.labels_U[data.labels.task][data.train.utterance_S[chunks]]
    codes = codes_S[chunks]
    if data.labels.task == "emotion":
        return {"emotion": ClassClusters(data.labels.emotion, labels, codes)}
    values_NA = labels * np.asarray(data.labels.std) + np.asarray(data.labels.mean)
    return {
        name: AttributeClusters(name, values, codes)
        for name, values in zip(data.labels.attributes, values_NA.T, strict=True)
    }


def cluster_artifacts(data: TrainingData, codes_S: np.ndarray) -> dict[str, bytes]:
    """`clusters_<what is predicted>.csv` and `.png`, by name: see :func:`cluster_distributions`."""
    files: dict[str, bytes] = {}
    for name, shown in cluster_distributions(data, codes_S).items():
        table = io.StringIO()
        csv.writer(table, lineterminator="\n").writerows(shown.rows())
        files |= {
            f"clusters_{name}.csv": table.getvalue().encode(),
            f"clusters_{name}.png": encoded(shown.draw(), "png"),
        }
    return files


def draw_settling(watched: Sequence[Mapping[str, float]]) -> Figure:
    """The mutual information of each epoch's clusters with those of the epoch before, from the second epoch on.

    `watched` holds the metrics of each epoch; labelled and unlabelled chunks have a line each.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.0, 3.2), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for metric, name in (("train_nmi", "labelled chunks"), ("train_nmi_unlabelled", "unlabelled chunks")):
        points = [(epoch, found[metric]) for epoch, found in enumerate(watched, start=1) if metric in found]
        if points:
            epochs, values = zip(*points, strict=True)
            axes.plot(epochs, values, marker=".", linewidth=1, label=name)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mutual information with the last epoch")
    axes.set_ylim(0, 1.02)
    if axes.get_lines():
        axes.legend(fontsize=7)
    return figure


def settling_artifacts(watched: Sequence[Mapping[str, float]]) -> dict[str, bytes]:
    """`clusters_nmi.png` by :func:`draw_settling`; nothing of a single epoch."""
    if len(watched) < 2:
        return {}
    return {"clusters_nmi.png": encoded(draw_settling(watched), "png")}


__all__ = [
    "AttributeClusters", "ClassClusters", "cluster_artifacts", "cluster_distributions", "draw_settling",
    "explained", "mutual_information", "settling_artifacts",
]  # fmt: skip
