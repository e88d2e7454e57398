"""A search with lanes through Ray Tune: the same as one without, whichever of its processes dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sersearch.study import Study
from sersearch.tuning.run import _lanes
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table
from tests.tuning.small import descendants, printed, search, start, until

SPACE = """
name: small
doc: a small search
family: aae
features: spectrogram
search:
  alpha: {choices: [0.2, 0.6]}
  learning_rate: {choices: [0.0003, 0.001, 1.0e+30]}
fixed: {channels: [2, 3, 4], hidden: 5, batch_size: 8, segment_frames: 32, segment_hop: 32}
method: grid
pruning: {kind: none}
trials: 6
epochs: 12
time: seconds
"""


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    write_table(folder / "data", make_table())
    (folder / "small.yaml").write_text(SPACE)
    return folder


def ended(work: Path, running: subprocess.Popen[str], name: str) -> Study:
    printed(running)
    return Study.open(name, work / "studies")


@pytest.fixture(scope="module")
def whole(work: Path) -> Study:
    """A search without lanes that nothing disturbed."""
    return ended(work, search(work, "undisturbed"), "undisturbed")


def assert_same(study: Study, whole: Study) -> None:
    """The same trials, epochs and ends; metrics within float32's rounding.

    Rounding depends on how many lanes train together. Learning rates are low: at 0.01 a change of single weights by one
    unit in the last place can move a unit over its kink, after which losses differ by a hundredth. Epochs that follow
    each other differ by some hundredths.
    """
    assert len(study.trials()) == len(whole.trials()) == 6
    for one, other in zip(study.trials(), whole.trials(), strict=True):
        assert (one.number, one.params, one.searched) == (other.number, other.params, other.searched)
        assert (one.state, one.reason) == (other.state, other.reason)
        assert len(one.epochs) == len(other.epochs)
        for epoch, expected in zip(one.epochs, other.epochs, strict=True):
            assert {**epoch, **dict.fromkeys(("metrics", "seconds", "time", "order", "checkpoint"))} == {
                **expected,
                **dict.fromkeys(("metrics", "seconds", "time", "order", "checkpoint")),
            }
            assert epoch["metrics"] == pytest.approx(expected["metrics"], rel=1e-5, abs=1e-6)
        assert (one.checkpoint is None) == (other.checkpoint is None)


def reached(epoch: int) -> Callable[[list[dict[str, object]]], bool]:
    return lambda events: any(e["event"] == "epoch" and e["epoch"] >= epoch for e in events)  # type: ignore[operator]


def kill_one(running: subprocess.Popen[str], title: str) -> None:
    pids = [pid for pid, name in descendants(running.pid) if title in name]
    assert pids, sorted(descendants(running.pid))
    os.kill(pids[0], signal.SIGKILL)


@pytest.mark.slow
def test_a_search_with_lanes_is_the_one_without(work: Path, whole: Study) -> None:
    study = ended(work, search(work, "lanes", "--lanes", "3"), "lanes")
    assert study.meta["lanes"] == 3
    assert {t.state for t in study.trials()} == {"complete", "failed"}
    assert_same(study, whole)


@pytest.mark.slow
def test_whichever_process_is_killed_the_search_ends_as_the_undisturbed(work: Path, whole: Study) -> None:
    folder = work / "studies" / "killed"
    running = search(work, "killed", "--lanes", "3")
    for title, epoch in (("LaneServer", 3), ("ray::ImplicitFunc", 6)):
        until(folder, running, reached(epoch))
        kill_one(running, title)
    until(folder, running, reached(8))
    os.killpg(running.pid, signal.SIGKILL)
    running.communicate()
    again = start(work, "--resume", "killed")
    until(folder, again, reached(10))
    assert any("LaneServer" in name for _, name in descendants(again.pid)), "it goes on with lanes"
    assert_same(ended(work, again, "killed"), whole)


@pytest.mark.slow
def test_a_stopped_trial_s_lane_is_given_on(work: Path) -> None:
    """More trials than lanes, of which ASHA stops some: all of them end, and each from its own doing."""
    text = SPACE.replace("kind: none", "kind: asha, grace_epochs: 1, reduction_factor: 2")
    text = text.replace("epochs: 12", "epochs: 5").replace("[0.0003, 0.001,", "[0.03, 0.1,")
    (work / "asha.yaml").write_text(text.replace("[0.2, 0.6]", "[0.1, 0.2, 0.4, 0.6]"))
    options = ["--space", "asha.yaml", "--data", "data", "--protocol", "loso", "--test-speaker", "s0"]
    running = start(work, *options, "--name", "asha", "--lanes", "2", "--concurrency", "2")
    study = ended(work, running, "asha")
    assert len(study.trials()) == 12
    states = [t.state for t in study.trials()]
    assert set(states) == {"complete", "pruned", "failed"}
    for trial in study.trials():
        if trial.state == "pruned":
            assert len(trial.epochs) in (1, 2, 4)
        assert [e["epoch"] for e in trial.epochs] == list(range(1, len(trial.epochs) + 1))


def test_a_client_needs_no_torch(tmp_path: Path) -> None:
    """Nor does the trainable that Tune sends to it."""
    code = """
import pickle, sys
from functools import partial
import cloudpickle
from sersearch.tuning import client
cloudpickle.loads(cloudpickle.dumps(partial(client.train, servers=["one"])))
import ray.tune.trainable.function_trainable
heavy = ("torch", "optuna", "mlflow", "sersearch.training", "sersearch.tuning.trainable", "sersearch.families")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(("meta", "lanes"), [({"lanes": 5}, 5), ({"lanes": "auto"}, 1), ({}, 1)])
def test_lanes_without_a_gpu(tmp_path: Path, meta: dict[str, object], lanes: int) -> None:
    study = Study.create("one", meta, tmp_path)
    assert _lanes(study, load_space("aae_alpha_beta"), gpus=0) == lanes


DIES = """
import os
from pathlib import Path
from sersearch.cluster import ray_session
from sersearch.study import Study
from sersearch.tuning import lanes, run
from sersearch.tuning.space import load_space

lanes.measured_lanes = lambda meta, points: os._exit(1)
study = Study.create("one", {"lanes": "auto"}, Path("."))
with ray_session(None, num_cpus=1, num_gpus=1):
    run._lanes(study, load_space("aae_alpha_beta"), gpus=1)
"""


@pytest.mark.slow
def test_a_death_in_the_measuring_of_lanes_is_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DIES], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
    )
    said = "sersearch.errors.StudyError: study one: the process died that measured how many lanes fit; run it again"
    assert done.stderr.splitlines()[-1] == said
