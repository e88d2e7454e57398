"""A lane's own state: random numbers, the halving rule, and checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sersearch.data.place import place
from sersearch.data.sums import SUMS, with_sums
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
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "SHA256SUMS",
        "model.safetensors",
        "state.json",
        "state.safetensors",
    ]


def test_a_checkpoint_is_a_copy() -> None:
    subject = lane()
    state = subject.state("aae")
    subject.weights["w"].add_(1)
    assert state.weights["w"].tolist() == [0.0] * 3


def damaged(folder: Path, **content: bytes | None) -> Path:
    """A checkpoint that was written with this `content` in place of its own; None: without the file."""
    files = lane().state("aae").files() | {name.replace("_", "."): data for name, data in content.items()}
    for name, data in with_sums({name: data for name, data in files.items() if data is not None}).items():
        (folder / name).write_bytes(data)
    return folder


@pytest.mark.parametrize(
    "content",
    [
        {"state_json": None},
        {"model_safetensors": None},
        {"state_safetensors": None},
        {"state_json": b"{"},
        {"state_json": b"[]"},
        {"state_json": b"\xff"},
        {"state_json": b'{"progress": {"epochs": 3}}'},
        {"model_safetensors": b""},
        {"state_safetensors": b"no tensors"},
    ],
)
def test_what_is_no_checkpoint_though_its_sums_are_right_is_named(
    tmp_path: Path, content: dict[str, bytes | None]
) -> None:
    with pytest.raises(DataError, match="not a checkpoint that can be read") as error:
        LaneState.load(damaged(tmp_path, **content))
    assert str(tmp_path) in str(error.value)


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json"])
@pytest.mark.parametrize("where", [0.0, 0.5, 0.999])
def test_a_flipped_bit_is_refused_with_the_file_s_name(tmp_path: Path, name: str, where: float) -> None:
    lane().state("aae").save(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[int(where * len(content))] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match="cut off or altered since it was written") as error:
        LaneState.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("name", ["model.safetensors", "state.safetensors", "state.json", SUMS])
def test_a_checkpoint_that_is_not_all_there_is_refused(tmp_path: Path, name: str) -> None:
    lane().state("aae").save(tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(DataError, match="missing") as error:
        LaneState.load(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / name}: ")


def test_a_checkpoint_may_lie_in_an_object_store(tmp_path: Path) -> None:
    subject, store = lane(), place(f"memory://checkpoints/{tmp_path.name}")
    epoch(subject, 0.3)
    state = subject.state("aae")
    state.save(store)
    loaded = LaneState.load(store)
    assert (loaded.progress, loaded.config) == (state.progress, state.config)
    assert all(torch.equal(tensor, loaded.weights[name]) for name, tensor in state.weights.items())
    (store / "model.safetensors").write_bytes(b"")
    with pytest.raises(DataError, match=r"model\.safetensors: cut off or altered"):
        LaneState.load(store)


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
