"""What a package exports is there, and is explained."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
import textwrap

import pytest

import data_prep
import sersearch
from sersearch import errors
from sersearch.errors import one_of

MODULES = [
    info.name
    for package in (sersearch, data_prep)
    for info in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    if not info.name.endswith("__main__")
]


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for_and_exports_what_it_names(name: str) -> None:
    module = importlib.import_module(name)
    assert module.__doc__, f"{name} has no docstring"
    exported = getattr(module, "__all__", [])
    assert len(set(exported)) == len(exported)
    for public in exported:
        thing = getattr(module, public)
        if inspect.isclass(thing) or inspect.isfunction(thing):
            assert thing.__doc__, f"{name}.{public} has no docstring"


@pytest.mark.parametrize("name", MODULES)
def test_a_star_imports_what_all_names_and_nothing_else(name: str) -> None:
    module = importlib.import_module(name)
    exported = getattr(module, "__all__", None)
    if exported is None:
        return
    assert all(isinstance(public, str) and not public.startswith("_") for public in exported)
    scope: dict[str, object] = {}
    exec(f"from {name} import *", scope)
    assert scope.keys() - {"__builtins__"} == set(exported)
    assert all(scope[public] is getattr(module, public) for public in exported)


@pytest.mark.parametrize("name", MODULES)
def test_public_functions_and_classes_of_a_module_are_documented(name: str) -> None:
    module = importlib.import_module(name)
    for public, thing in vars(module).items():
        own = getattr(thing, "__module__", None) == name and not public.startswith("_")
        if own and (inspect.isclass(thing) or inspect.isfunction(thing)):
            assert thing.__doc__, f"{name}.{public} has no docstring"


ENGINE = [name for name in MODULES if name.split(".")[:2] not in (["sersearch", "tuning"], ["sersearch", "tracking"])]
ENGINE = [name for name in ENGINE if name.startswith("sersearch.")]


def test_only_tuning_and_tracking_need_an_orchestrator() -> None:
    code = f"""
        import importlib, sys
        for wanted in {ENGINE!r}:
            importlib.import_module(wanted)
            for name in ("ray", "mlflow", "optuna"):
                assert name not in sys.modules, (wanted, name)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_error_tells_the_nearest_name_and_all_names() -> None:
    assert one_of("alhpa", ["alpha", "beta"]) == "did you mean alpha? expected one of alpha, beta"
    assert one_of("x", []) == "expected one of (there are none)"


def test_every_error_that_a_user_can_mend_is_a_sersearch_error() -> None:
    own = [e for _, e in inspect.getmembers(errors, inspect.isclass) if e.__module__ == "sersearch.errors"]
    assert {e.__name__ for e in own} >= {"ConfigError", "DataError", "AudioError", "StudyError", "BundleError"}
    assert all(issubclass(e, errors.SersearchError) and e.__doc__ for e in own)
    tree = errors.__doc__ or ""
    assert all(e.__name__ in tree for e in own), "the tree at the top shows each"
