"""Cross-corpus: two tables as one, what is learnt from either, and on which scale."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sersearch.data.batches import SegmentView, TrainingData, training_data
from sersearch.data.companions import Companion, choose
from sersearch.data.heldout import test_rows as held_out_rows
from sersearch.data.joined import joined, open_table
from sersearch.data.leaks import check_leaks
from sersearch.data.normaliser import Normaliser
from sersearch.data.protocols import Protocol, split_card
from sersearch.data.table import FeatureTable
from sersearch.data.targets import target_codes, target_values
from sersearch.errors import ConfigError, DataError
from sersearch.evaluation import evaluate
from sersearch.families.ladder.config import LadderConfig
from sersearch.families.ladder.family import FAMILY
from sersearch.training import fit
from tests.synthetic import make_table, make_visual, write_table
from tests.trained import make_study

CROSS = Protocol("cross")
OF_SOURCE = Protocol("cross", develop_on="source", target_audio="all")


def podcast(**changes: Any) -> FeatureTable:
    return replace(make_table(speakers=3, corpus="podcast", attributes=True, **changes), root=Path("data/podcast"))


def studio(**changes: Any) -> FeatureTable:
    return replace(
        make_table(speakers=10, seed=1, corpus="studio", attributes=True, **changes), root=Path("data/studio")
    )


def with_rows(table: FeatureTable, **columns: Any) -> FeatureTable:
    return replace(table, utterances=table.utterances.assign(**columns))


def rows_of(table: FeatureTable, rows: np.ndarray) -> set[str]:
    return set((table.utterances["corpus"] + "/" + table.utterances["speaker"]).iloc[rows])


# --- two tables as one ------------------------------------------------------------------------------------------------


def test_a_joined_table_reads_as_its_two_tables_one_behind_the_other() -> None:
    first, second = podcast(), studio()
    table = joined(first, second)
    assert len(table) == len(first) + len(second)
    assert table.utterances["id"].tolist() == [*first.utterances["id"], *second.utterances["id"]]
    for row in (0, len(first) - 1, len(first), len(table) - 1):
        part, own = (first, row) if row < len(first) else (second, row - len(first))
        np.testing.assert_array_equal(table[row], part[own])
    whole = np.concatenate([first.frames, second.frames])
    edge = len(first.frames)
    for piece in (slice(edge - 7, edge + 9), slice(3, 8), slice(edge, edge + 2), slice(0, len(whole))):
        np.testing.assert_array_equal(table.frames[piece], whole[piece])
    some = np.array([edge, 0, edge - 1, len(whole) - 1])
    np.testing.assert_array_equal(table.frames[some], whole[some])


def test_normalisation_is_over_the_training_audio_of_both_corpora() -> None:
    first, second = podcast(), studio()
    table = joined(first, second)
    split = OF_SOURCE.split(table, "valence")
    seen = np.concatenate([split.train, split.unlabelled])
    frames = np.concatenate([table[int(row)] for row in seen])
    np.testing.assert_allclose(Normaliser.fit(table, seen).mean, frames.mean(axis=0), rtol=1e-4, atol=1e-6)


def test_a_joined_table_is_opened_again_where_it_is_unpickled(tmp_path: Path) -> None:
    paths = [write_table(tmp_path / name, make()) for name, make in (("a", podcast), ("b", studio))]
    table = open_table(paths[0], "spectrogram", paths[1])
    sent = pickle.dumps(table)
    assert len(sent) < 2000, "names, not frames"
    again = pickle.loads(sent)
    assert again.card["hash"] == table.card["hash"] != open_table(paths[0], "spectrogram").card["hash"]
    np.testing.assert_array_equal(again[len(again) - 1], table[len(table) - 1])
    assert CROSS.split(again).train.tolist() == CROSS.split(table).train.tolist()


def test_features_that_were_made_otherwise_are_refused() -> None:
    with pytest.raises(DataError, match=r"data/podcast: its spectrogram features were made with dims 16, .* have 12"):
        joined(podcast(), studio(dims=12))


def test_further_inputs_come_from_both_corpora(tmp_path: Path) -> None:
    for name, make in (("a", podcast), ("b", studio)):
        write_table(tmp_path / name, make())
        write_table(tmp_path / f"{name}_faces", make_visual(make()).table)
        (tmp_path / f"{name}_faces" / "visual").rename(tmp_path / name / "visual")
    table = open_table(tmp_path / "a", "spectrogram", tmp_path / "b")
    assert choose(table, {"visual": ("openface", "visual")}) == {"visual": "visual"}
    faces = Companion.open(table, "visual")
    for row in (0, 1, len(table.source), len(table.source) + 1):  # of each speaker's first utterance there is none
        part, own = (table.source, row) if row < len(table.source) else (table.tested, row - len(table.source))
        expected = Companion.open(part, "visual").of(own)
        found = faces.of(row)
        assert (found is None) == (expected is None) == (table.utterances["id"][row].endswith("_00"))
        if expected is not None:
            np.testing.assert_array_equal(found, expected)
    (tmp_path / "b" / "visual" / "card.json").unlink()
    with pytest.raises(DataError, match=r"/b: no visual features; .*--out .*/b` adds them"):
        choose(table, {"visual": ("openface", "visual")})


# --- labels -----------------------------------------------------------------------------------------------------------


def test_attributes_are_mapped_onto_the_scale_of_the_corpus_that_is_tested() -> None:
    """1 ... 7 onto 1 ... 5, ends to ends: 4 is 3, 5.5 is 4."""
    first = with_rows(podcast(), valence=np.float32(5.5))
    second = replace(studio(), corpus={"corpus": "studio", "synthetic": True, "attribute_scale": [1, 5]})
    table = joined(first, with_rows(second, valence=np.float32(5.5)))
    assert set(table.utterances["valence"][: len(first)]) == {4.0}
    assert set(table.utterances["valence"][len(first) :]) == {5.5}
    assert table.corpus["attribute_scale"] == [1, 5]
    codes, _ = target_codes(table, "valence_levels", np.zeros(0, np.int64))
    assert set(codes[: len(first)]) == {2}
    values = target_values(table, "attributes")
    given = first.utterances[["activation", "valence", "dominance"]].to_numpy(float)
    known = ~np.isnan(values[: len(first), 0])
    assert known.sum() == 24
    np.testing.assert_allclose(values[: len(first)][known], 1 + (given[known] - 1) * 4 / 6, atol=1e-6)
    data = training_data(table, CROSS.split(table, "activation"), SegmentView(32, 32), "activation")
    assert data.labels.mean[0] == pytest.approx(np.nanmean(values[: len(first), 0]))


def test_attributes_on_an_unknown_scale_are_refused_and_emotions_are_not() -> None:
    unknown = {"corpus": "studio", "synthetic": True, "attribute_scale": None}
    table = joined(podcast(), replace(studio(), corpus=unknown))
    for target in ("valence", "attributes", "activation_levels", "clusters3"):
        with pytest.raises(DataError, match=r"data/studio: the scale of its attributes isn't known, .*attribute_scale"):
            CROSS.split(table, target)
    CROSS.split(table)


def test_an_emotion_of_one_corpus_alone_is_no_label_and_the_card_says_so() -> None:
    first, second = podcast(), studio()
    said = second.utterances["emotion"].replace("sadness", "boredom")
    table = joined(first, with_rows(second, emotion=said))
    card = split_card(CROSS, table)
    assert card["classes"] == ["anger", "happiness", "neutral"]
    assert card["notes"] == [
        "Emotions that only one of the corpora has are no labels; utterances of them: sadness 6, boredom 20."
    ]
    assert split_card(CROSS, table, "valence")["notes"] == []


# --- who is where -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_the_source_trains_and_of_the_other_corpus_30_percent_develop_and_70_are_tested(seed: int) -> None:
    """Ten speakers of 8 labelled utterances each: three develop, seven are tested."""
    first, second = podcast(), studio()
    table = joined(first, second)
    protocol = Protocol("cross", seed=seed)
    split, test = protocol.split(table), held_out_rows(protocol, table, "emotion")
    assert split.train.tolist() == np.flatnonzero(first.utterances["emotion"].notna()).tolist()
    assert (len(split.dev), len(test)) == (24, 56)
    assert min(split.dev.min(), test.min()) >= len(first)
    assert rows_of(table, split.dev).isdisjoint(rows_of(table, test))
    assert len(split.unlabelled) == 0, "all its speakers develop or are tested"
    assert protocol.split(table).dev.tolist() == split.dev.tolist()
    check_leaks(protocol, table)
    assert str(split.protocol) == (
        f"cross-corpus, trained on podcast, tested on studio: speakers with 30% of it develop, the others are tested, "
        f"seed {seed}"
    )
    assert Protocol.from_dict(json.loads(json.dumps(split.protocol.to_dict()))) == split.protocol


def test_who_neither_develops_nor_is_tested_is_heard_without_a_label() -> None:
    second = studio()
    second = with_rows(second, emotion=second.utterances["emotion"].where(second.utterances["speaker"] != "s4", None))
    table = joined(podcast(), second)
    for protocol in (CROSS, Protocol("cross", develop_on="source")):
        assert rows_of(table, protocol.split(table).unlabelled) == {"studio/s4"}


def test_all_audio_of_the_corpus_that_is_tested_can_be_heard_as_the_ladder_paper_has_it() -> None:
    table = joined(podcast(), studio())
    split, test = OF_SOURCE.split(table, "valence"), held_out_rows(OF_SOURCE, table, "valence")
    assert split.unlabelled.tolist() == list(range(len(table.source), len(table)))
    assert len(test) == 80
    assert len(split.dev) == 8, "a speaker of the source"
    assert rows_of(table, split.dev).isdisjoint(rows_of(table, split.train))
    assert rows_of(table, split.dev) < rows_of(table, np.arange(len(table.source)))
    card = split_card(OF_SOURCE, table, "valence")
    assert card["caption"] == (
        "cross-corpus, trained and developed on podcast, tested on studio, seed 0; all audio of studio trains without "
        "labels, what is tested included"
    )
    assert [leak for leak in card["leaks"] if not leak["allowed"]] == []
    check_leaks(OF_SOURCE, table, "valence")


def test_a_source_with_an_official_split_develops_on_its_own_development_part() -> None:
    first = podcast()
    sides = first.utterances["speaker"].map({"s0": "train", "s1": "dev", "s2": "test"})
    table = joined(with_rows(first, split=sides), studio())
    split = OF_SOURCE.split(table, "valence")
    assert (rows_of(table, split.train), rows_of(table, split.dev)) == ({"podcast/s0"}, {"podcast/s1"})
    split = CROSS.split(table, "valence")
    assert rows_of(table, split.train) == {"podcast/s0", "podcast/s1", "podcast/s2"}


def test_what_only_is_heard_gives_no_label_speaker_or_gender() -> None:
    """Of tested utterances that train without labels nothing but their audio is known; development keeps its labels."""
    table = joined(podcast(), studio())
    protocol = Protocol("cross", target_audio="all")
    split = protocol.split(table)
    data = training_data(table, split, SegmentView(32, 32))
    heard = slice(len(split.train), None)
    for task in ("emotion", "gender", "speaker"):
        assert set(data.train.labels_U[task][heard]) == {-1}
        assert min(data.train.labels_U[task][: len(split.train)]) >= 0
    assert data.labels.speaker == ("podcast/s0", "podcast/s1", "podcast/s2")
    assert min(data.dev.labels_U["emotion"]) >= 0
    assert min(data.dev.labels_U["gender"]) >= 0


def test_an_auxiliary_corpus_with_tested_speakers_is_refused_though_they_are_heard() -> None:
    table = joined(podcast(), studio())
    split = OF_SOURCE.split(table)
    with pytest.raises(DataError, match="10 speakers of it stand in the development or test part"):
        training_data(table, split, SegmentView(32, 32), aux=make_table(speakers=10, seed=5, corpus="studio"))


def test_noisy_copies_stay_with_their_originals() -> None:
    table = joined(podcast(), studio(conditions=("snr5",)))
    split, test = CROSS.split(table), held_out_rows(CROSS, table, "emotion")
    assert (len(split.dev), len(test)) == (48, 112)
    path = table.utterances["path"]
    assert set(path.iloc[split.dev]).isdisjoint(path.iloc[test])
    assert split.dev_by_condition.keys() == {"clean", "snr5"}
    check_leaks(CROSS, table)


def test_a_model_learns_from_one_corpus_and_hears_the_other() -> None:
    table = joined(podcast(vectors=True), studio(vectors=True))
    data: TrainingData = training_data(table, OF_SOURCE.split(table, "valence"), SegmentView(1, 1), "valence")
    batch = data.train.batch([0, len(data.train) - 1], torch.device("cpu"), torch.float32)
    assert torch.isnan(batch["attributes"]).flatten().tolist() == [False, True]
    config = LadderConfig(hidden=(8, 8), batch_size=16, setting="UL")
    (result,) = (result for result, _ in fit(FAMILY, config, data, seed=0, epochs=1))
    assert np.isfinite(result.metrics["dev_ccc"])


# --- what goes wrong --------------------------------------------------------------------------------------------------


def test_two_corpora_of_one_name_and_the_same_speakers_are_refused() -> None:
    table = joined(podcast(), with_rows(studio(), corpus="podcast"))
    with pytest.raises(
        DataError, match=r"podcast/s\d \(s\d_00, s\d_00\).* Speakers of corpora of one name count as the"
    ):
        check_leaks(CROSS, table)


def test_audio_that_is_in_both_corpora_is_refused_or_left_out() -> None:
    second = studio()
    sounds = podcast().utterances["audio_sha256"]
    second = with_rows(second, audio_sha256=[sounds[0], *second.utterances["audio_sha256"][1:]])
    table = joined(podcast(), second)
    with pytest.raises(DataError, match=r"1 recording stands in the train and the (dev|test) part: s0_00 = s0_00"):
        check_leaks(CROSS, table)
    protocol = Protocol("cross", drop_duplicates=True)
    check_leaks(protocol, table)
    assert 0 not in protocol.split(table).train
    assert len(protocol.split(table).train) == 23


@pytest.mark.parametrize("name", ["official", "speaker", "loso"])
def test_other_protocols_take_one_corpus(name: Any) -> None:
    with pytest.raises(
        ConfigError, match=f"protocol {name} divides one corpus; leave out --cross, or use --protocol c"
    ):
        Protocol(name, test_speaker="s0" if name == "loso" else None).split(joined(podcast(), studio()))


def test_a_tested_corpus_of_one_speaker_cannot_be_divided() -> None:
    table = joined(podcast(), replace(make_table(speakers=1, seed=2, corpus="studio"), root=Path("data/studio")))
    with pytest.raises(DataError, match="data/studio: protocol cross needs at least 2 speakers with labels"):
        CROSS.split(table)
    Protocol("cross", develop_on="source").split(table)


# --- to the end -------------------------------------------------------------------------------------------------------


def small_study(folder: Path, cross: FeatureTable, protocol: Protocol) -> Any:
    """A trained study whose `data` section names the second corpus, too."""
    paths = [write_table(folder / name, table) for name, table in (("a", podcast()), ("b", cross))]
    study = make_study(folder / "study", open_table(paths[0], "spectrogram", paths[1]), protocol)
    study.meta["data"] |= {"path": str(paths[0]), "features": "spectrogram", "cross": str(paths[1])}
    return study


@pytest.mark.parametrize("protocol", [CROSS, Protocol("cross", target_audio="all")])
def test_a_model_is_tested_on_the_other_corpus_alone(tmp_path: Path, protocol: Protocol) -> None:
    result = evaluate(small_study(tmp_path, studio(), protocol))
    assert result["utterances"] == 56
    assert len(result["speakers"]) == 7
    assert result["protocol"].startswith("cross-corpus, trained on podcast, tested on studio: speakers with 30% of it")
    verified = result["speaker_verification"]
    assert {name.split("/")[0] for name in verified["speakers"]} == {"studio"}, "nobody whom it was taught to know"


def test_what_leaks_is_not_tested(tmp_path: Path) -> None:
    sounds = podcast().utterances["audio_sha256"]
    leaking = with_rows(studio(), audio_sha256=[*sounds[:8], *studio().utterances["audio_sha256"][8:]])
    study = small_study(tmp_path, leaking, CROSS)
    with pytest.raises(DataError, match=r"8 recordings stand in the train and the \w+ part: s0_00 = s0_00"):
        evaluate(study)
    assert not (study.folder / "evaluation" / "test.json").exists()
