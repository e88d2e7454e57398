"""The DeepEmoCluster family against its paper."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from sersearch.data.batches import LabelSpace, TrainingData
from sersearch.errors import ConfigError, DataError
from sersearch.families.common.losses import task_loss
from sersearch.families.deepemocluster import analysis, losses
from sersearch.families.deepemocluster.config import DeepEmoClusterConfig
from sersearch.families.deepemocluster.family import FAMILY, chunks_by_stage, evenly
from sersearch.families.deepemocluster.networks import Decoder, DeepEmoCluster, Encoder, image, sizes
from sersearch.family import Also, ModelSpec, Optimizer
from sersearch.metrics import ccc
from sersearch.training import Engine
from sersearch.training.lane import Lane
from sersearch.training.network import Network, Stack
from sersearch.tuning.trainable import checkpoint_files
from tests.families.conformance import FamilyConformance, run
from tests.families.draws import Draws
from tests.synthetic import make_data, make_table

SMALL = DeepEmoClusterConfig(
    clusters=3, chunks=3, chunk_frames=12, batch_size=24, channels=(2, 2, 3, 3, 4, 4, 4), units=6
)
MODELS = ("deepemocluster", "cnn_regressor", "cnn_ae", "cnn_vae")
VALENCE = LabelSpace((), ("female", "male"), ("x",), ("valence",), (4.0,), (1.5,))
EMOTIONS = LabelSpace(("a", "b", "c"), ("female", "male"), ("x",))
PAPER = ModelSpec(dims=128, frames=62, labels=VALENCE)
TINY = ModelSpec(dims=9, frames=7, labels=VALENCE)

VARY = {
    "lambda_": (1.0, 0.3, 0.0),
    "learning_rate": (1e-3, 1e-2, 5e-2),
    "regressor_rate": (5e-4, 1e-3, 2e-3),
    "head_rate": (0.05, 0.1, 0.02),
    "dropout": (0.5, 0.0, 0.2),
}


class Conformance(FamilyConformance):
    """Of development data there are no clusters, so no losses by them; and data without a label is refused."""

    family = FAMILY
    configs = tuple(replace(SMALL, model=model) for model in (*MODELS, "unsupervised"))
    vary: ClassVar = VARY

    of_training: ClassVar = {"unlabelled", "labelled", "cluster"}

    def test_a_batch_without_labels_moves_no_classifier(self, data: TrainingData) -> None:
        for labels in data.train.labels_U.values():
            labels[:] = -1 if labels.dtype == np.int64 else np.nan
        for config in self.configs:
            engine = Engine(self.family, data)
            engine.join(config, seed=0, epochs=1)
            with pytest.raises(DataError, match="0 labelled training chunks; expected at least 2"):
                run(engine)


class TestOneAttribute(Conformance):
    target = "valence"


class TestClasses(Conformance):
    configs = (SMALL,)


def data_of(target: str = "valence", config: DeepEmoClusterConfig = SMALL, **table: int) -> TrainingData:
    made = make_table(attributes=target != "emotion", **table)
    return make_data(made, FAMILY.view(config), target)


def build(config: DeepEmoClusterConfig = SMALL, spec: ModelSpec = TINY) -> nn.Module:
    torch.manual_seed(0)
    return FAMILY.build(config, spec)


# --- equations --------------------------------------------------------------------------------------------------------


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_eq_3_by_hand() -> None:
    assert losses.joint_loss(number(0.4), number(0.5), number(2.0)).item() == pytest.approx(0.4 + 0.5 * 2.0)


def test_1_minus_ccc_by_hand() -> None:
    # Means 2 and 3, variances 2/3 and 8/3, covariance 4/3: CCC = (8/3) / (10/3 + 1).
    predicted, truth = torch.tensor([[1.0], [2.0], [3.0]]), torch.tensor([[1.0], [3.0], [5.0]])
    first = 1 - (8 / 3) / (10 / 3 + 1)
    assert task_loss(predicted, {"attributes": truth}).item() == pytest.approx(first)
    assert task_loss(truth, {"attributes": truth}).item() == pytest.approx(0)
    both = task_loss(torch.cat([predicted, truth], 1), {"attributes": torch.cat([truth, truth], 1)})
    assert both.item() == pytest.approx(first / 2), "of several attributes the mean"


def test_cross_entropies_by_hand() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.25, 0.75]]))
    found = losses.cluster_loss(logits, torch.tensor([0, 1, 0]))
    assert found.item() == pytest.approx(-(math.log(0.5) + math.log(0.9) + math.log(0.25)) / 3)
    some = task_loss(logits, {"emotion": torch.tensor([0, -1, 1])})
    assert some.item() == pytest.approx(-(math.log(0.5) + math.log(0.75)) / 2)
    assert task_loss(logits, {"emotion": torch.tensor([-1, -1, -1])}) == 0


def test_the_autoencoders_losses_by_hand() -> None:
    x, x_hat = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 4.0]]])
    assert losses.reconstruction_loss(x, x_hat).item() == pytest.approx((1 + 4) / 2)
    mean, log_variance = torch.tensor([[0.0, 1.0], [2.0, 0.0]]), torch.log(torch.tensor([[1.0, 1.0], [1.0, 4.0]]))
    kl = losses.divergence(mean, log_variance)
    assert kl.item() == pytest.approx((0.5 + 2.0 + 0.5 * (4 - 1 - math.log(4))) / 2)
    normal = torch.distributions.Normal
    whole = torch.distributions.kl_divergence(normal(mean, (log_variance / 2).exp()), normal(0.0, 1.0))
    assert kl.item() == pytest.approx(whole.sum(dim=1).mean().item())
    assert losses.variational_loss(number(2.5), number(3.0), 6).item() == pytest.approx(2.5 + 0.5)
    z = losses.reparametrised(mean, log_variance, torch.full((2, 2), 3.0))
    assert z.tolist() == [[3.0, 4.0], [5.0, 6.0]]


# --- networks ---------------------------------------------------------------------------------------------------------


def test_table_1() -> None:
    model = build(DeepEmoClusterConfig(), PAPER)
    assert isinstance(model, DeepEmoCluster)
    convolutions = [m for m in model.encoder.modules() if isinstance(m, nn.Conv2d)]
    assert [c.out_channels for c in convolutions] == [32, 32, 64, 64, 128, 128, 128]
    assert [c.stride[0] for c in convolutions] == [1, 1, 2, 2, 2, 2, 2]
    assert {c.kernel_size for c in convolutions} == {(3, 3)}
    assert sum(isinstance(m, nn.BatchNorm2d) for m in model.encoder.modules()) == 7
    assert sizes(62, 128) == [(62, 128)] * 3 + [(31, 64), (16, 32), (8, 16), (4, 8), (2, 4)]
    assert model.encoder.linear.weight.shape == (256, 128 * 2 * 4)
    assert (model.cluster.weight.shape, model.top.weight.shape) == ((256, 256), (10, 256))
    assert [tuple(m.weight.shape) for m in model.regressor if isinstance(m, nn.Linear)] == [(256, 256), (1, 256)]
    x = torch.randn(2, 128, 62)
    assert model.hidden(model.encoder(x)).shape == (2, 256)
    assert FAMILY.predict(model, {"x": x})["attributes"].shape == (2, 1)


def test_the_input_is_frames_by_bands_within_three_deviations() -> None:
    x_BDT = torch.tensor([[[1.0, 5.0, torch.nan], [-7.0, 0.5, torch.inf]]])
    assert image(x_BDT).tolist() == [[[[1.0, -3.0], [3.0, 0.5], [0.0, 3.0]]]]


@pytest.mark.parametrize(("frames", "bands"), [(62, 128), (61, 127), (7, 9), (1, 5), (32, 16)])
def test_the_decoder_mirrors_the_encoder(frames: int, bands: int) -> None:
    spec = ModelSpec(dims=bands, frames=frames, labels=VALENCE)
    channels = (2, 3, 4, 5, 6, 7, 8)
    encoder, decoder = Encoder(channels, 5, spec), Decoder(channels, 5, spec)
    x_hat = decoder(encoder(torch.randn(3, bands, frames)))
    assert x_hat.shape == (3, 1, frames, bands)
    backwards = [m for m in decoder.modules() if isinstance(m, nn.ConvTranspose2d)]
    assert [m.out_channels for m in backwards] == [7, 6, 5, 4, 3, 2, 1]
    assert [m.stride[0] for m in backwards] == [2, 2, 2, 2, 2, 1, 1]


def test_output_layers_start_small_and_are_renewed() -> None:
    top = build(DeepEmoClusterConfig(), PAPER).top
    assert top.weight.std().item() == pytest.approx(0.01, rel=0.1)
    assert top.bias.abs().max() == 0
    assert FAMILY.renewed(SMALL) == ("top", "top_unlabelled")
    assert FAMILY.renewed(replace(SMALL, unlabeled_size=0)) == ("top",)
    assert all(FAMILY.renewed(replace(SMALL, model=model)) == () for model in MODELS[1:])


def test_dropout_is_for_training() -> None:
    model, (_, phase) = build().eval(), FAMILY.phases(SMALL, TINY)
    batch = {"x": torch.randn(8, 9, 7), "attributes": torch.randn(8, 1)}
    hp = SimpleNamespace(dropout=torch.tensor(0.5), lambda_=torch.tensor(1.0))
    in_training, on_dev = (phase.loss(model, batch, hp, Draws(training=t))["prediction"].item() for t in (True, False))
    truth = 1 - ccc(FAMILY.predict(model, batch)["attributes"].T, batch["attributes"].T).item()
    assert on_dev == pytest.approx(truth)
    assert in_training != pytest.approx(truth)


def test_the_vae_draws_its_latent_vectors() -> None:
    config = replace(SMALL, model="cnn_vae")
    model, (_, phase) = build(config).eval(), FAMILY.phases(config, TINY)
    batch = {"x": torch.randn(8, 9, 7), "attributes": torch.randn(8, 1)}
    hp = SimpleNamespace(dropout=torch.tensor(0.0), lambda_=torch.tensor(2.0))
    found = phase.loss(model, batch, hp, Draws())
    mean, log_variance = model.moments(model.encoder(batch["x"]))
    z = mean + (log_variance / 2).exp() * Draws().normal(8, 6)
    reconstruction = (model.decoder(z) - image(batch["x"])).square().mean()
    kl = losses.divergence(mean, log_variance)
    assert found["reconstruction"].item() == pytest.approx(reconstruction.item())
    assert found["autoencoder"].item() == pytest.approx((reconstruction + kl / 63).item())
    assert found["labelled"].item() == pytest.approx((found["prediction"] + 2 * found["autoencoder"]).item())


# --- phases -----------------------------------------------------------------------------------------------------------


def test_phases_update_what_the_paper_says() -> None:
    first, second = FAMILY.phases(SMALL, TINY)
    sgd, adam, head = Optimizer("sgd"), Optimizer("adam", "regressor_rate"), Optimizer("sgd", "head_rate")
    assert (first.name, first.updates, first.optimizer) == ("unlabelled", ("encoder", "cluster"), sgd)
    assert first.also == (Also(("top_unlabelled",), head),)
    every = ("encoder", "cluster", "regressor")
    assert (second.name, second.updates, second.optimizer) == ("labelled", every, sgd)
    assert second.also == (Also(every, adam), Also(("top",), head))
    assert [p.name for p in FAMILY.phases(replace(SMALL, unlabeled_size=0), TINY)] == ["labelled"]
    assert [p.name for p in FAMILY.phases(replace(SMALL, model="cnn_regressor"), TINY)] == ["labelled"]


@pytest.mark.parametrize(
    ("model", "stage", "expected"),
    [
        ("deepemocluster", "unlabelled", {"encoder", "cluster", "top_unlabelled"}),
        ("deepemocluster", "labelled", {"encoder", "cluster", "top", "regressor"}),
        ("unsupervised", "unlabelled", {"encoder", "cluster", "top_unlabelled"}),
        ("unsupervised", "labelled", {"encoder", "cluster", "top"}),
        ("cnn_regressor", "labelled", {"encoder", "regressor"}),
        ("cnn_ae", "unlabelled", {"encoder", "decoder"}),
        ("cnn_ae", "labelled", {"encoder", "decoder", "regressor"}),
        ("cnn_vae", "unlabelled", {"encoder", "latent", "decoder"}),
        ("cnn_vae", "labelled", {"encoder", "latent", "decoder", "regressor"}),
    ],
)
def test_a_stage_moves_its_children_alone(model: str, stage: str, expected: set[str]) -> None:
    config, data = replace(SMALL, model=model), data_of()
    spec = ModelSpec(dims=data.dims, frames=12, labels=data.labels)
    network = Network(FAMILY, config, spec, FAMILY.phases(config, spec), torch.device("cpu"), torch.float32)
    before = network.initial(0)
    lane = Lane(config, 0, 1, network.place(before), network.slots(before), {})
    codes = np.arange(len(data.train)) % 3
    batch = data.train.with_codes({"cluster": codes}).batch(
        chunks_by_stage(config, data)[stage][:16], torch.device("cpu"), torch.float32
    )
    Stack(network, [lane]).train_step(0, [batch], [{"attributes"}], (stage,))
    parameters = {name for name, _ in network.call.model.named_parameters()}
    moved = {n.split(".")[0] for n in parameters if not torch.equal(lane.weights[n], before[n])}
    assert moved == expected


def test_lambda_0_leaves_the_cluster_classifier_alone() -> None:
    model, (_, phase) = build(), FAMILY.phases(SMALL, TINY)
    batch = {"x": torch.randn(8, 9, 7), "attributes": torch.randn(8, 1), "cluster": torch.arange(8) % 3}
    hp = SimpleNamespace(dropout=torch.tensor(0.5), lambda_=torch.tensor(0.0))
    phase.loss(model, batch, hp, Draws())["labelled"].backward()
    assert model.cluster.weight.grad.abs().max() == 0
    assert model.regressor[0].weight.grad.abs().max() > 0


def test_three_attributes_at_once() -> None:
    engine = Engine(FAMILY, data_of("attributes"))
    for config in (SMALL, replace(SMALL, lambda_=0.5)):
        engine.join(config, seed=0, epochs=2)
    for results in run(engine).values():
        assert {"dev_ccc", "dev_ccc_activation", "dev_ccc_valence", "dev_ccc_dominance"} <= results[1].metrics.keys()
        assert not results[1].failed


def test_it_learns() -> None:
    config = replace(SMALL, channels=(4, 4, 8, 8, 8, 8, 8), units=16, learning_rate=0.01, regressor_rate=0.003)
    data = data_of("valence", config, speakers=8, repetitions=4)
    engine = Engine(FAMILY, data)
    engine.join(config, seed=0, epochs=12)
    (results,) = run(engine).values()
    assert max(r.metrics["dev_ccc"] for r in results) > 0.4


# --- plan -------------------------------------------------------------------------------------------------------------


def test_chunks_are_drawn_evenly_over_their_clusters() -> None:
    chunks, codes = np.arange(100, 200), np.repeat([0, 1, 2], [80, 15, 5])
    batches = list(evenly(chunks, codes, 10, np.random.default_rng(0)))
    assert [len(b) for b in batches] == [10] * 10
    drawn = np.concatenate(batches)
    counts = np.bincount(codes[drawn - 100])
    assert counts.min() >= 31, "a third of 100 each"
    assert counts.max() <= 34
    rare = np.bincount(drawn - 100, minlength=100)[95:]
    assert rare.min() >= 5, "a rare cluster's chunks come again, each about as often as the others"
    assert np.bincount(drawn - 100)[:80].max() == 1


def test_how_many_batches_there_are_depends_on_no_code() -> None:
    chunks = np.arange(33)
    for codes in (np.zeros(33, int), np.arange(33), np.arange(33) % 2, np.repeat([0, 1], [32, 1])):
        batches = list(evenly(chunks, codes, 8, np.random.default_rng(1)))
        assert [len(b) for b in batches] == [8] * 4
        (whole,) = evenly(chunks, codes, 64, np.random.default_rng(1))
        assert len(whole) == 33
    once = np.concatenate(list(evenly(chunks, np.zeros(33, int), 8, np.random.default_rng(1))))
    assert len(set(once)) == 32, "without codes each comes once"


def test_first_the_unlabelled_stage_then_the_labelled_one() -> None:
    data = data_of()
    turns = list(FAMILY.plan(SMALL, data, np.random.default_rng(0)))
    labelled, unlabelled = 2 * 8 * 3, 2 * 4 * 3
    stages = [turn.phases for turn in turns]
    assert stages == [("unlabelled",)] * (unlabelled // 24) + [("labelled",)] * (labelled // 24)
    for turn in turns:
        assert (data.train.labelled_S[turn.indices] == (turn.phases == ("labelled",))).all()
    only = list(FAMILY.plan(replace(SMALL, model="cnn_regressor"), data, np.random.default_rng(0)))
    assert {turn.phases for turn in only} == {("labelled",)}


def test_which_models_learn_from_the_unlabelled_pool() -> None:
    assert {model: replace(SMALL, model=model).learns_unlabelled for model in MODELS} == {
        "deepemocluster": True,
        "cnn_regressor": False,
        "cnn_ae": True,
        "cnn_vae": True,
    }
    assert not any(replace(SMALL, model=model, unlabeled_size=0).learns_unlabelled for model in MODELS)


def test_smaller_unlabelled_sets_lie_in_larger_ones() -> None:
    data = data_of()
    sets = [set(chunks_by_stage(replace(SMALL, unlabeled_size=n), data)["unlabelled"]) for n in (0, 1, 3, 8, 40_000)]
    assert [len(s) for s in sets] == [0, 3, 9, 24, 24], "of whole sentences of three chunks"
    assert all(small <= large for small, large in pairwise(sets))
    assert [len(np.unique(data.train.utterance_S[sorted(s)])) for s in sets[1:3]] == [1, 3]


def test_chunks_of_a_short_sentence_are_wrapped() -> None:
    view = FAMILY.view(DeepEmoClusterConfig())
    assert view.starts(62 + 10 * 7 + 9) == [7 * c for c in range(11)], "Eq. 2, cut to whole frames"
    cut = view.cut(np.arange(20, dtype=np.float32)[:, None], np.zeros(1, np.float32))
    assert cut.shape == (11, 62, 1)
    assert cut[0, :, 0].tolist() == [float(t % 20) for t in range(62)]


# --- clusters ---------------------------------------------------------------------------------------------------------


def relabelled(data: TrainingData, config: DeepEmoClusterConfig, features: Tensor, before=None, seeds=(0,)):
    """What relabel makes of the features (K, S, H) of all chunks."""
    seen: list[np.ndarray] = []

    def read(function, chunks: np.ndarray) -> Tensor:
        seen.append(chunks)
        return features[:, chunks]

    rngs = [np.random.default_rng(seed) for seed in seeds]
    return FAMILY.relabel(config, data, read, rngs, before or [{} for _ in seeds]), seen


def test_labelled_and_unlabelled_chunks_are_clustered_apart() -> None:
    config, data = replace(SMALL, unlabeled_size=3), data_of()
    stages = chunks_by_stage(config, data)
    features = torch.randn(1, len(data.train), 4)
    parts = np.arange(len(data.train)) % 3
    features += 50 * torch.eye(3, 4)[parts]
    (found,), seen = relabelled(data, config, features)
    assert [chunks.tolist() for chunks in seen] == [stages[s].tolist() for s in ("unlabelled", "labelled")]
    codes = found.codes["cluster"]
    used = np.concatenate(list(stages.values()))
    assert set(np.flatnonzero(codes < 0)) == set(range(len(data.train))) - set(used)
    for chunks in stages.values():
        assert analysis.mutual_information(codes[chunks], parts[chunks]) == pytest.approx(1)
    assert found.metrics["train_smallest_cluster"] == pytest.approx(1 / 3)
    assert found.metrics["train_smallest_cluster_unlabelled"] == pytest.approx(1 / 3)
    assert not [name for name in found.metrics if "nmi" in name], "in the first epoch there are none before"
    (again,), _ = relabelled(data, config, features, [found.codes], seeds=(1,))
    assert again.metrics["train_nmi"] == pytest.approx(1), "whatever the clusters' numbers"
    assert again.metrics["train_nmi_unlabelled"] == pytest.approx(1)


def test_a_lane_that_diverged_leaves_the_others_alone() -> None:
    data = data_of()
    features = torch.randn(2, len(data.train), 4)
    (alone,), _ = relabelled(data, SMALL, features[:1], seeds=(5,))
    features[1, 3] = torch.nan
    (first, second), _ = relabelled(data, SMALL, features, seeds=(5, 6))
    assert (first.codes["cluster"] == alone.codes["cluster"]).all()
    assert first.metrics == alone.metrics
    assert all(math.isnan(value) for name, value in second.metrics.items() if not name.endswith("_unlabelled"))


def test_how_far_clusters_tell_emotion() -> None:
    for target in ("valence", "attributes", "emotion"):
        data = data_of(target)
        labels = data.train.labels_U[data.labels.task][data.train.utterance_S]
        told = torch.tensor(np.nan_to_num(labels.astype(np.float64)), dtype=torch.float32).reshape(len(labels), -1)
        (good,), _ = relabelled(data, replace(SMALL, clusters=4), told[None])
        (bad,), _ = relabelled(data, replace(SMALL, clusters=4), torch.randn(1, len(labels), 2))
        assert 0 <= bad.metrics["train_cluster_emotion"] < 0.5 < good.metrics["train_cluster_emotion"] <= 1


def test_metrics_reach_the_results() -> None:
    engine = Engine(FAMILY, data_of())
    engine.join(SMALL, seed=0, epochs=2)
    (results,) = run(engine).values()
    own = {"train_smallest_cluster", "train_smallest_cluster_unlabelled", "train_cluster_emotion"}
    assert own <= results[0].metrics.keys()
    assert "train_nmi" not in results[0].metrics
    assert own | {"train_nmi", "train_nmi_unlabelled"} <= results[1].metrics.keys()
    assert FAMILY.relabel(replace(SMALL, model="cnn_ae"), data_of(), None, [], []) is None


def test_an_epoch_that_is_tried_again_compares_its_clusters_with_those_of_the_epoch_before(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine = Engine(FAMILY, data_of(), dtype=torch.float64)
    lanes = [engine.join(SMALL, seed=seed, epochs=3) for seed in (0, 1)]
    alone = Engine(FAMILY, data_of(), dtype=torch.float64)
    twins = [alone.join(SMALL, seed=seed, epochs=3) for seed in (0, 1)]
    expected = run(alone)
    engine.epoch(lanes)

    def full(*args: object) -> None:
        raise torch.OutOfMemoryError("out of memory")

    with monkeypatch.context() as context:
        context.setattr("sersearch.training.engine.train_epoch", full)
        with pytest.raises(torch.OutOfMemoryError):
            engine.epoch(lanes)
    for lane, twin in zip(lanes, twins, strict=True):
        (again,) = engine.epoch([lane])
        assert again.metrics["train_nmi"] == pytest.approx(expected[twin][1].metrics["train_nmi"])
        assert again.metrics["train_nmi"] < 1, "or the first attempt's would do"
        assert len(engine.state(lane).watched) == 2, "one entry an epoch"


def test_explained_variance_by_hand() -> None:
    values, codes = np.array([1.0, 3.0, 5.0, 7.0]), np.array([0, 0, 2, 2])
    assert analysis.explained(values, codes) == pytest.approx(4 * 4 / (9 + 1 + 1 + 9))
    assert analysis.explained(np.ones(4), codes) == 0


# --- figure 3 ---------------------------------------------------------------------------------------------------------


def test_an_attribute_by_cluster() -> None:
    values, codes = np.array([1.0, 2.0, 6.0, 7.0, 4.0]), np.array([2, 2, 0, 0, 1])
    shown = analysis.AttributeClusters("valence", values, codes)
    assert list(shown.rows()) == [
        ["cluster", "chunks", "share", "mean", "std"],
        [2, 2, "0.4", "1.5", "0.5"],
        [1, 1, "0.2", "4", "0"],
        [0, 2, "0.4", "6.5", "0.5"],
    ]
    figure = shown.draw()
    assert isinstance(figure, Figure)
    names = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert names == ["cluster 2, lowest mean 1.50, 2 chunks", "cluster 0, highest mean 6.50, 2 chunks"]


def legend_of(shown: analysis.AttributeClusters) -> tuple[str, list[str]]:
    """The legend's title, and its clusters."""
    legend = shown.draw().axes[0].get_legend()
    return legend.get_title().get_text(), [text.get_text().split(",")[0] for text in legend.get_texts()]


