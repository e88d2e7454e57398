"""What every family must satisfy: inherit :class:`FamilyConformance` and name the family and some configurations."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch

from sersearch.data.batches import TrainingData
from sersearch.family import Config, Family, ModelSpec
from sersearch.training import Engine, EpochResult, LaneState
from sersearch.training.network import Network
from tests.synthetic import make_data


def run(engine: Engine, epochs: int | None = None) -> dict[int, list[EpochResult]]:
    """Results by lane until all lanes are done or have `epochs` epochs."""
    results: dict[int, list[EpochResult]] = {}
    for result in engine.epochs():
        results.setdefault(result.lane, []).append(result)
        if epochs is not None and all(len(r) >= epochs for r in results.values()):
            break
    return results


def assert_close(state: LaneState, twin: LaneState, tolerance: float) -> None:
    assert state.weights.keys() == twin.weights.keys()
    for name, tensor in twin.weights.items():
        torch.testing.assert_close(state.weights[name], tensor, rtol=tolerance, atol=tolerance, msg=name)


def assert_same(state: LaneState, twin: LaneState) -> None:
    assert state.progress == twin.progress
    for name, tensor in twin.weights.items():
        assert torch.equal(state.weights[name], tensor), name
    for phase, slots in twin.slots.items():
        for name, tensor in slots.items():
            assert torch.equal(state.slots[phase][name], tensor), (phase, name)
    for name, tensor in twin.best_weights.items():
        assert torch.equal(state.best_weights[name], tensor), name
    assert state.bests.keys() == twin.bests.keys()
    for metric, best in twin.bests.items():
        assert (state.bests[metric].value, state.bests[metric].epoch) == (best.value, best.epoch)
        for name, tensor in best.weights.items():
            assert torch.equal(state.bests[metric].weights[name], tensor), (metric, name)


class FamilyConformance:
    """Subclass as `TestX(FamilyConformance)`."""

    family: ClassVar[Family]
    configs: ClassVar[tuple[Config, ...]]
    """Small configurations, one per model of the family; lanes are made from each by changing lane hyperparameters."""
    vary: ClassVar[dict[str, tuple[float, float, float]]]
    """Three values of some lane hyperparameters."""
    target: ClassVar[str] = "emotion"
    of_training: ClassVar[set[str]] = {"speaker"}
    """Losses that development data may lack: of the development speaker nothing is known."""

    @pytest.fixture
    def data(self) -> TrainingData:
        return make_data(view=self.family.view(self.configs[0]), target=self.target)

    def lanes_of(self, config: Config) -> list[Config]:
        return [dataclasses.replace(config, **{n: v[k] for n, v in self.vary.items()}) for k in range(3)]

    def test_losses_are_finite_and_metrics_named(self, data: TrainingData) -> None:
        for config in self.configs:
            engine = Engine(self.family, data)
            engine.join(config, seed=0, epochs=1)
            (result,) = run(engine)[1]
            assert all(math.isfinite(v) for v in result.metrics.values())
            assert result.value == result.metrics[self.family.objective(data.labels)]
            in_dev = {n.removeprefix("dev_loss_") for n in result.metrics if n.startswith("dev_loss_")}
            in_train = {n.removeprefix("train_loss_") for n in result.metrics if n.startswith("train_loss_")}
            assert in_dev >= in_train - self.of_training

    @pytest.mark.parametrize("kind", ["sgd", "adam", "nadam"])
    def test_a_lane_equals_its_twin_trained_alone(self, data: TrainingData, kind: str, monkeypatch) -> None:
        phases = type(self.family).phases

        def with_optimizer(family: Family, config: Config, spec: ModelSpec):
            return tuple(
                dataclasses.replace(p, optimizer=dataclasses.replace(p.optimizer, kind=kind), clip=0.5)
                for p in phases(family, config, spec)
            )

        monkeypatch.setattr(type(self.family), "phases", with_optimizer)
        for config in self.configs:
            configs = self.lanes_of(config)
            steps = len(list(self.family.plan(config, data, np.random.default_rng(0))))
            epochs = math.ceil(20 / steps)
            fused = Engine(self.family, data, dtype=torch.float64)
            numbers = [fused.join(c, seed=k // 2, epochs=epochs) for k, c in enumerate(configs)]
            together = run(fused)
            for number, (k, c) in zip(numbers, enumerate(configs), strict=True):
                alone = Engine(self.family, data, dtype=torch.float64)
                twin = alone.join(c, seed=k // 2, epochs=epochs)
                results = run(alone)[twin]
                assert_close(fused.state(number), alone.state(twin), 1e-9)
                for mine, its in zip(together[number], results, strict=True):
                    assert mine.metrics == pytest.approx(its.metrics, rel=1e-9, abs=1e-9)

    def test_joining_and_leaving_changes_nothing_for_a_lane(self, data: TrainingData) -> None:
        first, second, third = self.lanes_of(self.configs[0])
        alone = Engine(self.family, data, dtype=torch.float64)
        twin = alone.join(second, seed=0, epochs=4)
        run(alone)
        engine = Engine(self.family, data, dtype=torch.float64)
        leaving = engine.join(first, seed=0, epochs=4)
        staying = engine.join(second, seed=0, epochs=4)
        for result in engine.epochs():
            if result.lane == leaving and result.epoch == 2:
                engine.leave(leaving)
                late = engine.join(third, seed=0, epochs=2)
        assert_close(engine.state(staying), alone.state(twin), 1e-9)
        late_alone = Engine(self.family, data, dtype=torch.float64)
        late_twin = late_alone.join(third, seed=0, epochs=2)
        run(late_alone)
        assert_close(engine.state(late), late_alone.state(late_twin), 1e-9)

    def test_a_lane_that_turns_nan_fails_alone(self, data: TrainingData) -> None:
        good, bad, _ = self.lanes_of(self.configs[0])
        alone = Engine(self.family, data, dtype=torch.float64)
        twin = alone.join(good, seed=0, epochs=2)
        run(alone)
        engine = Engine(self.family, data, dtype=torch.float64)
        lane = engine.join(good, seed=0, epochs=2)
        diverging = engine.join(dataclasses.replace(bad, learning_rate=1e300), seed=0, epochs=2)
        results = run(engine)
        assert results[diverging][-1].failed
        assert "epoch" in results[diverging][-1].reason
        assert math.isnan(results[diverging][-1].value)
        assert not results[lane][-1].failed
        assert_close(engine.state(lane), alone.state(twin), 1e-9)

    def test_resumed_equals_uninterrupted_bit_for_bit(self, data: TrainingData, tmp_path: Path) -> None:
        for number, config in enumerate(self.configs):
            whole = Engine(self.family, data)
            uninterrupted = whole.join(config, seed=3, epochs=4)
            run(whole)
            first = Engine(self.family, data)
            lane = first.join(config, seed=3, epochs=4)
            run(first, epochs=2)
            first.state(lane).save(tmp_path / str(number))
            second = Engine(self.family, data)
            resumed = second.join(config, seed=3, epochs=4, state=LaneState.load(tmp_path / str(number)))
            assert [r.epoch for r in run(second)[resumed]] == [3, 4]
            assert_same(second.state(resumed), whole.state(uninterrupted))

    def test_the_same_seed_gives_the_same_bits(self, data: TrainingData) -> None:
        states = []
        for _ in range(2):
            engine = Engine(self.family, data)
            lane = engine.join(self.configs[0], seed=5, epochs=2)
            run(engine)
            states.append(engine.state(lane))
        assert_same(*states)

    def test_a_batch_without_labels_moves_no_classifier(self, data: TrainingData) -> None:
        for labels in data.train.labels_U.values():
            labels[:] = np.nan if labels.dtype == np.float32 else -1
        for config in self.configs:
            engine = Engine(self.family, data)
            lane = engine.join(config, seed=0, epochs=1)
            before = engine.state(lane).weights
            (result,) = run(engine)[lane]
            assert not result.failed
            after = engine.state(lane).weights
            spec = ModelSpec(dims=data.dims, frames=data.train.view.frames, labels=data.labels)
            phases = self.family.phases(config, spec)
            network = Network(self.family, config, spec, phases, torch.device("cpu"), torch.float32)
            for phase in network.phases:
                for child in set(phase.needs_label) - self.also_unsupervised(network, phase.name):
                    for name in (n for n in network.updated(phase, before) if n.split(".")[0] == child):
                        assert torch.equal(before[name], after[name]), name

    @staticmethod
    def also_unsupervised(network: Network, phase: str) -> set[str]:
        """Children that another phase updates too."""
        return {child for other in network.phases if other.name != phase for child in other.updates}

    def test_config_round_trip(self) -> None:
        for config in self.configs:
            assert type(config).from_dict(json.loads(json.dumps(config.to_dict()))) == config

    def test_predictions_are_posteriors_or_attributes(self, data: TrainingData) -> None:
        for config in self.configs:
            engine = Engine(self.family, data)
            lane = engine.join(config, seed=0, epochs=1)
            run(engine)
            predictions = engine.predictions(lane)
            assert predictions.outputs.shape == (data.dev.utterances, data.labels.outputs)
            if data.labels.task == "emotion":
                torch.testing.assert_close(predictions.outputs.sum(dim=1), torch.ones(data.dev.utterances))
