"""What the runs of a study sum up to."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.evaluation.comparison import compare
from sersearch.evaluation.results import HeldOut, Results, Spread
from tests.evaluation.written import ATTRIBUTES, BASE, FOLDS, OURS, RNG, VALUES, by_fold, learnt, part, scored


def test_spreads_by_hand():
    # 0.5, 0.6, 0.7, 0.6, 0.7, 0.8: squares of the deviations from 0.65 sum up to 0.055.
    assert dataclasses.astuple(OURS.spread("ua")) == pytest.approx((0.65, math.sqrt(0.055 / 5), 6))
    assert dataclasses.astuple(OURS.by_fold("ua")["s1"]) == pytest.approx((0.55, math.sqrt(0.005), 2))
    assert {seed: (round(own.mean, 9), round(own.deviation, 9)) for seed, own in OURS.by_seed("ua").items()} == {
        0: (0.6, 0.1),
        1: (0.7, 0.1),
    }
    assert (OURS.seeds, OURS.folds, OURS.metrics) == ((0, 1), FOLDS, ("ua",))
    assert scored("one", {0: {"a": 0.5}}).spread("ua") == Spread(0.5, None, 1)


def test_scores_and_speakers_of_classes():
    labels, posteriors = np.array([0, 0, 0, 1, 1, 0, 1, 1, 1, 1] * 2), RNG.dirichlet([1, 1], size=(2, 20))
    results = Results.from_outputs(
        study="small",
        family="aae",
        protocol="official split",
        target="emotion",
        classes=("anger", "joy"),
        parts={"test": part(range(20), labels)},
        outputs={seed: {"test": own} for seed, own in enumerate(posteriors)},
    )
    assert results.metrics == ("ua", "wa", "precision", "f1")
    predicted = posteriors.argmax(-1)
    for seed in (0, 1):
        assert results.scores["ua"][seed]["test"] == pytest.approx(balanced_accuracy_score(labels, predicted[seed]))
        assert results.scores["wa"][seed]["test"] == pytest.approx((labels == predicted[seed]).mean())
    right = (predicted == labels)[:, :10].mean(axis=1)
    expected = (right.mean(), right.std(ddof=1), 2)
    assert dataclasses.astuple(results.by_speaker("wa")["s000"]) == pytest.approx(expected)
    assert list(results.by_speaker("wa")) == ["s000", "s001"]


def test_the_ccc_of_several_attributes_is_their_mean():
    results = learnt("mtl", 1.0)
    each = [results.spread(f"ccc_{name}").mean for name in ATTRIBUTES]
    assert results.spread("ccc").mean == pytest.approx(np.mean(each))
    pooled = results.interval("ccc", resamples=200)
    assert pooled.value == pytest.approx(results.spread("ccc").mean)
    assert pooled.low < pooled.value < pooled.high
    with pytest.raises(ConfigError, match=r"study mtl has no figures of 'ccc_valenc'; did you mean ccc_valence\?"):
        results.runs("ccc_valenc")


def test_intervals_are_by_speaker_unless_there_is_one():
    results = learnt("stl", 0.5, attributes=("valence",))
    assert (results.interval("ccc", resamples=200).by, results.interval("ccc", resamples=200).units) == ("speaker", 12)
    alone = Results.from_outputs(
        study="loso",
        family="ladder",
        protocol="LOSO",
        target="valence",
        attributes=("valence",),
        parts={"s000": part(range(10), VALUES[:10, 1:2])},
        outputs={0: {"s000": VALUES[:10, 1:2] + 0.5 * RNG.normal(size=(10, 1))}},
    )
    found = alone.interval("ccc_valence", resamples=200)
    assert (found.by, found.note) == ("utterance", "of one speaker, so it says nothing of others")


def folded(gain: float, speakers: int = 8, level: float = 2.0) -> Results:
    """LOSO of speakers who differ in their mean label, which the model knows better than the rest."""
    rng, parts, outputs = np.random.default_rng(0), {}, {seed: {} for seed in (1, 2, 3)}
    for n in range(speakers):
        mean = rng.normal(0, level)
        truth, fold = mean + rng.normal(0, 0.5, (60, 1)), f"test speaker s{n}"
        parts[fold] = HeldOut(tuple(f"s{n}_{i}" for i in range(60)), (f"s{n}",) * 60, truth)
        for own in outputs.values():
            own[fold] = mean + gain * (truth - mean) + rng.normal(0, 0.5, truth.shape)
    return Results.from_outputs(
        study="loso",
        family="ladder",
        protocol="LOSO",
        target="valence",
        attributes=("valence",),
        parts=parts,
        outputs=outputs,
    )


def test_the_interval_of_several_test_parts_is_of_the_mean_beside_it():
    results = folded(0.3)
    found, mean = results.interval("ccc_valence"), results.spread("ccc_valence").mean
    assert (found.by, found.units, found.value) == ("fold", 8, pytest.approx(mean))
    assert found.low < mean < found.high, "of all utterances together the CCC is above 0.9"
    told = results.summary["ccc_valence"]
    assert (told["by"], told["units"], told["low"], told["mean"]) == ("fold", 8, found.low, pytest.approx(mean))
    without = dataclasses.replace(results, outputs={})
    assert without.interval("ccc_valence") == found, "figures by fold are all that it needs"


def test_test_parts_of_the_same_speakers_say_nothing_of_others():
    results = folded(0.3)
    parts = {fold: dataclasses.replace(own, speakers=("s0",) * 60) for fold, own in results.parts.items()}
    note = dataclasses.replace(results, parts=parts).interval("ccc_valence").note
    assert note == "few test parts, so rather too narrow; of the same speakers, so it says nothing of others"


@pytest.mark.parametrize(
    ("results", "why"),
    [
        (
            folded(0.3, speakers=4),
            "a bootstrap interval over 4 test parts would be far too narrow; it needs at least 5",
        ),
        (
            dataclasses.replace(
                folded(0.3),
                parts={fold: part(range(60), np.zeros((60, 1))) for fold in folded(0.3).folds},
            ),
            "the test parts have utterances in common, so that they aren't independent draws",
        ),
        (
            learnt("clusters", 1.0, attributes=("valence",)).in_subsets(6),
            "subsets of one test part are drawn by utterance, which says nothing of other speakers",
        ),
    ],
    ids=["few", "common", "subsets"],
)
def test_without_an_interval_it_is_told_why(results, why):
    with pytest.raises(DataError, match=why):
        results.interval("ccc_valence")
    assert results.limits("ccc_valence") == {"low": None, "high": None, "by": None, "units": None, "note": why}


def test_a_test_part_of_few_speakers_has_no_interval():
    few = {"test": part(range(40), VALUES[:40, 1:2])}
    results = Results.from_outputs(
        study="few",
        family="ladder",
        protocol="official split",
        target="valence",
        attributes=("valence",),
        parts=few,
        outputs={0: {"test": VALUES[:40, 1:2] + 0.5 * RNG.normal(size=(40, 1))}},
    )
    assert "over 4 speakers would be far too narrow" in results.limits("ccc_valence")["note"]


def test_figures_by_speaker_need_no_folds():
    whole = learnt("mtl", 1.0)
    parts = {f"fold {n}": whole.parts["test"].of(np.arange(60 * n, 60 * n + 60)) for n in (0, 1)}
    outputs = {seed: {f"fold {n}": own["test"][60 * n :][:60] for n in (0, 1)} for seed, own in whole.outputs.items()}
    apart = Results.from_outputs(
        study="mtl", family="f", protocol="p", target="t", attributes=ATTRIBUTES, parts=parts, outputs=outputs
    )
    assert apart.by_speaker("ccc") == whole.by_speaker("ccc")
    partitions = Results.from_outputs(
        study="mtl",
        family="f",
        protocol="p",
        target="t",
        attributes=ATTRIBUTES,
        parts=parts,
        outputs={n: {f"fold {n}": outputs[n][f"fold {n}"]} for n in (0, 1)},
    )
    assert [*partitions.runs("ccc")] == [(0, "fold 0"), (1, "fold 1")]
    assert len(partitions.by_speaker("ccc")) == 12


def test_the_subsets_of_deepemocluster():
    results = learnt("clusters", 1.0, seeds=5)
    subsets = results.in_subsets(4)
    assert len(subsets.runs("ccc")) == 20, "4 subsets x 5 trials"
    ids = [subsets.parts[fold].ids for fold in subsets.folds]
    assert [len(own) for own in ids] == [30] * 4
    assert sorted(name for own in ids for name in own) == sorted(results.parts["test"].ids)
    assert subsets.protocol == "official split; test part in 4 random subsets, seed 0"
    fold, rows = subsets.folds[2], [int(name[1:]) for name in ids[2]]
    assert np.array_equal(subsets.parts[fold].labels, VALUES[rows])
    assert np.array_equal(subsets.outputs[3][fold], results.outputs[3]["test"][rows])
    other = learnt("other", 2.0).in_subsets(4)
    assert [other.parts[fold].ids for fold in other.folds] == ids, "the same for every study"
    assert results.in_subsets(4, seed=1).parts[fold].ids != ids[2]
    with pytest.raises(DataError, match="120 utterances, too few for 121 subsets"):
        results.in_subsets(121)
    with pytest.raises(ConfigError, match="subsets are drawn of one test part, and these are 8"):
        folded(0.3).in_subsets(4)


@pytest.mark.parametrize(
    "results",
    [learnt("mtl", 1.0), dataclasses.replace(OURS, synthetic=True), learnt("mtl", 1.0).in_subsets(4)],
    ids=["outputs", "scores", "subsets"],
)
def test_there_and_back(results, tmp_path):
    results.save(tmp_path / "results.json")
    again = Results.load(tmp_path / "results.json")
    for name in ("study", "family", "protocol", "target", "classes", "attributes", "scores", "synthetic", "subsets"):
        assert getattr(again, name) == getattr(results, name)
    for fold in results.folds:
        assert (again.parts[fold].ids, again.parts[fold].speakers) == (
            results.parts[fold].ids,
            results.parts[fold].speakers,
        )
        assert np.array_equal(again.parts[fold].labels, results.parts[fold].labels)
        assert again.parts[fold].labels.dtype == results.parts[fold].labels.dtype
    assert again.outputs.keys() == results.outputs.keys()
    assert all(np.array_equal(again.outputs[s][f], own) for s, by in results.outputs.items() for f, own in by.items())


def test_a_run_without_a_figure_is_kept_and_refused_by_tests(tmp_path):
    broken = scored("broken", {0: by_fold(0.5, math.nan, 0.5), 1: by_fold(0.5, 0.6, 0.7)})
    broken.save(tmp_path / "results.json")
    assert json.loads((tmp_path / "results.json").read_text())["scores"]["ua"]["0"]["s2"] is None
    again = Results.load(tmp_path / "results.json")
    assert math.isnan(again.scores["ua"][0]["s2"])
    with pytest.raises(DataError, match="1 of 3 values are NaN or infinite"):
        compare([BASE, again], "ua")


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"study": "x"}', '{"classes": 3}'])
def test_a_file_that_is_no_result(tmp_path, text):
    (tmp_path / "results.json").write_text(text)
    with pytest.raises(StudyError, match=r"results\.json: not the results of a study .*; evaluate the study again"):
        Results.load(tmp_path / "results.json")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scores": {}}, "at least one"),
        ({"scores": {"ua": {0: {"test": 0.5}}, "wa": {1: {"test": 0.5}}}}, "a score of each run"),
        ({"scores": {"ua": {0: {"other": 0.5}}}}, "no test utterances are given for fold other"),
        ({"outputs": {1: {"test": np.zeros((120, 3))}}}, "outputs are needed of the same runs"),
        (
            {"outputs": {0: {"test": np.zeros((7, 3))}}},
            r"seed 0, fold test: expected .* \(120, 3\), found shape \(7, 3\)",
        ),
        ({"outputs": {0: {"test": np.full((120, 3), np.nan)}}}, "360 values not finite"),
    ],
)
def test_parts_that_do_not_match(changes, message):
    whole = learnt("mtl", 1.0, seeds=1)
    with pytest.raises(DataError, match=message):
        dataclasses.replace(whole, **changes)
    with pytest.raises(DataError, match="1 utterances has 2 speakers and 1 labels"):
        HeldOut(("a",), ("s", "t"), np.zeros(1))


def test_without_outputs():
    ours = scored("ours", {0: {"test": 0.5}, 1: {"test": 0.6}})
    for call in (lambda: ours.interval("ua"), lambda: ours.by_speaker("ua"), lambda: ours.in_subsets()):
        with pytest.raises(DataError, match="study ours: its outputs were not kept"):
            call()