def test_a_tiny_cluster_is_no_extreme() -> None:
    # An even share of 14 chunks in 4 clusters is 3.5.
    codes = np.repeat([0, 1, 2, 3], [1, 4, 7, 2])
    shown = analysis.AttributeClusters("valence", np.repeat([1.0, 3.0, 5.0, 7.0], [1, 4, 7, 2]), codes)
    assert legend_of(shown) == ("of 3 clusters with at least 2 chunks", ["cluster 1", "cluster 3"])
    assert [row[0] for row in shown.rows()] == ["cluster", 0, 1, 2, 3], "the table has them all"
    codes = np.repeat([0, 1, 2], [1, 40, 1])
    shown = analysis.AttributeClusters("valence", codes + 1.0, codes)
    assert legend_of(shown) == ("", ["cluster 0", "cluster 2"]), "one large cluster alone is no pair"
    shown = analysis.AttributeClusters("valence", np.array([1.0, 2.0]), np.array([4, 4]))
    assert legend_of(shown) == ("", ["cluster 4", "cluster 4"])


def test_classes_by_cluster() -> None:
    shown = analysis.ClassClusters(("anger", "$joy"), np.array([0, 1, 1, 1]), np.array([5, 5, 5, 3]))
    assert list(shown.rows()) == [
        ["cluster", "chunks", "share", "anger", "$joy"],
        [5, 3, "0.75", 1, 2],
        [3, 1, "0.25", 0, 1],
    ]
    assert isinstance(shown.draw(), Figure)


