"""A split that leaks is refused, with what leaks and what to do; and the ways out work, and are named."""

from __future__ import annotations

import numpy as np
import pytest

from sersearch.data.heldout import test_rows as held_out_rows
from sersearch.data.leaks import check_leaks
from sersearch.data.protocols import Protocol, split_card
from sersearch.errors import DataError

OFFICIAL = Protocol("official")


def official(memory_table, **changes):
    """Three speakers in three parts, six utterances each; `changes` are columns of some rows."""
    parts = dict(zip("abc", ("train", "dev", "test"), strict=True))
    rows = [{"speaker": s, "split": parts[s], "emotion": e} for s in "abc" for e in ("joy", "sad") for _ in range(3)]
    table = memory_table(rows)
    for column, values in changes.items():
        for row, value in values.items():
            table.utterances.loc[row, column] = value
    return table


def test_a_clean_split_is_not_refused(memory_table):
    check_leaks(OFFICIAL, official(memory_table))


def test_the_same_audio_in_training_and_test_is_refused(memory_table):
    table = official(memory_table, audio_sha256={2: "same", 14: "same"})
    with pytest.raises(DataError) as error:
        check_leaks(OFFICIAL, table)
    assert str(error.value) == (
        "data/small: official split: 1 recording stands in the train and the test part: u0002 = u0014. "
        "What is held out must not be learnt from: --drop-duplicates leaves the copies out of training and "
        "development, or correct the corpus's manifest."
    )


def test_a_noisy_copy_in_another_part_than_its_original_is_refused(memory_table):
    table = official(memory_table, path={0: "one.wav", 8: "one.wav"}, condition={0: "clean", 8: "snr5"})
    with pytest.raises(DataError, match="1 recording stands in the train and the dev part: u0000 = u0008"):
        check_leaks(OFFICIAL, table)


def test_another_span_of_one_file_is_no_leak(memory_table):
    check_leaks(OFFICIAL, official(memory_table, path={0: "one.wav", 8: "one.wav"}, start={0: 0.0, 8: 3.5}))


def test_audio_of_the_pool_that_is_tested_is_refused(memory_table):
    table = official(memory_table, split={1: "unlabelled"}, audio_sha256={1: "same", 15: "same"})
    with pytest.raises(DataError, match="1 recording stands in the train and the test part: u0001 = u0015"):
        check_leaks(OFFICIAL, table)


def test_audio_in_two_parts_can_t_be_allowed(memory_table):
    table = official(memory_table, audio_sha256={2: "same", 14: "same"})
    with pytest.raises(DataError, match="official split; its parts share speakers: 1 recording stands in"):
        check_leaks(Protocol("official", shared_speakers=True), table)
    with pytest.raises(
        DataError, match=r"LOSO, test speaker c, development speaker a: 1 recording .* train and the test"
    ):
        check_leaks(Protocol("loso", "c"), official(memory_table, audio_sha256={8: "same", 14: "same"}))


def test_duplicates_can_be_left_out_of_what_is_learnt_and_selected_by(memory_table):
    """The test part keeps what it has; development keeps what only training shares."""
    table = official(memory_table, audio_sha256={2: "x", 14: "x", 8: "y", 15: "y", 1: "z", 9: "z"})
    protocol = Protocol("official", drop_duplicates=True)
    check_leaks(protocol, table)
    split = protocol.split(table)
    assert split.train.tolist() == [0, 3, 4, 5]
    assert split.dev.tolist() == [6, 7, 9, 10, 11]
    assert held_out_rows(protocol, table, "emotion").tolist() == list(range(12, 18))
    card = split_card(protocol, table)
    assert card["caption"] == "official split; without duplicates of what is held out"
    assert card["notes"] == ["3 utterances are left out: their recordings stand in the development or test part, too."]
    assert not [leak for leak in card["leaks"] if not leak["allowed"]]


def test_duplicates_in_noise_are_left_out_too(memory_table):
    rows = [
        {"speaker": s, "emotion": "joy", "path": f"{s}{n}", "condition": c}
        for s in "abc"
        for n in range(3)
        for c in ("clean", "snr5")
    ]
    table = memory_table(rows)
    table.utterances.loc[[0, 12], "audio_sha256"] = "same"  # clean a0 and c0: so their copies, 1 and 13, are linked
    protocol = Protocol("loso", "c", "b", unlabeled_condition="snr5", drop_duplicates=True)
    split = protocol.split(table)
    assert split.train.tolist() == [2, 4]
    assert split.unlabelled.tolist() == [3, 5]
    check_leaks(protocol, table)


def test_a_speaker_in_training_and_test_of_an_official_split_is_refused(memory_table):
    table = official(memory_table, speaker={3: "c", 4: "c"})
    with pytest.raises(DataError) as error:
        check_leaks(OFFICIAL, table)
    assert "official split: 1 speaker stands in the train and the test part: c (u0003, u0012). A split that" in str(
        error.value
    )
    assert "use --protocol speaker or loso, correct the split in the corpus's manifest, or" in str(error.value)


def test_an_official_split_that_is_meant_to_share_speakers_says_so(memory_table):
    table = official(memory_table, speaker={3: "c", 4: "c"})
    protocol = Protocol("official", shared_speakers=True)
    check_leaks(protocol, table)
    card = split_card(protocol, table)
    assert card["caption"] == "official split; its parts share speakers"
    assert [(leak["kind"], leak["values"], leak["allowed"]) for leak in card["leaks"]] == [("speaker", ["c"], True)]


def test_a_pool_with_speakers_who_are_tested_is_refused(memory_table):
    table = official(memory_table, speaker={3: "c"}, split={3: "unlabelled"})
    with pytest.raises(DataError, match=r"1 speaker stands in the train and the test part: c \(u0003, u0012\)"):
        check_leaks(OFFICIAL, table)


def test_all_that_leaks_is_named_once_with_each_way_out(memory_table):
    table = official(memory_table, speaker=dict.fromkeys(range(5), "b"), audio_sha256={0: "x", 7: "x"})
    table.utterances.loc[[1, 2, 3, 4], "audio_sha256"] = table.utterances.loc[
        [12, 13, 14, 15], "audio_sha256"
    ].to_numpy()
    with pytest.raises(DataError) as error:
        check_leaks(OFFICIAL, table)
    message = str(error.value)
    assert "1 speaker stands in the train and the dev part: b (u0000, u0006); 1 recording stands in" in message
    assert (
        "4 recordings stand in the train and the test part: u0001 = u0012, u0002 = u0013, u0003 = u0014, and 1 m"
        in message
    )
    assert message.count("--drop-duplicates") == message.count("--shared-speakers") == 1


def test_what_is_left_out_leaks_nothing(memory_table):
    table = official(memory_table, audio_sha256={2: "same", 14: "same"})
    used = np.arange(len(table)) != 2
    check_leaks(OFFICIAL, table, used=used)


def test_shared_sentences_and_the_speakers_of_kfold_are_meant(spoken):
    table = spoken(3)
    table.utterances["sentence"] = [f"s{n % 5}" for n in range(len(table))]
    check_leaks(Protocol("kfold", fold=1, folds=3), table)
    check_leaks(Protocol("loso", "S00"), table)
