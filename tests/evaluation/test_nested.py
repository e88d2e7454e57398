"""A nested study on its test part: each fold's model is tested, and figures are the means."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sersearch.data.atomic import write_json
from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.protocols import Protocol, rotations
from sersearch.data.sums import with_sums
from sersearch.evaluation import evaluate
from sersearch.evaluation.look import Look
from sersearch.evaluation.nested import mean
from sersearch.evaluation.repeated import evaluate_seeds
from sersearch.evaluation.retraining import outcome
from sersearch.export import Predictor, export_bundle
from sersearch.families.aae.family import FAMILY
from sersearch.study import Study
from sersearch.training import Engine, Members, MembersState
from tests.synthetic import make_table, write_table
from tests.trained import CONFIG


def turn_data(study: Study, turn: int) -> TrainingData:
    look = Look.of(study, turn)
    return training_data(look.table, look.split, SegmentView(CONFIG.segment_frames, CONFIG.segment_hop))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Study:
    """One trial, in two folds with two seeds each."""
    folder = tmp_path_factory.mktemp("nested")
    table, protocol = make_table(speakers=5), Protocol("loso", "s0", dev_folds=2)
    write_table(folder / "data", table)
    card = json.loads((folder / "data" / "spectrogram" / "card.json").read_text())
    table = replace(table, root=folder / "data", card=card)
    view = SegmentView(CONFIG.segment_frames, CONFIG.segment_hop)
    datas = [training_data(table, rule.split(table), view) for rule in rotations(protocol)]
    data = {"path": str(folder / "data"), "features": "spectrogram", "target": "emotion", "synthetic": True}
    meta = {"family": "aae", "seed": 0, "objective": {"metric": "dev_ua", "mode": "max"}, "state": "finished"}
    space = {"repeats": 2, "epochs": 3, "fixed": {}}
    made = Study.create(
        "nested", {**meta, "space": space, "data": {**data, "protocol": protocol.to_dict()}}, folder / "studies"
    )
    contexts = [own.context() for own in datas]
    write_json(made.folder / "context.json", contexts[0] | {"rotations": contexts})
    members = Members([Engine(FAMILY, own) for own in datas], CONFIG, (0, 1), 3)
    made.append("start", 0, params=CONFIG.to_dict(), searched={})
    while not members.done:
        result = members.epoch()
        told = {"metrics": result.metrics, "value": result.value, "best": result.best, "seconds": 1.0}
        made.append("epoch", 0, epoch=result.epoch, checkpoint="ray/trial", **told)
    made.append("end", 0, state="complete", reason="")
    (made.folder / "ray" / "trial").mkdir(parents=True)
    for name, content in with_sums(members.state().files()).items():
        (made.folder / "ray" / "trial" / name).write_bytes(content)
    return made


def test_figures_are_the_means_over_the_folds_models(study: Study) -> None:
    result = evaluate(study)
    assert len(result["folds"]) == 2
    assert [fold["utterances"] for fold in result["folds"]] == [8, 8]
    for name in ("ua", "wa", "f1"):
        assert result[name] == pytest.approx(sum(fold[name] for fold in result["folds"]) / 2)
    assert result["speakers"]["s0"]["ua"] == pytest.approx(result["ua"])
    assert sum(map(sum, result["confusion"])) == 16, "each utterance once a fold"
    assert result["protocol"] == "LOSO, test speaker s0, the other speakers develop in 2 folds"
    assert result["intervals"]["ua"]["low"] <= result["ua"] <= result["intervals"]["ua"]["high"]
    rows = (study.folder / "evaluation" / "predictions.csv").read_text().splitlines()
    assert len(rows) == 1 + 16
    assert evaluate(study) == json.loads((study.folder / "evaluation" / "test.json").read_text()), "one look"


def test_each_fold_s_model_has_the_normaliser_of_its_own_training_part(study: Study) -> None:
    first, second = (Predictor.from_study(study, rotation=turn) for turn in (0, 1))
    assert not torch.equal(*(next(iter(p.model.state_dict().values())) for p in (first, second)))
    assert (first.normaliser.mean != second.normaliser.mean).any()
    assert first.card["epoch"] == second.card["epoch"] == study.best().best_epoch


def test_an_export_is_the_first_fold_s_model(study: Study, tmp_path: Path) -> None:
    model = load_file(export_bundle(study, tmp_path / "model") / "model.safetensors")
    first = Predictor.from_study(study).model.state_dict()
    assert all(torch.equal(tensor, first[name]) for name, tensor in model.items())


def test_a_fresh_seed_trains_a_model_a_fold_as_the_search_would(study: Study) -> None:
    """Both folds of a seed end at the epoch that is best by their mean, and the run's figures are the means."""
    results = evaluate_seeds(study, seeds=[5, 6], workers=1)
    assert (results.seeds, results.folds) == ((5, 6), ("test speaker s0",))
    datas = [turn_data(study, turn) for turn in (0, 1)]
    for seed in (5, 6):
        alone = Members([Engine(FAMILY, own) for own in datas], CONFIG, [seed], 3)
        while not alone.done:
            alone.epoch()
        kept = MembersState.load(outcome(study, 0, seed))
        assert kept.marks == alone.state().marks
        looks, ua = [Look.of(study, turn) for turn in (0, 1)], []
        for turn in (0, 1):
            epoch, weights = alone.state().best("dev_ua", turn)
            found = kept.best("dev_ua", turn)
            assert found[0] == epoch
            assert all(torch.equal(found[1][name], tensor) for name, tensor in weights.items())
            predictor = Predictor.from_checkpoint(study, study.best(), "dev_ua", outcome(study, 0, seed), turn)
            ua.append(looks[turn].tested(predictor).figures()["ua"])
        assert results.scores["ua"][seed]["test speaker s0"] == pytest.approx(sum(ua) / 2)
        assert results.outputs[seed]["test speaker s0"].shape == (2, 8, 4)
    assert results.by_speaker("ua")["s0"].mean == pytest.approx(results.spread("ua").mean)
    ci = results.interval("ua", resamples=50)
    assert ci.low <= results.spread("ua").mean <= ci.high
    again = evaluate_seeds(study, seeds=[5, 6], workers=1)
    assert again.scores == results.scores, "read back"
    assert results.in_subsets(2).runs("ua").keys() == {
        (seed, f"test speaker s0, subset {n}") for seed in (5, 6) for n in (1, 2)
    }


def test_means_of_results_by_hand() -> None:
    one = {"ua": 0.2, "utterances": 8, "eer": None, "classes": ["a", "b"], "by": {"x": {"ua": 1.0}}}
    other = {"ua": 0.6, "utterances": 8, "eer": 0.5, "classes": ["a", "b"], "by": {"x": {"ua": 0.5}}}
    assert mean([one, other]) == {
        "ua": pytest.approx(0.4),
        "utterances": 8,
        "eer": None,
        "classes": ["a", "b"],
        "by": {"x": {"ua": 0.75}},
    }
