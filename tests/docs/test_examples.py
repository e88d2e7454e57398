"""The family and the reader that the pages have their readers write do what the pages say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import soundfile
import torch

import data_prep.corpora
import sersearch.families
from data_prep.corpora import corpus_names, get_corpus
from sersearch.data.batches import TrainingData
from sersearch.errors import DataError
from sersearch.families import family_names, get_family
from sersearch.family import Config
from sersearch.tuning.space import load_space
from tests.docs.pages import ROOT, blocks
from tests.families.conformance import FamilyConformance


def write(page: str, folder: Path) -> None:
    """The files of a page."""
    for block in blocks(ROOT / "docs" / page):
        if block.file and block.language in ("python", "yaml"):
            (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / block.file).write_text(block.text, "utf-8")


def forget(package: str) -> None:
    """Let later tests find it as they would without this page."""
    for name in [name for name in sys.modules if name.startswith(package)]:
        del sys.modules[name]


class TestFamily(FamilyConformance):
    configs: ClassVar[tuple[Config, ...]] = ()
    vary: ClassVar = {"weight": (0.0, 0.1, 1.0), "learning_rate": (1e-3, 5e-3, 1e-2)}

    @pytest.fixture(autouse=True, scope="class")
    @classmethod
    def written(cls, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
        folder = tmp_path_factory.mktemp("checkout")
        write("family.md", folder)
        (folder / "sersearch" / "families" / "entropy" / "__init__.py").write_text('"""Entropy minimisation."""\n')
        with pytest.MonkeyPatch.context() as patched:
            there = [*sersearch.families.__path__, str(folder / "sersearch" / "families")]
            patched.setattr(sersearch.families, "__path__", there)
            config = import_module("sersearch.families.entropy.config").EntropyConfig
            cls.family, cls.configs = get_family("entropy"), (config(hidden=5, batch_size=8),)
            yield folder
            forget("sersearch.families.entropy")

    def test_it_is_found_by_its_name_and_its_space_fits(self, written: Path) -> None:
        assert "entropy" in family_names()
        assert load_space(str(written / "entropy_weight.yaml")).family == "entropy"

    def test_the_entropy_by_hand(self) -> None:
        losses = import_module("sersearch.families.entropy.losses")
        logits = torch.log(torch.tensor([[0.5, 0.5], [0.25, 0.75], [0.1, 0.9]]))
        labels = torch.tensor([-1, -1, 1])
        each = [-sum(p * np.log(p) for p in row) for row in ((0.5, 0.5), (0.25, 0.75))]
        assert losses.entropy(logits, labels).item() == pytest.approx(np.mean(each), rel=1e-6)
        assert losses.cross_entropy(logits, labels).item() == pytest.approx(-np.log(0.9), rel=1e-6)
        assert losses.entropy(logits, torch.tensor([0, 1, 1])).item() == 0

    def test_unlabelled_speech_changes_the_model(self, data: TrainingData) -> None:
        assert self.family.config().learns_unlabelled
        assert (~data.train.labelled_S).any()


@pytest.fixture
def reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    write("corpora.md", tmp_path)
    there = [*data_prep.corpora.__path__, str(tmp_path / "data_prep" / "corpora")]
    monkeypatch.setattr(data_prep.corpora, "__path__", there)
    yield
    forget("data_prep.corpora.savee")


@pytest.mark.usefixtures("reader")
def test_the_reader_of_the_page_reads_its_corpus(tmp_path: Path) -> None:
    for name in ("DC/a01", "KL/sa12", "KL/n30", "JE/extra"):
        path = tmp_path / "savee" / "AudioData" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, np.zeros(1600), 16_000)
    assert "savee" in corpus_names()
    corpus = get_corpus("savee")
    assert "SAVEE" in corpus.summary
    reading = corpus.read(tmp_path / "savee")
    found = {(row.id, row.speaker, row.emotion, row.gender, row.sentence) for row in reading.utterances}
    assert found == {
        ("DC_a01", "DC", "anger", "male", "a01"),
        ("KL_sa12", "KL", "sadness", "male", "sa12"),
        ("KL_n30", "KL", "neutral", "male", "n30"),
    }
    assert [(row.path, row.reason) for row in reading.rejected] == [
        ("AudioData/JE/extra.wav", "not a name of SAVEE, such as DC/a01")
    ]
    with pytest.raises(DataError, match="no audio found"):
        corpus.read(tmp_path)
