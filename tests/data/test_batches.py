"""From tables to mini-batches: segments of utterances, label codes, and what an auxiliary corpus may hold."""

from __future__ import annotations

import dataclasses
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sersearch.data import batches
from sersearch.data.batches import LabelSpace, SegmentView, TrainingData, auxiliary_data, training_data
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError
from tests.synthetic import make_data, make_table

VIEW = SegmentView(32, 32)
CPU = torch.device("cpu")


def data_of(table: FeatureTable, aux: FeatureTable | None = None, **protocol: Any) -> TrainingData:
    rule = Protocol(**(protocol or {"name": "loso", "test_speaker": "s0"}))
    return training_data(table, rule.split(table), VIEW, aux=aux)


# --- segments ---------------------------------------------------------------------------------------------------------


@given(frames=st.integers(1, 64), hop=st.integers(1, 64), n=st.integers(1, 400))
def test_segments_lie_in_the_utterance_and_leave_out_less_than_half_a_segment(frames: int, hop: int, n: int) -> None:
    starts = SegmentView(frames, hop).starts(n)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    assert all(start + frames <= max(n, frames) for start in starts)
    assert n - (starts[-1] + frames) < max(hop, frames / 2)
    assert all(later - earlier == hop for earlier, later in pairwise(starts[:-1]))


def test_a_short_utterance_is_padded_with_its_own_lowest_values() -> None:
    matrix = np.array([[1.0, 5.0], [3.0, 4.0]], np.float32)
    (segment,) = SegmentView(4, 4).cut(matrix, np.zeros(2, np.float32))
    assert segment.tolist() == [[1, 5], [3, 4], [1, 4], [1, 4]]


def test_a_batch_is_normalised_by_the_training_part_and_knows_its_labels() -> None:
    table = make_table()
    data = data_of(table)
    batch = data.train.batch(range(len(data.train)), torch.device("cpu"), torch.float32)
    assert batch["x"].shape == (len(data.train), 16, 32)
    known = dict(enumerate(data.labels.emotion))
    ids = [data.train.ids[u] for u in batch["utterance"].tolist()]
    truth = table.utterances.set_index("id")
    for identity, code, speaker in zip(ids, batch["emotion"].tolist(), batch["speaker"].tolist(), strict=True):
        emotion = truth["emotion"][identity]
        assert known.get(code) == (emotion if isinstance(emotion, str) else None)
        assert data.labels.speaker[speaker] == f"made/{truth['speaker'][identity]}"


def test_segments_of_one_frame_are_those_of_longer_ones_frame_by_frame() -> None:
    table = make_table()
    rule = Protocol("loso", test_speaker="s0").split(table)
    single, whole = (training_data(table, rule, SegmentView(n, n)).train for n in (1, 4))
    cpu = torch.device("cpu")
    frames = single.batch(range(12), cpu, torch.float32)["x"]
    segments = whole.batch(range(3), cpu, torch.float32)["x"]
    torch.testing.assert_close(frames[:, :, 0], segments.transpose(1, 2).reshape(12, -1))


def test_nothing_of_the_test_speaker_is_in_the_data() -> None:
    data = data_of(make_table())
    assert not any(name.startswith("s0_") for name in (*data.train.ids, *data.dev.ids))
    assert "made/s0" not in data.labels.speaker


# --- auxiliary corpora ------------------------------------------------------------------------------------------------


def test_an_auxiliary_corpus_adds_its_speakers_and_no_emotion() -> None:
    table, aux = make_table(), make_table(seed=1, corpus="other", speakers=3)
    data = data_of(table, aux)
    assert set(data.labels.speaker) == {"made/s2", "made/s3", "other/s0", "other/s1", "other/s2"}
    assert data.train.utterances == 24, "its audio is for pre-training alone"
    pool = auxiliary_data(data, aux).train
    assert pool.utterances == len(aux)
    assert set(pool.labels_U["emotion"]) == {-1}
    assert min(pool.labels_U["speaker"]) >= 2


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"corpus": "made"}, r"2 speakers of it stand in the development or test part of made, such as made/s0"),
        (
            {"audio_sha256": "made0_5"},
            "1 recordings of it stand in the development or test part of made",
        ),
    ],
)
def test_an_auxiliary_corpus_with_what_is_held_out_is_refused(change: dict[str, str], message: str) -> None:
    aux = make_table(seed=1, corpus="other", speakers=2)
    aux = dataclasses.replace(aux, root=Path("aux"), utterances=aux.utterances.assign(**change))
    with pytest.raises(DataError, match=f"aux: {message}.*without them"):
        data_of(make_table(), aux)


