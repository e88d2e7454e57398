from __future__ import annotations

import itertools
import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.data import heldout
from sersearch.data.heldout import test_rows as held_out_rows
from sersearch.data.protocols import Protocol, split_card
from sersearch.errors import ConfigError, DataError


def speakers_of(table, rows):
    return set(table.utterances["speaker"].iloc[rows])


def protocols(speakers: int):
    names = st.sampled_from([f"S{n:02}" for n in range(speakers)])
    return st.one_of(
        st.builds(Protocol, st.just("speaker"), seed=st.integers(0, 50)),
        st.builds(Protocol, st.just("loso"), test_speaker=names),
        st.integers(3, 6).flatmap(
            lambda k: st.builds(
                Protocol, st.just("kfold"), fold=st.integers(1, k), folds=st.just(k), seed=st.integers(0, 50)
            )
        ),
    )


@given(st.data(), st.integers(3, 9))
@settings(max_examples=60, deadline=None)
def test_parts_are_disjoint_and_speakers_cross_only_in_kfold(spoken, data, speakers):
    table = spoken(speakers)
    protocol = data.draw(protocols(speakers))
    split, test = protocol.split(table), heldout.test_rows(protocol, table, "emotion")
    parts = [split.train, split.unlabelled, split.dev, test]
    rows = np.concatenate(parts)
    assert len(rows) == len(set(rows.tolist()))
    assert all((np.diff(part) > 0).all() for part in parts)
    known = table.utterances["emotion"].notna().to_numpy()
    assert known[split.train].all()
    assert known[split.dev].all()
    assert known[test].all()
    assert not known[split.unlabelled].any()
    assert len(split.train) + len(split.dev) + len(test) == known.sum()
    sides = [speakers_of(table, np.concatenate(parts[:2])), speakers_of(table, split.dev), speakers_of(table, test)]
    if protocol.name == "kfold":
        assert all(side == speakers_of(table, np.arange(len(table))) for side in sides)
    else:
        assert all(a.isdisjoint(b) for a, b in itertools.combinations(sides, 2))
    assert not any(leak["kind"] == "speaker" and not leak["allowed"] for leak in split_card(protocol, table)["leaks"])


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_a_protocol_survives_json_and_gives_the_same_split_again(spoken, data):
    table, protocol = spoken(5), data.draw(protocols(5))
    back = Protocol.from_dict(json.loads(json.dumps(protocol.to_dict())))
    assert back == protocol
    first, second = protocol.split(table), back.split(table)
    assert first.train.tolist() == second.train.tolist()
    # The protocol as applied, with its development speaker written out, is the same rule.
    assert first.protocol.split(table).dev.tolist() == first.dev.tolist()
    assert (
        heldout.test_rows(first.protocol, table, "emotion").tolist()
        == heldout.test_rows(protocol, table, "emotion").tolist()
    )


def test_speaker_disjoint_gives_15_percent_of_the_data_however_unequal_speakers_are(memory_table):
    said = {f"S{n:02}": 1 + 3 * n for n in range(24)}  # 1 to 70 utterances each, 852 in all
    table = memory_table([{"speaker": name, "emotion": "joy"} for name, count in said.items() for _ in range(count)])
    for seed in range(10):
        protocol = Protocol("speaker", seed=seed)
        for rows in (protocol.split(table).dev, heldout.test_rows(protocol, table, "emotion")):
            # Whole speakers come at least as near as half of the last one.
            assert abs(len(rows) - 0.15 * 852) <= 70 / 2


def test_speaker_disjoint_gives_15_percent_each_and_at_least_one(spoken):
    for speakers, expected in ((3, 1), (7, 1), (20, 3)):
        table = spoken(speakers)
        protocol = Protocol("speaker", seed=3)
        assert len(speakers_of(table, protocol.split(table).dev)) == expected
        assert len(speakers_of(table, heldout.test_rows(protocol, table, "emotion"))) == expected
    splits = {frozenset(speakers_of(table, Protocol("speaker", seed=s).split(table).dev)) for s in range(5)}
    assert len(splits) > 1


def test_speakers_without_labels_always_train(memory_table):
    rows = [{"speaker": s, "emotion": "joy"} for s in "abc"] + [{"speaker": "pool"}] * 5
    split = Protocol("speaker").split(memory_table(rows))
    assert split.unlabelled.tolist() == [3, 4, 5, 6, 7]


