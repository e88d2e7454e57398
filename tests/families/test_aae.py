"""The MTL-AAE family against its paper."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch

from sersearch.data.batches import LabelSpace, auxiliary_data, training_data
from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError
from sersearch.families.aae import losses
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import AAE, FAMILY
from sersearch.families.common.losses import cross_entropy
from sersearch.family import ModelSpec, Noise
from sersearch.training import Engine, pretrain
from tests.families.conformance import FamilyConformance
from tests.synthetic import make_data, make_table

SMALL = AAEConfig(channels=(2, 3, 4), hidden=5, batch_size=8, segment_frames=32, segment_hop=32, learning_rate=1e-3)
LABELS = LabelSpace(emotion=("a", "b", "c", "d"), gender=("female", "male"), speaker=("x", "y", "z"))
PAPER = ModelSpec(dims=128, frames=256, labels=LABELS)


class TestConformance(FamilyConformance):
    family = FAMILY
    configs = (
        SMALL,
        replace(SMALL, tasks="stl"),
        replace(SMALL, tasks="gender"),
        replace(SMALL, tasks="speaker"),
        replace(SMALL, model="ae"),
        replace(SMALL, model="cnn", tasks="stl"),
        replace(SMALL, generator_loss="saturating"),
    )
    vary: ClassVar = {
        "alpha": (0.1, 0.5, 1.0),
        "beta": (0.9, 0.4, 0.6),
        "dropout": (0.0, 0.3, 0.5),
        "learning_rate": (1e-3, 5e-3, 1e-2),
    }


def logit(*rows: float) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_eq_1_and_2_by_hand() -> None:
    assert losses.autoencoder_loss(logit(0.4)[0], logit(2.5)[0]) == pytest.approx(1.0)
    l_c = losses.classification_loss(logit(0.6)[0], logit(1.0)[0], logit(0.5)[0], logit(2.0)[0])
    assert l_c == pytest.approx(0.6 * 1.0 + 0.4 * (0.5 + 2.0))
    assert losses.single_task_loss(logit(0.7)[0], logit(2.0)[0]) == pytest.approx(1.4)


@pytest.mark.parametrize("task", ["gender", "speaker"])
def test_one_secondary_task_has_the_whole_of_the_rest(task: str) -> None:
    l_c = losses.classification_loss(logit(0.6)[0], logit(1.0)[0], logit(0.5)[0])
    assert l_c.item() == pytest.approx(0.6 * 1.0 + 0.4 * 0.5)
    config = replace(SMALL, tasks=task)
    children = {name for name, _ in FAMILY.build(config, PAPER).named_children()}
    assert children == {"encoder", "decoder", "discriminator", "emotion", task}
    assert FAMILY.pretraining(config, PAPER)[0].updates == ("encoder", task)


def test_eq_3_by_hand() -> None:
    x, x_hat = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 4.0]]])
    assert losses.reconstruction_loss(x, x_hat) == pytest.approx((1 + 4) / 2)


def test_eq_4_and_5_by_hand() -> None:
    # Logits (fake, real) whose softmax gives D = 0.8 for a real and D = 0.25 for a fake.
    real = torch.log(torch.tensor([[0.2, 0.8]], dtype=torch.float64))
    fake = torch.log(torch.tensor([[0.75, 0.25]], dtype=torch.float64))
    log = lambda v: torch.log(torch.tensor(v)).item()  # noqa: E731
    assert losses.discriminator_loss(real, fake).item() == pytest.approx(-(log(0.8) + log(0.75)), rel=1e-6)
    assert losses.generator_loss(fake, saturating=True).item() == pytest.approx(log(0.75), rel=1e-6)
    assert losses.generator_loss(fake, saturating=False).item() == pytest.approx(-log(0.25), rel=1e-6)


def test_cross_entropy_counts_labelled_members_only() -> None:
    logits = torch.log(torch.tensor([[0.5, 0.5], [0.1, 0.9], [0.25, 0.75]]))
    some = cross_entropy(logits, torch.tensor([0, -1, 1]))
    assert some == pytest.approx(-(torch.log(torch.tensor(0.5)) + torch.log(torch.tensor(0.75))).item() / 2)
    assert cross_entropy(logits, torch.tensor([-1, -1, -1])) == 0


def test_the_latent_code_is_16_x_16_x_32() -> None:
    model = AAE(AAEConfig(), PAPER)
    x = torch.randn(2, 128, 256)
    z = model.encoder(x)
    assert z.shape == (2, 32, 16, 16)
    assert model.decoder(z).shape == x.shape
    assert model.discriminator(z).shape == (2, 2)
    assert [model.head(t)(z).shape[1] for t in ("emotion", "gender", "speaker")] == [4, 2, 3]


def test_the_cnn_baseline_shares_two_convolutions() -> None:
    model = AAE(AAEConfig(model="cnn"), PAPER)
    convolutions = [m for m in model.encoder.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 2
    assert model.encoder(torch.randn(1, 128, 256)).shape == (1, 32, 16, 16)
    assert not hasattr(model, "decoder")


def test_phases_run_in_the_papers_order_and_update_what_it_says() -> None:
    updates = [(p.name, p.updates) for p in FAMILY.phases(AAEConfig(), PAPER)]
    assert updates == [
        ("reconstruction", ("encoder", "decoder")),
        ("discrimination", ("discriminator",)),
        ("generation", ("encoder",)),
        ("classification", ("encoder", "emotion", "gender", "speaker")),
    ]


def test_beta_1_gives_gender_and_speaker_no_gradient() -> None:
    model = AAE(SMALL, ModelSpec(dims=16, frames=32, labels=LABELS))

    class NoNoise(Noise):
        training = False

    batch = {"x": torch.randn(4, 16, 32), **{t: torch.tensor([0, 1, 0, 1]) for t in ("emotion", "gender", "speaker")}}
    (classification,) = (p for p in FAMILY.phases(SMALL, PAPER) if p.name == "classification")
    hp = SimpleNamespace(beta=torch.tensor(1.0), dropout=torch.tensor(0.3))
    classification.loss(model, batch, hp, NoNoise())["classification"].backward()
    assert all(p.grad is None or p.grad.abs().max() == 0 for p in model.head("speaker").parameters())
    assert model.head("emotion").output.weight.grad.abs().max() > 0


def test_segments_that_the_pools_do_not_divide_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"100 frames.*multiple of 32"):
        AAE(AAEConfig(), replace(PAPER, frames=100))


def test_pretraining_moves_encoder_gender_and_speaker_alone() -> None:
    table, aux = make_table(), make_table(seed=1, corpus="other", speakers=3)
    split = Protocol("loso", test_speaker="s0").split(table)
    data = training_data(table, split, FAMILY.view(SMALL), aux=aux)
    assert set(data.labels.speaker) == {"made/s2", "made/s3", "other/s0", "other/s1", "other/s2"}
    engine = Engine(FAMILY, data)
    initial = engine.state(engine.join(SMALL, seed=0, epochs=1)).weights
    weights = pretrain(FAMILY, SMALL, auxiliary_data(data, aux), seed=0, epochs=2)
    moved = {name.split(".")[0] for name, t in weights.items() if not torch.equal(t, initial[name])}
    assert moved == {"encoder", "gender", "speaker"}, "batch norm's running moments included"
    lane = engine.join(SMALL, seed=0, epochs=1, weights=weights)
    assert torch.equal(engine.state(lane).weights["speaker.output.weight"], weights["speaker.output.weight"])


@pytest.mark.parametrize("model", ["aae", "ae", "cnn"])
def test_a_single_task_model_has_nothing_to_be_pretrained_for(model: str) -> None:
    single, data = replace(SMALL, tasks="stl", model=model), make_data()
    engine = Engine(FAMILY, data)
    initial = engine.state(engine.join(single, seed=0, epochs=1)).weights
    weights = pretrain(FAMILY, single, data, seed=0, epochs=2)
    assert all(torch.equal(t, initial[name]) for name, t in weights.items())
