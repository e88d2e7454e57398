"""Every error that sersearch raises for what a user can mend.

::

    SersearchError                 the command line prints these without a traceback, exit code 2
    ├── ConfigError                an option, a search space or a hyperparameter
    ├── DataError                  a corpus, a feature table, a split
    │   └── AudioError             one file's audio; `prep` lists it in rejected.parquet
    ├── StudyError                 a study that exists, is missing, is held, or cannot be resumed
    ├── TrackingError              MLflow cannot be used as asked
    └── BundleError                an exported model that cannot be loaded

A message says what was seen, what was expected and what to do.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class SersearchError(Exception):
    """What went wrong, for the user who can mend it."""


class ConfigError(SersearchError):
    """An option, a search space or a hyperparameter is not what it can be."""


class DataError(SersearchError):
    """A corpus, a feature table or a split cannot be used."""


class AudioError(DataError):
    """One file's audio cannot be used."""


class StudyError(SersearchError):
    """A study exists already, is missing, is held by another process, or cannot be resumed."""


class TrackingError(SersearchError):
    """MLflow cannot be used as asked."""


class BundleError(SersearchError):
    """An exported model cannot be loaded."""


def printable(text: str) -> str:
    """`text`, of several lines maybe, with what cannot be printed written out: an escape character is \\x1b.

    For what is shown in a terminal, which obeys such characters, whoever wrote them into a name.
    """
    return "".join(c if c.isprintable() or c == "\n" else c.encode("unicode_escape").decode() for c in text)


def one_of(value: object, valid: Iterable[str]) -> str:
    """The second half of an error on a name: the nearest valid name, if any, and all of them."""
    names = sorted(valid)
    near = get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    return f"{hint}expected one of {', '.join(names) if names else '(there are none)'}"
