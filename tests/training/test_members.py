"""Several trainings of one configuration side by side: their mean, and that each is what it would be alone."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean, stdev
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol, rotations
from sersearch.data.sums import with_sums
from sersearch.errors import DataError
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import FAMILY
from sersearch.families.ladder.family import FAMILY as LADDER
from sersearch.family import HalveOnPlateau
from sersearch.training import Engine, EpochResult, LaneState, Members, MembersState, fit
from sersearch.training.lane import Snapshot
from tests.synthetic import make_data, make_table
from tests.trained import LADDER as LADDER_CONFIG

CONFIG = AAEConfig(channels=(2, 3, 4), hidden=5, batch_size=8, segment_frames=32, segment_hop=32, learning_rate=0.03)
SEEDS = (9, 8, 2)
EPOCHS = 4


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return make_data()


@pytest.fixture(scope="module")
def alone(data: TrainingData) -> list[list[tuple[EpochResult, LaneState]]]:
    """Each seed trained by itself."""
    return [list(fit(FAMILY, CONFIG, data, seed, epochs=EPOCHS)) for seed in SEEDS]


def train(members: Members) -> Iterator[EpochResult]:
    while not members.done:
        yield members.epoch()


def told(result: EpochResult) -> tuple[Any, ...]:
    """An epoch's result, but for how long it took."""
    return result.epoch, result.metrics, result.value, result.best, result.done, result.failed, result.reason


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def kept(folder: Path, members: Members) -> Path:
    """A checkpoint, written."""
    folder.mkdir()
    for name, content in with_sums(members.state().files()).items():
        (folder / name).write_bytes(content)
    return folder


# --- figures worked out by hand ---------------------------------------------------------------------------------------


class Scripted:
    """An engine whose lanes give what a script says, by seed and epoch."""

    objective, family, device = "dev_ua", SimpleNamespace(kept=lambda labels: ("dev_wa",)), torch.device("cpu")
    data = SimpleNamespace(labels=None)

    def __init__(self, script: dict[int, list[float]]) -> None:
        self.script, self.epochs_done, self.seeds = script, {}, {}  # type: Any, dict[int, int], dict[int, int]

    def join(self, config: Any, seed: int, *args: Any, joint: bool) -> int:
        self.seeds[len(self.seeds)] = seed
        return len(self.seeds) - 1

    def epoch(self, lanes: list[int]) -> list[EpochResult]:
        return [self.one(lane) for lane in lanes if self.epochs_done.get(lane, 0) < len(self.script[self.seeds[lane]])]

    def one(self, lane: int) -> EpochResult:
        values, epoch = self.script[self.seeds[lane]], self.epochs_done.get(lane, 0) + 1
        self.epochs_done[lane] = epoch
        value, done = values[epoch - 1], epoch == len(values)
        failed = math.isnan(value)
        reason = f"dev_ua is nan in epoch {epoch}" if failed else "all epochs done" if done else ""
        metrics = {"dev_ua": value, "dev_wa": 1 - value, **({"own": 1.0} if lane else {})}
        return EpochResult(lane, epoch, metrics, value, False, done or failed, failed, reason, 1.0)

    def last(self, lane: int) -> Snapshot:
        return Snapshot({"w": torch.tensor(self.epochs_done[lane])}, {}, {})


def scripted(*engines: dict[int, list[float]]) -> Members:
    return Members([Scripted(script) for script in engines], CONFIG, list(engines[0]), 9)  # type: ignore[arg-type]


def test_an_epoch_s_figures_are_the_means_and_the_objective_s_deviation() -> None:
    first = scripted({0: [0.2], 1: [0.5], 2: [0.8]}).epoch()
    # The mean of 0.2, 0.5, 0.8, and sqrt((0.3^2 + 0 + 0.3^2) / 2).
    assert first.metrics == pytest.approx({"dev_ua": 0.5, "dev_wa": 0.5, "dev_ua_std": 0.3})
    assert (first.value, first.best, first.done, first.reason) == (pytest.approx(0.5), True, True, "all epochs done")


def test_the_best_epoch_is_the_mean_s_and_not_a_member_s() -> None:
    members = scripted({0: [0.9, 0.6, 0.1], 1: [0.1, 0.6, 0.8]})
    assert [(r.value, r.best) for r in train(members)] == [
        (pytest.approx(0.5), True),
        (pytest.approx(0.6), True),
        (pytest.approx(0.45), False),
    ]
    assert members._kept["dev_ua"][0].weights["w"] == 2, "as the first member was then, though it was best before"
    assert members._kept["dev_wa"][0].weights["w"] == 3, "1 - 0.45 is the best mean of this one"


def test_a_member_that_is_done_keeps_its_last_value() -> None:
    members = scripted({0: [0.4], 1: [0.2, 0.6, 0.8]})
    results = list(train(members))
    assert [r.value for r in results] == pytest.approx([0.3, 0.5, 0.6])
    assert [r.done for r in results] == [False, False, True]
    assert members._kept["dev_ua"][0].weights["w"] == 1, "its last epoch was its first"


def test_a_member_that_fails_fails_them_all_and_is_named() -> None:
    one = scripted({0: [0.4, 0.5], 1: [0.2, math.nan]})
    first, second = one.epoch(), one.epoch()
    assert not first.failed
    assert (second.failed, second.done, second.reason) == (True, True, "seed 1: dev_ua is nan in epoch 2")
    assert math.isnan(second.value)
    folds = scripted({0: [0.4]}, {0: [math.nan]})
    assert folds.epoch().reason == "fold 2: dev_ua is nan in epoch 1"


