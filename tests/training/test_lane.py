"""A lane's own state: random numbers, the halving rule, and checkpoints."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from sersearch.errors import DataError
from sersearch.families.aae.config import AAEConfig
from sersearch.family import HalveOnPlateau
from sersearch.training import LaneState
from sersearch.training.lane import Lane
from sersearch.training.noise import StepNoise

CPU = torch.device("cpu")
RULE = HalveOnPlateau(patience=2, factor=0.5, minimum=0.2)


def lane(epochs: int = 50) -> Lane:
    weights = {"w": torch.zeros(3)}
    return Lane(AAEConfig(), 0, epochs, weights, {"phase": {"momentum/w": torch.ones(3)}}, {"w": torch.zeros(3)})


def epoch(subject: Lane, value: float) -> bool:
    """One epoch: weights move to its number, and it scores `value` at a learning rate of 1."""
    subject.weights = {"w": torch.full((3,), float(subject.progress.epoch + 1))}
    best = subject.finish_epoch(value, {"emotion": torch.tensor([value])}, "")
    subject.apply(RULE, 1.0)
    return best


def test_the_halving_rule_of_section_4_3_by_hand() -> None:
    subject = lane()
    assert [epoch(subject, v) for v in (0.3, 0.5, 0.4)] == [True, True, False]
    assert subject.progress.rate_scale == 1
    assert not epoch(subject, 0.5), "equal is not better"
    assert subject.progress.rate_scale == 0.5, "two epochs without a better one"
    assert subject.weights["w"].tolist() == [2.0] * 3, "the best epoch's weights are restored"
    assert subject.slots["phase"]["momentum/w"].tolist() == [0.0] * 3
    epoch(subject, 0.6)
    assert subject.progress.stale == 0
    epoch(subject, 0.1)
    epoch(subject, 0.1)
    assert subject.progress.rate_scale == 0.25
    assert not subject.progress.done
    epoch(subject, 0.1)
    epoch(subject, 0.1)
    assert subject.progress.done
    assert subject.progress.reason == "learning rate below 0.2"
    assert subject.best_weights["w"].tolist() == [5.0] * 3


def test_a_lane_ends_with_its_epochs_or_its_problem() -> None:
    subject = lane(epochs=2)
    epoch(subject, 0.1)
    epoch(subject, 0.2)
    assert (subject.progress.done, subject.progress.failed) == (True, False)
    broken = lane()
    broken.finish_epoch(float("nan"), {}, "loss is nan in epoch 1")
    assert (broken.progress.done, broken.progress.failed) == (True, True)
    assert broken.progress.reason == "loss is nan in epoch 1"


def test_a_checkpoint_comes_back_bit_for_bit_and_is_no_pickle(tmp_path: Path) -> None:
    subject = lane()
    epoch(subject, 0.3)
    state = subject.state("aae")
    state.save(tmp_path)
    loaded = LaneState.load(tmp_path)
    assert (loaded.progress, loaded.config, loaded.seed) == (state.progress, state.config, state.seed)
    for ours, theirs in (
        (state.weights, loaded.weights),
        (state.best_weights, loaded.best_weights),
        (state.best_outputs, loaded.best_outputs),
        (state.slots["phase"], loaded.slots["phase"]),
    ):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(t, theirs[n]) for n, t in ours.items())
    assert {p.suffix for p in tmp_path.iterdir()} == {".safetensors", ".json"}


def test_a_checkpoint_is_a_copy() -> None:
    subject = lane()
    state = subject.state("aae")
    subject.weights["w"].add_(1)
    assert state.weights["w"].tolist() == [0.0] * 3


@pytest.mark.parametrize("damage", ["state.json", "model.safetensors", "state.safetensors", "text", "field"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str) -> None:
    lane().state("aae").save(tmp_path)
    if damage == "text":
        (tmp_path / "state.json").write_text("{")
    elif damage == "field":
        content = json.loads((tmp_path / "state.json").read_text())
        (tmp_path / "state.json").write_text(json.dumps({**content, "progress": {"epochs": 3}}))
    else:
        (tmp_path / damage).unlink()
    with pytest.raises(DataError, match="not a checkpoint that can be read") as error:
        LaneState.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def noise(seed: int = 1, epoch: int = 2, step: int = 3, phase: int = 0, training: bool = True) -> StepNoise:
    return StepNoise([(seed, epoch)], step, phase, CPU, torch.float64, training=training)


def test_noise_is_a_function_of_seed_epoch_step_and_phase() -> None:
    reference = noise().normal(5)
    torch.manual_seed(9)
    assert torch.equal(noise().normal(5), reference), "and of nothing else"
    for other in (noise(seed=2), noise(epoch=3), noise(step=4), noise(phase=1)):
        assert not torch.equal(other.normal(5), reference)


def test_streams_draw_what_each_draws_alone() -> None:
    both = StepNoise([(1, 2), (7, 2)], 3, 0, CPU, torch.float64, training=True)
    both.stream = torch.tensor(1)
    assert torch.equal(both.uniform(4), noise(seed=7).uniform(4))


def test_dropout_keeps_the_mean_and_does_nothing_outside_training() -> None:
    x = torch.ones(200_000, dtype=torch.float64)
    dropped = noise().dropout(x, torch.tensor(0.3, dtype=torch.float64))
    assert (dropped == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(noise(training=False).dropout(x, torch.tensor(0.3, dtype=torch.float64)), x)


def test_each_further_metric_keeps_the_weights_of_its_own_best_epoch(tmp_path: Path) -> None:
    subject = lane()
    for value, valence in ((0.5, 0.1), (0.4, 0.3), (0.6, 0.2)):
        subject.weights = {"w": torch.full((3,), float(subject.progress.epoch + 1))}
        subject.finish_epoch(value, {}, "", {"dev_ccc_valence": valence})
    best = subject.bests["dev_ccc_valence"]
    assert (best.value, best.epoch, best.weights["w"].tolist()) == (0.3, 2, [2.0] * 3)
    assert subject.best_weights["w"].tolist() == [3.0] * 3
    subject.state("aae").save(tmp_path)
    again = LaneState.load(tmp_path).bests["dev_ccc_valence"]
    assert (again.value, again.epoch, again.weights["w"].tolist()) == (0.3, 2, [2.0] * 3)
