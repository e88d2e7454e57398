from __future__ import annotations

import dataclasses
import errno
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file, save_file

from sersearch.audio import extractor, load_audio
from sersearch.data.protocols import Protocol
from sersearch.errors import AudioError, BundleError, ConfigError, StudyError
from sersearch.export import Predictor, chosen, export_bundle, winning_metrics
from tests.synthetic import make_table
from tests.trained import CONFIG, LadderStudy, SmallStudy, make_ladder_study, make_study


def audible_table():
    """A made table whose card is that of the real spectrograms, so that files can be predicted."""
    table = make_table(dims=128)
    return dataclasses.replace(table, card={**extractor("spectrogram").card(), "hash": "0"})


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> SmallStudy:
    return make_study(tmp_path_factory.mktemp("study"), audible_table(), Protocol("loso", "s0"))


@pytest.fixture
def bundle(study, tmp_path) -> Path:
    return export_bundle(study, tmp_path / "model")


def speech(path: Path, seconds: float = 3.0, rate: int = 16000) -> Path:
    rng = np.random.default_rng(0)
    times = np.arange(int(seconds * rate)) / rate
    wave = sum(np.sin(2 * np.pi * 140 * k * times) / k for k in range(1, 20))
    soundfile.write(path, 0.1 * wave * (1 + 0.5 * np.sin(7 * times)) + 0.01 * rng.normal(size=len(times)), rate)
    return path


def test_the_bundle_predicts_what_the_engine_predicted(study, bundle):
    table, predictor = audible_table(), Predictor.load(bundle)
    rows = {name: row for row, name in enumerate(table.utterances["id"])}
    ours = torch.stack([predictor.outputs(table[rows[name]]) for name in study.predictions.ids])
    torch.testing.assert_close(ours, study.predictions.outputs, rtol=0, atol=1e-6)


def test_predicting_a_file_is_what_prep_and_the_model_make_of_it(bundle, tmp_path):
    path = speech(tmp_path / "a.wav")
    predictor = Predictor.load(bundle)
    prediction = predictor.predict(path)
    matrix = extractor("spectrogram")(load_audio(path))
    expected = predictor.outputs(matrix)
    assert list(prediction.posteriors) == ["anger", "happiness", "neutral", "sadness"]
    assert list(prediction.posteriors.values()) == expected.tolist()
    assert prediction.label == list(prediction.posteriors)[int(expected.argmax())]
    assert prediction.values == {}
    assert sum(prediction.posteriors.values()) == pytest.approx(1, abs=1e-5)
    assert prediction.seconds == pytest.approx(3)
    assert prediction.segments == len(predictor.view.starts(len(matrix))) > 1
    json.dumps(dataclasses.asdict(prediction))


def test_other_formats_and_rates_are_predicted_alike(bundle, tmp_path):
    predictor = Predictor.load(bundle)
    first = predictor.predict(speech(tmp_path / "a.wav")).posteriors
    flac = predictor.predict(speech(tmp_path / "a.flac")).posteriors
    assert flac == pytest.approx(first, abs=1e-3)


def test_a_long_file_goes_through_in_batches_with_the_same_mean(bundle, monkeypatch):
    predictor = Predictor.load(bundle)
    matrix = np.random.default_rng(0).normal(size=(1000, 128)).astype(np.float32)
    whole = predictor.outputs(matrix)
    monkeypatch.setattr("sersearch.export.BATCH", 3)
    torch.testing.assert_close(predictor.outputs(matrix), whole)


def test_d_vectors_are_of_the_speaker_classifier_s_last_hidden_layer(bundle, tmp_path):
    vector = Predictor.load(bundle).embedding(np.zeros((50, 128), np.float32))
    assert vector is not None
    assert vector.shape == (CONFIG.hidden,)
    single = dataclasses.replace(CONFIG, tasks="stl")
    lone = make_study(tmp_path / "stl", audible_table(), Protocol("loso", "s0"), single, epochs=1)
    assert Predictor.from_study(lone).embedding(np.zeros((50, 128), np.float32)) is None