# --- real training ----------------------------------------------------------------------------------------------------


def test_members_are_what_each_seed_gives_alone_bit_for_bit(
    data: TrainingData, alone: list[list[tuple[EpochResult, LaneState]]]
) -> None:
    members = Members([Engine(FAMILY, data)], CONFIG, SEEDS, EPOCHS)
    results = list(train(members))
    for epoch, result in enumerate(results):
        singles = [run[epoch][0] for run in alone]
        for name, value in singles[0].metrics.items():
            assert result.metrics[name] == fmean([single.metrics[name] for single in singles]) or math.isnan(value)
        assert result.metrics["dev_ua_std"] == stdev(single.value for single in singles)
    best = max(results, key=lambda r: (r.value, -r.epoch)).epoch
    state = members.state()
    number, weights = state.best("dev_ua")
    assert number == best
    assert same(weights, alone[0][best - 1][1].weights), "the first seed's, as of the mean's best epoch"
    for lane, run in zip(state.lanes, alone, strict=True):
        assert same(lane.weights, run[-1][1].weights)
        assert same(lane.best_weights, run[-1][1].best_weights)


class Hasty(type(FAMILY)):  # type: ignore[misc]
    """Ends a lane at the first epoch without a better value, and brings back its best weights."""

    def schedule(self, config: Any) -> HalveOnPlateau:
        return HalveOnPlateau(patience=1, factor=0.5, minimum=0.02)


@pytest.mark.parametrize("family", [FAMILY, Hasty()])
@pytest.mark.parametrize("stopped", [1, 2, 3])
def test_resumed_members_equal_those_that_nothing_stopped(
    data: TrainingData, tmp_path: Path, family: Any, stopped: int
) -> None:
    epochs = 6
    whole = Members([Engine(family, data)], CONFIG, SEEDS, epochs)
    expected = [told(result) for result in train(whole)]
    ends = {lane.progress.epoch for lane in whole.state().lanes}
    assert len(ends) > 1 or family is FAMILY, "or no member is done before the others"
    first = Members([Engine(family, data)], CONFIG, SEEDS, epochs)
    before = [told(first.epoch()) for _ in range(stopped)]
    state = MembersState.load(kept(tmp_path / "kept", first))
    again = Members([Engine(family, data)], CONFIG, SEEDS, epochs, state)
    assert before + [told(result) for result in train(again)] == expected
    one, other = whole.state().files(), again.state().files()
    assert one.keys() == other.keys()
    differ = {name for name in one if one[name] != other[name]}
    assert differ <= {"members.json"}, "which has seconds in it"
    assert whole.predictions()[0].outputs.tolist() == again.predictions()[0].outputs.tolist()


def test_rotations_are_trained_each_on_its_own_part_and_develop_on_every_utterance_once(tmp_path: Path) -> None:
    table = make_table(speakers=5)
    rules = rotations(Protocol("loso", "s0", dev_folds=2))
    datas = [training_data(table, rule.split(table), SegmentView(32, 32)) for rule in rules]
    members = Members([Engine(FAMILY, own) for own in datas], CONFIG, [3], 2)
    results = list(train(members))
    alone = [list(fit(FAMILY, CONFIG, own, 3, epochs=2)) for own in datas]
    for epoch, result in enumerate(results):
        assert result.value == fmean([run[epoch][0].value for run in alone])
    ids = [name for part in members.predictions() for name in part.ids]
    labelled = table.utterances[table.utterances["emotion"].notna() & (table.utterances["speaker"] != "s0")]
    assert sorted(ids) == sorted(labelled["id"])
    state = MembersState.load(kept(tmp_path / "kept", members))
    best = max(results, key=lambda r: (r.value, -r.epoch)).epoch
    for rotation, run in enumerate(alone):
        assert same(state.best("dev_ua", rotation)[1], run[best - 1][1].weights)


def test_each_attribute_has_the_best_epoch_of_its_mean(tmp_path: Path) -> None:
    data = make_data(view=SegmentView(1, 1), target="attributes")
    members = Members([Engine(LADDER, data)], LADDER_CONFIG, (0, 1), 5)
    results = list(train(members))
    state = MembersState.load(kept(tmp_path / "kept", members))
    alone = list(fit(LADDER, LADDER_CONFIG, data, 0, epochs=5))
    for metric in ("dev_ccc", "dev_ccc_valence", "dev_ccc_activation"):
        best = max(results, key=lambda r, m=metric: (r.metrics[m], -r.epoch)).epoch  # type: ignore[misc]
        assert state.best(metric)[0] == best
        assert same(state.best(metric)[1], alone[best - 1][1].weights)


def test_a_checkpoint_of_other_members_is_refused(data: TrainingData, tmp_path: Path) -> None:
    members = Members([Engine(FAMILY, data)], CONFIG, SEEDS, EPOCHS)
    members.epoch()
    folder = kept(tmp_path / "kept", members)
    state = MembersState.load(folder)
    with pytest.raises(DataError, match="the checkpoint is of 3 members, expected 2"):
        Members([Engine(FAMILY, data)], CONFIG, SEEDS[:2], EPOCHS, state)
    with pytest.raises(DataError, match="of another configuration or seed"):
        Members([Engine(FAMILY, data)], CONFIG, (9, 8, 3), EPOCHS, state)
    (folder / "member-1.state.safetensors").write_bytes(b"altered")
    with pytest.raises(DataError, match=r"member-1\.state\.safetensors: cut off or altered"):
        MembersState.load(folder)