def test_speakers_who_stand_in_every_fold_may_stand_in_the_auxiliary_corpus() -> None:
    table = make_table(repetitions=4)
    aux = make_table(seed=1, corpus="made")
    aux = dataclasses.replace(aux, utterances=aux.utterances.assign(audio_sha256=[f"x{n}" for n in range(len(aux))]))
    data = data_of(table, aux, name="kfold", fold=1, folds=3)
    assert len(data.labels.speaker) == 4


@pytest.mark.parametrize("change", [{"parameters": {"top_db": 60}}, {"version": 1}, {"frame_rate": 50.0}])
def test_an_auxiliary_corpus_of_other_features_is_refused(change: dict[str, Any]) -> None:
    aux = make_table(seed=1, corpus="other")
    aux = dataclasses.replace(aux, root=Path("aux"), card={**aux.card, **change})
    with pytest.raises(DataError, match=f"aux: its spectrogram features were made with {next(iter(change))} "):
        data_of(make_table(), aux)
    with pytest.raises(DataError, match="prepare both with the same sersearch"):
        auxiliary_data(data_of(make_table()), aux)


# --- attributes and conditions ----------------------------------------------------------------------------------------


def test_attributes_are_z_normed_by_the_labelled_training_part() -> None:
    table = make_table(vectors=True, attributes=True)
    split = Protocol("loso", test_speaker="s0").split(table, "attributes")
    data = training_data(table, split, SegmentView(1, 1), "attributes")
    assert data.labels.task == "attributes"
    assert data.labels.outputs == 3
    values = table.utterances[["activation", "valence", "dominance"]].to_numpy(np.float64)[split.train]
    assert data.labels.mean == pytest.approx(values.mean(axis=0))
    assert data.labels.std == pytest.approx(values.std(axis=0))
    batch = data.train.batch(range(len(data.train)), CPU, torch.float64)
    known = torch.from_numpy(data.train.labelled_S)
    assert torch.isnan(batch["attributes"][~known]).all()
    assert int(known.sum()) == len(split.train)
    torch.testing.assert_close(
        data.labels.denormed(batch["attributes"][known]), torch.from_numpy(values), rtol=1e-6, atol=1e-6
    )
    assert data.train.labelled_tasks(np.flatnonzero(data.train.labelled_S)[:2]) >= {"attributes"}
    assert "attributes" not in data.train.labelled_tasks(np.flatnonzero(~data.train.labelled_S))
    assert LabelSpace.from_dict(json.loads(json.dumps(data.labels.to_dict()))) == data.labels


def test_an_attribute_that_never_varies_is_refused() -> None:
    table = make_table(vectors=True, attributes=True)
    table.utterances.loc[table.utterances["valence"].notna(), "valence"] = 3.0
    with pytest.raises(DataError, match="all labelled training utterances have the same valence: nothing to learn"):
        make_data(table, SegmentView(1, 1), "attributes")


def test_noisy_copies_train_without_their_labels_and_develop_by_condition() -> None:
    table = make_table(vectors=True, conditions=("snr5",))
    protocol = Protocol("loso", test_speaker="s0", unlabeled_condition="snr5")
    data = training_data(table, protocol.split(table), SegmentView(1, 1))
    pool = [i for i, name in enumerate(data.train.ids) if name.endswith("snr5")]
    assert len(pool) == 2 * 12
    assert set(data.train.labels_U["emotion"][pool]) == {-1}
    assert not data.train.labelled_S[pool].any()
    (noisy,) = data.dev_by_condition.values()
    assert noisy.ids == [f"{name}_snr5" for name in data.dev.ids]
    assert noisy.labels_U["emotion"].tolist() == data.dev.labels_U["emotion"].tolist()


def test_a_short_utterance_padded_with_the_mean_ends_in_zeros_and_a_long_one_is_cut_off() -> None:
    table = make_table()
    data = make_data(table, SegmentView(40, 40, pad="mean", first_only=True))
    assert len(data.train) == data.train.utterances, "one segment each"
    x = data.train.batch(range(len(data.train)), CPU, torch.float32)["x"]
    assert x.shape[1:] == (16, 40)
    frames = np.diff(table.offsets)[data.train.row_S]
    for segment, length in zip(x, frames, strict=True):
        assert (segment[:, min(length, 40) :] == 0).all()
        assert (segment[:, min(length, 40) - 1] != 0).any()


def test_resident_segments_give_the_same_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "RESIDENT_CHUNK", 7)
    segments = make_data(view=SegmentView(32, 16)).train
    indices = np.random.default_rng(0).permutation(len(segments))[:20]
    read = segments.batch(indices, CPU, torch.float32)
    assert segments.values == len(segments) * 16 * 32
    segments.reside(CPU, torch.float32)
    monkeypatch.setattr(segments, "cut", None)  # nothing is read any more
    held = segments.batch(indices, CPU, torch.float32)
    assert read.keys() == held.keys()
    assert all(torch.equal(read[name], held[name]) for name in read)
