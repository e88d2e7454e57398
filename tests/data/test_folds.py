"""Full cross-validations, nested ones, and what holds for every protocol on any corpus."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.data.heldout import test_rows as held_out_rows
from sersearch.data.leaks import check_leaks
from sersearch.data.protocols import Protocol, folds, rotations
from sersearch.errors import DataError

CLASSES = ("anger", "joy", "sad")


def speakers_of(table, rows):
    return set(table.utterances["speaker"].iloc[rows])


@st.composite
def corpora(draw):
    """Rows of a corpus: unequal speakers, a pool, perhaps noisy copies, and an official split."""
    rows = []
    for number in range(draw(st.integers(4, 8))):
        speaker = {"speaker": f"S{number}", "split": ("train", "dev", "test", "train")[number % 4]}
        for emotion in CLASSES:
            rows += [{**speaker, "emotion": emotion} for _ in range(draw(st.integers(1, 4)))]
        rows += [{**speaker} for _ in range(draw(st.integers(0, 2)))]
    rows += [{"speaker": "pool", "split": "unlabelled"} for _ in range(draw(st.integers(0, 3)))]
    rows = [{**row, "id": f"u{n:03}", "path": f"u{n:03}.wav"} for n, row in enumerate(rows)]
    if draw(st.booleans()):
        clean = [{**row, "condition": "clean"} for row in rows]
        copies = [{**row, "condition": "snr5", "id": f"{row['id']}_snr5"} for row in rows]
        rows = draw(st.permutations(clean + copies))
    return rows


protocols = st.one_of(
    st.just(Protocol("official")),
    st.builds(Protocol, st.just("speaker"), seed=st.integers(0, 9)),
    st.builds(Protocol, st.just("loso"), dev_folds=st.sampled_from([None, 2, 3])),
    st.builds(Protocol, st.just("kfold"), folds=st.just(3), seed=st.integers(0, 9)),
)


@given(corpora(), protocols, st.booleans())
@settings(max_examples=60)
def test_every_fold_of_every_protocol_keeps_its_parts_apart(memory_table, rows, protocol, drop):
    """Disjoint parts, speakers apart unless it is kfold, copies with their originals, and nobody tested in the pool."""
    table = memory_table(rows)
    known = table.utterances["emotion"].notna().to_numpy()
    path = table.utterances["path"].to_numpy(object)
    protocol = Protocol.from_dict({**protocol.to_dict(), "drop_duplicates": drop})
    for fold in folds(protocol, table):
        covered = []
        for rule in rotations(fold):
            split, test = rule.split(table), held_out_rows(rule, table, "emotion")
            sides = [np.concatenate([split.train, split.unlabelled]), split.dev, test]
            used = np.concatenate(sides)
            assert len(np.unique(used)) == len(used)
            assert known[np.concatenate([split.train, split.dev, test])].all()
            assert not known[split.unlabelled].any()
            assert all(set(path[a]).isdisjoint(path[b]) for a, b in itertools.combinations(sides, 2))
            if rule.name != "kfold":
                names = [speakers_of(table, side) for side in sides]
                assert all(a.isdisjoint(b) for a, b in itertools.combinations(names, 2))
            # Every labelled utterance has its part, whatever the others are.
            assert set(np.flatnonzero(known)) == set(np.concatenate([split.train, split.dev, test]))
            assert rule.split(table).train.tolist() == split.train.tolist()
            check_leaks(rule, table)
            covered.append((split.dev, test))
        developed, tested = (np.concatenate(part) for part in zip(*covered, strict=True))
        assert len(np.unique(developed)) == len(developed), "nobody develops twice"
        assert len(set(map(len, (test for _, test in covered)))) == 1, "the test part stays"
        if rule.dev_folds:
            assert set(developed) | set(tested) == set(np.flatnonzero(known)), "each other speaker develops once"


@given(corpora(), st.sampled_from([Protocol("loso"), Protocol("loso", dev_folds=2), Protocol("kfold", folds=3)]))
@settings(max_examples=40)
def test_each_labelled_utterance_is_tested_in_exactly_one_fold(memory_table, rows, protocol):
    table = memory_table(rows)
    tested = [held_out_rows(rotations(fold)[0], table, "emotion") for fold in folds(protocol, table)]
    assert sorted(np.concatenate(tested)) == np.flatnonzero(table.utterances["emotion"].notna()).tolist()


@given(
    corpora(),
    st.sampled_from([Protocol("loso", "S1"), Protocol("speaker", seed=3), Protocol("kfold", fold=1, folds=3)]),
)
@settings(max_examples=30)
def test_the_order_of_a_manifest_changes_no_speaker_s_part(memory_table, rows, protocol):
    one, other = memory_table(rows), memory_table(rows[::-1])
    if protocol.name != "kfold":  # which draws utterances
        assert speakers_of(one, protocol.split(one).dev) == speakers_of(other, protocol.split(other).dev)
    assert len(protocol.split(one).dev) == pytest.approx(len(protocol.split(other).dev), abs=2)


# --- full cross-validations -------------------------------------------------------------------------------------------


def test_a_full_cross_validation_tests_each_speaker_who_has_labels(spoken):
    table = spoken(4)
    table.utterances.loc[table.utterances["speaker"] == "S02", "emotion"] = None
    found = folds(Protocol("loso", "S01", dev_speaker="S00"), table)
    assert [str(fold) for fold in found] == [f"LOSO, test speaker {name}" for name in ("S00", "S01", "S03")]


def test_a_full_cross_validation_has_all_folds_and_other_protocols_one(spoken):
    table = spoken(4)
    assert [fold.fold for fold in folds(Protocol("kfold", fold=2, folds=3), table)] == [1, 2, 3]
    for protocol in (Protocol("official"), Protocol("speaker", seed=3), Protocol("cross")):
        assert folds(protocol, table) == [protocol]


@pytest.mark.parametrize(
    ("protocol", "caption"),
    [
        (Protocol("loso", "S1", "S2"), "LOSO, each speaker tested in turn"),
        (
            Protocol("loso", "S1", dev_folds=5, dev_fold=2),
            "LOSO, each speaker tested in turn, the other speakers develop in 5 folds",
        ),
        (
            Protocol("kfold", fold=3, seed=4),
            "10-fold with all speakers in each fold, each tested in turn, seed 4",
        ),
        (Protocol("official", shared_speakers=True), "official split; its parts share speakers"),
        (
            Protocol("speaker", seed=7, drop_duplicates=True),
            "speaker-disjoint split, seed 7; without duplicates of what is held out",
        ),
    ],
)
def test_a_figure_over_all_folds_has_a_caption(protocol, caption):
    assert str(protocol.whole) == caption


# --- nested -----------------------------------------------------------------------------------------------------------


def test_the_other_speakers_are_dealt_to_five_development_folds(spoken):
    """Ten speakers, as IEMOCAP has: nine are left, so the folds have 2, 2, 2, 2 and 1."""
    table = spoken(10)
    found = rotations(Protocol("loso", "S03", dev_folds=5))
    developing = [sorted(speakers_of(table, rule.split(table).dev)) for rule in found]
    assert developing == [["S00", "S06"], ["S01", "S07"], ["S02", "S08"], ["S04", "S09"], ["S05"]]
    for rule, names in zip(found, developing, strict=True):
        split = rule.split(table)
        assert speakers_of(table, split.train) == {f"S{n:02}" for n in range(10)} - {"S03", *names}
        assert speakers_of(table, held_out_rows(rule, table, "emotion")) == {"S03"}
        assert rotations(rule) == [rule]
    assert str(found[1]) == "LOSO, test speaker S03, the other speakers develop in 5 folds, fold 2 develops"


def test_a_speaker_without_a_class_develops_beside_one_who_has_it(spoken):
    table = spoken(4)
    rows = table.utterances
    rows.loc[(rows["speaker"] == "S00") & (rows["emotion"] == "joy"), "emotion"] = None
    found = [rule.split(table) for rule in rotations(Protocol("loso", "S03", dev_folds=2))]
    assert [sorted(speakers_of(table, split.dev)) for split in found] == [["S00", "S01"], ["S02"]]
    with pytest.raises(DataError, match=r"no utterance of class joy; .* or fewer --dev-folds"):
        Protocol("loso", "S03", dev_folds=3, dev_fold=3).split(table)


def test_a_protocol_that_is_not_nested_stands_alone():
    assert rotations(Protocol("official")) == [Protocol("official")]


# --- one recording, several utterances --------------------------------------------------------------------------------


def test_equal_audio_and_its_copies_stay_in_one_fold(spoken):
    """Two ids of equal audio, each with a noisy copy, which has its own audio: one recording."""
    table = spoken(3, each=6)
    rows = table.utterances.assign(condition="clean")
    rows.loc[7, "audio_sha256"] = rows.loc[0, "audio_sha256"]
    copies = rows.assign(condition="snr5", id=rows["id"] + "_snr5", audio_sha256=rows["id"] + "noisy")
    table.utterances = pd.concat([rows, copies], ignore_index=True)
    twins = {0, 7, len(rows), len(rows) + 7}
    tested = [set(held_out_rows(p, table, "emotion")) for p in folds(Protocol("kfold", folds=3), table)]
    assert sorted(len(twins & rows) for rows in tested) == [0, 0, 4]
    for fold in folds(Protocol("kfold", folds=3), table):
        check_leaks(fold, table)