def test_the_card_says_where_the_model_comes_from(study, bundle):
    assert sorted(p.name for p in bundle.iterdir()) == ["README.md", "bundle.json", "model.safetensors"]
    card = json.loads((bundle / "bundle.json").read_text())
    assert {card[k] for k in ("format", "family", "study", "trial", "target", "synthetic")} == {
        *(3, "aae", "small", 0, "emotion", True)
    }
    assert (card["best_by"], card["epoch"]) == ("dev_ua", study.best().best_epoch)
    assert card["view"] == {"frames": 32, "hop": 32, "pad": "lowest", "first_only": False, "chunks": None}
    assert card["config"] == CONFIG.to_dict()
    assert card["metrics"]["dev_ua"] == study.best().epochs[study.best().best_epoch - 1]["metrics"]["dev_ua"]
    assert {"python", "torch", "sersearch"} <= card["versions"].keys()


def test_a_trial_of_one_s_choice(study, tmp_path):
    out = export_bundle(study, tmp_path / "a", trial=1)
    assert json.loads((out / "bundle.json").read_text())["trial"] == 1
    first = load_file(export_bundle(study, tmp_path / "b") / "model.safetensors")
    second = load_file(out / "model.safetensors")
    assert any(not torch.equal(first[name], second[name]) for name in first)


def test_a_bundle_of_format_1_is_read(bundle):
    card = json.loads((bundle / "bundle.json").read_text())
    view = {name: card["view"][name] for name in ("frames", "hop")}
    labels = {name: card["labels"][name] for name in ("emotion", "gender", "speaker")}
    matrix = np.random.default_rng(0).normal(size=(50, 128)).astype(np.float32)
    new = Predictor.load(bundle).outputs(matrix)
    assert torch.equal(Predictor.load(edit(bundle, format=1, view=view, labels=labels)).outputs(matrix), new)


def test_a_metric_that_a_study_has_no_winner_by(study, tmp_path):
    export_bundle(study, tmp_path / "a", metric="dev_ua")
    for metric in ("dev_wa", "dev_ccc_valence"):
        with pytest.raises(ConfigError, match=f"metric '{metric}': study small keeps no best epochs by it; .*dev_ua"):
            export_bundle(study, tmp_path / "b", metric=metric)


# --- attributes -------------------------------------------------------------------------------------------------------


def functionals_table():
    """A made table of one vector an utterance whose card is that of the real functionals."""
    table = make_table(dims=88, vectors=True, attributes=True)
    return dataclasses.replace(table, card={**extractor("egemaps").card(), "hash": "0"})


@pytest.fixture(scope="module")
def ladders(tmp_path_factory) -> LadderStudy:
    return make_ladder_study(tmp_path_factory.mktemp("ladders"), functionals_table(), Protocol("loso", "s0"))


def test_attributes_are_predicted_on_the_corpus_s_scale(ladders, tmp_path):
    table, predictor = functionals_table(), Predictor.load(export_bundle(ladders.study, tmp_path / "model", trial=0))
    rows = {name: row for row, name in enumerate(table.utterances["id"])}
    ours = torch.stack([predictor.outputs(table[rows[name]]) for name in ladders.predictions.ids])
    moments = predictor.labels
    theirs = ladders.predictions.outputs * torch.tensor(moments.std) + torch.tensor(moments.mean)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    labels = table.utterances.loc[[rows[name] for name in ladders.predictions.ids], list(moments.attributes)]
    truth = ladders.predictions.labels * torch.tensor(moments.std) + torch.tensor(moments.mean)
    np.testing.assert_allclose(truth.numpy(), labels.to_numpy(float), atol=1e-5)


def test_attributes_of_a_file(ladders, tmp_path):
    predictor = Predictor.load(export_bundle(ladders.study, tmp_path / "model"))
    prediction = predictor.predict(speech(tmp_path / "a.wav"))
    assert list(prediction.values) == ["activation", "valence", "dominance"]
    assert (prediction.label, prediction.posteriors, prediction.segments) == (None, {}, 1)
    json.dumps(dataclasses.asdict(prediction))


