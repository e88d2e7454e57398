"""Options of readers: their names and values are checked before a corpus is read."""

from __future__ import annotations

from pathlib import Path

import pytest

from data_prep.corpora import corpus_names, get_corpus
from data_prep.options import checked_options, reader_options
from sersearch.errors import ConfigError


def test_options_are_those_of_the_reader_with_their_defaults() -> None:
    assert reader_options(get_corpus("nemo")) == {}
    assert reader_options(get_corpus("librispeech")) == {"subsets": None, "speakers": None, "seed": 0}
    assert all(isinstance(reader_options(get_corpus(name)), dict) for name in corpus_names())


def test_values_become_what_the_reader_takes() -> None:
    made = checked_options(get_corpus("librispeech"), {"subsets": ["test-other"], "speakers": 4})
    assert made == {"subsets": ("test-other",), "speakers": 4, "seed": 0}
    assert checked_options(get_corpus("msp_podcast"), {"unlabeled": "a/b"})["unlabeled"] == Path("a/b")


@pytest.mark.parametrize(
    ("corpus", "given", "message"),
    [
        ("nemo", {"labels": "x"}, "nemo: unknown option 'labels'; it has none"),
        ("crema_d", {"label": "x"}, r"crema_d: unknown option 'label'; did you mean labels\?"),
        (
            "crema_d",
            {"labels": "felt"},
            "option labels: input should be 'intended' or 'perceived', not 'felt'",
        ),
        ("librispeech", {"speakers": "many"}, "librispeech: option speakers: input should be a valid integer"),
    ],
)
def test_what_a_reader_cannot_take_is_said(corpus: str, given: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        checked_options(get_corpus(corpus), given)
