"""The engine as the layers above use it: results by epoch, lanes, schedules, and what it refuses."""

from __future__ import annotations

import dataclasses
import math
import pickle
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sersearch.data.batches import LabelSpace, SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, DataError
from sersearch.families.aae.config import AAEConfig
from sersearch.families.aae.family import FAMILY, AAEFamily
from sersearch.family import LAST_EPOCH, HalveOnPlateau, ModelSpec, Phase
from sersearch.training import Engine, EpochResult, LaneState, fit, pretrain
from sersearch.training.epoch import evaluate
from sersearch.training.lane import Lane, Progress
from sersearch.training.network import Stack
from tests.synthetic import make_data, make_table

SMALL = AAEConfig(channels=(2, 3, 4), hidden=5, batch_size=8, segment_frames=32, segment_hop=32, learning_rate=1e-3)


@pytest.fixture(scope="module")
def data() -> TrainingData:
    return make_data()


def run(engine: Engine) -> dict[int, list[EpochResult]]:
    results: dict[int, list[EpochResult]] = {}
    for result in engine.epochs():
        results.setdefault(result.lane, []).append(result)
    return results


# --- results ----------------------------------------------------------------------------------------------------------


def test_a_result_tells_the_epoch(data: TrainingData) -> None:
    results = [result for result, _ in fit(FAMILY, SMALL, data, seed=0, epochs=3)]
    assert [r.epoch for r in results] == [1, 2, 3]
    assert [r.done for r in results] == [False, False, True]
    assert [r.reason for r in results] == ["", "", "all epochs done"]
    for r in results:
        assert r.value == r.metrics["dev_ua"]
        assert 0 <= r.value <= 1
        assert r.seconds > 0
        assert r.metrics["learning_rate"] == 1e-3
        assert {"dev_wa", "dev_loss_emotion", "train_loss_emotion", "train_loss_reconstruction"} <= r.metrics.keys()
    best = 0.0
    for r in results:
        assert r.best == (r.epoch == 1 or r.value > best)
        best = max(best, r.value)


def test_a_task_s_loss_is_a_mean_over_what_has_a_label() -> None:
    data = make_data()
    data.dev.labels_U["emotion"][::2] = -1
    network = Engine(FAMILY, data)._network(SMALL)
    weights = network.initial(0)
    stack = Stack(network, [Lane(SMALL, 0, 1, weights, network.slots(weights), {})])
    found, _ = evaluate(stack, data.dev)
    batch = data.dev.batch(range(len(data.dev)), network.device, network.dtype)
    _, outputs = stack.evaluate_step(0, batch, losses=True)
    known = batch["emotion"] >= 0
    assert 0 < int(known.sum()) < len(known)
    of_label = outputs["emotion"][known, batch["emotion"][known]]
    assert found["dev_loss_emotion"] == [pytest.approx(float(-of_label.log().mean()), rel=1e-5)]
    assert "dev_loss_speaker" not in found, "of the development speaker nothing is known"


def test_a_training_loss_is_a_mean_over_the_steps_that_have_a_label() -> None:
    data = make_data()
    data.train.labels_U["emotion"][1:] = -1
    one = dataclasses.replace(SMALL, learning_rate=1e-30)
    of_one = [r.metrics["train_loss_emotion"] for r, _ in fit(FAMILY, one, data, seed=0, epochs=1)]
    assert 0.5 < of_one[0] < 4, "about log 4, whatever the number of steps"
    data.train.labels_U["emotion"][:] = -1
    (nothing,) = (r.metrics for r, _ in fit(FAMILY, one, data, seed=0, epochs=1))
    assert "train_loss_emotion" not in nothing
    assert "train_loss_speaker" in nothing


