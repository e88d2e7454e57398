"""The published model families, one folder each; a folder with a `family.py` is found by its name."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from sersearch.errors import ConfigError, one_of
from sersearch.family import Family


def family_names() -> tuple[str, ...]:
    """Names of all families: the folders in `sersearch/families/` that hold a `family.py`."""
    holds_family = {path.parent.name for folder in __path__ for path in Path(folder).glob("*/family.py")}
    return tuple(m.name for m in pkgutil.iter_modules(__path__) if m.name in holds_family)


def get_family(name: str) -> Family:
    """The family in folder `name`. Raises :class:`ConfigError` for a name that has no folder."""
    if name not in family_names():
        raise ConfigError(f"family: no family is called {name!r}; {one_of(name, family_names())}")
    family = importlib.import_module(f"sersearch.families.{name}.family").FAMILY
    assert isinstance(family, Family)
    return family


__all__ = ["family_names", "get_family"]
