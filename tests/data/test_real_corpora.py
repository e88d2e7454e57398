"""Every protocol on corpora as they are: nEMO, LibriSpeech and the demo corpus, by their manifests."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from data_prep.corpora import get_corpus
from data_prep.corpora.demo import write_demo
from sersearch.data.heldout import test_rows as held_out_rows
from sersearch.data.leaks import check_leaks
from sersearch.data.protocols import Protocol, folds, rotations, split_card
from sersearch.errors import DataError

OFFICIAL = Protocol("official")
MK0_DEVELOPS = (8, 9)
"""Seeds by which the development part is a speaker who lacks a class."""


@pytest.fixture(scope="module")
def read(memory_table: Callable[..., Any]) -> Callable[..., Any]:
    """A corpus's utterances as a table, without features; audio is told apart by its file."""

    def make(name: str, root: Path) -> Any:
        reading = get_corpus(name).read(root)
        rows = [asdict(row) for row in sorted(reading.utterances, key=lambda row: row.id)]
        for row in rows:
            row["audio_sha256"] = hashlib.sha256((root / row["path"]).read_bytes()).hexdigest()
        return memory_table(rows, {"corpus": name, "attribute_scale": reading.attribute_scale})

    return make


@pytest.fixture(scope="module")
def nemo(read: Callable[..., Any], corpora: Path) -> Any:
    return read("nemo", corpora / "nemo")


@pytest.fixture(scope="module")
def demo(read: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    root = tmp_path_factory.mktemp("demo")
    write_demo(root)
    return read("demo", root)


def speakers_of(table: Any, rows: np.ndarray) -> list[str]:
    return sorted(set(table.utterances["speaker"].iloc[rows]))


def test_nemo_s_seven_speakers_are_tested_once_each_and_nested_develop_once_each(nemo: Any) -> None:
    """MK0 never says `surprised`: alone, they can't develop, so they develop beside another."""
    whole = folds(Protocol("loso", dev_folds=5), nemo)
    assert [rule.test_speaker for rule in whole] == ["EB0", "IC0", "KS0", "MK0", "MP0", "SM0", "WR0"]
    tested = np.concatenate([held_out_rows(rotations(rule)[0], nemo, "emotion") for rule in whole])
    assert sorted(tested) == list(range(1903))
    for rule in whole:
        developing = [speakers_of(nemo, inner.split(nemo).dev) for inner in rotations(rule)]
        assert sorted(name for names in developing for name in names) == [
            n for n in speakers_of(nemo, tested) if n != rule.test_speaker
        ]
        assert sorted(map(len, developing)) == [1, 1, 1, 1, 2]
        assert ["MK0"] not in developing
        for inner in rotations(rule):
            check_leaks(inner, nemo)
    with pytest.raises(DataError, match=r"no utterance of class surprised; .* or fewer --dev-folds"):
        [inner.split(nemo) for inner in rotations(Protocol("loso", "EB0", dev_folds=6))]


def test_nemo_s_ten_folds_hold_all_speakers_and_each_utterance_is_tested_once(nemo: Any) -> None:
    tested = [held_out_rows(rule, nemo, "emotion") for rule in folds(Protocol("kfold", fold=1), nemo)]
    assert sorted(map(len, tested)) == [190] * 7 + [191] * 3
    assert sorted(np.concatenate(tested)) == list(range(1903))
    assert all(len(speakers_of(nemo, rows)) == 7 for rows in tested)
    check_leaks(Protocol("kfold", fold=1), nemo)


def test_nemo_s_random_splits_have_15_percent_of_its_data_in_whole_speakers(nemo: Any) -> None:
    """Speakers have 157 to 300 of 1,903 utterances; 15% are 285."""
    drawn = set()
    for seed in range(10):
        protocol = Protocol("speaker", seed=seed)
        test = held_out_rows(protocol, nemo, "emotion") if seed not in MK0_DEVELOPS else None
        if test is None:
            with pytest.raises(DataError, match="no utterance of class surprised; draw the speakers by another --seed"):
                protocol.split(nemo)
            continue
        dev = protocol.split(nemo).dev
        check_leaks(protocol, nemo)
        drawn.add(tuple(speakers_of(nemo, dev)))
        for rows in (dev, test):
            assert abs(len(rows) - 0.15 * 1903) <= 150
    assert len(drawn) >= 4


def test_nemo_has_no_official_split(nemo: Any) -> None:
    with pytest.raises(DataError, match="no official split; use protocol speaker, loso or kfold"):
        OFFICIAL.split(nemo)


def test_librispeech_has_no_emotion_to_divide_by(read: Callable[..., Any], corpora: Path) -> None:
    table = read("librispeech", corpora / "LibriSpeech")
    for protocol in (Protocol("speaker"), Protocol("loso", "61"), Protocol("kfold", fold=1)):
        with pytest.raises(DataError, match="no utterance has a label for target emotion; choose another target or c"):
            check_leaks(protocol, table)


def test_the_demo_corpus_leaks_nothing_under_any_protocol(demo: Any) -> None:
    card = split_card(OFFICIAL, demo)
    assert [card["parts"][part]["utterances"] for part in ("train", "unlabelled", "dev", "test")] == [128, 64, 64, 64]
    for protocol in (OFFICIAL, Protocol("speaker", seed=1), Protocol("loso", dev_folds=3), Protocol("kfold", folds=4)):
        for target in ("emotion", "attributes", "valence_levels"):
            for rule in (inner for fold in folds(protocol, demo, target) for inner in rotations(fold)):
                check_leaks(rule, demo, target)


def test_a_demo_corpus_that_was_made_to_leak_is_refused(demo: Any) -> None:
    """A test utterance that also trains, under another id."""
    row = demo.utterances.index[demo.utterances["split"] == "test"][0]
    other = demo.utterances.index[demo.utterances["split"] == "train"][0]
    before = demo.utterances.loc[other, "audio_sha256"]
    demo.utterances.loc[other, "audio_sha256"] = demo.utterances.loc[row, "audio_sha256"]
    try:
        with pytest.raises(DataError, match=r"1 recording stands in the train and the test part: .*--drop-duplicates"):
            check_leaks(OFFICIAL, demo)
        check_leaks(Protocol("official", drop_duplicates=True), demo)
    finally:
        demo.utterances.loc[other, "audio_sha256"] = before
