"""What a bundle's README.md says, and that its figures are the study's."""

from __future__ import annotations

import hashlib
import json
import re
from functools import partialmethod
from pathlib import Path

import pytest

from sersearch.data.protocols import Protocol
from sersearch.evaluation import evaluate, repeated, retraining
from sersearch.evaluation.repeated import evaluate_seeds
from sersearch.evaluation.results import Results
from sersearch.export import Predictor, export_bundle
from sersearch.families import family_names, get_family
from sersearch.modelcard import model_card
from sersearch.study import Study
from tests.evaluation.retrained import make, vectors
from tests.test_export import audible_table
from tests.trained import make_study


@pytest.fixture
def study(tmp_path, monkeypatch) -> Study:
    def here(study, jobs, workers=None, on_event=None):
        for job in jobs:
            retraining._train(str(study.folder), *job)

    monkeypatch.setattr(repeated, "retrain", here)
    monkeypatch.setattr(Results, "interval", partialmethod(Results.interval, resamples=100))
    return make(tmp_path, vectors(tmp_path / "data"), Protocol("loso", "s1"))


def card(study: Study, **how: object) -> str:
    out = export_bundle(study, study.folder / "model", **how)  # type: ignore[arg-type]
    return (out / "README.md").read_text()


def test_the_card_says_what_it_is_what_it_learnt_from_and_what_it_is_not_for(study):
    best, text = study.best(), card(study, data_licence="CC BY-NC-SA 4.0")
    assert text.startswith("# ladder: emotion in speech, learnt from made\n")
    assert "Semi-Supervised Speech Emotion Recognition With Ladder Networks" in text
    assert "- Corpus: made, synthetic" in text
    parts = json.loads((study.folder / "split.json").read_text())["parts"]
    for name, part in parts.items():
        line = f"utterances {part['utterances']}, hours {part['hours']}, speakers {len(part['speakers'])}"
        assert f"- {name.capitalize()}: {line}" in text
    assert "- Licence of the data: CC BY-NC-SA 4.0" in text
    assert "- Protocol: LOSO, test speaker s1" in text
    assert "ladders, which searches hidden, by random; trials 2, seed 0" in text
    assert f"- Trial {best.number}, epoch {best.best_epoch} of study one: the best by dev_ua" in text
    assert "says nothing about speech" in text
    assert "Not for decisions about people" in text
    assert "Of the test part: none, it was not used for this model." in text
    weights = hashlib.sha256((study.folder / "model" / "model.safetensors").read_bytes()).hexdigest()
    assert f"`{weights}`" in text
    assert re.search(r"sersearch \d", text)
    assert "- Licence of the data: not given" in card(study)


def test_a_trial_that_was_named_is_not_called_the_best(study):
    best = study.best()
    (other,) = [trial for trial in study.trials() if trial.number != best.number]
    assert (
        f"- Trial {other.number}, epoch {other.best_epoch} of study one: named by hand, where trial {best.number} is "
        "the best; of its epochs the best by dev_ua, a figure of the development part"
    ) in card(study, trial=other.number)


def test_its_figures_are_those_of_the_study(study):
    best = study.best()
    metrics = best.epochs[best.best_epoch - 1]["metrics"]
    for name in ("dev_ua", "dev_wa"):
        assert f"- {name}: {metrics[name]:.3f}" in card(study)
    assert "train_loss" not in card(study)
    own, results = evaluate(study), evaluate_seeds(study, seeds=2)
    text = card(study)
    ends = own["intervals"]["ua"]
    assert f"| ua | {own['ua']:.3f} | [{ends['low']:.3f}, {ends['high']:.3f}], 12 utterances; " in text
    assert f"| f1 | {own['f1']:.3f} | none |" in text
    assert "Of the test part, trained anew with 2 seeds:" in text
    for name, found in results.summary.items():
        line = f"| {name} | {found['mean']:.3f} ± {found['deviation']:.3f} | [{found['low']:.3f}, {found['high']:.3f}]"
        assert line in text
    told = json.loads((study.folder / "model" / "bundle.json").read_text())["test"]
    assert told["seeds"]["seeds"] == [1, 2]
    assert told["model"]["figures"]["wa"]["mean"] == own["wa"]


def test_figures_of_another_trial_are_not_its_own(study):
    evaluate(study)
    evaluate_seeds(study, seeds=1)
    assert "none, it was not used for this model" in card(study, trial=1 - study.best().number)
    assert "The test part was used before" not in card(study)
    other = 1 - study.best().number
    evaluate(study, trial=other, again=True)
    assert f"used before, for trial {study.best().number}: this is too good" in card(study, trial=other)


def test_each_attribute_s_winner_has_its_own_figures(tmp_path, study):
    searched = ({}, {"alpha": 0.6, "beta": 0.4}, {"alpha": 0.0})
    data = tmp_path / "data"
    attributes = make(tmp_path, data, Protocol("loso", "s1"), "attributes", name="ccc", searched=searched)
    own, results = evaluate(attributes), evaluate_seeds(attributes, seeds=2)
    text, metric = card(attributes, metric="dev_ccc_valence"), "dev_ccc_valence"
    assert f"| ccc\\_valence | {own['winners'][metric]['ccc_valence']:.3f} | none |" in text
    found = results.further[metric].summary["ccc_valence"]
    assert f"| ccc\\_valence | {found['mean']:.3f} ± {found['deviation']:.3f} |" in text


def test_features_by_opensmile_bring_its_licence(study):
    seen = Predictor.from_study(study).card | {"data": None}
    assert "openSMILE" not in model_card(seen, "0")
    seen["features"] = {**seen["features"], "versions": {"opensmile": "2.6"}}
    assert "openSMILE, whose licence is for research" in model_card(seen, "0")


def test_names_are_text_and_not_markup(study):
    study.meta["data"]["corpus"] = "<img src=x>|`a`\n# B"
    text = card(study, data_licence="[x](javascript:1)")
    assert "<img" not in text
    assert "\n# B" not in text
    assert r"\[x\](javascript:1)" in text


def test_a_study_whose_files_are_damaged_has_a_card_that_says_less(tmp_path):
    study = make_study(tmp_path / "small", audible_table(), Protocol("loso", "s0"), epochs=1)
    (study.folder / "split.json").write_text("{")
    text = (export_bundle(study, tmp_path / "model") / "README.md").read_text()  # type: ignore[arg-type]
    assert "- Protocol: unknown" in text
    assert Path(tmp_path / "model" / "bundle.json").is_file()


def test_every_family_names_its_paper():
    for name in family_names():
        assert re.search(r'^\w+.*: ".+", .*20\d\d$', get_family(name).paper), name