def test_each_attribute_has_a_winner_with_the_weights_of_its_best_epoch(ladders, tmp_path):
    names = ["dev_ccc_activation", "dev_ccc_valence", "dev_ccc_dominance"]
    assert winning_metrics(ladders.study) == ("dev_ccc", *names)
    seen = set()
    for metric in names:
        curves = [[event["metrics"][metric] for event in trial.epochs] for trial in ladders.study.trials()]
        trial = int(np.argmax([max(curve) for curve in curves]))
        epoch = int(np.argmax(curves[trial])) + 1
        card = json.loads((export_bundle(ladders.study, tmp_path / metric, metric=metric) / "bundle.json").read_text())
        assert (card["trial"], card["epoch"], card["best_by"]) == (trial, epoch, metric)
        assert card["metrics"][metric] == curves[trial][epoch - 1]
        weights = load_file(tmp_path / metric / "model.safetensors")
        expected = ladders.states[trial].bests[metric].weights
        assert all(torch.equal(weights[name], expected[name]) for name in expected)
        seen.add((trial, epoch))
    assert len(seen) > 1, "the attributes have different winners, or this shows nothing"


def test_a_trial_s_best_epoch_by_an_attribute(ladders, tmp_path):
    metric = "dev_ccc_valence"
    predictor = Predictor.from_study(ladders.study, 1, metric)
    expected = ladders.states[1].bests[metric]
    assert (predictor.card["trial"], predictor.card["epoch"]) == (1, expected.epoch)
    whole = Predictor.from_study(ladders.study, 1)
    assert whole.card["epoch"] == ladders.states[1].progress.best_epoch


def test_the_ccc_of_a_single_attribute_has_two_names(tmp_path):
    study = make_ladder_study(tmp_path, functionals_table(), Protocol("loso", "s0"), "valence", epochs=1).study
    cards = []
    for metric in (None, "dev_ccc", "dev_ccc_valence"):
        out = export_bundle(study, tmp_path / "model", metric=metric)
        cards.append(json.loads((out / "bundle.json").read_text()))
    assert cards[0] == cards[1] == cards[2]
    assert cards[0]["best_by"] == "dev_ccc"
    study.write_meta(objective={"metric": "dev_ccc_valence"})
    assert chosen(study, 1, "dev_ccc")[1] == "dev_ccc_valence"
    with pytest.raises(ConfigError, match=r"metric 'dev_ccc_activation': study ladders keeps no best epochs by it"):
        chosen(study, None, "dev_ccc_activation")


def test_an_earlier_bundle_and_an_empty_folder_are_replaced_and_nothing_else_is(study, tmp_path):
    out = tmp_path / "model"
    out.mkdir()
    export_bundle(study, out)
    export_bundle(study, out, trial=1)
    assert json.loads((out / "bundle.json").read_text())["trial"] == 1
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("")
    with pytest.raises(BundleError, match="thesis exists and is not a bundle; choose another --out"):
        export_bundle(study, precious)
    with pytest.raises(BundleError, match="exists and is not a bundle"):
        export_bundle(study, precious / "chapter1.tex")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["model", "thesis"]


def test_an_earlier_bundle_stays_where_the_new_one_cannot_take_its_place(study, bundle, monkeypatch):
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    rename = Path.rename

    def refused(self: Path, target: Path) -> Path:
        if self.name.endswith(".tmp"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", refused)
    with pytest.raises(BundleError, match=r"the bundle cannot be written \(Input/output error\)"):
        export_bundle(study, bundle, trial=1)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before
    assert [path.name for path in bundle.parent.iterdir()] == ["model"], "nothing half-done is left"


def test_a_trial_without_a_checkpoint(study, tmp_path):
    with pytest.raises(
        StudyError, match=r"trial 2 of study small has no checkpoint \(it is failed: loss is nan in epoch 1\)"
    ):
        export_bundle(study, tmp_path / "model", trial=2)
    assert not (tmp_path / "model").exists()


def test_a_folder_that_cannot_be_written(study, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="the bundle cannot be written"):
        export_bundle(study, tmp_path / "file" / "model")


# --- bundles that cannot be loaded ------------------------------------------------------------------------------------


def edit(bundle: Path, **changes: object) -> Path:
    card = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**card, **changes}))
    return bundle