def test_loso_develops_on_the_next_speaker_who_has_every_class(spoken):
    table = spoken(4)
    assert Protocol("loso", "S00").split(table).protocol.dev_speaker == "S01"
    assert Protocol("loso", "S03").split(table).protocol.dev_speaker == "S00"
    rows = table.utterances
    rows.loc[(rows["speaker"] == "S01") & (rows["emotion"] == "joy"), "emotion"] = "sad"
    split = Protocol("loso", "S00").split(table)
    assert speakers_of(table, split.dev) == {"S02"}
    assert str(split.protocol) == "LOSO, test speaker S00, development speaker S02"


def test_loso_with_a_development_speaker_of_ones_own(spoken):
    table = spoken(4)
    protocol = Protocol("loso", "S00", dev_speaker="S03")
    assert speakers_of(table, protocol.split(table).dev) == {"S03"}
    assert speakers_of(table, heldout.test_rows(protocol, table, "emotion")) == {"S00"}


def test_ten_folds_train_on_eight_develop_on_one_test_one(spoken):
    table = spoken(5, each=10)
    tested = []
    for fold in range(1, 11):
        protocol = Protocol("kfold", fold=fold)
        split, test = protocol.split(table), heldout.test_rows(protocol, table, "emotion")
        assert [len(split.train), len(split.dev), len(test)] == [120, 15, 15]
        assert len(split.unlabelled) == 10
        for part in (split.dev, test):
            counts = table.utterances.iloc[part].groupby(["speaker", "emotion"]).size()
            assert (counts == 1).all()
            assert len(counts) == 15
        following = Protocol("kfold", fold=fold % 10 + 1)
        assert split.dev.tolist() == heldout.test_rows(following, table, "emotion").tolist()
        tested += test.tolist()
    assert sorted(tested) == np.flatnonzero(table.utterances["emotion"].notna()).tolist()


def test_kfold_shares_out_clusters_too(memory_table):
    rng = np.random.default_rng(0)
    rows = [{"speaker": f"S{n % 3}", "valence": rng.uniform(1, 5), "activation": rng.uniform(1, 5)} for n in range(300)]
    protocol = Protocol("kfold", fold=2, folds=5)
    assert len(protocol.split(memory_table(rows), "clusters3").dev) == 60


def test_official_split_is_the_corpus_s_own(memory_table):
    sides = ["train", "unlabelled", "dev", "test", None, "train"]
    rows = [{"speaker": str(n), "emotion": "joy", "split": side} for n, side in enumerate(sides)]
    rows[5]["emotion"] = None
    split = Protocol("official").split(memory_table(rows))
    assert [p.tolist() for p in (split.train, split.unlabelled, split.dev)] == [[0], [1, 5], [2]]
    assert heldout.test_rows(Protocol("official"), memory_table(rows), "emotion").tolist() == [3]


def test_unlabelled_utterances_of_held_out_speakers_are_not_trained_on(spoken):
    table = spoken(4, free=3)
    split = Protocol("loso", "S00").split(table)
    assert speakers_of(table, split.unlabelled) == {"S02", "S03"}
    assert len(split.unlabelled) == 6


# --- the card ---------------------------------------------------------------------------------------------------------


def test_the_card_says_who_is_where_and_how_many(spoken):
    card = split_card(Protocol("loso", "S00"), spoken(4))
    assert card["caption"] == "LOSO, test speaker S00, development speaker S01"
    assert card["parts"]["train"] == {
        "utterances": 24,
        "conditions": {},
        "hours": 0.024,
        "speakers": ["S02", "S03"],
        "labels": {"anger": 8, "joy": 8, "sad": 8},
        "gender": {"female": 12, "male": 12},
    }
    assert card["parts"]["unlabelled"]["labels"] == {}
    assert card["parts"]["test"]["speakers"] == ["S00"]
    assert card["leaks"] == card["notes"] == []
    assert json.loads(json.dumps(card)) == card


