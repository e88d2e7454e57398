"""Corpus readers, found by their files' names: a new file `<name>.py` with `SUMMARY` and `read` is a new corpus."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from data_prep.reading import Corpus
from sersearch.errors import ConfigError, one_of


def corpus_names() -> list[str]:
    """The names of all readers, sorted."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get_corpus(name: str) -> Corpus:
    """The reader called `name`; ConfigError for an unknown one."""
    if name not in corpus_names():
        raise ConfigError(f"no corpus called {name!r}: {one_of(name, corpus_names())}")
    module = import_module(f"data_prep.corpora.{name}")
    return Corpus(name, module.SUMMARY, module.read, getattr(module, "write", None))
