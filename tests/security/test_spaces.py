"""Search spaces from strangers: YAML runs nothing, stands for no more than it says, and what it asks for is checked."""

from __future__ import annotations

from pathlib import Path

import pytest

from sersearch.errors import ConfigError
from sersearch.families.multimodal_ladder.config import MultimodalLadderConfig
from sersearch.tuning.space import load_space, read_yaml
from tests.security.memory import at_most

SPACE = """
name: small
doc: a small search
family: aae
features: spectrogram
search:
  alpha: {low: 0.1, high: 1.0}
fixed: {hidden: 5}
trials: 8
epochs: 6
time: seconds
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refused(text: str) -> str:
    """What is said of a space that is refused, with little memory and nothing run."""
    Path("mine.yaml").write_text(text)
    with at_most(100), pytest.raises(ConfigError) as error:
        load_space("mine.yaml")
    assert [path.name for path in Path().iterdir()] == ["mine.yaml"]
    assert len(str(error.value)) < 2000
    return str(error.value)


def test_the_space_is_fine_without_what_is_added_below() -> None:
    Path("mine.yaml").write_text(SPACE)
    assert load_space("mine.yaml").fixed == {"hidden": 5}


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.mkdir ['ran']",
        "!!python/object/new:os.mkdir ['ran']",
        "!!python/name:os.mkdir",
        "!!python/module:os",
        "!mine {a: 1}",
    ],
)
def test_a_tag_that_says_what_to_run(value: str) -> None:
    assert "could not determine a constructor for the tag" in refused(SPACE.replace("hidden: 5", f"hidden: {value} "))


def test_aliases_that_stand_for_billions_of_values() -> None:
    laughs = ["l0: &l0 [ha, ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    laughs += [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 10)}]" for n in range(1, 12)]
    assert "*l0: write out what it stands for" in refused(SPACE + "\n".join(laughs))
    assert "*a: write out what it stands for" in refused(SPACE.replace("hidden: 5", "hidden: &a [*a]"))
    assert "*a: write out what it stands for" in refused(SPACE + "x: &a {y: 1}\ndemo: {<<: *a}\n")


def test_yaml_that_is_nested_without_end() -> None:
    assert "nested too deeply" in refused("[" * 100_000)
    assert "nested too deeply" in refused("a: " + "{a: " * 50_000)
    with pytest.raises(ValueError, match="nested too deeply"):  # as `--set NAME=VALUE` reads it
        read_yaml("[" * 100_000)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (".nan", "nan"),
        (".inf", "inf"),
        ("-.inf", "-inf"),
        ("1e999", "inf"),
        ("9" * 5000, "not YAML that can be read"),
        ("!!binary aGVsbG8=", "b'hello' is not a number"),
        ("2020-01-01", "is not a number"),
        ("[[[1]]]", "is not a number"),
        ('"\\e[2J"', "'\\x1b[2J' is not a number"),
    ],
)
def test_values_that_are_no_figures(value: str, said: str) -> None:
    message = refused(SPACE.replace("hidden: 5", f"learning_rate: {value}"))
    assert said in message
    assert "\x1b" not in message


@pytest.mark.parametrize("family", ["os", "../aae", "sersearch.families.aae", "common"])
def test_a_family_is_one_of_ours_and_no_module_to_import(family: str) -> None:
    assert "no family is called" in refused(SPACE.replace("family: aae", f"family: {family}"))


@pytest.mark.parametrize("ends", ["{low: 0, high: 1.0e+300, step: 1.0e-300}", "{low: 0, high: 1.0e+9, step: 1}"])
def test_a_range_of_more_values_than_can_be_listed(ends: str) -> None:
    assert "makes more than 10000 values" in refused(SPACE.replace("{low: 0.1, high: 1.0}", ends))


def test_a_depth_that_would_be_built_for_ever() -> None:
    with pytest.raises(ConfigError, match=r"params\.layers: 1e\+09 is outside \[1, 100\]"):
        MultimodalLadderConfig(layers=10**9)
