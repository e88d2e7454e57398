"""A study's choice, trained anew with fresh seeds and tested in one look."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch

from sersearch.data.atomic import write_json
from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.evaluation import evaluate, look, repeated, retraining
from sersearch.evaluation.comparison import compare
from sersearch.evaluation.look import Look
from sersearch.evaluation.repeated import evaluate_folds, evaluate_seeds, fresh_seeds, load_results, merged
from sersearch.evaluation.results import Results
from sersearch.evaluation.retraining import outcome, retrain, trained
from sersearch.evaluation.tables import to_csv, to_rich
from sersearch.export import Predictor
from sersearch.families.ladder.family import FAMILY
from sersearch.study import Study
from sersearch.training import LaneState, fit
from tests.evaluation.retrained import EPOCHS, data_of, make, vectors
from tests.synthetic import make_table, write_table

LOSO = Protocol("loso", "s1")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return vectors(tmp_path_factory.mktemp("data"))


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr(Results, "interval", partialmethod(Results.interval, resamples=100))


@pytest.fixture
def study(tmp_path, data) -> Study:
    return make(tmp_path, data, LOSO)


@pytest.fixture
def at_hand(monkeypatch) -> list[tuple[int, int]]:
    """Trains in this process, and says what: most tests are about something else than processes."""
    done: list[tuple[int, int]] = []

    def train(study, jobs, workers=None, on_event=None):
        for trial, seed in jobs:
            if not trained(study, study.trial(trial), seed):
                reason, _ = retraining._train(str(study.folder), trial, seed)
                assert not reason
                done.append((trial, seed))

    monkeypatch.setattr(repeated, "retrain", train)
    return done


def test_each_seed_is_what_fit_gives_alone(study, data):
    record, told = study.best(), []
    results = evaluate_seeds(study, seeds=2, workers=2, on_event=lambda seed, text: told.append((seed, text)))
    config = FAMILY.config.from_dict(record.params)
    split = Protocol("loso", "s1").split(Look.of(study).table)
    assert str(split.protocol.whole) == results.protocol == "LOSO, each speaker tested in turn"
    for seed in (1, 2):
        *_, (_, alone) = fit(FAMILY, config, data_of(data, LOSO, "emotion"), seed, epochs=EPOCHS)
        kept = LaneState.load(outcome(study, record.number, seed))
        assert kept.progress == alone.progress
        assert all(torch.equal(kept.best_weights[name], tensor) for name, tensor in alone.best_weights.items())
    assert (results.seeds, results.folds) == ((1, 2), ("test speaker s1",)), "the search's own seed is 0"
    assert results.caption == "LOSO, each speaker tested in turn; 1 of 5 test parts"
    runs = [{"seed": s, "epoch": LaneState.load(outcome(study, record.number, s)).progress.best_epoch} for s in (1, 2)]
    assert (results.origin["trial"], results.origin["metric"], results.origin["runs"]) == (
        *(record.number, "dev_ua"),
        runs,
    )
    assert told[0] == (-1, "trains 2 of 2 models, 2 at a time")
    assert {seed for seed, _ in told[1:3]} == {1, 2}
    assert "(2 of 2 models are trained)" in told[2][1]
    again = Results.load(study.folder / "evaluation" / "results.json")
    assert again.scores == results.scores
    assert again.origin == json.loads(json.dumps(results.origin))


def test_the_search_s_own_seed_gives_the_search_s_own_figures(study, at_hand):
    study.write_meta(seed=9)  # or 0, by which it was trained, is refused
    results = evaluate_seeds(study, seeds=[0])
    own = evaluate(study)
    assert at_hand == [(study.best().number, 0)]
    for metric in ("ua", "wa", "precision", "f1"):
        assert results.scores[metric][0]["test speaker s1"] == own[metric]
    found = own["intervals"]["ua"]
    assert (found["low"], found["high"]) == (results.summary["ua"]["low"], results.summary["ua"]["high"])
    assert found["low"] <= own["ua"] <= found["high"]
    assert found["note"].endswith("of one speaker, so it says nothing of others")


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_trial_of_tune_is_what_retraining_gives(tmp_path, pretrained):
    """Both make their data and engines of what the study says: this holds them together."""
    from sersearch.tuning.trainable import begin
    from tests.tuning.small import PARAMS, order, shared, small_study

    study, params = small_study(tmp_path), PARAMS
    if pretrained:
        aux = write_table(tmp_path / "aux", make_table(speakers=3, corpus="aux", seed=5))
        params = {**PARAMS, "pretrain_epochs": 2, "beta": 0.3}
        space = study.meta["space"] | {"fixed": {name: params[name] for name in params if name != "beta"}}
        study.write_meta(data=study.meta["data"] | {"aux": str(aux)}, space=space)
    study.append("start", 0, params=params, searched={})
    start = begin(order(study, **params), shared(study), "cpu")
    engine = start.engine()
    lane = start.join(engine)
    list(engine.epochs())
    write_json(study.folder / "context.json", start.data.context())
    assert retraining._train(str(study.folder), 0, 0)[0] == ""
    kept = LaneState.load(outcome(study, 0, 0)).best_weights
    assert all(torch.equal(kept[name], tensor) for name, tensor in engine.state(lane).best_weights.items())


def test_which_seeds_are_fresh(study):
    assert fresh_seeds([study], 3) == [1, 2, 3]
    study.meta["seed"] = 2
    assert fresh_seeds([study], 3) == [0, 1, 3]
    study.meta["space"]["repeats"] = 2
    assert fresh_seeds([study], 3) == [0, 1, 4]
    assert fresh_seeds([study], [5, 4]) == [4, 5]
    with pytest.raises(ConfigError, match=r"--seeds 2, 5: the search had seed 2 itself, .* so that isn't a fresh one"):
        fresh_seeds([study], [5, 2])
    for wrong in (0, -1, [], [1, 1], [-1], [2**32]):
        with pytest.raises(ConfigError, match="expected how many, from 1, or different whole numbers"):
            fresh_seeds([study], wrong)
    with pytest.raises(ConfigError, match="--seeds 9999999999: at most 1000; to name one seed, add a comma"):
        fresh_seeds([study], 9_999_999_999)


# --- one look ---------------------------------------------------------------------------------------------------------


def test_the_test_part_is_looked_at_once(study, at_hand, monkeypatch):
    best = study.best().number
    first = evaluate_seeds(study, seeds=2)
    assert at_hand == [(best, 1), (best, 2)]
    with monkeypatch.context() as patched:
        patched.setattr(Look, "of", None)
        assert evaluate_seeds(study, seeds=2).scores == first.scores, "read back"
        assert evaluate_seeds(study, seeds=[2, 1], trial=best).scores == first.scores
        with pytest.raises(
            StudyError, match=r"already tested with seeds 1, 2; testing 1 to 3 too would let .* --again"
        ):
            evaluate_seeds(study, seeds=3)
        other = 1 - best
        message = rf"trial {best} was already tested, UA 0\.\d+; testing trial {other} too .* --again"
        with pytest.raises(StudyError, match=message):
            evaluate_seeds(study, seeds=2, trial=other)
        with pytest.raises(StudyError, match=message):
            evaluate(study, trial=other)
    assert evaluate(study)["tested_before"] == [], "the same choice"
    second = evaluate_seeds(study, seeds=2, trial=other, again=True)
    assert second.origin["tested_before"] == [best]
    assert f"Trial {best}, chosen by dev_ua on development data, trained anew" in text(first)
    assert f"Trial {other}, named by hand, trained anew" in text(second)
    assert at_hand[2:] == [(other, 1), (other, 2)]


def test_a_trial_that_was_tested_by_itself_is_a_choice_too(study, at_hand):
    best = study.best().number
    evaluate(study)
    with pytest.raises(StudyError, match=f"trial {best} was already tested"):
        evaluate_seeds(study, seeds=2, trial=1 - best)
    assert at_hand == []
    assert evaluate_seeds(study, seeds=2).origin["tested_before"] == []


def test_a_split_that_leaks_trains_nothing(tmp_path, data, at_hand):
    study = make(tmp_path, data, LOSO)
    table = make_table(dims=12, vectors=True, speakers=5)
    parts = table.utterances["speaker"].map({"s3": "dev", "s4": "test"}).fillna("train")
    parts[0] = "test"
    leaky = write_table(tmp_path / "leaky", replace(table, utterances=table.utterances.assign(split=parts)))
    card = json.loads((leaky / "spectrogram" / "card.json").read_text())
    context = json.loads((study.folder / "context.json").read_text())
    write_json(study.folder / "context.json", context | {"features": card})
    study.write_meta(data=study.meta["data"] | {"path": str(leaky), "protocol": Protocol("official").to_dict()})
    with pytest.raises(DataError, match="1 speaker stands in the train and the test part: s0"):
        evaluate_seeds(study, seeds=2)
    assert at_hand == []
    assert not (study.folder / "evaluation").exists()


def test_features_made_anew_train_nothing(study, at_hand):
    context = json.loads((study.folder / "context.json").read_text())
    context["features"]["hash"] = "old"
    (study.folder / "context.json").write_text(json.dumps(context))
    with pytest.raises(StudyError, match="its features were changed after study one"):
        evaluate_seeds(study, seeds=2)
    assert at_hand == []


def test_a_seed_that_diverges_is_not_left_out(tmp_path, data):
    study = make(tmp_path, data, LOSO, searched=({},))
    lines = study.journal.read_text().replace('"learning_rate": 0.01', '"learning_rate": 1e38')
    study.journal.write_text(lines)
    with pytest.raises(StudyError, match=r"trial 0 with seed 1: .*in epoch 1.*so nothing was tested: choose another"):
        evaluate_seeds(study, seeds=1)
    assert not (study.folder / "evaluation" / "results.json").exists()


# --- cut off, and gone on ---------------------------------------------------------------------------------------------


def test_a_killed_run_goes_on_with_the_missing_seeds(study, at_hand, monkeypatch):
    best = study.best().number
    retrain(study, [(best, 1)], workers=1)
    first = (outcome(study, best, 1) / "model.safetensors").stat().st_mtime_ns
    (damaged := outcome(study, best, 2)).mkdir(parents=True)
    (damaged / "model.safetensors").write_bytes(b"torn")
    results = evaluate_seeds(study, seeds=3)
    assert at_hand == [(best, 2), (best, 3)]
    assert (outcome(study, best, 1) / "model.safetensors").stat().st_mtime_ns == first
    assert results.seeds == (1, 2, 3)


def test_ctrl_c_ends_all_processes_and_says_how_to_go_on(tmp_path, data):
    study = make(tmp_path, data, LOSO, searched=({},))
    study.write_meta(space=study.meta["space"] | {"epochs": 100_000})
    running = subprocess.Popen(
        [sys.executable, "-m", "sersearch", "evaluate", "one", "--studies", str(tmp_path), "--seeds", "2"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert running.stderr is not None
    assert "trains 2 of 2 models" in running.stderr.readline()
    children = _until(lambda: _training(running.pid))
    os.killpg(running.pid, signal.SIGINT)
    _, err = running.communicate(timeout=300)
    assert running.returncode == 130
    assert err == "Interrupted. 0 of 2 models are trained; the same command trains the others\n"
    assert _until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))
    assert not (study.folder / "evaluation" / "results.json").exists()


@pytest.mark.slow
def test_processes_do_not_outlive_a_killed_command(tmp_path, data):
    study = make(tmp_path, data, LOSO, searched=({},))
    study.write_meta(space=study.meta["space"] | {"epochs": 100_000})
    command = [sys.executable, "-m", "sersearch", "evaluate", "one", "--studies", str(tmp_path), "--seeds", "2"]
    running = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    children = _until(lambda: _training(running.pid))
    running.kill()
    running.wait()
    assert _until(lambda: not any(_alive(pid) for pid in children))


def _training(parent: int) -> list[int]:
    """Children that compute: two or none."""
    found = []
    for pid in map(int, Path(f"/proc/{parent}/task/{parent}/children").read_text().split()):
        if "spawn_main" in Path(f"/proc/{pid}/cmdline").read_text() and _seconds(pid) > 2:
            found.append(pid)
    return found if len(found) == 2 else []


def _seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _until(holds):
    deadline = time.monotonic() + 300
    while not (found := holds()):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


# --- what is told -----------------------------------------------------------------------------------------------------


def test_figures_by_condition_and_of_each_attribute_s_winner(tmp_path, at_hand):
    noisy = vectors(tmp_path / "noisy", conditions=("snr0", "snr10"), speakers=4, repetitions=2)
    searched = ({}, {"alpha": 0.6, "beta": 0.4}, {"alpha": 0.0})
    study = make(tmp_path, noisy, Protocol("loso", "s1", unlabeled_condition="snr10"), "attributes", searched=searched)
    results = evaluate_seeds(study, seeds=2)
    metrics = ["dev_ccc_activation", "dev_ccc_valence", "dev_ccc_dominance"]
    assert list(results.further) == ["clean", "snr10", "snr0", *metrics]
    assert results.further["clean"].scores == results.scores
    look_at, test = Look.of(study), len(next(iter(results.parts.values())).ids)
    assert 3 * test == len(look_at.rows)
    for metric in metrics:
        own, record = results.further[metric], study.best(metric)
        assert (own.origin["trial"], own.origin["metric"]) == (record.number, metric)
        predictor = Predictor.from_checkpoint(study, record, metric, outcome(study, record.number, 2))
        expected = look_at.tested(predictor)
        assert [run["epoch"] for run in own.origin["runs"]][1] == predictor.card["epoch"]
        assert np.array_equal(own.outputs[2]["test speaker s1"], expected.of(look_at.clean).outputs.numpy())
        snr0 = expected.of(look_at.condition == "snr0").figures()
        assert own.further["snr0"].scores["ccc"][2]["test speaker s1"] == snr0["ccc"]
    shown = text(results)
    for told in ("condition snr0", "best by dev_ccc_valence", "CCC activation", "seeds (1, 2)", "by utterance, of 8"):
        assert told in shown
    lines = [line.split(",") for line in to_csv(results).splitlines()]
    assert {(line[0], line[1]) for line in lines[1:]} == {
        *{("", ""), *(("", c) for c in ("clean", "snr10", "snr0"))},
        *{(metric, c) for metric in metrics for c in ("", "clean", "snr10", "snr0")},
    }
    (whole,) = (line for line in lines if line[:3] == ["", "snr0", "all"] and line[5] == "ccc")
    assert float(whole[6]) == results.further["snr0"].spread("ccc").mean
    assert Results.load(study.folder / "evaluation" / "results.json").further["snr0"].scores == (
        results.further["snr0"].scores
    )


def text(results: Results) -> str:
    from rich.console import Console

    console = Console(width=200, record=True, file=open(os.devnull, "w"))  # noqa: PTH123, SIM115
    with console.file:
        console.print(to_rich(results))
    return " ".join(console.export_text().split())


# --- folds ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def folds(tmp_path, data, at_hand) -> list[Study]:
    return [make(tmp_path, data, Protocol("loso", name), name=f"on-{name}", searched=({},)) for name in ("s0", "s1")]


def test_the_speakers_of_loso_are_put_together(folds):
    whole = evaluate_folds(folds, "loso", seeds=2)
    alone = [Results.load(study.folder / "evaluation" / "results.json") for study in folds]
    assert (whole.study, whole.protocol) == ("loso", "LOSO, each speaker tested in turn")
    assert whole.caption == "LOSO, each speaker tested in turn; 2 of 5 test parts"
    assert whole.folds == ("test speaker s0", "test speaker s1")
    each = [own.scores["ua"][seed][fold] for own in alone for fold in own.folds for seed in (1, 2)]
    spread = whole.spread("ua")
    assert (spread.mean, spread.deviation, spread.n) == pytest.approx((np.mean(each), np.std(each, ddof=1), 4))
    assert whole.limits("ua")["low"] is None, "of two test parts"
    shown = text(whole)
    assert "No 95% interval: a bootstrap interval over 2 test parts would be far too narrow" in shown
    assert f"test speaker s0 {alone[0].spread('ua').mean:.3f}" in shown
    assert "2 of 5 test parts" in shown
    again = load_results("loso=on-s0,on-s1", folds[0].folder.parent)
    assert again.scores == whole.scores


def test_partitions_drawn_by_seed_are_put_together(tmp_path, data, at_hand):
    """As the multimodal ladder paper has 20 of them; each search has the seed of its partition."""
    studies = [
        make(tmp_path, data, Protocol("speaker", seed=n), name=f"run{n}", searched=({},), seed=n) for n in (0, 1)
    ]
    whole = evaluate_folds(studies, "all", seeds=1)
    assert (whole.protocol, whole.seeds) == ("speaker-disjoint splits, drawn by seed", (2,)), "fresh for both"
    assert whole.folds == ("partition seed 0", "partition seed 1")
    alone = load_results("run1", studies[1].folder.parent)
    assert alone.caption == "speaker-disjoint split, seed 1"
    assert whole.scores["ua"][2]["partition seed 1"] == alone.scores["ua"][2]["partition seed 1"]
    with pytest.raises(StudyError, match="protocols are 'speaker-disjoint split, seed 0' and 'speaker-disjoint split,"):
        compare([load_results("run0", studies[0].folder.parent), alone], "ua")
    other = replace(whole, study="other", scores={"ua": {2: {"partition seed 0": 0.1, "partition seed 1": 0.0}}})
    assert compare([other, replace(whole, scores={"ua": whole.scores["ua"]})], "ua").pairs[0].outcome.n == (2, 2)
    twice = make(tmp_path, data, Protocol("speaker", seed=1), name="twice", searched=({},), seed=5)
    with pytest.raises(StudyError, match="studies run1 and twice are both of one test part, partition seed 1"):
        evaluate_folds([studies[1], twice], "x", seeds=1)


def test_the_folds_of_kfold_are_put_together(tmp_path, data, at_hand):
    studies = [
        make(tmp_path, data, Protocol("kfold", fold=n, folds=3), name=f"fold-{n}", searched=({},)) for n in (1, 2, 3)
    ]
    whole = evaluate_folds(studies, "all", seeds=1)
    assert whole.caption == "3-fold with all speakers in each fold, each tested in turn, seed 0"
    assert whole.folds == ("fold 1", "fold 2", "fold 3")
    labelled = Look.of(studies[0]).table.utterances["emotion"].notna().sum()
    assert sum(len(part.ids) for part in whole.parts.values()) == labelled
    assert "speaker s4" in text(whole)


def test_what_does_not_belong_together_is_refused_before_it_is_trained(folds, tmp_path, data, at_hand):
    root = folds[0].folder.parent

    def refused(study: Study, message: str) -> None:
        with pytest.raises(StudyError, match=message):
            evaluate_folds([folds[0], study], "x", seeds=1)

    refused(
        make(root, data, Protocol("loso", "s0"), name="twice", searched=({},)), "are both of one test part, test sp"
    )
    kfold = make(root, data, Protocol("kfold", fold=1, folds=3), name="kfold", searched=({},))
    refused(kfold, r"on-s0 and kfold are not folds of one protocol: protocol is LOSO, .* in one and 3-fold")
    refused(make(root, data, LOSO, "attributes", name="ccc", searched=({},)), "target is emotion in one and attributes")
    other = vectors(tmp_path / "other", seed=3)
    refused(make(root, other, LOSO, name="elsewhere", searched=({},)), "prepared corpus is .* in one and")
    longer = make(root, data, LOSO, name="longer", searched=({},))
    longer.write_meta(space=longer.meta["space"] | {"fixed": {"model": "dense"}, "epochs": 60})
    refused(longer, "search space.fixed.model is None in one and dense in the other")
    longer.write_meta(space=longer.meta["space"] | {"fixed": {}})
    refused(longer, "search space.epochs is 4 in one and 60 in the other")
    pretrained = make(root, data, LOSO, name="pretrained", searched=({},))
    pretrained.write_meta(data=pretrained.meta["data"] | {"aux_hash": "5ba1"})
    refused(pretrained, "auxiliary corpus is None in one and 5ba1 in the other")
    with pytest.raises(ConfigError, match="name each study once"):
        evaluate_folds([folds[0], folds[0]], "x", seeds=1)
    assert at_hand == []


def test_results_of_other_seeds_or_metrics_are_not_put_together(folds):
    first, second = (evaluate_seeds(study, seeds=n) for study, n in zip(folds, (1, 2), strict=True))
    with pytest.raises(StudyError, match="seeds is 1 in one and 1, 2 in the other"):
        merged([first, second], "x")
    second = replace(first, study="on-s1", origin={**first.origin, "metric": "dev_wa"})
    with pytest.raises(StudyError, match="metric is dev_ua in one and dev_wa in the other"):
        merged([first, second], "x")


def test_a_study_that_was_not_evaluated_and_results_that_it_has_not(folds):
    root = folds[0].folder.parent
    with pytest.raises(StudyError, match=r"on-s0 has no results of seeds; `sersearch evaluate .*/on-s0 --seeds N`"):
        load_results("on-s0", root)
    evaluate_seeds(folds[0], seeds=1)
    with pytest.raises(ConfigError, match=r"study on-s0 has no results of 'snr5'; expected one of \(there are none\)"):
        load_results("on-s0", root, "snr5")
    (folds[0].folder / "evaluation" / "results.json").write_text("{}")
    with pytest.raises(StudyError, match="not the results of a study"):
        load_results("on-s0", root)


def test_test_utterances_are_not_read_while_models_are_trained(study, at_hand, monkeypatch):
    seen = []
    real = look.Look.tested
    monkeypatch.setattr(look.Look, "tested", lambda self, predictor: seen.append(len(at_hand)) or real(self, predictor))
    evaluate_seeds(study, seeds=3)
    assert seen == [3, 3, 3], "all are trained before the first is tested"
