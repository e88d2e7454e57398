"""The multimodal ladder family against its paper."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import ClassVar

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, log_loss, precision_score
from torch import Tensor, nn

from sersearch.data.batches import LabelSpace, TrainingData
from sersearch.errors import ConfigError, DataError
from sersearch.families import multimodal_ladder
from sersearch.families.common.losses import task_loss
from sersearch.families.common.networks import MLPCombinator
from sersearch.families.multimodal_ladder import losses
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.families.multimodal_ladder.family import FAMILY
from sersearch.families.multimodal_ladder.networks import MultimodalLadder, pool_to
from sersearch.families.multimodal_ladder.transformer import Attention, Layer, Transformer, keep, positions
from sersearch.family import Losses, ModelSpec, Phase
from sersearch.training import Engine
from tests.families.conformance import FamilyConformance
from tests.families.draws import Draws, lane_values
from tests.synthetic import make_data, make_table

SMALL = MultimodalLadderConfig(
    layers=2, heads=2, width=4, channels=3, kernel=3, pool=2, pooled=2, hidden=(5, 4), batch_size=8, frames=12,
    visual_frames=6, learning_rate=1e-3,
)  # fmt: skip
SMALLEST = replace(SMALL, layers=1, batch_size=4)
BASELINES = ("auxformer", "mult", "parthasarathy")
LADDERS = ("multimodal_ladder", "without_unimodal", "without_audiovisual")
EMOTIONS = LabelSpace(("a", "b", "c"), ("female", "male"), ("x",))
ATTRIBUTES = LabelSpace((), ("female", "male"), ("x",), ("activation", "valence", "dominance"), (0.0,) * 3, (1.0,) * 3)
TINY = ModelSpec(dims=7, frames=12, labels=EMOTIONS, companions={"visual": (5, 6)})
CREMA_D = ModelSpec(
    dims=130, frames=250, labels=replace(EMOTIONS, emotion=tuple("abcdef")), companions={"visual": (4096, 120)}
)

VARY = {
    "lambda_0": (0.5, 0.1, 1.0),
    "lambda_1": (0.5, 0.2, 1.0),
    "lambda_2": (0.1, 1.0, 0.3),
    "noise_variance": (0.2, 0.0, 0.5),
    "dropout": (0.25, 0.0, 0.5),
    "learning_rate": (1e-3, 2e-3, 5e-3),
}


class Conformance(FamilyConformance):
    """With visual features, which an utterance of each speaker lacks; data without any label is refused."""

    family = FAMILY
    vary: ClassVar = VARY

    @pytest.fixture
    def data(self) -> TrainingData:
        return self.made()

    def made(self) -> TrainingData:
        config = self.configs[0]
        visual = FAMILY.companion_views(config)["visual"]
        return make_data(view=FAMILY.view(config), target=self.target, visual=visual)

    def test_a_batch_without_labels_moves_no_classifier(self) -> None:
        data = self.made()
        for labels in data.train.labels_U.values():
            labels[:] = -1 if labels.dtype == np.int64 else np.nan
        engine = Engine(FAMILY, data)
        engine.join(self.configs[0], seed=0, epochs=1)
        with pytest.raises(DataError, match="0 labelled training segments"):
            next(engine.epochs())


class TestLadders(Conformance):
    configs = (SMALLEST,)


class TestBaselines(Conformance):
    configs = tuple(replace(SMALLEST, model=model) for model in BASELINES)


class TestAttributes(Conformance):
    target = "attributes"
    configs = (replace(SMALLEST, model="without_unimodal", setting="UL", product="noisy", visual_frames=1),)


def hyperparameters(config: MultimodalLadderConfig = SMALL, **changed: float) -> SimpleNamespace:
    return lane_values(config, **changed)


def make_batch(spec: ModelSpec = TINY, members: int = 8) -> dict[str, Tensor]:
    draws = torch.Generator().manual_seed(1)
    dims, frames = spec.companions["visual"]
    return {
        "x": torch.randn(members, spec.dims, spec.frames, generator=draws),
        "visual": torch.randn(members, dims, frames, generator=draws),
        "emotion": torch.randint(3, (members,), generator=draws),
    }


def build(config: MultimodalLadderConfig = SMALL, spec: ModelSpec = TINY) -> MultimodalLadder:
    torch.manual_seed(0)
    model = FAMILY.build(config, spec)
    assert isinstance(model, MultimodalLadder)
    return model


def phase(name: str = "labelled", config: MultimodalLadderConfig = SMALL) -> Phase:
    return next(p for p in FAMILY.phases(config, TINY) if p.name == name)


def lose(model: nn.Module, config: MultimodalLadderConfig = SMALL, **changed: float) -> Losses:
    return phase(config=config).loss(model, make_batch(), hyperparameters(**changed), Draws())


def gradients(model: nn.Module, loss: Tensor) -> dict[str, Tensor | None]:
    names, parameters = zip(*model.named_parameters(), strict=True)
    return dict(zip(names, torch.autograd.grad(loss, parameters, allow_unused=True), strict=True))


def numbers(*values: float) -> list[Tensor]:
    return [torch.tensor(value, dtype=torch.float64) for value in values]


# --- equations --------------------------------------------------------------------------------------------------------


def test_eq_1_by_hand() -> None:
    q, k, v = (
        torch.tensor([[2.0]]),
        torch.tensor([[1.0], [3.0], [0.0], [0.0]]),
        torch.tensor([[1.0], [2.0], [3.0], [4.0]]),
    )
    weights = [math.exp(2 * key / math.sqrt(4)) for key in (1, 3, 0, 0)]
    expected = sum(w * value for w, value in zip(weights, (1, 2, 3, 4), strict=True)) / sum(weights)
    assert losses.attention(q, k, v, 4).item() == pytest.approx(expected)


def test_eq_2_has_a_lambda_for_each_level() -> None:
    assert losses.weighted(numbers(0.5, 0.4, 0.1), numbers(1, 2, 4)).item() == pytest.approx(0.5 + 0.8 + 0.4)


def test_eq_3_by_hand() -> None:
    assert losses.supervised_loss(*numbers(1, 2, 6)).item() == pytest.approx(3)


def test_eq_4_by_hand() -> None:
    lambdas = numbers(0.5, 0.4, 0.1)
    av, a_to_v, v_to_a = numbers(1, 2, 4), numbers(3, 1, 2), numbers(5, 3, 8)
    of_av, of_cross = 0.5 * 1 + 0.4 * 2 + 0.1 * 4, 0.5 * 4 + 0.4 * 2 + 0.1 * 5
    assert losses.unsupervised_loss(lambdas, av, a_to_v, v_to_a).item() == pytest.approx(of_av + of_cross)
    assert losses.unsupervised_loss(lambdas, av, [], []).item() == pytest.approx(of_av), "ablation 1"
    assert losses.unsupervised_loss(lambdas, [], a_to_v, v_to_a).item() == pytest.approx(of_cross), "ablation 2"


def test_eq_5_by_hand_and_as_it_is_minimised() -> None:
    assert losses.total_loss(*numbers(1, 2)).item() == 3
    found = lose(build(), lambda_0=0.3, lambda_1=0.3, lambda_2=0.3)
    assert found["reconstruction"] > 0
    outputs, costs = build().denoise(make_batch(), hyperparameters(), Draws())
    eq_3 = sum(task_loss(y, make_batch()) for y in outputs.values()) / 3
    eq_4 = 0.3 * (sum(costs.audiovisual) + (sum(costs.a_to_v) + sum(costs.v_to_a)) / 2)
    assert found["prediction"].item() == pytest.approx(eq_3.item())
    assert found["labelled"].item() == pytest.approx((eq_3 + eq_4).item())


def test_c_s_is_the_cross_entropy_of_classes_and_1_minus_ccc_of_attributes() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.1, 0.9]]))
    expected = -(math.log(0.5) + math.log(0.9)) / 2
    assert task_loss(logits, {"emotion": torch.tensor([0, 1])}).item() == pytest.approx(expected)
    truth = torch.tensor([[1.0, 2.0], [2.0, 1.0], [3.0, 5.0]])
    turned = torch.stack([truth[:, 0], -truth[:, 1]], dim=1)
    half = 1 - task_loss(turned[:, 1:], {"attributes": truth[:, 1:]})
    assert task_loss(turned, {"attributes": truth}).item() == pytest.approx((0 + 1 - half.item()) / 2)


# --- transformer ------------------------------------------------------------------------------------------------------


def test_attention_is_eq_1_in_each_head() -> None:
    torch.manual_seed(0)
    module, x, source = Attention(6, 2), torch.randn(3, 4, 6), torch.randn(3, 5, 6)
    q, k, v = module.query(x), module.key(source), module.value(source)
    heads = [losses.attention(q[..., p], k[..., p], v[..., p], 5) for p in (slice(0, 3), slice(3, 6))]
    torch.testing.assert_close(module(x, source, 5), module.output(torch.cat(heads, dim=-1)))


def test_cross_modal_layers_divide_by_the_source_s_frames_and_self_attention_by_a_head_s_width() -> None:
    layer, divisors = Layer(6, 2), []
    layer.attention.register_forward_pre_hook(lambda _, inputs: divisors.append(inputs[2]))
    x = torch.randn(3, 4, 6)
    layer(x, keep)
    layer(x, keep, torch.randn(3, 9, 6))
    assert divisors == [3, 9]


def test_only_the_first_layer_of_the_backbone_is_cross_modal() -> None:
    torch.manual_seed(0)
    model, seen = Transformer(4, 2, layers=5, cross=1), []
    for layer in model.layers:
        layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[2] is not None))
    assert model(torch.randn(2, 6, 4), keep, torch.randn(2, 3, 4)).shape == (2, 6, 4)
    assert seen == [True, False, False, False, False]


def test_positions_tell_frames_apart() -> None:
    x = torch.zeros(1, 1)
    assert positions(3, 4, x)[0].tolist() == [0, 0, 1, 1]
    expected = [math.sin(2), math.sin(2 / 10_000), math.cos(2), math.cos(2 / 10_000)]
    assert positions(3, 4, x)[2].tolist() == pytest.approx(expected)
    assert positions(7, 5, x).shape == (7, 5)
    model = Transformer(4, 2, 2)
    h = torch.randn(1, 3, 4)
    assert not torch.allclose(model(h.flip(1), keep).flip(1), model(h, keep))


def test_dropout_is_behind_attention_and_off_in_evaluation() -> None:
    dropped: list[tuple[int, ...]] = []

    def drop(x: Tensor) -> Tensor:
        dropped.append(tuple(x.shape))
        return x

    Transformer(4, 2, 3)(torch.randn(2, 6, 4), drop)
    assert dropped == [(2, 6, 4)] * 3
    for model in BASELINES:
        config = replace(SMALL, model=model)
        network = FAMILY.build(config, TINY).eval()
        loss = phase(config=config).loss
        off = [loss(network, make_batch(), hyperparameters(dropout=p), Draws(training=False)) for p in (0.0, 0.9)]
        on = [loss(network, make_batch(), hyperparameters(dropout=p), Draws())["prediction"] for p in (0.0, 0.9)]
        assert off[0] == off[1]
        assert on[0] == off[0]["prediction"]
        assert on[0] != on[1]


# --- networks ---------------------------------------------------------------------------------------------------------


def test_a_to_v_asks_with_visual_frames_and_finds_acoustic_ones() -> None:
    model, batch = build(), make_batch()
    streams = model.backbone(batch["x"], batch["visual"], keep)
    shapes = {name: tuple(x.shape) for name, x in streams.items()}
    assert shapes == {"audio": (8, 12, 4), "visual": (8, 6, 4), "a_to_v": (8, 6, 4), "v_to_a": (8, 12, 4)}
    torch.testing.assert_close(model.backbone.crossed(batch["x"], batch["visual"])["a_to_v"], streams["a_to_v"])
    other = model.backbone(batch["x"], batch["visual"] + 1, keep)
    assert torch.equal(other["audio"], streams["audio"])
    assert not torch.allclose(other["v_to_a"], streams["v_to_a"])


def test_x_av_is_both_cross_modal_streams_and_levels_are_as_wide_as_the_paper_says() -> None:
    model, batch = build(), make_batch()
    flat = model.flattened(model.backbone(batch["x"], batch["visual"], keep))
    assert {name: x.shape[1] for name, x in flat.items()} == {"audiovisual": 12, "audio": 6, "visual": 6}
    for name, units in (("audiovisual", 12), ("audio", 6)):
        h, targets = model.encoder(name).clean(flat[name])
        assert [t.z.shape[1] for t in targets] == [units, 5, 4]
        assert h.shape == (8, 4)


def test_pooling_covers_all_frames_and_keeps_at_least_one() -> None:
    h = torch.arange(7.0)[None, None]
    assert pool_to(h, 3).tolist() == [[[2, 4, 6]]]
    assert pool_to(-h, 3).tolist() == [[[0, -2, -4]]]
    assert pool_to(h[..., :1], 3).tolist() == [[[0, 0, 0]]]


def test_level_0_is_normalised_and_compared_as_it_is() -> None:
    encoder = build().encoder("audio")
    x = 5 + 3 * torch.randn(50, 6, generator=torch.Generator().manual_seed(0))
    _, (level, *_) = encoder.clean(x)
    torch.testing.assert_close(level.z.mean(0), torch.zeros(6), atol=1e-5, rtol=0)
    torch.testing.assert_close(level.z.var(0, correction=0), torch.ones(6), atol=1e-3, rtol=0)
    assert level.cost(level.z + 2).item() == pytest.approx(4)


def test_without_noise_the_noisy_path_is_the_clean_one() -> None:
    model, batch = build(), make_batch()
    outputs, _ = model.denoise(batch, hyperparameters(noise_variance=0.0, dropout=0.0), Draws())
    for name, y in model.supervise(batch, keep).items():
        torch.testing.assert_close(outputs[name], y)


def test_noise_of_the_paper_s_variance_is_on_inputs_streams_and_layers() -> None:
    model, drawn = build(), []

    class Recorder(Draws):
        def normal(self, *shape: int) -> Tensor:
            drawn.append(shape)
            return super().normal(*shape)

    model.denoise(make_batch(), hyperparameters(), Recorder())
    inputs, streams = [(8, 7, 12), (8, 5, 6)], [(8, 12, 4), (8, 6, 4), (8, 6, 4), (8, 12, 4)]
    assert drawn == [*inputs, *streams, *[(8, 5), (8, 4)] * 3]
    encoder, x = build(replace(SMALL, hidden=(60, 50))).encoder("audio"), torch.randn(500, 6)
    _, levels = encoder.noisy(x, torch.tensor(0.2).sqrt(), Draws())
    for level in levels[1:]:  # a normalised pre-activation has variance 1
        assert level.var().item() == pytest.approx(1 + 0.2, rel=0.05)


@pytest.mark.parametrize("product", ["clean", "noisy"])
def test_a_to_v_reconstructs_clean_visual_levels_from_noisy_acoustic_ones(product: str) -> None:
    model = build(replace(SMALL, product=product))
    batch, hp = make_batch(), hyperparameters(noise_variance=0.0, dropout=0.0)
    levels = {n: [t.z for t in targets] for n, targets in _clean_levels(model, batch).items()}
    seen: list[tuple[Tensor, ...]] = []
    for combinator in model.decoders["audio"].combinators:
        combinator.register_forward_hook(lambda _, inputs, z_hat: seen.append((*inputs, z_hat)))
    _, costs = model.denoise(batch, hp, Draws())
    seen.reverse()
    for number, (_, lateral, *factor, z_hat) in enumerate(seen):
        torch.testing.assert_close(lateral, levels["audio"][number])
        assert len(factor) == (product == "clean")
        for z in factor:
            torch.testing.assert_close(z, levels["visual"][number])
        target = _clean_levels(model, batch)["visual"][number]
        torch.testing.assert_close(costs.a_to_v[number], target.cost(z_hat))
    assert [len(c) for c in costs] == [3, 3, 3]


def _clean_levels(model: MultimodalLadder, batch: Mapping[str, Tensor]):
    flat = model.flattened(model.backbone(batch["x"], batch["visual"], keep))
    return {name: model.encoder(name).clean(x)[1] for name, x in flat.items()}


def test_g_multiplies_u_by_what_it_is_given() -> None:
    torch.manual_seed(0)
    g, (u, z, factor) = MLPCombinator(3), torch.randn(3, 5, 3)
    torch.testing.assert_close(g(u, z, z), g(u, z))
    inputs = torch.stack([u, z, u * factor])[:, :, 1].T
    hidden = torch.nn.functional.leaky_relu(inputs @ g.weight[:, :, 1].T + g.bias[:, 1], 0.1)
    torch.testing.assert_close(g(u, z, factor)[:, 1], hidden @ g.output_weight[:, 1] + g.output_bias[1])


def test_predictions_are_the_audiovisual_head_s_on_the_clean_path() -> None:
    model, batch = build().eval(), make_batch()
    found = FAMILY.predict(model, batch)["emotion"]
    torch.testing.assert_close(found, model.supervise(batch, keep)["audiovisual"].softmax(dim=1))


@pytest.mark.parametrize("model", [*LADDERS, *BASELINES])
def test_a_missing_modality_and_a_single_visual_vector_are_predicted_from(model: str) -> None:
    for frames in (6, 1):
        config = replace(SMALL, model=model, visual_frames=frames)
        spec = replace(TINY, companions={"visual": (5, frames)})
        network, batch = FAMILY.build(config, spec), make_batch(spec)
        loss = phase(config=config).loss(network, batch, hyperparameters(), Draws())
        assert all(torch.isfinite(value) for value in loss.values())
        loss[phase(config=config).minimise].backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in network.parameters())
        missing = batch | {"visual": torch.zeros_like(batch["visual"])}
        posteriors = FAMILY.predict(network.eval(), missing)["emotion"]
        torch.testing.assert_close(posteriors.sum(dim=1), torch.ones(8))


# --- ablations, baselines, phases -------------------------------------------------------------------------------------


def count(model: str) -> int:
    return sum(p.numel() for p in FAMILY.build(MultimodalLadderConfig(model=model), CREMA_D).parameters())


def test_the_readme_states_the_parameters() -> None:
    counts = {model: count(model) for model in (*LADDERS, *BASELINES)}
    readme = Path(multimodal_ladder.__file__).with_name("README.md").read_text("utf-8")
    whole = counts["multimodal_ladder"]
    assert whole == pytest.approx(8.2e6, rel=0.02)
    for model, parameters in counts.items():
        assert f"| `{model}` | {parameters:,} | {whole / parameters:.2f} |" in readme
    assert whole / counts["auxformer"] == pytest.approx(1.17, abs=0.005), "as in the paper"


def test_every_phase_moves_all_parameters() -> None:
    for model in (*LADDERS, *BASELINES):
        config = replace(SMALL, model=model)
        network = FAMILY.build(config, TINY)
        assert {name for name, _ in network.named_children()} == set(phase(config=config).updates)
        found = gradients(
            network,
            phase(config=config).loss(network, make_batch(), hyperparameters(), Draws())[phase(config=config).minimise],
        )
        assert not [name for name, g in found.items() if g is None]
        assert phase(config=config).clip == 0.8


def test_ablations_have_no_parameters_of_what_they_remove() -> None:
    whole = {name for name, _ in build().named_parameters()}
    for model, removed in (("without_unimodal", ("audio", "visual")), ("without_audiovisual", ("audiovisual",))):
        ablated = {name for name, _ in build(replace(SMALL, model=model)).named_parameters()}
        gone = tuple(f"decoders.{name}." for name in removed)
        assert ablated == {name for name in whole if not name.startswith(gone)}
        assert ablated < whole
    assert {n for n, _ in FAMILY.build(replace(SMALL, model="auxformer"), TINY).named_parameters()} == {
        name for name in whole if not name.startswith("decoders.")
    }


def test_with_lambdas_of_0_the_decoders_have_no_gradient() -> None:
    model = build()
    found = lose(model, lambda_0=0.0, lambda_1=0.0, lambda_2=0.0)
    assert found["labelled"].item() == pytest.approx(found["prediction"].item())
    moved = gradients(model, found["labelled"])
    assert all(g.abs().max() == 0 for name, g in moved.items() if name.startswith("decoders"))


def test_an_unlabelled_mini_batch_minimises_eq_4_alone() -> None:
    config = replace(SMALL, setting="UL")
    model, (unlabelled, labelled) = build(config), FAMILY.phases(config, TINY)
    assert labelled.state_of == unlabelled.name
    batch = {
        n: torch.cat([v, torch.full_like(v, torch.nan if v.is_floating_point() else -1)])
        for n, v in make_batch().items()
    }
    first = unlabelled.loss(model, batch, hyperparameters(), Draws())["unlabelled"]
    assert {n.split(".")[0] for n, g in gradients(model, first).items() if g is None} == {"heads"}
    mirrored = {n: v.roll(8, 0) for n, v in batch.items()}
    second = labelled.loss(model, mirrored, hyperparameters(), Draws())
    assert (second["labelled"] - second["prediction"]).item() == pytest.approx(first.item(), rel=1e-5)


def test_ul_s_mini_batches_have_both_halves_where_there_is_something_to_reconstruct() -> None:
    table = make_table(speakers=4, repetitions=5, unlabelled=25)
    data = make_data(table, FAMILY.view(SMALL), visual=FAMILY.companion_views(SMALL)["visual"])
    for changed, sizes in (
        ({}, [16, 16]),
        ({"setting": "UL"}, [32, 32]),
        ({"setting": "UL", "model": "mult"}, [16, 16]),
    ):
        config = replace(SMALL, batch_size=16, **changed)
        batches = list(FAMILY.plan(config, data, np.random.default_rng(0)))
        assert [len(b) for b in batches] == sizes
        assert all(data.train.labelled_S[b][-16:].all() for b in batches)


# --- metrics, schedule, errors ----------------------------------------------------------------------------------------


def test_metrics_are_the_paper_s() -> None:
    draws = torch.Generator().manual_seed(0)
    posteriors = torch.rand(2, 40, 3, generator=draws, dtype=torch.float64).softmax(-1)
    truth = torch.randint(3, (40,), generator=draws)
    found = FAMILY.metrics({"emotion": posteriors}, {"emotion": truth}, EMOTIONS)
    assert list(found) == ["ua", "wa", "precision", "f1", "log_likelihood"]
    for k in range(2):
        guess = posteriors[k].argmax(-1)
        assert found["precision"][k].item() == pytest.approx(precision_score(truth, guess, average="macro"))
        assert found["f1"][k].item() == pytest.approx(f1_score(truth, guess, average="macro"))
        assert found["wa"][k].item() == pytest.approx(f1_score(truth, guess, average="micro"))
        assert found["log_likelihood"][k].item() == pytest.approx(-log_loss(truth, posteriors[k]))
    assert FAMILY.objective(EMOTIONS) == "dev_f1"
    assert FAMILY.objective(ATTRIBUTES) == "dev_ccc"


def test_the_log_likelihood_leaves_out_what_has_no_label_and_stays_finite() -> None:
    posteriors = torch.tensor([[[0.5, 0.5], [1.0, 0.0], [0.1, 0.9]]])
    of_labels = {
        labels: FAMILY.metrics({"emotion": posteriors}, {"emotion": torch.tensor(labels)}, EMOTIONS)["log_likelihood"]
        for labels in ((0, -1, 1), (0, 1, 1))
    }
    assert of_labels[0, -1, 1].item() == pytest.approx((math.log(0.5) + math.log(0.9)) / 2)
    assert of_labels[0, 1, 1].isfinite().all()


def test_the_rate_decays_after_six_epochs_and_training_goes_on() -> None:
    rule = FAMILY.schedule(SMALL)
    assert (rule.patience, rule.factor, rule.minimum, rule.restore) == (6, 0.1, 0.0, False)


def test_defaults_are_the_paper_s() -> None:
    config = MultimodalLadderConfig()
    assert (config.lambda_0, config.lambda_1, config.lambda_2, config.noise_variance) == (0.5, 0.5, 0.1, 0.2)
    assert (config.dropout, config.learning_rate, config.layers, config.heads) == (0.25, 7.25e-4, 5, 10)
    assert (config.batch_size, config.setting, config.width) == (64, "L", 50)


def test_what_can_not_be_built_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"params.width: 50 .* 8 heads; .* multiple of params.heads, such as 48"):
        MultimodalLadderConfig(heads=8)
    with pytest.raises(ConfigError, match=r"params.kernel: 4 .* odd"):
        MultimodalLadderConfig(kernel=4)


def test_training_learns_classes_from_both_modalities() -> None:
    config = replace(SMALL, width=8, channels=8, hidden=(16, 8), batch_size=16, learning_rate=5e-3)
    table = make_table(repetitions=8, unlabelled=0)
    engine = Engine(FAMILY, make_data(table, FAMILY.view(config), visual=FAMILY.companion_views(config)["visual"]))
    engine.join(config, seed=0, epochs=10)
    assert max(r.metrics["dev_f1"] for r in engine.epochs()) > 0.7
