"""What is said of several studies, and what cannot be compared."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest

from sersearch.errors import ConfigError, StudyError
from sersearch.evaluation.comparison import compare
from sersearch.evaluation.results import HeldOut
from sersearch.evaluation.statistics import paired_t, two_sample_t
from tests.evaluation.written import BASE, OURS, by_fold, ccc_alone, learnt, part, scored


def test_test_parts_are_paired_by_their_means_over_seeds():
    shuffled = scored("ours", {1: dict(reversed(OURS.scores["ua"][1].items())), 0: OURS.scores["ua"][0]})
    shuffled = dataclasses.replace(shuffled, parts=OURS.parts)
    for ours in (OURS, shuffled):
        found = compare([BASE, ours], "ua")
        (pair,) = found.pairs
        expected = paired_t([0.55, 0.65, 0.75], [0.45, 0.6, 0.6])
        assert (pair.study, pair.baseline, pair.p_corrected) == ("ours", "base", None)
        assert (pair.outcome.p, pair.outcome.n) == (pytest.approx(expected.p), (3, 3))
        # Gains 0.1, 0.05, 0.15: mean 0.1, deviation 0.05, t = d_z * sqrt(3).
        assert pair.outcome.effect == pytest.approx(2)
        assert (pair.outcome.statistic, pair.outcome.df) == pytest.approx((2 * math.sqrt(3), 2))
    assert pair.better
    assert [row.marks for row in found.rows] == ["", "*"]


def test_more_seeds_on_the_same_speakers_prove_nothing():
    """What is the same for every seed is one observation, so that p stays what it was."""
    once = [scored(name, {0: by_fold(*values)}) for name, values in (("a", (0.5, 0.4, 0.6)), ("b", (0.6, 0.4, 0.9)))]
    often = [scored(r.study, {seed: {**r.scores["ua"][0]} for seed in range(5)}) for r in once]
    one, five = (compare(results, "ua").pairs[0].outcome for results in (once, often))
    assert (five.p, five.df, five.n) == (pytest.approx(one.p), 2, (3, 3))


@pytest.mark.parametrize(("test", "equal"), [("student_t", True), ("welch_t", False)])
def test_two_samples_need_no_pairs(test, equal):
    fewer = scored("fewer", {0: by_fold(0.5, 0.6, 0.7)})
    found = compare([BASE, fewer], "ua", test)
    expected = two_sample_t([0.5, 0.6, 0.7], [0.45, 0.6, 0.6], equal_variances=equal)
    own = found.pairs[0].outcome
    assert (own.p, own.statistic, own.n) == (pytest.approx(expected.p), pytest.approx(expected.statistic), (3, 3))
    assert found.tails == 2
    assert "seeds: 2 (0, 1), 1 (0)" in found.caption
    one, two = scored("one", {0: {"test": 0.5}, 1: {"test": 0.6}}), scored("two", {0: {"test": 0.6}, 2: {"test": 0.5}})
    assert compare([one, two], "ua", test).pairs[0].outcome.n == (2, 2), "on one test part, each seed"
    with pytest.raises(
        StudyError, match=r"2 runs are of two or one alone, such as seed 1 on test; .* or use student_t"
    ):
        compare([one, two], "ua", "paired_t")


def test_the_marks_of_table_3_of_the_ladder_paper():
    # Parthasarathy & Busso, TASLP 2020, Table III, valence: MTL is marked over STL with MFB, the ladders over both.
    mfb = {"STL": 0.204, "MTL": 0.254, "Lad+STL+L": 0.200, "Lad+STL+UL": 0.232, "Lad+MTL+UL": 0.184}
    found = compare([ccc_alone(*one) for one in mfb.items()], "ccc_valence", "fisher_z", baseline=["STL", "MTL"])
    assert {row.study: row.marks for row in found.rows if row.marks} == {"MTL": "*", "Lad+STL+UL": "*"}
    assert found.tails == 1
    lld = {"STL": 0.244, "MTL": 0.223, "Lad+STL+L": 0.274, "Lad+STL+UL": 0.279, "Lad+MTL+UL": 0.269}
    found = compare([ccc_alone(*one) for one in lld.items()], "ccc_valence", "fisher_z", baseline=["STL", "MTL"])
    assert [row.marks for row in found.rows] == ["", "", "*†", "*†", "†"]
    assert {pair.outcome.n for pair in found.pairs} == {(7341, 7341)}
    assert [(p.study, p.baseline) for p in found.pairs][:3] == [
        ("MTL", "STL"),
        ("Lad+STL+L", "STL"),
        ("Lad+STL+L", "MTL"),
    ]
    assert found.legend == "* better than STL, † better than MTL (p < 0.05)"


def test_fisher_is_for_one_correlation_on_one_test_part():
    one, other = learnt("one", 1.0), learnt("other", 0.5)
    found = compare([one, other], "ccc_valence", "fisher_z").pairs[0].outcome
    assert found.effect == pytest.approx(
        np.arctanh(other.spread("ccc_valence").mean) - np.arctanh(one.spread("ccc_valence").mean)
    )
    assert found.n == (120, 120), "utterances, whatever the number of seeds"
    with pytest.raises(
        ConfigError, match=r"CCC of one attribute on one test part, not ccc on 1 test part; .*ccc_<attribute>"
    ):
        compare([one, other], "ccc", "fisher_z")
    with pytest.raises(ConfigError, match="not ua on 3 test parts"):
        compare([BASE, OURS], "ua", "fisher_z")


def test_a_single_task_meets_a_multi_task_at_their_attribute():
    stl, mtl = learnt("stl", 1.0, attributes=("valence",)), learnt("mtl", 0.5)
    found = compare([stl, mtl], "ccc_valence", "fisher_z")
    assert (found.target, found.pairs[0].better) == ("valence and attributes", True)
    with pytest.raises(
        StudyError, match=r"by ccc: it is of valence in one and of activation, valence, dominance in the"
    ):
        compare([stl, mtl], "ccc")


def test_holm_takes_marks_away():
    # p of 0.04 and 0.03, one-tailed: corrected, both are 0.06.
    plain = {"STL": 0.2, "a": 0.2277, "b": 0.2297}
    studies = [ccc_alone(*one) for one in plain.items()]
    found = compare(studies, "ccc_valence", "fisher_z")
    assert [round(pair.outcome.p, 2) for pair in found.pairs] == [0.04, 0.03]
    assert [row.marks for row in found.rows] == ["", "*", "*"]
    assert "2 tests, not corrected for their number" in found.caption
    corrected = compare(studies, "ccc_valence", "fisher_z", "holm")
    assert [pair.p_corrected for pair in corrected.pairs] == pytest.approx([2 * found.pairs[1].outcome.p] * 2)
    assert [row.marks for row in corrected.rows] == ["", "", ""]
    assert "2 tests, corrected for their number" in corrected.caption
    assert corrected.legend.endswith("(p < 0.05 by Holm)")


def test_significantly_worse_is_not_marked():
    found = compare([ccc_alone("ours", 0.3), ccc_alone("base", 0.2)], "ccc_valence", "fisher_z", tails=2)
    assert found.pairs[0].outcome.p < 0.05
    assert [row.marks for row in found.rows] == ["", ""]


def test_what_the_runs_do_not_give_is_noted():
    seeds_alone = [learnt("one", 1.0), learnt("other", 0.5)]
    note = "All runs are on the same test utterances: p is of other seeds, not of other speakers"
    assert compare(seeds_alone, "ccc").notes == (note,)
    both = compare([r.in_subsets() for r in seeds_alone], "ccc", "student_t")
    assert both.notes == ("Runs of several seeds on one subset aren't independent, as the test takes them to be",)
    assert both.pairs[0].outcome.n == (12, 12), "4 subsets x 3 seeds"
    assert "over seeds x 4 subsets; seeds" in both.caption
    assert "No 95% CI: subsets of one test part are drawn by utterance" in both.caption
    speakers = compare([BASE, OURS], "ua")
    assert speakers.notes == ("The test counts each test part once, by its mean over seeds",)
    assert "No 95% CI: a bootstrap interval over 3 test parts would be far too narrow" in speakers.caption
    once = compare([scored("a", {0: by_fold(0.1, 0.3, 0.2)}), scored("b", {0: by_fold(0.1, 0.2, 0.3)})], "ua")
    assert once.notes == ()
    parts = {fold: dataclasses.replace(own, speakers=("s",) * 4) for fold, own in OURS.parts.items()}
    kfold = compare([dataclasses.replace(own, parts=parts) for own in (BASE, OURS)], "ua")
    assert kfold.notes == (*speakers.notes, "Test parts share speakers: p isn't of other speakers")
    (note,) = compare(seeds_alone, "ccc_valence", "fisher_z").notes
    assert note.endswith("correlations of independent samples; they are of the same utterances")
    same = compare([OURS, dataclasses.replace(OURS, study="copy")], "ua")
    assert same.notes[-1] == "copy against ours: every pair of both is the same"
    assert same.rows[1].marks == ""


UNLIKE = {
    "protocol": (
        dataclasses.replace(OURS, protocol="10-fold"),
        r"protocols are 'LOSO' and '10-fold'; evaluate both under",
    ),
    "classes": (
        dataclasses.replace(OURS, classes=("anger", "fear")),
        r"of emotion, anger, joy in one .*emotion, anger, fear",
    ),
    "folds": (
        scored("ours", {0: {"s1": 0.5, "s4": 0.5}}),
        "3 test parts, the other on 2; the difference is s2, s3, s4",
    ),
    "utterances": (
        dataclasses.replace(OURS, parts={f: part(range(90, 94), p.labels) for f, p in OURS.parts.items()}),
        "their test utterances of s1 differ: 8 are in one alone, such as u0000",
    ),
    "labels": (
        dataclasses.replace(OURS, parts={f: HeldOut(p.ids, p.speakers, 1 - p.labels) for f, p in OURS.parts.items()}),
        "labels of their test utterances of s1 differ",
    ),
}


@pytest.mark.parametrize("what", UNLIKE)
def test_studies_that_were_tested_on_something_else(what):
    other, message = UNLIKE[what]
    with pytest.raises(StudyError, match="studies base and ours cannot be compared") as raised:
        compare([BASE, other], "ua", "student_t")
    assert re.search(message, str(raised.value))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"results": [OURS]}, "two studies of different names or more, these are: ours"),
        ({"results": [OURS, OURS]}, "these are: ours, ours"),
        ({"test": "wilcoxon"}, r"test 'wilcoxon' is unknown; expected one of fisher_z, paired_t, student_t, welch_t"),
        ({"correction": "bonferroni"}, "correction 'bonferroni' is unknown; expected one of holm, or leave it out"),
        ({"baseline": "bas"}, r"baseline 'bas' is not among the studies; did you mean base\?"),
        ({"metric": "f1"}, "study base has no figures of 'f1'"),
        ({"tails": 0}, "1 or 2 tails, not 0"),
        (
            {
                "results": [dataclasses.replace(OURS, study=str(n)) for n in range(7)],
                "baseline": [str(n) for n in range(6)],
            },
            "6 baselines are more than there are marks for; name at most 5",
        ),
    ],
)
def test_what_cannot_be_asked(arguments, message):
    with pytest.raises(ConfigError, match=message):
        compare(**{"results": [BASE, OURS], "metric": "ua", **arguments})
