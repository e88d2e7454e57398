"""Options of corpus readers: the keyword-only parameters of a reader's `read`, checked by their annotations."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from data_prep.reading import Corpus
from sersearch.errors import ConfigError, one_of


def reader_options(corpus: Corpus) -> dict[str, Any]:
    """The options of a reader with their defaults."""
    parameters = inspect.signature(corpus.read).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def checked_options(corpus: Corpus, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of a reader, `given` ones as their annotations want them.

    Raises :class:`ConfigError` for an unknown option and for a value that it can't take.
    """
    options, types = reader_options(corpus), get_type_hints(corpus.read)
    for name, value in given.items():
        if name not in options:
            known = one_of(name, options) if options else "it has none"
            raise ConfigError(f"{corpus.name}: unknown option {name!r}; {known}")
        try:
            options[name] = TypeAdapter(types[name]).validate_python(value)
        except ValidationError as error:
            message = error.errors()[0]["msg"]
            raise ConfigError(
                f"{corpus.name}: option {name}: {message[0].lower()}{message[1:]}, not {value!r}"
            ) from None
    return options
