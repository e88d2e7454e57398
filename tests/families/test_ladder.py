"""The ladder family against its paper, and what both ladder families share."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from sersearch.data.batches import LabelSpace, SegmentView, TrainingData
from sersearch.errors import ConfigError, DataError
from sersearch.families import family_names
from sersearch.families.common import losses, networks, steps
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY
from sersearch.families.ladder.networks import Dense, Ladder
from sersearch.families.ladder.svr import two_step
from sersearch.family import ModelSpec, Phase
from sersearch.training import Engine
from sersearch.training.lane import Lane
from sersearch.training.network import Stack
from sersearch.training.noise import StepNoise
from tests.families.conformance import FamilyConformance
from tests.families.draws import Draws, lane_values
from tests.synthetic import make_data, make_table

SMALL = LadderConfig(hidden=(6, 5), batch_size=8, learning_rate=1e-3)
CNN = replace(SMALL, encoder="cnn", channels=4, kernel=3, pool=2, frames=32)
ATTRIBUTES = LabelSpace((), ("female", "male"), ("x",), ("activation", "valence", "dominance"), (0.0,) * 3, (1.0,) * 3)
VALENCE = LabelSpace((), ("female", "male"), ("x",), ("valence",), (0.0,), (1.0,))
EMOTIONS = LabelSpace(("a", "b", "c"), ("female", "male"), ("x",))
PAPER = ModelSpec(dims=6373, frames=1, labels=ATTRIBUTES)
TINY = ModelSpec(dims=7, frames=1, labels=ATTRIBUTES)
VECTORS = SegmentView(1, 1)

VARY = {
    "alpha": (0.1, 0.7, 0.4),
    "beta": (0.9, 0.2, 0.0),
    "lambda_l": (1.0, 0.1, 0.0),
    "noise_variance": (0.3, 0.0, 0.1),
    "input_dropout": (0.1, 0.0, 0.5),
    "dropout": (0.0, 0.5, 0.2),
    "learning_rate": (1e-3, 5e-3, 1e-2),
}


class LadderConformance(FamilyConformance):
    """Every mini-batch has labels by the plan: data without any is refused."""

    def test_a_batch_without_labels_moves_no_classifier(self) -> None:
        data = make_data(view=self.family.view(self.configs[0]), target=self.target)
        for labels in data.train.labels_U.values():
            labels[:] = -1 if labels.dtype == np.int64 else np.nan
        engine = Engine(self.family, data)
        engine.join(self.configs[0], seed=0, epochs=1)
        with pytest.raises(DataError, match="0 labelled training segments"):
            next(engine.epochs())


class TestAttributes(LadderConformance):
    family = FAMILY
    target = "attributes"
    configs = (
        SMALL,
        replace(SMALL, setting="L", combinator="gaussian"),
        replace(SMALL, model="dense"),
    )
    vary: ClassVar = VARY


class TestClasses(LadderConformance):
    family = FAMILY
    configs = (replace(SMALL, epoch_over="unlabelled"),)
    vary: ClassVar = VARY


class TestSequences(LadderConformance):
    family = FAMILY
    target = "valence"
    configs = (CNN, replace(CNN, model="dense"))
    vary: ClassVar = VARY


def hyperparameters(config: LadderConfig = SMALL, **changed: float) -> SimpleNamespace:
    return lane_values(config, **changed)


def make_batch(spec: ModelSpec, members: int = 8) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(1)
    return {
        "x": torch.randn(members, spec.dims, spec.frames, generator=draws),
        "attributes": torch.randn(members, spec.labels.outputs, generator=draws),
    }


def phase(name: str, config: LadderConfig = SMALL) -> Phase:
    return next(p for p in FAMILY.phases(config, TINY) if p.name == name)


def build(config: LadderConfig = SMALL, spec: ModelSpec = TINY) -> Ladder:
    torch.manual_seed(0)
    model = FAMILY.build(config, spec)
    assert isinstance(model, Ladder)
    return model


# --- equations --------------------------------------------------------------------------------------------------------


def number(value: float) -> Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_eq_1_by_hand() -> None:
    c = losses.ladder_loss(number(0.5), number(0.1), [number(1.0), number(2.0), number(4.0)])
    assert c.item() == pytest.approx(0.5 + 0.1 * (1 + 2 + 4))


def test_eq_2_by_hand() -> None:
    c = losses.multitask_loss(number(0.7), number(0.2), number(0.3), number(0.9), number(0.5))
    assert c.item() == pytest.approx(0.7 * 0.3 + 0.2 * 0.9 + 0.1 * 0.5)


def test_the_supervised_loss_is_1_minus_ccc() -> None:
    predicted, truth = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([2.0, 2.0, 5.0])
    # means 2 and 3, variances 2/3 and 2, covariance 1
    assert losses.ccc_loss(predicted, truth).item() == pytest.approx(1 - 2 * 1 / (2 / 3 + 2 + 1))
    assert losses.ccc_loss(truth, truth).item() == pytest.approx(0, abs=1e-6)


def test_the_reconstruction_cost_is_the_mean_squared_error_after_the_clean_levels_normalisation() -> None:
    z = torch.tensor([[0.0, 1.0]])
    target = networks.Target(z, mean=torch.tensor([1.0, 2.0]), deviation=torch.tensor([2.0, 0.5]))
    # (3 - 1) / 2 = 1 against 0, (3 - 2) / 0.5 = 2 against 1
    assert target.cost(torch.tensor([[3.0, 3.0]])).item() == pytest.approx((1 + 1) / 2)
    assert networks.Target(z).cost(torch.tensor([[3.0, 3.0]])).item() == pytest.approx((9 + 4) / 2), "the input as is"


@pytest.mark.parametrize("outputs", [1, 3])
def test_one_attribute_is_stl_and_three_are_mtl(outputs: int) -> None:
    draws = torch.Generator().manual_seed(0)
    predicted, truth = torch.randn(2, 9, outputs, generator=draws)
    each = [losses.ccc_loss(p, t) for p, t in zip(predicted.T, truth.T, strict=True)]
    c_s = steps.prediction_loss(predicted, {"attributes": truth}, hyperparameters(alpha=0.5, beta=0.2))
    expected = each[0] if outputs == 1 else 0.5 * each[0] + 0.2 * each[1] + 0.3 * each[2]
    assert c_s.item() == pytest.approx(expected.item())


def test_classes_get_a_cross_entropy() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.1, 0.9]]))
    c_s = steps.prediction_loss(logits, {"emotion": torch.tensor([0, 1])}, hyperparameters())
    assert c_s.item() == pytest.approx(-(np.log(0.5) + np.log(0.9)) / 2)


# --- networks ---------------------------------------------------------------------------------------------------------


def test_gaussian_combinator_by_hand() -> None:
    g = networks.GaussianCombinator(1)
    with torch.no_grad():
        g.a.copy_(torch.arange(1.0, 11.0)[:, None] / 10)
    u, z = 0.4, -1.5
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    mu = 0.1 * sigmoid(0.2 * u + 0.3) + 0.4 * u + 0.5
    v = 0.6 * sigmoid(0.7 * u + 0.8) + 0.9 * u + 1.0
    assert g(torch.tensor([[u]]), torch.tensor([[z]])).item() == pytest.approx((z - mu) * v + mu, rel=1e-6)


def test_mlp_combinator_is_an_mlp_on_u_z_and_their_product_for_each_unit() -> None:
    g, draws = networks.MLPCombinator(3), torch.Generator().manual_seed(0)
    u, z = torch.randn(2, 5, 3, generator=draws)
    z_hat = g(u, z)
    for unit in range(3):
        inputs = torch.stack([u, z, u * z])[:, :, unit].T
        hidden = torch.nn.functional.leaky_relu(inputs @ g.weight[:, :, unit].T + g.bias[:, unit], 0.1)
        by_hand = hidden @ g.output_weight[:, unit] + g.output_bias[unit]
        torch.testing.assert_close(z_hat[:, unit], by_hand)


def test_shapes_of_the_papers_network() -> None:
    model = build(LadderConfig(), PAPER)
    x = torch.randn(4, 6373, 1)
    h, targets = model.encoder.clean(x)
    assert [tuple(t.z.shape) for t in targets] == [(4, 6373), (4, 256), (4, 256)]
    h_noisy, levels = model.encoder.noisy(x, torch.tensor(0.5), torch.tensor(0.1), Draws())
    assert h.shape == h_noisy.shape == (4, 256)
    assert [z.shape for z in model.decoder(h_noisy, levels)] == [z.shape for z in levels]
    assert model.predictor(h).shape == (4, 3)


def test_the_dense_baseline_has_two_hidden_layers_of_256() -> None:
    model = FAMILY.build(LadderConfig(model="dense"), PAPER)
    parameters = sum(p.numel() for p in model.parameters())
    assert parameters == (6373 * 256 + 256) + (256 * 256 + 256) + (256 * 3 + 3)
    assert not hasattr(model, "decoder")


def test_the_dense_baseline_drops_before_its_first_and_second_hidden_layer() -> None:
    model = FAMILY.build(replace(SMALL, model="dense", hidden=(6, 5, 4)), TINY)
    assert isinstance(model, Dense)
    dropped: list[tuple[int, ...]] = []

    class Recorder(Draws):
        def dropout(self, x: Tensor, p: Tensor) -> Tensor:
            dropped.append(tuple(x.shape))
            return super().dropout(x, p)

    x = make_batch(TINY)["x"]
    model.encoder.regularised(x, torch.tensor(0.5), Recorder())
    assert dropped == [(8, 7), (8, 6)]
    torch.testing.assert_close(model.encoder.regularised(x, torch.tensor(0.0), Draws()), model.hidden(x))


def test_the_cnn_reconstructs_its_fully_connected_layers_alone() -> None:
    config, spec = LadderConfig(encoder="cnn"), ModelSpec(dims=130, frames=1000, labels=VALENCE)
    model = build(config, spec)
    x = torch.randn(2, 130, 1000)
    _, targets = model.encoder.clean(x)
    assert [tuple(t.z.shape) for t in targets] == [(2, 64 * 3), (2, 256), (2, 256)], "1000 frames pooled by 4 give 3"
    _, c_d = model.denoise(x, hyperparameters(config), Draws())
    assert len(c_d) == 2
    assert [p.weight.shape for p in model.decoder.projections] == [(256, 256)]


def test_without_noise_the_noisy_path_is_the_clean_one() -> None:
    model, x = build(), make_batch(TINY)["x"]
    h, targets = model.encoder.clean(x)
    h_noisy, levels = model.encoder.noisy(x, torch.tensor(0.0), torch.tensor(0.0), Draws())
    torch.testing.assert_close(h_noisy, h)
    for target, level in zip(targets, levels, strict=True):
        torch.testing.assert_close(level, target.z)


def test_noise_has_the_papers_variance_on_every_level() -> None:
    model, x = build(replace(SMALL, hidden=(50, 50)), replace(TINY, dims=50)), torch.zeros(400, 50, 1)
    _, levels = model.encoder.noisy(x, torch.tensor(0.3).sqrt(), torch.tensor(0.0), Draws())
    assert levels[0].var().item() == pytest.approx(0.3, rel=0.05)
    for level in levels[1:]:  # a normalised pre-activation has variance 1
        assert level.var().item() == pytest.approx(1 + 0.3, rel=0.05)


def test_dropout_is_between_the_input_and_the_first_hidden_layer() -> None:
    model, x = build(), make_batch(TINY)["x"]
    _, levels = model.encoder.noisy(x, torch.tensor(0.0), torch.tensor(0.9), Draws())
    torch.testing.assert_close(levels[0], x.flatten(1))
    assert not torch.allclose(levels[1], model.encoder.clean(x)[1][1].z)


def test_the_decoder_normalises_what_comes_from_above() -> None:
    decoder = networks.Decoder((3, 4), "mlp")
    seen: list[Tensor] = []
    for combinator in decoder.combinators:
        combinator.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    draws = torch.Generator().manual_seed(0)
    top, below = 5 + 3 * torch.randn(20, 4, generator=draws), torch.randn(20, 3, generator=draws)
    low, high = decoder(top, [below, top])
    assert low.shape == below.shape
    assert high.shape == top.shape
    torch.testing.assert_close(seen[0], networks.batch_norm(top))
    torch.testing.assert_close(seen[1], networks.batch_norm(high @ decoder.projections[0].weight.T))
    for u in seen:
        torch.testing.assert_close(u.mean(0), torch.zeros(u.shape[1]), atol=1e-5, rtol=0)
        torch.testing.assert_close(u.var(0, correction=0), torch.ones(u.shape[1]), atol=1e-3, rtol=0)


def test_running_moments_follow_the_clean_path_alone() -> None:
    layer, reference = networks.Layer(7, 6), torch.nn.BatchNorm1d(6, affine=False)
    x = make_batch(TINY)["x"].flatten(1)
    torch.testing.assert_close(layer.clean(x).z, reference(layer.linear(x)))
    torch.testing.assert_close(layer.running_mean, reference.running_mean)
    torch.testing.assert_close(layer.running_var, reference.running_var)
    before = layer.running_mean.clone()
    layer.noisy(x, torch.tensor(0.5), Draws())
    layer.eval()
    torch.testing.assert_close(layer.clean(x).z, reference.eval()(layer.linear(x)))
    assert torch.equal(layer.running_mean, before)


def test_development_losses_are_defined_for_a_single_segment() -> None:
    model = build().eval()
    batch = make_batch(TINY, members=1)
    for one in FAMILY.phases(SMALL, TINY):
        found = one.loss(model, batch, hyperparameters(), Draws(training=False))
        assert all(torch.isfinite(loss) for loss in found.values())


def test_predictions_come_from_the_clean_path() -> None:
    model, batch = build().eval(), make_batch(TINY)
    predicted = FAMILY.predict(model, batch)["attributes"]
    torch.testing.assert_close(predicted, model.predictor(model.encoder.clean(batch["x"])[0]))
    classes = build(SMALL, replace(TINY, labels=EMOTIONS)).eval()
    torch.testing.assert_close(FAMILY.predict(classes, batch)["emotion"].sum(dim=1), torch.ones(8))


# --- phases -----------------------------------------------------------------------------------------------------------


def gradients(model: torch.nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def test_an_unlabelled_batch_gives_the_predictor_no_gradient() -> None:
    model = build()
    found = gradients(
        model, phase("unlabelled").loss(model, make_batch(TINY), hyperparameters(), Draws())["unlabelled"]
    )
    assert {name for name, g in found.items() if g is None} == {"predictor.weight", "predictor.bias"}
    assert found["encoder.layers.0.linear.weight"].abs().max() > 0


def test_the_phases_take_their_halves_in_training_and_everything_on_development_data() -> None:
    model, batch = build(), make_batch(TINY)
    halves = {"unlabelled": steps.unlabelled_half(batch), "labelled": steps.labelled_half(batch)}
    torch.testing.assert_close(torch.cat([halves[h]["x"] for h in ("unlabelled", "labelled")]), batch["x"])
    for name, half in halves.items():
        for training, seen in ((True, half), (False, batch)):
            spoilt = {n: torch.full_like(v, torch.nan) for n, v in batch.items()}
            for n, v in seen.items():
                spoilt[n][: len(v)] = v
            if training:
                spoilt = {n: v.roll(4 if name == "labelled" else 0, 0) for n, v in spoilt.items()}
            loss = phase(name).loss(model, spoilt, hyperparameters(), Draws(training=training))[name]
            assert torch.isfinite(loss), (name, training)


def test_alpha_1_gives_valence_and_dominance_no_gradient() -> None:
    model = build()
    hp = hyperparameters(alpha=1.0, beta=0.0)
    found = gradients(model, phase("labelled").loss(model, make_batch(TINY), hp, Draws())["labelled"])
    of_arousal, of_valence, of_dominance = found["predictor.weight"]
    assert of_arousal.abs().max() > 0
    assert of_valence.abs().max() == of_dominance.abs().max() == 0


def test_lambda_0_leaves_the_supervised_loss() -> None:
    model = build()
    found = phase("labelled").loss(model, make_batch(TINY), hyperparameters(lambda_l=0.0), Draws())
    assert found["labelled"].item() == pytest.approx(found["prediction"].item())
    assert found["reconstruction"] > 0
    moved = gradients(model, found["labelled"])
    assert all(g.abs().max() == 0 for name, g in moved.items() if name.startswith("decoder"))


def test_with_lambda_0_a_ul_step_is_an_l_step() -> None:
    model, batch, hp = build(), make_batch(TINY), hyperparameters(lambda_l=0.0)
    unlabelled = gradients(model, phase("unlabelled").loss(model, batch, hp, Draws())["unlabelled"])
    assert all(g is None or g.abs().max() == 0 for g in unlabelled.values())
    both = phase("labelled").loss(model, batch, hp, Draws())
    alone = phase("labelled", replace(SMALL, setting="L")).loss(model, steps.labelled_half(batch), hp, Draws())
    ul, of_l = gradients(model, both["labelled"]), gradients(model, alone["labelled"])
    for name in ul:
        torch.testing.assert_close(ul[name], of_l[name])


def test_gradients_flow_through_the_targets_too() -> None:
    model, x = build(), make_batch(TINY)["x"]
    z = model.encoder.clean(x)[1][1].z
    assert z.requires_grad


def test_both_phases_step_one_optimiser() -> None:
    first, second = FAMILY.phases(SMALL, TINY)
    assert (first.name, second.name, second.state_of) == ("unlabelled", "labelled", "unlabelled")
    assert first.updates == second.updates
    assert [p.name for p in FAMILY.phases(replace(SMALL, setting="L"), TINY)] == ["labelled"]
    assert [p.name for p in FAMILY.phases(replace(SMALL, model="dense"), TINY)] == ["labelled"]


def test_training_learns_an_attribute() -> None:
    table = make_table(repetitions=12, unlabelled=30, vectors=True, attributes=True)
    engine = Engine(FAMILY, make_data(table, VECTORS, "attributes"))
    engine.join(replace(SMALL, hidden=(16, 16), batch_size=16, learning_rate=1e-2), seed=0, epochs=12)
    assert max(r.metrics["dev_ccc_activation"] for r in engine.epochs()) > 0.5


# --- plan -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def pool() -> TrainingData:
    """2 x 20 labelled and 2 x 25 unlabelled training vectors."""
    table = make_table(speakers=4, repetitions=5, unlabelled=25, vectors=True, attributes=True)
    return make_data(table, VECTORS, "attributes")


def planned(config: LadderConfig, data: TrainingData, seed: int = 0) -> list[np.ndarray]:
    return list(FAMILY.plan(config, data, np.random.default_rng(seed)))


def test_a_ul_step_has_as_many_unlabelled_segments_as_labelled_ones(pool: TrainingData) -> None:
    batches = planned(replace(SMALL, batch_size=16), pool)
    assert [len(b) for b in batches] == [32, 32], "of 40 labelled segments 8 are left out"
    for batch in batches:
        assert pool.train.labelled_S[batch].tolist() == [False] * 16 + [True] * 16
    assert len(set(np.concatenate(batches).tolist())) == 64
    assert not np.array_equal(batches[0], planned(replace(SMALL, batch_size=16), pool, seed=1)[0])


def test_an_epoch_can_pass_the_unlabelled_set(pool: TrainingData) -> None:
    batches = planned(replace(SMALL, batch_size=16, epoch_over="unlabelled"), pool)
    assert [len(b) for b in batches] == [32, 32, 32], "50 unlabelled segments"
    labelled = np.concatenate([b[16:] for b in batches])
    assert pool.train.labelled_S[labelled].all()
    assert len(set(labelled[:40].tolist())) == 40, "each once before any comes again"
    assert not pool.train.labelled_S[np.concatenate([b[:16] for b in batches])].any()


def test_an_incomplete_batch_is_kept_when_it_is_the_only_one(pool: TrainingData) -> None:
    (batch,) = planned(replace(SMALL, batch_size=256), pool)
    assert len(batch) == 80
    (batch,) = planned(replace(SMALL, batch_size=256, epoch_over="unlabelled"), pool)
    assert len(batch) == 100
    assert pool.train.labelled_S[batch].sum() == 50


@pytest.mark.parametrize("changed", [{"setting": "L"}, {"model": "dense"}])
def test_without_unlabelled_data_batches_are_labelled(pool: TrainingData, changed: dict[str, str]) -> None:
    batches = planned(replace(SMALL, batch_size=16, **changed), pool)
    assert [len(b) for b in batches] == [16, 16]
    assert all(pool.train.labelled_S[b].all() for b in batches)


# --- errors -----------------------------------------------------------------------------------------------------------


def test_ul_without_an_unlabelled_pool_is_refused() -> None:
    data = make_data(make_table(unlabelled=0, vectors=True), VECTORS)
    with pytest.raises(DataError, match=r"0 unlabelled .* an unlabelled pool, or --set setting=L"):
        planned(SMALL, data)
    assert planned(replace(SMALL, setting="L"), data)
    noisy = make_data(make_table(unlabelled=0, vectors=True, conditions=("snr5", "snr10")), VECTORS)
    with pytest.raises(DataError, match="an unlabelled pool, --unlabeled-condition snr10 or snr5 to learn from noisy"):
        planned(SMALL, noisy)


def test_features_that_the_encoder_is_not_for_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"params.encoder: dense .* sequences of 100 frames/s; use --set encoder=cnn"):
        planned(SMALL, make_data(make_table(), VECTORS))
    with pytest.raises(ConfigError, match=r"params.encoder: cnn .* --set encoder=dense"):
        planned(CNN, make_data(make_table(vectors=True), FAMILY.view(CNN)))


def test_sequences_that_can_not_be_pooled_are_refused() -> None:
    spec = ModelSpec(dims=130, frames=200, labels=VALENCE)
    with pytest.raises(ConfigError, match=r"params.frames: 200 frames .* at least 256"):
        FAMILY.build(LadderConfig(encoder="cnn"), spec)
    with pytest.raises(ConfigError, match=r"params.kernel: 4 .* odd"):
        FAMILY.build(LadderConfig(encoder="cnn", kernel=4), replace(spec, frames=1000))


def test_alpha_and_beta_are_weights_of_one_whole() -> None:
    with pytest.raises(ConfigError, match=r"params.alpha, params.beta: 0.7 \+ 0.4 = 1.1"):
        LadderConfig(beta=0.4)
    for tenths in range(11):  # on the grid of section IV-D nothing is refused for rounding
        LadderConfig(alpha=tenths / 10, beta=round(1 - tenths / 10, 1))


# --- baselines, registration ------------------------------------------------------------------------------------------


def test_the_two_step_baseline_regresses_on_the_last_hidden_layer() -> None:
    model, batch = build().eval(), make_batch(TINY, members=60)
    h = model.hidden(batch["x"]).detach().numpy()
    labels = h @ np.linspace(-1, 1, h.shape[1])
    predictions = two_step(h[:40], labels[:40], h[40:])
    assert predictions.shape == (20,)
    assert np.corrcoef(predictions, labels[40:])[0, 1] > 0.8


def test_what_families_share_is_no_family() -> None:
    assert {"ladder", "decoupled_ladder"} <= set(family_names())
    assert "common" not in family_names()


# --- the optimiser ----------------------------------------------------------------------------------------------------


def test_both_phases_step_one_nadam_as_torch_s_does() -> None:
    data = make_data(None, VECTORS, "attributes")
    config = replace(SMALL, learning_rate=1e-3)
    network = Engine(FAMILY, data, dtype=torch.float64)._network(config)
    weights = network.initial(0)
    model = FAMILY.build(config, network.spec).double().train()
    model.load_state_dict(weights)
    optimizer = torch.optim.NAdam(model.parameters(), lr=1e-3)
    stack = Stack(network, [Lane(config, 0, 1, weights, network.slots(weights), {})])
    indices = next(FAMILY.plan(config, data, np.random.default_rng(0)))
    batch = data.train.batch(indices, torch.device("cpu"), torch.float64)
    hp = SimpleNamespace(**{name: torch.tensor(value, dtype=torch.float64) for name, value in config.lanes().items()})
    for step in range(10):
        stack.train_step(step, [batch], [{"attributes"}])
        for number, one in enumerate(network.phases):
            noise = StepNoise([(0, 0)], step, number, torch.device("cpu"), torch.float64, training=True)
            optimizer.zero_grad()  # to None: the predictor has made no step in the unlabelled phase
            one.loss(model, batch, hp, noise)[one.minimise].backward()
            optimizer.step()
    for name, parameter in model.named_parameters():
        # torch counts in float32
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=1e-6, atol=1e-9, msg=name)


def test_the_edge_of_the_grid_gives_dominance_no_weight_at_all() -> None:
    one, nothing = torch.tensor(1.0), torch.tensor(0.0)
    for alpha, beta in ((0.6, 0.4), (0.8, 0.2), (0.9, 0.1), (0.7, 0.3)):
        assert losses.multitask_loss(torch.tensor(alpha), torch.tensor(beta), nothing, nothing, one) == 0
    assert losses.multitask_loss(torch.tensor(0.5), torch.tensor(0.4), nothing, nothing, one) == pytest.approx(0.1)
