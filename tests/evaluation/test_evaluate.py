from __future__ import annotations

import csv
import dataclasses
import json
import shutil
from functools import partialmethod
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score
from sklearn.svm import SVR

from sersearch.data import heldout
from sersearch.data.batches import LabelSpace
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.evaluation import evaluate
from sersearch.evaluation.look import Outputs
from sersearch.evaluation.results import Results
from sersearch.evaluation.verification import _by_speaker, verification
from sersearch.export import Predictor
from tests.synthetic import make_table
from tests.trained import LadderStudy, SmallStudy, make_ladder_study, make_study

TABLES = {
    "made": make_table(speakers=6),
    "others": dataclasses.replace(make_table(speakers=2, seed=7, corpus="others"), root=Path("others")),
    "strange": dataclasses.replace(
        make_table(speakers=2, corpus="strange"),
        root=Path("strange"),
        card={**make_table().card, "parameters": {"window": 1}},
    ),
}


@pytest.fixture(autouse=True)
def tables(monkeypatch):
    monkeypatch.setattr(FeatureTable, "open", classmethod(lambda cls, root, features: TABLES[str(root)]))
    monkeypatch.setattr(Results, "interval", partialmethod(Results.interval, resamples=50))


@pytest.fixture
def loso(tmp_path) -> SmallStudy:
    return make_study(tmp_path / "small", TABLES["made"], Protocol("loso", "s1"))