def test_not_a_bundle(tmp_path):
    with pytest.raises(BundleError, match=r"nowhere is not a bundle \(no such folder\); `sersearch export STUDY"):
        Predictor.load(tmp_path / "nowhere")
    with pytest.raises(BundleError, match=r"is not a bundle \(it has no bundle.json\)"):
        Predictor.load(tmp_path)


def test_damaged_json(bundle):
    (bundle / "bundle.json").write_text("{")
    with pytest.raises(BundleError, match=r"bundle\.json: cannot be read"):
        Predictor.load(bundle)
    (bundle / "bundle.json").write_text("[]")
    with pytest.raises(BundleError, match="bundle format none"):
        Predictor.load(bundle)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 4}, "bundle format 4; this version of sersearch reads 1, 2, 3: export it again"),
        ({"family": "aea"}, r"no family is called 'aea'; did you mean aae\?"),
        ({"config": {"alpa": 1.0}}, r"params\.alpa: unknown hyperparameter; did you mean alpha"),
        ({"labels": {"emotion": ["a"]}}, "bundle.json is incomplete or damaged"),
        ({"labels": {"emotion": [], "gender": [], "speaker": []}}, "expected the classes of emotion, or attributes"),
        ({"labels": {"emotion": (), "gender": (), "speaker": (), "attributes": ["valence"]}}, "with a mean and a std"),
        ({"view": None}, "bundle.json is incomplete or damaged"),
        ({"normaliser": {"mean": [0], "std": [1]}}, "the normaliser has 1 dimensions, the features have 128"),
        ({"features": {"features": "emobase", "dims": 128}}, "the model needs features called 'emobase', unknown here"),
    ],
)
def test_cards_that_cannot_be_used(bundle, changes, message):
    with pytest.raises(BundleError, match=message):
        Predictor.load(edit(bundle, **changes))


def test_features_of_another_version(bundle):
    card = json.loads((bundle / "bundle.json").read_text())["features"]
    with pytest.raises(BundleError, match="version 99"):
        Predictor.load(edit(bundle, features={**card, "version": 99}))


def test_weights_that_do_not_fit_are_named(bundle):
    path = bundle / "model.safetensors"
    weights = load_file(path)
    names = sorted(weights)
    gone, bent = weights.pop(names[0]), names[1]
    save_file({**weights, "spare": gone, bent: torch.zeros(7, 7)}, path)
    with pytest.raises(BundleError) as caught:
        Predictor.load(bundle)
    message = str(caught.value)
    assert f"{names[0]} is missing" in message
    assert "spare is not in the model" in message
    assert f"{bent} has shape (7, 7), expected" in message


def test_damaged_or_missing_weights(bundle):
    path = bundle / "model.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(BundleError, match=r"model\.safetensors: cannot be read"):
        Predictor.load(bundle)
    path.unlink()
    with pytest.raises(BundleError, match=r"model\.safetensors: cannot be read"):
        Predictor.load(bundle)


def test_audio_that_cannot_be_used(bundle, tmp_path):
    with pytest.raises(AudioError, match=r"gone\.wav"):
        Predictor.load(bundle).predict(tmp_path / "gone.wav")


def test_prediction_needs_neither_ray_nor_mlflow_nor_optuna(bundle, tmp_path):
    code = f"""
        import sys
        for name in ("ray", "mlflow", "optuna"):
            sys.modules[name] = None
        from sersearch.export import Predictor
        print(Predictor.load({str(bundle)!r}).predict({str(speech(tmp_path / "a.wav"))!r}).label)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() in ("anger", "happiness", "neutral", "sadness")
