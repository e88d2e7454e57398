"""Search spaces: what is wrong with one is said before anything starts, all of it, with the way out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from sersearch.errors import ConfigError
from sersearch.families import get_family
from sersearch.tuning.space import load_space, read_yaml, signature_count, space_names

GOOD: dict[str, Any] = {
    "name": "mine",
    "doc": "a search",
    "family": "aae",
    "features": "spectrogram",
    "search": {"alpha": {"low": 0.1, "high": 1.0, "step": 0.1}},
    "objective": {"metric": "dev_ua"},
    "trials": 4,
    "epochs": 8,
    "time": "minutes",
}


def load(folder: Path, **changes: Any) -> Any:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GOOD, **changes}))
    return load_space(str(path))


@pytest.mark.parametrize("name", space_names())
def test_every_space_that_comes_along_loads_and_says_how_long_it_takes(name: str) -> None:
    space = load_space(name)
    assert space.name == name
    assert space.time
    assert space.doc
    demo = space.for_demo()
    assert demo.epochs <= space.epochs
    demo.config(demo.paper_point() or {})  # raises if the demo's settings don't fit


def test_the_paper_s_grid_of_alpha_and_beta() -> None:
    grid = load_space("aae_alpha_beta").grid()
    tenths = [k / 10 for k in range(1, 11)]
    assert grid == [{"alpha": a, "beta": b} for a in tenths for b in tenths]
    assert load_space("aae_alpha_beta").paper_point() == {"alpha": 0.4, "beta": 0.6}


def test_the_baselines_of_section_5() -> None:
    space = load_space("aae_baselines")
    assert len(space.grid()) == 6
    assert signature_count(space) == 6, "models of different shapes can't be trained as one"
    assert signature_count(load_space("aae_alpha_beta")) == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"metod": "tpe"}, "metod: unknown setting; did you mean method?"),
        ({"pruning": {"grace": 3}}, "pruning.grace: unknown setting"),
        ({"search": {"alpha": {"lo": 0}}}, "search.alpha.lo: unknown setting; did you mean low?"),
        ({"search": {"gama": {"low": 0, "high": 1}}}, "search.gama: unknown hyperparameter; "),
        ({"search": {"betta": {"low": 0, "high": 1}}}, "search.betta: unknown hyperparameter; did you mean beta?"),
        ({"search": {"beta": {"low": 0, "high": 2}}}, "search.beta: 2 is outside [0, 1]"),
        ({"search": {"alpha": {"low": 1, "high": 0.5}}}, "search.alpha: low 1 is not below high 0.5"),
        ({"search": {"alpha": {"low": 0, "high": 1, "log": True}}}, "log takes no step and a low above 0"),
        ({"search": {"alpha": {"low": 0}}}, "search.alpha: expected low and high, or choices"),
        ({"search": {"alpha": {"choices": []}}}, "search.alpha: choices is empty"),
        ({"search": {"model": {"choices": ["aae", "vae"]}}}, "search.model: 'vae'"),
        ({"search": {"hidden": {"low": 1.5, "high": 8}}}, "search.hidden: 1.5 is not "),
        ({"search": {}}, "search: empty"),
        ({"family": "aea"}, "family: no family is called 'aea'; did you mean aae?"),
        ({"features": "mfcc"}, "features: expected one of spectrogram for aae, not 'mfcc'"),
        ({"method": "annealing"}, "method: input should be 'grid', 'random' or 'tpe' (it is 'annealing')"),
        ({"objective": {"metric": "test_ua"}}, "objective.metric: aae has dev_ua, not test_ua"),
        ({"fixed": {"alpha": 0.2}}, "search.alpha: stands in fixed, too"),
        ({"fixed": {"channels": [8, 8]}}, "fixed.channels: (8, 8) is not a list of 3"),
        ({"fixed": {"learning_rate": "fast"}}, "fixed.learning_rate: 'fast' is not a number"),
        ({"demo": {"fixed": {"chanels": [1, 2, 3]}}}, "demo.fixed.chanels: unknown hyperparameter"),
        ({"trials": 0}, "trials: input should be greater than or equal to 1 (it is 0)"),
        ({"epochs": 3, "pruning": {"grace_epochs": 5}}, "pruning.grace_epochs: 5 is more than epochs, 3"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)
    assert str(error.value).startswith(str(tmp_path / "mine.yaml"))


def test_all_that_is_wrong_is_said_at_once(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, features="mfcc", search={"gama": {"low": 0, "high": 1}}, fixed={"hidden": 0})
    assert len(str(error.value).splitlines()) == 3


def test_a_missing_setting_and_a_file_that_is_no_space(tmp_path: Path) -> None:
    path = tmp_path / "s.yaml"
    for text, message in (
        ("name: x\n", "family: missing"),
        ("[1, 2]", "`sersearch spaces` lists spaces to copy from"),
        ("a: [", "not YAML"),
    ):
        path.write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_space(str(path))
    with pytest.raises(ConfigError, match="did you mean aae_alpha_beta"):
        load_space("aae_alfa_beta")


@pytest.mark.parametrize(("text", "value"), [("1e-3", 1e-3), ("-2E5", -2e5), ("1.5e3", 1500.0), ("e3", "e3"), ("7", 7)])
def test_numbers_as_researchers_write_them(text: str, value: Any) -> None:
    assert read_yaml(text) == value
    assert type(read_yaml(text)) is type(value)


def test_changes_are_checked_and_the_grace_follows_the_epochs(tmp_path: Path) -> None:
    space = load(tmp_path, pruning={"grace_epochs": 5})
    assert space.changed(epochs=3).pruning.grace_epochs == 3
    assert space.changed(trials=None) == space
    with pytest.raises(ConfigError, match=r"fixed\.alhpa: unknown hyperparameter; did you mean alpha"):
        space.changed(fixed={"alhpa": 1})


def test_a_range_without_a_step_has_no_grid(tmp_path: Path) -> None:
    space = load(tmp_path, search={"alpha": {"low": 0.1, "high": 1.0}})
    with pytest.raises(ConfigError, match=r"search\.alpha: a grid needs a step or choices"):
        space.grid()


def test_what_differs_from_the_paper_is_told(tmp_path: Path) -> None:
    space = load(tmp_path, fixed={"learning_rate": 0.01, "batch_size": 32})
    assert space.differences() == ["learning_rate 0.01 (default 0.0001)"]
    assert get_family("aae").config().to_dict()["learning_rate"] == 1e-4