def test_figures_are_those_of_the_predictions_on_the_held_out_speaker(loso):
    result = evaluate(loso)
    with (loso.folder / "evaluation" / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    table = TABLES["made"]
    test = heldout.test_rows(Protocol("loso", "s1"), table, "emotion")
    assert [row["id"] for row in rows] == table.utterances["id"].iloc[test].tolist()
    labels, predicted = [row["label"] for row in rows], [row["predicted"] for row in rows]
    assert labels == table.utterances["emotion"].iloc[test].tolist()
    assert result["ua"] == pytest.approx(balanced_accuracy_score(labels, predicted))
    assert result["wa"] == pytest.approx(np.mean(np.array(labels) == np.array(predicted)))
    assert result["f1"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    macro = precision_score(labels, predicted, average="macro", zero_division=0)
    assert result["precision"] == pytest.approx(macro)
    assert result["utterances"] == len(test) == np.sum(result["confusion"])
    assert result["speakers"] == {"s1": {k: result[k] for k in ("utterances", "ua", "wa", "precision", "f1")}}
    for row in rows:
        values = [float(row[name]) for name in result["classes"]]
        assert row["predicted"] == result["classes"][int(np.argmax(values))]
        assert sum(values) == pytest.approx(1, abs=1e-5)
    first = Predictor.from_study(loso).outputs(table[int(test[0])])
    assert [float(rows[0][name]) for name in result["classes"]] == first.tolist()


def test_the_result_names_its_origin_and_is_on_disk(loso):
    result = evaluate(loso)
    assert json.loads((loso.folder / "evaluation" / "test.json").read_text()) == result
    assert result["protocol"] == "LOSO, test speaker s1, development speaker s2"
    assert (result["study"], result["trial"], result["target"], result["synthetic"]) == ("small", 0, "emotion", True)
    assert (result["metric"], result["epoch"]) == ("dev_ua", loso.best().best_epoch)
    assert (result["condition"], result["conditions"], result["winners"], result["svr"]) == (None, {}, {}, None)
    assert result["tested_before"] == []


def test_a_second_look_is_the_first_result_again(loso, monkeypatch):
    first = evaluate(loso)
    monkeypatch.setattr(Predictor, "from_study", None)
    assert evaluate(loso) == first
    assert evaluate(loso, trial=0) == first


def test_another_trial_is_refused_unless_asked_again(loso):
    evaluate(loso)
    with pytest.raises(StudyError, match=r"trial 0 was already tested, UA 0\.\d+; testing trial 1 too .* with --again"):
        evaluate(loso, trial=1)
    loso.winner = 1
    with pytest.raises(StudyError, match="testing trial 1 too would let the test part choose"):
        evaluate(loso)
    assert evaluate(loso, trial=1, again=True)["tested_before"] == [0]
    assert evaluate(loso, trial=0, again=True)["tested_before"] == [0, 1]


def test_a_metric_that_a_study_has_no_winner_by(loso):
    with pytest.raises(ConfigError, match=r"metric 'dev_wa': study small keeps no best epochs by it; .* dev_ua"):
        evaluate(loso, metric="dev_wa")


def test_features_made_anew_since_the_study(loso, monkeypatch):
    other = dataclasses.replace(TABLES["made"], card={**TABLES["made"].card, "hash": "new"})
    monkeypatch.setitem(TABLES, "made", other)
    with pytest.raises(StudyError, match="its features were changed after study small"):
        evaluate(loso)
    assert not (loso.folder / "evaluation").exists()


def test_a_damaged_result(loso):
    evaluate(loso)
    (loso.folder / "evaluation" / "test.json").write_text("{")
    with pytest.raises(StudyError, match=r"test\.json: cannot be read .*; remove it"):
        evaluate(loso)


def test_figures_by_speaker(tmp_path):
    study = make_study(tmp_path / "small", TABLES["made"], Protocol("kfold", fold=1, folds=4), epochs=1)
    result = evaluate(study)
    assert sorted(result["speakers"]) == [f"s{n}" for n in range(6)]
    assert sum(s["utterances"] for s in result["speakers"].values()) == result["utterances"]
    assert result["speaker_verification"] == {
        "eer": None,
        "reason": "the test speakers also train under this protocol; verification needs unseen speakers",
    }


# --- attributes, conditions -------------------------------------------------------------------------------------------

TABLES["vectors"] = dataclasses.replace(
    make_table(dims=12, vectors=True, attributes=True, speakers=5, repetitions=3), root=Path("vectors")
)
TABLES["noisy"] = dataclasses.replace(
    make_table(dims=12, vectors=True, attributes=True, conditions=("snr0", "snr10")), root=Path("noisy")
)
ATTRIBUTES = ["activation", "valence", "dominance"]


@pytest.fixture
def ladders(tmp_path) -> LadderStudy:
    return make_ladder_study(tmp_path, TABLES["vectors"], Protocol("loso", "s1"))


def read(folder: Path) -> list[dict[str, str]]:
    with (folder / "evaluation" / "predictions.csv").open() as file:
        return list(csv.DictReader(file))


def by_hand(rows: list[dict[str, str]], attribute: str) -> float:
    x, y = (np.array([float(row[name]) for row in rows]) for name in (f"{attribute}_predicted", attribute))
    return 2 * np.mean((x - x.mean()) * (y - y.mean())) / (x.var() + y.var() + (x.mean() - y.mean()) ** 2)


def test_attributes_are_scored_by_ccc_on_the_corpus_s_scale(ladders):
    result, rows = evaluate(ladders.study), read(ladders.study.folder)
    table = TABLES["vectors"].utterances
    test = heldout.test_rows(Protocol("loso", "s1"), TABLES["vectors"], "attributes")
    assert [row["id"] for row in rows] == table["id"].iloc[test].tolist()
    for name in ATTRIBUTES:
        assert [float(row[name]) for row in rows] == pytest.approx(table[name].iloc[test].tolist())
        assert result[f"ccc_{name}"] == pytest.approx(by_hand(rows, name), abs=1e-5)
    assert result["ccc"] == pytest.approx(np.mean([result[f"ccc_{name}"] for name in ATTRIBUTES]))
    assert result["utterances"] == len(test) == result["speakers"]["s1"]["utterances"]
    assert result["speakers"]["s1"]["ccc"] == result["ccc"]
    assert (result["attributes"], "confusion" in result, result["conditions"]) == (ATTRIBUTES, False, {})
    assert result["speaker_verification"] == {"eer": None, "reason": "the model has no speaker task"}


def test_what_won_by_each_attribute_is_tested_in_the_same_look(ladders):
    study = ladders.study
    result = evaluate(study)
    names = [f"dev_ccc_{name}" for name in ATTRIBUTES]
    assert list(result["winners"]) == names
    for metric, winner in result["winners"].items():
        value, epoch = study.trial(winner["trial"]).best_of(metric)
        assert value == max(trial.best_of(metric)[0] for trial in study.trials())
        assert winner["epoch"] == epoch
    alone = evaluate(study, metric=names[1], again=True)
    winner = result["winners"][names[1]]
    assert {name: alone[name] for name in winner} == winner
    assert (alone["metric"], alone["winners"]) == (names[1], {})


def test_another_metric_is_another_choice(ladders):
    study, metric = ladders.study, "dev_ccc_valence"
    first = evaluate(study)
    with pytest.raises(
        StudyError, match=rf"best by dev_ccc, was already tested, CCC .*; testing trial \d, best by {metric}, too"
    ):
        evaluate(study, metric=metric)
    assert evaluate(study) == first


@pytest.mark.parametrize("target", ["attributes", "emotion"])
def test_a_test_part_of_several_conditions(tmp_path, target):
    protocol = Protocol("loso", "s1", unlabeled_condition="snr10")
    study = make_ladder_study(tmp_path, TABLES["noisy"], protocol, target, epochs=2).study
    result, rows = evaluate(study), read(study.folder)
    assert list(result["conditions"]) == ["clean", "snr10", "snr0"]
    clean = [row for row in rows if row["condition"] == "clean"]
    assert len(rows) == 3 * len(clean) == 3 * result["utterances"] == 3 * result["speakers"]["s1"]["utterances"]
    assert result["condition"] == "clean"
    figures = ("utterances", "ccc", "ccc_valence") if target == "attributes" else ("utterances", "ua", "wa", "f1")
    assert {name: result[name] for name in figures}.items() <= result["conditions"]["clean"].items()
    for name, of in result["conditions"].items():
        own = [row for row in rows if row["condition"] == name]
        if target == "attributes":
            assert of["ccc_valence"] == pytest.approx(by_hand(own, "valence"), abs=1e-5)
        else:
            assert of["wa"] == pytest.approx(np.mean([row["label"] == row["predicted"] for row in own]))


def test_what_won_by_each_attribute_is_tested_in_each_condition(tmp_path):
    study = make_ladder_study(tmp_path, TABLES["noisy"], Protocol("loso", "s1", unlabeled_condition="snr10")).study
    result = evaluate(study)
    for metric, winner in result["winners"].items():
        alone = evaluate(study, winner["trial"], metric=metric, again=True)
        assert list(winner["conditions"]) == ["clean", "snr10", "snr0"]
        assert {name: alone[name] for name in winner} == winner
    trials = {(winner["trial"], winner["epoch"]) for winner in result["winners"].values()}
    assert len(trials) > 1, "the attributes have different winners, or this shows little"


def test_a_figure_that_is_not_one_is_none(ladders, monkeypatch):
    """One test utterance a speaker whose prediction is exact has a CCC of 0 / 0."""
    space = LabelSpace((), (), (), ("valence",), (0.0,), (1.0,))
    tested = Outputs(space, np.arange(1), torch.ones(1, 1), torch.ones(1, 1))
    assert tested.figures() == {"utterances": 1, "ccc": None, "ccc_valence": None}


# --- the two-step baseline --------------------------------------------------------------------------------------------


def test_the_two_step_baseline_learns_from_the_ladder_s_last_hidden_layer(ladders):
    study, table = ladders.study, TABLES["vectors"]
    result = evaluate(study, svr=True)
    predictor = Predictor.from_study(study)
    split = Protocol("loso", "s1").split(table, "attributes")

    def hidden(rows: np.ndarray) -> np.ndarray:
        x = (table.frames[table.offsets[rows]] - predictor.normaliser.mean) / predictor.normaliser.std
        with torch.inference_mode():
            return predictor.model.hidden(torch.from_numpy(x.astype(np.float32))[:, :, None]).numpy()

    for part, rows in (("dev", split.dev), ("test", heldout.test_rows(split.protocol, table, "attributes"))):
        for name in ATTRIBUTES:
            labels = table.utterances[name].to_numpy(float)
            mean, std = labels[split.train].mean(), labels[split.train].std()
            fitted = SVR(C=1.0, epsilon=0.1).fit(hidden(split.train), (labels[split.train] - mean) / std)
            values = fitted.predict(hidden(rows)) * std + mean
            told = [{name: a, f"{name}_predicted": b} for a, b in zip(labels[rows], values, strict=True)]
            expected = by_hand(told, name)
            assert result["svr"][part][f"ccc_{name}"] == pytest.approx(expected, abs=5e-3)  # libsvm stops at 1e-3
    assert result["svr"]["test"]["utterances"] == result["utterances"]


def test_the_two_step_baseline_can_be_added_later_without_another_look_of_the_network(ladders, monkeypatch):
    study = ladders.study
    both = evaluate(study, svr=True)
    shutil.rmtree(study.folder / "evaluation")
    first = evaluate(study)
    assert first["svr"] is None
    with monkeypatch.context() as patched:
        patched.setattr(Predictor, "outputs", None)
        assert evaluate(study, svr=True) == both, "nothing was tested before"
    assert json.loads((study.folder / "evaluation" / "test.json").read_text()) == both
    assert {name: value for name, value in both.items() if name != "svr"}.items() <= first.items()
    monkeypatch.setattr(Predictor, "from_study", None)
    assert evaluate(study) == evaluate(study, svr=True) == both


def test_the_baseline_is_added_to_the_model_that_was_tested_and_to_no_other(ladders):
    study = ladders.study
    first = evaluate(study)
    with pytest.raises(StudyError, match=r"testing trial .* too would let the test part choose"):
        evaluate(study, trial=(first["trial"] + 1) % 3, svr=True)
    path = study.folder / "evaluation" / "test.json"
    path.write_text(json.dumps(first | {"epoch": first["epoch"] + 1}))
    with pytest.raises(StudyError, match=rf"has trained on since: its best epoch is {first['epoch']}; .* --again"):
        evaluate(study, svr=True)
    assert json.loads(path.read_text())["svr"] is None


def test_studies_that_have_no_two_step_baseline(loso, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(FeatureTable, "open", None)
        with pytest.raises(ConfigError, match="takes its features from a ladder network, not from AAE of family aae"):
            evaluate(loso, svr=True)
    assert not (loso.folder / "evaluation").exists(), "the test part was not touched"
    first = evaluate(loso)
    with pytest.raises(ConfigError, match="takes its features from a ladder network"):
        evaluate(loso, svr=True)
    assert evaluate(loso) == first
    classes = make_ladder_study(tmp_path, TABLES["vectors"], Protocol("loso", "s1"), "emotion", epochs=1)
    with pytest.raises(ConfigError, match="a regressor, and this study tells classes apart"):
        evaluate(classes.study, svr=True)
    assert not (classes.study.folder / "evaluation").exists()


# --- speaker verification ---------------------------------------------------------------------------------------------


class Ears:
    """A predictor whose d-vectors are told."""

    def __init__(self, table, directions, trained=()):
        self.labels = type("Labels", (), {"speaker": tuple(trained)})
        self.card = {"features": table.card}
        self.directions = directions
        self.rng = np.random.default_rng(0)

    def embedding(self, matrix):
        speaker = int(matrix[0, 0])
        return torch.from_numpy(self.directions[speaker] + 0.01 * self.rng.normal(size=8))


def voices(speakers: int, each: int):
    """A table in which each frame is the speaker's number."""
    table = make_table(dims=1, speakers=speakers, repetitions=each, unlabelled=0)
    numbers = table.utterances["speaker"].str[1:].astype(int).to_numpy()
    frames = np.repeat(numbers, np.diff(table.offsets)).astype(np.float32)[:, None]
    return dataclasses.replace(table, frames=frames)


def test_speakers_who_differ_are_told_apart():
    table = voices(3, each=20)
    result = verification(Ears(table, np.eye(8)), table, np.arange(len(table)), np.zeros(0, int))
    # 80 utterances each: 20 enrol, 60 are scored against three models.
    assert result == {
        "eer": 0.0,
        "speakers": ["made/s0", "made/s1", "made/s2"],
        "trials": 540,
        "same_speaker_trials": 180,
    }


def test_speakers_who_sound_alike_are_not():
    table = voices(2, each=20)
    ears = Ears(table, np.ones((2, 8)))
    assert verification(ears, table, np.arange(len(table)), np.zeros(0, int))["eer"] > 0.3


def test_a_single_test_speaker_is_set_against_the_development_speaker(loso):
    result = evaluate(loso)["speaker_verification"]
    assert result["speakers"] == ["made/s1", "made/s2"]
    assert 0 <= result["eer"] <= 1
    # 8 labelled utterances each: 4 enrol, 4 are scored against two models.
    assert (result["trials"], result["same_speaker_trials"]) == (16, 8)


def test_impostors_from_another_corpus_unless_they_trained(loso):
    result = evaluate(loso, impostors="others")["speaker_verification"]
    assert result["speakers"] == ["made/s1", "made/s2", "others/s0", "others/s1"]
    table = voices(2, each=2)
    ears = Ears(table, np.eye(8), trained=["others/s0", "others/s1"])
    ears.card = {"features": TABLES["others"].card}
    alone = verification(ears, table, np.arange(4), np.zeros(0, int), impostors="others")
    assert alone == {
        "eer": None,
        "reason": "EER needs two unseen speakers with two utterances each; --impostors adds a corpus of them",
    }


def test_impostors_that_a_result_was_not_made_with_are_not_passed_over(loso):
    first = evaluate(loso)
    with pytest.raises(StudyError, match=r"already tested, with no impostors; .* --again"):
        evaluate(loso, impostors="others")
    second = evaluate(loso, impostors="others", again=True)
    assert second["speaker_verification"] != first["speaker_verification"]
    assert evaluate(loso, impostors="others") == second
    with pytest.raises(StudyError, match=r"already tested, with .*others impostors"):
        evaluate(loso)


def test_enrolment_is_of_all_emotions_though_ids_begin_with_them():
    table = voices(2, each=10)
    rows = np.argsort(table.utterances["emotion"].to_numpy(object), kind="stable")
    (_, drawn), _ = _by_speaker(table, rows).values()
    assert set(table.utterances["emotion"].iloc[drawn[:20]]) == set(table.utterances["emotion"])
    (_, again), _ = _by_speaker(table, rows).values()
    assert drawn.tolist() == again.tolist()
    assert sorted(drawn) == np.flatnonzero(table.utterances["speaker"] == "s0").tolist()


def test_impostors_with_other_features(loso):
    with pytest.raises(
        DataError,
        match=r"strange: its spectrogram features were made with parameters \{'window': 1\}, those that it goes with",
    ):
        evaluate(loso, impostors="strange")
    assert not (loso.folder / "evaluation").exists()


def test_a_model_without_a_speaker_task():
    table = voices(2, each=2)
    ears = Ears(table, np.eye(8))
    ears.embedding = lambda matrix: None
    result = verification(ears, table, np.arange(len(table)), np.zeros(0, int))
    assert result == {"eer": None, "reason": "the model has no speaker task"}