@pytest.mark.parametrize(("target", "names"), [("attributes", 3), ("valence", 1), ("emotion", 1)])
def test_clusters_as_files(target: str, names: int) -> None:
    data = data_of(target)
    codes = np.where(data.train.labelled_S, np.arange(len(data.train)) % 3, -1)
    files = analysis.cluster_artifacts(data, codes)
    assert len(files) == 2 * names
    assert all(content.startswith(b"\x89PNG") for name, content in files.items() if name.endswith(".png"))
    rows = list(csv.DictReader(next(iter(files.values())).decode().splitlines()))
    assert sum(int(row["chunks"]) for row in rows) == data.train.labelled_S.sum()
    if target == "valence":
        truth = data.train.labels_U["attributes"][data.train.utterance_S[data.train.labelled_S], 0]
        on_scale = truth * data.labels.std[0] + data.labels.mean[0]
        mean = sum(float(row["share"]) * float(row["mean"]) for row in rows)
        assert mean == pytest.approx(on_scale.mean(), abs=1e-4)


def test_a_lane_that_is_done_shows_the_clusters_of_its_best_epoch() -> None:
    data = data_of("valence")
    engine = Engine(FAMILY, data)
    lane = engine.join(SMALL, seed=0, epochs=3)
    found = {}
    for result in engine.epochs():
        if result.best:
            found = {name: codes.clone() for name, codes in engine.state(lane).codes.items()}
    assert engine.state(lane).best_codes.keys() == {"cluster"}
    assert torch.equal(engine.state(lane).best_codes["cluster"], found["cluster"])
    pictures = {"clusters_valence.png", "clusters_nmi.png"}
    assert checkpoint_files(engine, lane, {}).keys() >= {"clusters_valence.csv", "state.json", *pictures}
    watched = engine.state(lane).watched
    assert ["train_nmi" in found for found in watched] == [False, True, True]
    (line,) = analysis.draw_settling([{}, {"train_nmi": 0.5}, {"train_nmi": 0.7}]).axes[0].get_lines()
    assert line.get_xydata().tolist() == [[2, 0.5], [3, 0.7]]


