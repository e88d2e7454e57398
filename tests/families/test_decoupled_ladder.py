"""The decoupled ladder family against its slides."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch

from sersearch.families.decoupled_ladder.config import DecoupledLadderConfig
from sersearch.families.decoupled_ladder.family import FAMILY
from sersearch.families.decoupled_ladder.losses import dln_loss
from sersearch.families.decoupled_ladder.networks import DecoupledLadder
from sersearch.family import ModelSpec, Phase
from sersearch.training import Engine
from tests.families.conformance import run
from tests.families.draws import Draws
from tests.families.test_ladder import (
    PAPER,
    TINY,
    VALENCE,
    VARY,
    LadderConformance,
    gradients,
    hyperparameters,
    make_batch,
    number,
)
from tests.synthetic import make_data

SMALL = DecoupledLadderConfig(hidden=(6, 5), batch_size=8, learning_rate=1e-3)
CNN = replace(SMALL, encoder="cnn", hidden=(5,), channels=4, kernel=3, pool=2, frames=32)
HP = hyperparameters(SMALL)  # type: ignore[arg-type]
LANES: dict[str, tuple[float, float, float]] = {n: v for n, v in VARY.items() if n != "dropout"}


class TestAttributes(LadderConformance):
    family = FAMILY
    target = "attributes"
    configs = (SMALL, replace(SMALL, setting="L", combinator="gaussian"))
    vary: ClassVar = LANES


class TestClasses(LadderConformance):
    family = FAMILY
    configs = (SMALL,)
    vary: ClassVar = LANES


class TestSequences(LadderConformance):
    family = FAMILY
    target = "activation"
    configs = (CNN,)
    vary: ClassVar = LANES


def build(config: DecoupledLadderConfig = SMALL, spec: ModelSpec = TINY) -> DecoupledLadder:
    torch.manual_seed(0)
    return FAMILY.build(config, spec)


def phase(name: str) -> Phase:
    return next(p for p in FAMILY.phases(SMALL, TINY) if p.name == name)


def test_the_slides_loss_by_hand() -> None:
    c = dln_loss(number(0.4), number(0.5), [number(1.0), number(2.0), number(8.0)])
    assert c.item() == pytest.approx(0.4 + 0.5 * 1 + 0.5 * 2 + 0.5 * 8)
    assert dln_loss(number(0.4), number(0.5), [number(1.0), number(2.0)]).item() == pytest.approx(1.9)


def test_the_last_hidden_layer_is_two_layers_side_by_side() -> None:
    model = build(DecoupledLadderConfig(), PAPER)
    paths = model.run(torch.randn(4, 6373, 1), HP, Draws())
    assert [tuple(t.z.shape) for t in paths.targets] == [(4, 6373), (4, 256), (4, 256)]
    assert [tuple(z.shape) for z in paths.levels] == [(4, 6373), (4, 256)]
    assert paths.emotion.shape == paths.reconstruction.shape == (4, 256)
    assert model.emotion.linear.weight.shape == model.reconstruction.linear.weight.shape == (256, 256)
    assert [len(c) for c in (model.costs(paths), model.costs_from_emotion(paths))] == [3, 3]


def test_the_cnn_has_costs_on_fully_connected_layers_alone() -> None:
    spec = ModelSpec(dims=16, frames=32, labels=VALENCE)
    model = build(CNN, spec)
    assert len(model.costs(model.run(torch.randn(4, 16, 32), HP, Draws()))) == 1


def test_each_embedding_has_a_task_of_its_own() -> None:
    model = build()
    batch = make_batch(TINY)
    without = gradients(model, phase("unlabelled").loss(model, batch, HP, Draws())["unlabelled"])
    assert {n.split(".")[0] for n, g in without.items() if g is None} == {"emotion", "predictor"}
    prediction = gradients(model, phase("labelled").loss(model, batch, HP, Draws())["prediction"])
    assert {n.split(".")[0] for n, g in prediction.items() if g is None} == {"reconstruction", "decoder"}
    assert prediction["encoder.layers.0.linear.weight"].abs().max() > 0, "lower layers have both"
    both = gradients(model, phase("labelled").loss(model, batch, HP, Draws())["labelled"])
    assert all(g is not None for g in both.values())


def test_the_top_cost_compares_with_z_r() -> None:
    model, x = build(), make_batch(TINY)["x"]
    paths = model.run(x, HP, Draws())
    h, _ = model.encoder.clean(x)
    torch.testing.assert_close(paths.targets[-1].z, model.reconstruction.clean(h).z)


def test_the_analysis_feeds_the_decoders_top_with_the_emotion_embedding() -> None:
    model, batch = build().eval(), make_batch(TINY)
    on_dev = phase("labelled").loss(model, batch, HP, Draws(training=False))
    assert on_dev["reconstruction_from_emotion"] != on_dev["reconstruction"]
    # Were both embeddings the same, so would be what the decoder makes of them.
    model.emotion.load_state_dict(model.reconstruction.state_dict())
    paths = model.run(batch["x"], HP, Draws())
    same = paths._replace(emotion=paths.reconstruction)
    for cost, swapped in zip(model.costs(same), model.costs_from_emotion(same), strict=True):
        torch.testing.assert_close(cost, swapped)
    in_training = phase("labelled").loss(model, batch, HP, Draws())
    assert "reconstruction_from_emotion" not in in_training, "it would cost a decoder's pass a step"


def test_the_analysis_is_a_loss_of_development_data_alone() -> None:
    engine = Engine(FAMILY, make_data(view=FAMILY.view(SMALL), target="attributes"))
    lane = engine.join(SMALL, seed=0, epochs=1)
    (result,) = run(engine)[lane]
    in_dev, in_train = (
        {n.removeprefix(part) for n in result.metrics if n.startswith(part)} for part in ("dev_loss_", "train_loss_")
    )
    assert in_dev - in_train == {"reconstruction_from_emotion"}


def test_running_moments_of_the_emotion_embedding_know_the_unlabelled_condition() -> None:
    model = build()
    before = model.emotion.running_mean.clone()
    phase("unlabelled").loss(model, make_batch(TINY), HP, Draws())
    assert not torch.equal(model.emotion.running_mean, before)


def test_predictions_come_from_the_clean_emotion_embedding() -> None:
    model, batch = build().eval(), make_batch(TINY)
    predicted = FAMILY.predict(model, batch)["attributes"]
    h, _ = model.encoder.clean(batch["x"])
    torch.testing.assert_close(predicted, model.predictor(model.emotion.activate(model.emotion.clean(h).z)))


def test_setting_l_needs_no_unlabelled_data() -> None:
    data = make_data(view=FAMILY.view(SMALL), target="attributes")
    batches = list(FAMILY.plan(replace(SMALL, setting="L"), data, np.random.default_rng(0)))
    assert all(data.train.labelled_S[batch].all() for batch in batches)
    assert [p.name for p in FAMILY.phases(replace(SMALL, setting="L"), TINY)] == ["labelled"]