def test_leaks_are_named_and_judged(spoken):
    table = spoken(3)
    rows = table.utterances
    rows["sentence"] = [f"s{n % 14:02}" for n in range(len(rows))]
    rows.loc[rows["speaker"] == "S00", "audio_sha256"] = rows["audio_sha256"][rows["speaker"] == "S02"].to_numpy()
    leaks = split_card(Protocol("loso", "S00"), table)["leaks"]
    audio = [leak for leak in leaks if leak["kind"] == "audio"]
    # The unlabelled utterances of a training speaker count, those of the tested speaker are not used.
    assert [(leak["between"], leak["count"], leak["allowed"]) for leak in audio] == [(["train", "test"], 12, False)]
    assert len(audio[0]["values"]) == 12
    sentences = [leak for leak in leaks if leak["kind"] == "sentence"]
    assert [leak["between"] for leak in sentences] == [["train", "dev"], ["train", "test"], ["dev", "test"]]
    assert all(leak["allowed"] for leak in sentences)
    speakers = [
        leak for leak in split_card(Protocol("kfold", fold=1, folds=3), table)["leaks"] if leak["kind"] == "speaker"
    ]
    assert [leak["allowed"] for leak in speakers] == [True, True, True]
    assert speakers[0]["values"] == ["S00", "S01", "S02"]


def test_a_speaker_on_both_sides_of_an_official_split_is_a_leak(memory_table):
    rows = [{"speaker": "ab"[n % 2], "emotion": "joy", "split": s} for n, s in enumerate(("train", "dev", "test"))]
    (leak,) = split_card(Protocol("official"), memory_table(rows))["leaks"]
    assert leak == {
        "kind": "speaker",
        "between": ["train", "test"],
        "values": ["a"],
        "utterances": [["u0000", "u0002"]],
        "count": 1,
        "allowed": False,
    }