# --- errors -----------------------------------------------------------------------------------------------------------


def refused(config: DeepEmoClusterConfig, data: TrainingData, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Engine(FAMILY, data).check(config)


def test_more_clusters_than_chunks() -> None:
    message = "params.clusters: 30 clusters of 24 unlabelled chunks; expected at most as many clusters as chunks"
    refused(replace(SMALL, clusters=30), data_of(), DataError, message)
    refused(replace(SMALL, clusters=60, unlabeled_size=0), data_of(), DataError, "60 clusters of 48 labelled chunks")
    Engine(FAMILY, data_of()).check(replace(SMALL, clusters=30, model="cnn_ae"))


def test_no_unlabelled_pool() -> None:
    data = data_of(unlabelled=0)
    for model in ("deepemocluster", "cnn_ae", "cnn_vae"):
        message = "0 unlabelled training chunks, but params.unlabeled_size is 40000 .*--set unlabeled_size=0"
        refused(replace(SMALL, model=model), data, DataError, message)
        Engine(FAMILY, data).check(replace(SMALL, model=model, unlabeled_size=0))
    Engine(FAMILY, data).check(replace(SMALL, model="cnn_regressor"))


def test_one_vector_an_utterance() -> None:
    data = make_data(make_table(vectors=True, attributes=True), target="valence")
    refused(SMALL, data, ConfigError, "takes sequences of frames, but spectrogram features are one vector an utterance")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"clusters": 1}, r"params.clusters: 1 is outside \[2, inf\)"),
        ({"unlabeled_size": -1}, r"params.unlabeled_size: -1 is outside \[0, inf\)"),
        ({"channels": [8, 8]}, r"params.channels: \(8, 8\) is not a list of 7 positive ints"),
        ({"lambda_": -0.5}, r"params.lambda_: -0.5 is outside \[0, inf\)"),
        ({"lambda": 1.0}, "params.lambda: unknown hyperparameter; did you mean lambda_?"),
        (
            {"model": "vae"},
            "params.model: 'vae' is not one of deepemocluster, unsupervised, cnn_regressor, cnn_ae, cnn_vae",
        ),
    ],
)
def test_hyperparameters_that_cannot_be(values: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        DeepEmoClusterConfig.from_dict(values)
