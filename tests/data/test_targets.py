from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.data.targets import (
    TARGETS,
    affine,
    attributes_of,
    labelled,
    strata,
    target_codes,
    target_values,
)
from sersearch.errors import ConfigError, DataError

NO_ROWS = np.zeros(0, np.int64)


def rated(memory_table, values, attribute="activation", **corpus):
    rows = [{"speaker": "a", "corpus": corpus.get("corpus", "small"), attribute: value} for value in values]
    return memory_table(rows, {"attribute_scale": [1, 5], **corpus})


def test_emotions_are_sorted_and_unlabelled_is_minus_one(memory_table):
    table = memory_table([{"speaker": "a", "emotion": e} for e in ("sad", None, "anger", "sad")])
    codes, classes = target_codes(table, "emotion", NO_ROWS)
    assert classes == ("anger", "sad")
    assert codes.tolist() == [1, -1, 0, 1]
    assert codes.dtype == np.int64


def test_four_emotions_are_the_papers_and_others_have_no_label(memory_table):
    said = ("sadness", "fear", None, "anger", "neutral", "happiness")
    table = memory_table([{"speaker": "a", "emotion": e} for e in said])
    codes, classes = target_codes(table, "emotion4", NO_ROWS)
    assert classes == ("anger", "happiness", "neutral", "sadness")
    assert codes.tolist() == [3, -1, -1, 0, 2, 1]
    assert strata(table, "emotion4").tolist() == codes.tolist()


def test_a_label_in_the_official_unlabelled_part_is_not_used(memory_table):
    table = memory_table([{"speaker": "a", "emotion": "sad", "split": s} for s in ("train", "unlabelled", None)])
    assert target_codes(table, "emotion", NO_ROWS)[0].tolist() == [0, -1, 0]


@pytest.mark.parametrize(
    ("corpus", "expected"),
    [("iemocap", [0, 0, 1, 1, 1, 2, 2]), ("msp_improv", [0, 0, 0, 1, 1, 2, 2]), ("mine", [0, 0, 1, 1, 1, 2, 2])],
)
def test_levels_have_the_boundaries_of_table_2(memory_table, corpus, expected):
    table = rated(memory_table, [1, 2, 2.5, 2.75, 3.5, 3.75, 5], corpus=corpus)
    codes, classes = target_codes(table, "activation_levels", NO_ROWS)
    assert codes.tolist() == expected
    assert classes == ("low", "medium", "high")


def test_two_corpora_in_one_table_have_boundaries_of_their_own(memory_table):
    rows = [{"speaker": "a", "corpus": name, "activation": 2.5} for name in ("iemocap", "msp_improv")]
    codes, _ = target_codes(memory_table(rows, {"attribute_scale": [1, 5]}), "activation_levels", NO_ROWS)
    assert codes.tolist() == [1, 0]


def test_valence_levels_have_their_own_names(memory_table):
    table = rated(memory_table, [5, None, 1], "valence")
    codes, classes = target_codes(table, "valence_levels", NO_ROWS)
    assert classes == ("negative", "neutral", "positive")
    assert codes.tolist() == [2, -1, 0]


@settings(deadline=None)
@given(st.lists(st.integers(0, 16), min_size=1, max_size=20), st.sampled_from([(1, 5), (1, 7), (-1, 1), (0, 100)]))
def test_levels_do_not_depend_on_the_scale(memory_table, quarters, scale):
    low, high = scale
    native = rated(memory_table, [1 + q / 4 for q in quarters])
    other = rated(memory_table, [low + q / 16 * (high - low) for q in quarters], attribute_scale=list(scale))
    expected, _ = target_codes(native, "activation_levels", NO_ROWS)
    assert target_codes(other, "activation_levels", NO_ROWS)[0].tolist() == expected.tolist()


def test_levels_need_a_scale(memory_table):
    with pytest.raises(DataError, match=r"levels of activation need the scale.*corpus\.json has no attribute_scale"):
        target_codes(rated(memory_table, [1, 2], attribute_scale=None), "activation_levels", NO_ROWS)