def test_a_long_list_of_leaks_is_cut(memory_table):
    rows = [{"speaker": s, "emotion": "joy", "sentence": f"s{n:02}"} for s in "abc" for n in range(30)]
    leak = split_card(Protocol("loso", "a"), memory_table(rows))["leaks"][0]
    assert (len(leak["values"]), leak["count"]) == (20, 30)


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_unknown_protocol():
    with pytest.raises(
        ConfigError, match=r"protocol 'losso' is unknown; did you mean loso\? expected one of cross, kfold, loso"
    ):
        Protocol("losso")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "speaker", "test_speaker": "a"}, "--test-speaker is an option of protocol loso, not of speaker"),
        ({"name": "loso", "fold": 1}, "--fold is an option of protocol kfold, not of loso"),
        ({"name": "loso", "folds": 5}, "--folds is an option of protocol kfold, not of loso"),
        ({"name": "kfold", "fold": 11}, "fold 11 does not exist; .* --fold 1 to 10"),
        ({"name": "kfold", "fold": 0}, "fold 0 does not exist"),
        ({"name": "kfold", "fold": 1, "folds": 2}, "kfold needs at least 3 folds"),
        ({"name": "speaker", "dev_folds": 5}, "--dev-folds is an option of protocol loso, not of speaker"),
        ({"name": "loso", "dev_fold": 1}, "--dev-fold 1 is one of several; say of how many, --dev-folds"),
        ({"name": "loso", "dev_folds": 5, "dev_fold": 6}, "--dev-fold 6 does not exist; expected 1 to 5"),
        ({"name": "loso", "dev_folds": 1}, "--dev-folds 1: .* expected 2 or more"),
        (
            {"name": "loso", "dev_folds": 5, "dev_speaker": "a"},
            "--dev-speaker and --dev-folds: .* leave one of them out",
        ),
        (
            {"name": "kfold", "shared_speakers": True},
            "--shared-speakers is an option of protocol official, not of kfold",
        ),
        ({"name": "loso", "target_audio": "all"}, "--target-audio is an option of protocol cross, not of loso"),
        ({"name": "cross", "target_audio": "some"}, "--target-audio some: expected one of all, unlabelled"),
        ({"name": "cross", "develop_on": "sources"}, r"--develop-on sources: did you mean source\?"),
        (
            {"name": "cross", "unlabeled_condition": "snr5"},
            "--unlabeled-condition is of one corpus .* leave one of them out",
        ),
    ],
)
def test_options_that_do_not_fit(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Protocol(**arguments)


@pytest.mark.parametrize(
    ("protocol", "message"),
    [
        (Protocol("loso", "S10"), r"--test-speaker S10: no speaker with labels has this name; did you mean S0\d\?"),
        (Protocol("loso", "S00", "X"), "--dev-speaker X: no speaker with labels.*expected one of S00, S01"),
        (Protocol("loso", "S00", "S00"), "--dev-speaker and --test-speaker are both S00"),
        (Protocol("loso"), "protocol loso needs --test-speaker; expected one of S00, S01, S02"),
        (Protocol("official"), "no official split; use protocol speaker, loso or kfold"),
        (Protocol("kfold"), "no --fold was given; protocol kfold tests one fold, --fold 1 to 10"),
        (Protocol("loso", "S00", dev_folds=2), "the other speakers develop in 2 folds: one fold .* --dev-fold 1 to 2"),
        (
            Protocol("loso", "S00", dev_folds=3, dev_fold=1),
            "2 speakers with labels are left beside S00, .* use 2 or fewer",
        ),
        (Protocol("cross"), "protocol cross needs a second prepared corpus, .*--cross FOLDER"),
        (Protocol("kfold", fold=1, folds=13), "speaker S00 has 12 labelled utterances, fewer than the 13 folds"),
    ],
)
def test_tables_that_do_not_fit(spoken, protocol, message):
    with pytest.raises((ConfigError, DataError), match=message):
        protocol.split(spoken(3))


def test_too_few_speakers(spoken):
    with pytest.raises(
        DataError, match=r"protocol speaker needs at least 3 speakers .*the corpus has 2: S00, S01; use"
    ):
        Protocol("speaker").split(spoken(2))


def test_no_label_at_all(spoken):
    with pytest.raises(DataError, match="data/small: no utterance has a label for target clusters3"):
        Protocol("speaker").split(spoken(4), "clusters3")


def test_a_development_set_without_a_class_names_the_class_and_the_way_out(spoken):
    table = spoken(4)
    rows = table.utterances
    rows.loc[(rows["speaker"] == "S01") & (rows["emotion"] == "joy"), "emotion"] = None
    message = (
        "the development set of LOSO, test speaker S00, development speaker S01 has no utterance of class joy; choose"
    )
    with pytest.raises(DataError, match=message):
        Protocol("loso", "S00", "S01").split(table)
    rows.loc[(rows["speaker"] != "S00") & (rows["emotion"] == "joy"), "emotion"] = None
    with pytest.raises(DataError, match=r"the training set of .* has no utterance of class joy"):
        Protocol("loso", "S00").split(table)
    rows.loc[:, "split"] = np.array(["train", "dev", "test"])[rows["speaker"].str[-1].astype(int) % 3]
    with pytest.raises(DataError, match=r"the development set of official split .* of class joy; use another protocol"):
        Protocol("official").split(table)


def test_no_speaker_develops_every_class(spoken):
    table = spoken(4)
    rows = table.utterances
    for speaker, emotion in (("S01", "joy"), ("S02", "sad"), ("S03", "anger")):
        rows.loc[(rows["speaker"] == speaker) & (rows["emotion"] == emotion), "emotion"] = None
    with pytest.raises(DataError, match="development speaker S01 has no utterance of class joy"):
        Protocol("loso", "S00").split(table)


def test_an_empty_part_is_named(memory_table):
    rows = [{"speaker": s, "emotion": "joy", "split": "train"} for s in "abc"]
    with pytest.raises(DataError, match="official split leaves no utterance labelled for emotion in the dev part"):
        Protocol("official").split(memory_table(rows))


# --- noisy copies -----------------------------------------------------------------------------------------------------


def noisy(spoken, **changes):
    """A table of seven speakers whose utterances also stand in it in noise, at two ratios."""
    table = spoken(**changes)
    rows = table.utterances.assign(condition="clean")
    copies = [rows.assign(condition=name, id=rows["id"] + "_" + name) for name in ("snr10", "snr5")]
    table.utterances = pd.concat([rows, *copies], ignore_index=True)
    return table


def test_labels_come_from_clean_speech_and_unlabelled_utterances_from_the_condition(spoken):
    table = noisy(spoken)
    protocol = Protocol("loso", "S00", unlabeled_condition="snr5")
    split = protocol.split(table)
    rows = table.utterances
    trained = set(rows["speaker"].iloc[split.train])
    assert set(rows["condition"].iloc[split.train]) == {"clean"}
    assert set(rows["condition"].iloc[split.unlabelled]) == {"snr5"}
    assert set(rows["speaker"].iloc[split.unlabelled]) == trained, "nobody who develops or is tested"
    assert len(split.unlabelled) == len(trained) * (3 * 4 + 2), "labelled or not, all copies train without labels"
    assert set(rows["condition"].iloc[split.dev]) == {"clean"}
    assert split.dev_by_condition.keys() == {"snr10", "snr5"}
    for name, noisy_dev in split.dev_by_condition.items():
        assert rows["id"].iloc[noisy_dev].tolist() == [f"{i}_{name}" for i in rows["id"].iloc[split.dev]]
    test = held_out_rows(protocol, table, "emotion")
    assert set(rows["condition"].iloc[test]) == {"clean", "snr10", "snr5"}
    assert str(split.protocol).endswith("labels from clean speech, unlabelled: snr5")
    assert Protocol.from_dict(json.loads(json.dumps(protocol.to_dict()))) == protocol


def test_a_condition_that_is_not_there_is_refused(spoken):
    with pytest.raises(DataError, match=r"snr0: no utterance is of this condition; .*snr10, snr5"):
        Protocol("loso", "S00", unlabeled_condition="snr0").split(noisy(spoken))
    with pytest.raises(DataError, match="prepare it with --noise and --snr, which add noisy copies"):
        Protocol("loso", "S00", unlabeled_condition="snr0").split(spoken())
    table = spoken()
    table.utterances["condition"] = "clean"
    with pytest.raises(DataError, match="snr5: no utterance is of this condition; prepare it with --noise and --snr"):
        Protocol("loso", "S00", unlabeled_condition="snr5").split(table)


def test_without_an_unlabelled_condition_all_are_mixed_and_the_card_says_so(spoken):
    table = noisy(spoken)
    rows, protocol = table.utterances, Protocol("loso", "S00")
    split, card = protocol.split(table), split_card(protocol, table)
    for part in (split.train, split.dev, split.unlabelled):
        assert set(rows["condition"].iloc[part]) == {"clean", "snr10", "snr5"}
    assert list(split.dev_by_condition) == ["clean", "snr10", "snr5"]
    assert sorted(np.concatenate(list(split.dev_by_condition.values()))) == split.dev.tolist()
    for name, held in split.dev_by_condition.items():
        assert set(rows["condition"].iloc[held]) == {name}
    assert card["parts"]["test"]["utterances"] == 36
    assert card["parts"]["test"]["conditions"] == {"clean": 12, "snr10": 12, "snr5": 12}
    (note,) = card["notes"]
    assert "labels are learnt in clean, snr10, snr5, and the development set, which selects, holds clean, snr" in note
    assert "With --unlabeled-condition NAME, labels and selection are of clean speech alone" in note
    card = split_card(Protocol("loso", "S00", unlabeled_condition="snr5"), table)
    assert card["notes"] == []
    assert card["parts"]["dev"]["conditions"] == {"clean": 12}
    assert card["parts"]["test"]["conditions"] == {"clean": 12, "snr10": 12, "snr5": 12}


def test_noisy_copies_stay_in_the_fold_of_their_utterance(spoken):
    table = noisy(spoken, each=6)
    split = Protocol("kfold", fold=1, folds=3).split(table)
    original = table.utterances["path"].to_numpy()
    sides = [set(original[rows]) for rows in (split.train, split.dev, held_out_rows(split.protocol, table, "emotion"))]
    assert not sides[0] & sides[1] | sides[0] & sides[2] | sides[1] & sides[2]
    assert len(split.dev) == 3 * len(sides[1]), "with all copies"


def test_the_card_of_attributes_has_their_moments(memory_table):
    rows = [{"speaker": s, "valence": v} for s in "abc" for v in (1.0, 3.0)]
    card = split_card(Protocol("loso", "a"), memory_table(rows), "valence")
    assert card["attributes"] == ["valence"]
    assert card["parts"]["train"]["attributes"] == {"valence": {"mean": 2.0, "std": 1.0}}
    assert card["parts"]["train"]["labels"] == {}


def test_an_official_pool_in_noise_comes_before_copies_of_what_is_labelled(spoken):
    table = noisy(spoken, speakers=4)
    rows = table.utterances
    rows["split"] = rows["speaker"].map({"S00": "train", "S01": "unlabelled", "S02": "dev", "S03": "test"})
    # As in the paper: of the development part there is no noisy copy.
    table.utterances = rows[(rows["split"] != "dev") | (rows["condition"] == "clean")].reset_index(drop=True)
    split = Protocol("official", unlabeled_condition="snr5").split(table)
    pool = table.utterances.iloc[split.unlabelled]
    assert set(pool["speaker"]) == {"S01"}
    assert set(pool["condition"]) == {"snr5"}
    assert split.dev_by_condition == {}


def test_clean_speech_can_be_the_unlabelled_condition(spoken):
    table = noisy(spoken)
    split = Protocol("loso", "S00", unlabeled_condition="clean").split(table)
    pool = table.utterances.iloc[split.unlabelled]
    assert set(pool["condition"]) == {"clean"}
    assert pool["emotion"].isna().all()