def test_fit_is_the_engine_with_one_lane(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    lane = engine.join(SMALL, seed=4, epochs=2)
    (ours,) = run(engine).values()
    theirs, states = zip(*fit(FAMILY, SMALL, data, seed=4, epochs=2), strict=True)
    assert [r.metrics for r in ours] == [r.metrics for r in theirs]
    assert [s.progress.epoch for s in states] == [1, 2], "a checkpoint isn't changed by the training after it"
    for name, weight in engine.state(lane).weights.items():
        assert torch.equal(weight, states[-1].weights[name])


def test_the_predictions_are_of_the_best_epoch(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    lane = engine.join(dataclasses.replace(SMALL, learning_rate=0.05), seed=1, epochs=5)
    found = {}
    for result in engine.epochs():
        predictions = engine.predictions(lane)
        if result.best:
            found = {"posteriors": predictions.outputs, "value": result.value}
        assert torch.equal(predictions.outputs, found["posteriors"])
    assert predictions.ids == data.dev.ids
    right = predictions.outputs.argmax(dim=1) == predictions.labels
    recalls = [right[predictions.labels == code].double().mean() for code in predictions.labels.unique()]
    assert float(torch.stack(recalls).mean()) == pytest.approx(found["value"])


def test_codes_of_other_data_are_refused(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    lane = engine.join(SMALL, seed=0, epochs=1)
    state = dataclasses.replace(engine.state(lane), codes={"cluster": torch.zeros(len(data.train) + 1).long()})
    with pytest.raises(DataError, match="of other data"):
        engine.join(SMALL, seed=0, epochs=1, state=state)


# --- lanes ------------------------------------------------------------------------------------------------------------


def test_lanes_have_numbers_of_their_own_and_end_by_themselves(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    other_shape = dataclasses.replace(SMALL, hidden=6)
    lanes = [engine.join(c, seed=0, epochs=n) for c, n in ((SMALL, 1), (SMALL, 3), (other_shape, 2))]
    assert len(set(lanes)) == 3
    results = run(engine)
    assert [len(results[lane]) for lane in lanes] == [1, 3, 2]
    assert list(engine.epochs()) == [], "nobody is left"


def test_a_lane_that_left_is_trained_no_further(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    first, second = (engine.join(SMALL, seed=s, epochs=3) for s in (0, 1))
    seen = []
    for result in engine.epochs():
        seen.append((result.lane, result.epoch))
        if seen == [(first, 1), (second, 1)]:
            engine.leave(second)
    assert seen == [(first, 1), (second, 1), (first, 2), (first, 3)]
    with pytest.raises(KeyError):
        engine.state(second)


def test_lanes_of_one_seed_start_alike_and_of_others_do_not(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    low, high, other = (
        engine.state(engine.join(dataclasses.replace(SMALL, alpha=alpha), seed=seed, epochs=1)).weights
        for alpha, seed in ((0.1, 0), (0.9, 0), (0.1, 1))
    )
    assert all(torch.equal(low[n], high[n]) for n in low), "configurations are compared from common weights"
    assert not torch.equal(low["emotion.output.weight"], other["emotion.output.weight"])


def test_training_does_not_depend_on_the_global_generator(data: TrainingData) -> None:
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append([r.metrics for r, _ in fit(FAMILY, SMALL, data, epochs=2)])
    assert found[0] == found[1]


# --- the schedule -----------------------------------------------------------------------------------------------------


class Scripted(AAEFamily):
    """The AAE with development values as they stand in a script, one curve a lane, and a short halving rule."""

    def __init__(self, *curves: list[float]) -> None:
        self.curves, self.epoch = curves, 0

    def metrics(
        self, outputs: Mapping[str, Tensor], labels: Mapping[str, Tensor], space: LabelSpace
    ) -> dict[str, Tensor]:
        self.epoch += 1
        values = [curve[self.epoch - 1] for curve in self.curves if len(curve) >= self.epoch]
        return {"ua": torch.tensor(values), "wa": torch.tensor(values)}

    def schedule(self, config: AAEConfig) -> HalveOnPlateau:
        return HalveOnPlateau(patience=2, factor=0.5, minimum=0.003)


def test_each_lane_s_rate_halves_by_its_own_curve(data: TrainingData) -> None:
    # By hand: best at epoch 2, two worse epochs; better at 5, two worse epochs, and 0.002 is below the minimum.
    plateau = [0.3, 0.5, 0.4, 0.5, 0.6, 0.5, 0.6]
    rising = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]
    engine = Engine(Scripted(plateau, rising), data, dtype=torch.float64)
    config = dataclasses.replace(SMALL, learning_rate=0.008)
    first, second = (engine.join(config, seed=0, epochs=8) for _ in range(2))
    weights: dict[int, list[Mapping[str, Tensor]]] = {first: [], second: []}
    results: dict[int, list[EpochResult]] = {first: [], second: []}
    for result in engine.epochs():
        results[result.lane].append(result)
        weights[result.lane].append(engine.state(result.lane).weights)
    rates = [r.metrics["learning_rate"] for r in results[first]]
    assert rates == pytest.approx([0.008] * 4 + [0.004] * 3)
    assert [r.best for r in results[first]] == [True, True, False, False, True, False, False]
    assert (results[first][-1].done, results[first][-1].reason) == (True, "learning rate below 0.003")
    assert [r.metrics["learning_rate"] for r in results[second]] == pytest.approx([0.008] * 8)
    assert results[second][-1].reason == "all epochs done"
    restored, best = weights[first][3], weights[first][1]
    assert all(torch.equal(restored[n], best[n]) for n in best), "epoch 2's weights come back after epoch 4"
    assert not torch.equal(weights[first][2]["emotion.output.weight"], best["emotion.output.weight"])


def test_the_halving_rule_survives_a_checkpoint(data: TrainingData, tmp_path: Path) -> None:
    curve = [0.3, 0.5, 0.4, 0.5, 0.6, 0.5, 0.6]
    config = dataclasses.replace(SMALL, learning_rate=0.008)
    whole = [r.metrics for r, _ in fit(Scripted(curve), config, data, epochs=8)]
    for cut in range(1, 7):
        for (_, state), _ in zip(fit(Scripted(curve), config, data, epochs=8), range(cut), strict=False):
            state.save(tmp_path)
        family = Scripted(curve)
        family.epoch = cut
        engine = Engine(family, data)
        engine.join(config, seed=0, epochs=8, state=LaneState.load(tmp_path))
        assert [r.metrics for r in engine.epochs()] == whole[cut:]


# --- phases -----------------------------------------------------------------------------------------------------------


class OnePhase(AAEFamily):
    """The AAE with one of its phases only, under an optimiser of choice."""

    def __init__(self, name: str, kind: str) -> None:
        self.name, self.phase, self.kind = "aae", name, kind

    def phases(self, config: AAEConfig, spec: ModelSpec) -> tuple[Phase, ...]:
        (own,) = (p for p in super().phases(config, spec) if p.name == self.phase)
        return (dataclasses.replace(own, optimizer=dataclasses.replace(own.optimizer, kind=self.kind)),)


@pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
@pytest.mark.parametrize("phase", ["reconstruction", "discrimination", "generation", "classification"])
def test_a_phase_moves_what_it_updates_and_nothing_else(data: TrainingData, phase: str, kind: str) -> None:
    family = OnePhase(phase, kind)
    engine = Engine(family, data)
    lane = engine.join(SMALL, seed=0, epochs=1)
    before = engine.state(lane).weights
    run(engine)
    after = engine.state(lane).weights
    spec = ModelSpec(dims=data.dims, frames=data.train.view.frames, labels=data.labels)
    parameters = {name for name, _ in FAMILY.build(SMALL, spec).named_parameters()}
    moved = {n.split(".")[0] for n in parameters if not torch.equal(before[n], after[n])}
    assert moved == set(family.phases(SMALL, spec)[0].updates)


def test_the_first_plan_is_shuffled_by_seed_and_epoch(data: TrainingData) -> None:
    plans = [
        np.concatenate(list(FAMILY.plan(SMALL, data, np.random.default_rng([seed, epoch]))))
        for seed, epoch in ((0, 0), (0, 0), (0, 1), (1, 0))
    ]
    assert np.array_equal(plans[0], plans[1])
    assert not any(np.array_equal(plans[0], plan) for plan in plans[2:])
    assert all(len(set(plan)) == len(plan) for plan in plans), "no segment twice in an epoch"


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_foreign_checkpoint_is_refused(data: TrainingData) -> None:
    ((_, state),) = fit(FAMILY, SMALL, data, epochs=1)
    engine = Engine(FAMILY, data)
    for config, seed in ((dataclasses.replace(SMALL, alpha=0.9), 0), (SMALL, 1)):
        with pytest.raises(DataError, match="another configuration or seed; resume the trial that wrote it"):
            engine.join(config, seed=seed, epochs=2, state=state)


def test_weights_of_another_shape_are_named(data: TrainingData) -> None:
    wide = dataclasses.replace(SMALL, hidden=9)
    weights = pretrain(FAMILY, wide, data, epochs=1)
    with pytest.raises(DataError, match=r"don't fit this model: .*hidden\.weight.*; pre-train again"):
        Engine(FAMILY, data).join(SMALL, seed=0, epochs=1, weights=weights)
    del weights["emotion.output.bias"]
    with pytest.raises(DataError, match=r"emotion\.output\.bias"):
        Engine(FAMILY, data).join(wide, seed=0, epochs=1, weights=weights)


def test_a_pretraining_that_diverges_says_so(data: TrainingData) -> None:
    with pytest.raises(DataError, match=r"diverged in epoch \d; lower params\.learning_rate"):
        pretrain(FAMILY, dataclasses.replace(SMALL, learning_rate=1e30), data, epochs=2)


def test_segments_that_the_model_cannot_take_are_refused_before_training(data: TrainingData) -> None:
    class Narrow:
        """The data with fewer bands than the pools divide."""

        dims, train, labels, dev_by_condition = 12, data.train, data.labels, data.dev_by_condition

    with pytest.raises(ConfigError, match="12 bands"):
        Engine(FAMILY, Narrow()).check(SMALL)  # type: ignore[arg-type]


class NoPlan(AAEFamily):
    """A family whose plan is empty, as that of one single segment is."""

    def plan(self, config: AAEConfig, data: TrainingData, rng: np.random.Generator) -> Iterator[np.ndarray]:
        return iter(())


def test_too_little_for_a_mini_batch_is_said(data: TrainingData) -> None:
    with pytest.raises(DataError, match="training segments make no mini-batch; expected at least 2"):
        list(fit(NoPlan(), SMALL, data, epochs=1))


def test_an_epoch_is_timed_without_training_a_lane(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    seconds, steps = engine.time_epoch(SMALL)
    assert seconds > 0
    assert steps == len(list(FAMILY.plan(SMALL, data, np.random.default_rng(0))))
    assert list(engine.epochs()) == []


def test_a_lane_that_fails_has_no_value_and_stays_as_it_was_at_its_best(data: TrainingData) -> None:
    engine = Engine(FAMILY, data)
    lane = engine.join(dataclasses.replace(SMALL, learning_rate=1e30), seed=0, epochs=5)
    (only,) = run(engine)[lane]
    assert (only.failed, only.done, only.best) == (True, True, False)
    assert math.isnan(only.value)
    assert only.reason.endswith("in epoch 1")
    assert all(torch.isfinite(t).all() for t in engine.state(lane).best_weights.values())


# --- checkpoints ------------------------------------------------------------------------------------------------------


TENSORS = st.builds(
    lambda seed, shape, dtype: (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1e6).to(dtype),
    st.integers(0, 1000),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from([torch.float32, torch.float64, torch.int64]),
)
NAMES = st.text("abc.", min_size=1, max_size=6)
DICTS = st.dictionaries(NAMES, TENSORS, max_size=3)


@given(
    weights=DICTS,
    slots=st.dictionaries(
        st.text("xyz", min_size=1, max_size=3),
        st.dictionaries(NAMES.map("momentum/{}".format), TENSORS, min_size=1, max_size=3),
        max_size=2,
    ),
    best=DICTS,
    outputs=DICTS,
    scale=st.floats(1e-9, 1),
    value=st.none() | st.floats(0, 1),
)
@settings(max_examples=25)
def test_any_checkpoint_comes_back_bit_for_bit(
    tmp_path_factory: pytest.TempPathFactory,
    weights: dict[str, Tensor],
    slots: dict[str, dict[str, Tensor]],
    best: dict[str, Tensor],
    outputs: dict[str, Tensor],
    scale: float,
    value: float | None,
) -> None:
    progress = Progress(epoch=3, rate_scale=scale, best_value=value, best_epoch=2, stale=1, done=True, reason="done")
    state = LaneState("aae", SMALL.to_dict(), 7, 9, progress, weights, slots, best, outputs)
    folder = tmp_path_factory.mktemp("state")
    state.save(folder)
    loaded = LaneState.load(folder)
    assert (loaded.family, loaded.config, loaded.seed, loaded.epochs) == ("aae", SMALL.to_dict(), 7, 9)
    assert loaded.progress == progress
    assert loaded.slots.keys() == slots.keys()
    pairs: list[tuple[Mapping[str, Tensor], Mapping[str, Tensor]]] = [
        (loaded.weights, weights),
        (loaded.best_weights, best),
        (loaded.best_outputs, outputs),
        *((loaded.slots[phase], slots[phase]) for phase in slots),
    ]
    for theirs, ours in pairs:
        assert theirs.keys() == ours.keys()
        assert all(torch.equal(theirs[n], t) and theirs[n].dtype == t.dtype for n, t in ours.items())


def test_no_checkpoint_is_pickled(data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ((_, state),) = fit(FAMILY, SMALL, data, epochs=1)

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError("pickle")

    for module, names in ((pickle, ("dump", "dumps", "load", "loads", "Pickler", "Unpickler")), (torch, ("save",))):
        for name in names:
            monkeypatch.setattr(module, name, refuse)
    state.save(tmp_path)
    LaneState.load(tmp_path)
    assert not list(tmp_path.glob(".*")), "nor does a temporary file stay"


@pytest.mark.parametrize("name", ["state.json", "model.safetensors", "state.safetensors"])
@pytest.mark.parametrize("keep", [0, 7, 0.5])
def test_a_truncated_checkpoint_is_named(data: TrainingData, tmp_path: Path, name: str, keep: float) -> None:
    ((_, state),) = fit(FAMILY, SMALL, data, epochs=1)
    state.save(tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: int(keep if keep in (0, 7) else keep * len(content))])
    with pytest.raises(DataError) as error:
        LaneState.load(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_by_its_number_the_last_epoch_is_the_best_and_the_rate_stays(data: TrainingData) -> None:
    engine = Engine(FAMILY, data, objective=LAST_EPOCH)
    lane = engine.join(SMALL, seed=0, epochs=9)
    results = run(engine)[lane]
    assert [r.value for r in results] == list(range(1, 10))
    assert {r.metrics["learning_rate"] for r in results} == {SMALL.learning_rate}
    state = engine.state(lane)
    assert state.progress.best_epoch == 9
    assert all(torch.equal(state.best_weights[name], own) for name, own in state.weights.items())


def test_noisy_development_labels_are_watched_and_never_selected_by() -> None:
    table = make_table(conditions=("snr5",))
    protocol = Protocol("loso", test_speaker="s0", unlabeled_condition="snr5")
    data = training_data(table, protocol.split(table), SegmentView(32, 32))
    with pytest.raises(ConfigError, match="dev_ua_snr5: labels in noise are watched, never selected by"):
        Engine(FAMILY, data, objective="dev_ua_snr5")
    (result,) = (r for r, _ in fit(FAMILY, SMALL, data, seed=0, epochs=1))
    assert {"dev_ua", "dev_ua_snr5", "dev_wa_snr5"} <= result.metrics.keys()
    assert result.value == result.metrics["dev_ua"]