def test_iemocap_s_few_ratings_just_outside_the_scale_count_as_its_ends(memory_table):
    table = rated(memory_table, [0.5, 5.5])
    assert target_codes(table, "activation_levels", NO_ROWS)[0].tolist() == [0, 2]


def test_a_value_outside_the_scale_is_named(memory_table):
    with pytest.raises(DataError, match=r"activation 6 of utterance u0001 is outside the corpus's scale of 1 to 5"):
        target_codes(rated(memory_table, [1, 6, None]), "activation_levels", NO_ROWS)


def blobs(memory_table, centres, each=20, seed=0):
    rng = np.random.default_rng(seed)
    points = np.repeat(np.array(centres, float), each, axis=0) + rng.normal(scale=0.1, size=(each * len(centres), 2))
    return memory_table([{"speaker": "a", "valence": v, "activation": a} for v, a in points])


def test_clusters_are_numbered_by_valence_then_activation(memory_table):
    table = blobs(memory_table, [(4, 4), (1.5, 4), (3, 1.5)])
    codes, classes = target_codes(table, "clusters3", np.arange(60))
    assert classes == ("cluster1", "cluster2", "cluster3")
    assert codes.tolist() == [2] * 20 + [0] * 20 + [1] * 20


def test_cluster_centres_come_from_labelled_training_rows_alone(memory_table):
    table = blobs(memory_table, [(1, 1), (3, 3), (5, 5), (90, 90)])
    table.utterances.loc[0, "valence"] = np.nan
    codes, _ = target_codes(table, "clusters3", np.arange(60))
    assert codes[0] == -1
    assert codes[1:].tolist() == [0] * 19 + [1] * 20 + [2] * 20 + [2] * 20
    moved = blobs(memory_table, [(1, 1), (3, 3), (5, 5), (-90, -90)])
    assert target_codes(moved, "clusters3", np.arange(60))[0][1:60].tolist() == codes[1:60].tolist()


def test_too_few_points_for_the_clusters(memory_table):
    table = memory_table([{"speaker": "a", "valence": v, "activation": 1} for v in (1, 2, 2, 3)])
    with pytest.raises(DataError, match=r"5 clusters need at least 5 distinct pairs.* it has 3"):
        target_codes(table, "clusters5", np.arange(4))


def test_unknown_target(memory_table):
    with pytest.raises(ConfigError, match=r"target 'cluster3' is unknown; did you mean clusters3\?"):
        labelled(memory_table([{"speaker": "a"}]), "cluster3")


@pytest.mark.parametrize("target", TARGETS)
def test_labelled_agrees_with_the_codes_and_the_strata(memory_table, target):
    rng = np.random.default_rng(1)
    rows = [
        {
            "speaker": "a",
            "emotion": rng.choice(["sadness", "anger", None]),
            "valence": rng.choice([1.0, 2.0, 3.0, 4.5, np.nan]),
            "activation": rng.choice([1.0, 2.0, 3.0, 4.5, np.nan]),
            "dominance": rng.choice([1.0, 2.0, 3.0, 4.5, np.nan]),
        }
        for _ in range(60)
    ]
    table = memory_table(rows, {"attribute_scale": [1, 5]})
    known = labelled(table, target)
    assert 0 < known.sum() < 60
    assert ((strata(table, target) >= 0) == known).all()
    if attributes_of(target):
        values = target_values(table, target)
        assert values.shape == (60, len(attributes_of(target)))
        assert (~np.isnan(values).any(axis=1) == known).all()
        assert (np.isnan(values).all(axis=1) == ~known).all(), "all attributes are known, or none counts"
        return
    codes, classes = target_codes(table, target, np.arange(60))
    assert ((codes >= 0) == known).all()
    assert codes.max() < len(classes)


def test_scales_are_mapped_ends_to_ends():
    values = np.array([1.0, 4.0, 7.0, np.nan])
    np.testing.assert_array_equal(affine(values, (1, 7), (1, 5)), [1, 3, 5, np.nan])
    np.testing.assert_array_equal(affine(values, (1, 7), (-1, 1)), [-1, 0, 1, np.nan])
    np.testing.assert_allclose(affine(affine(values, (1, 7), (1, 5)), (1, 5), (1, 7)), values)
