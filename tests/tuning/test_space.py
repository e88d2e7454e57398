"""Search spaces: what is wrong with one is said before anything starts, all of it, with the way out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.errors import ConfigError
from sersearch.families import get_family
from sersearch.tuning.space import Dimension, load_space, read_yaml, signature_count, space_names

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


# --- more of what can be wrong ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning": {"kind": "median"}}, "pruning.kind: input should be 'asha' or 'none' (it is 'median')"),
        ({"pruning": {"reduction_factor": 1}}, "pruning.reduction_factor: input should be greater than 1"),
        ({"objective": {"metric": "dev_ua", "mode": "min"}}, "objective.mode: input should be 'max' (it is 'min')"),
        ({"objective": {"metric": "dev_ua", "goal": 1}}, "objective.goal: unknown setting"),
        ({"demo": {"epoch": 3}}, "demo.epoch: unknown setting; did you mean epochs?"),
        ({"search": {"alpha": 0.4}}, "search.alpha: "),
        ({"search": ["alpha"]}, "search: "),
        ({"search": {"alpha": {"low": 0.1, "high": 1, "choices": [0.1]}}}, "choices stand alone"),
        (
            {"search": {"alpha": {"low": 0.1, "high": 1, "step": 0}}},
            "search.alpha.step: input should be greater than 0",
        ),
        ({"search": {"alpha": {"low": 0.1, "high": 1, "step": 0.1, "log": True}}}, "log takes no step"),
        ({"search": {"alpha": {"low": 0.1, "high": 1, "step": 5e-324}}}, "makes more than 10000 values; leave it out"),
        (
            {"search": {"alpha": {"low": 0.1, "high": float("inf")}}},
            "search.alpha.high: input should be a finite number",
        ),
        ({"search": {"alpha": {"low": float("nan"), "high": 1}}}, "search.alpha.low: input should be a finite number"),
        ({"search": {"alpha": {"choices": [0.1, "high"]}}}, "search.alpha: 'high' is not a number"),
        ({"search": {"hidden": {"low": 8, "high": 32, "step": 0.5}}}, "search.hidden: hidden is an integer; its step"),
        ({"search": {"learning_rate": {"low": 0, "high": 1}}}, "search.learning_rate: 0 is outside (0, inf)"),
        ({"search": {"channels": {"low": 1, "high": 3}}}, "search.channels: 1.0 is not a list of 3 positive ints"),
        ({"fixed": {"model": "aee"}}, "fixed.model: 'aee' is not one of aae, ae, cnn"),
        ({"fixed": {"hidden": True}}, "fixed.hidden: True is not an integer"),
        ({"fixed": {"batch_size": 1}}, "fixed.batch_size: 1 is outside [2, inf)"),
        ({"fixed": 3}, "fixed: "),
        ({"time": None}, "time: "),
        ({"epochs": "many"}, "epochs: "),
    ],
)
def test_more_that_is_wrong_is_said_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, **changes)
    assert message in str(error.value)


def test_a_number_without_a_point_is_a_number_in_a_space(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(GOOD) + "fixed: {learning_rate: 1e-3}\n")
    assert load_space(str(path)).fixed == {"learning_rate": 0.001}
    path.write_text(yaml.safe_dump(GOOD) + "fixed: {learning_rate: '1e-3'}\n")
    with pytest.raises(ConfigError, match=r"fixed\.learning_rate: '1e-3' is not a number"):
        load_space(str(path))


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 99) | st.floats() | st.text("aehlpt_0.", max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abeghlop", max_size=5), inner, max_size=3),
    max_leaves=6,
)
PLACES = st.sampled_from(
    [*((name,) for name in GOOD), ("fixed",), ("pruning",), ("demo",), ("search", "alpha"), ("search", "beta")]
    + [("search", "alpha", name) for name in ("low", "high", "step", "log", "choices")]
    + [("fixed", name) for name in ("learning_rate", "hidden", "channels", "model")]
    + [("pruning", "grace_epochs"), ("objective", "metric"), ("demo", "fixed"), ("demo", "epochs"), ("surplus",)]
)


@given(place=PLACES, value=ANYTHING)
@settings(max_examples=200)
def test_whatever_stands_in_a_space_it_is_loaded_or_refused_in_words(
    tmp_path_factory: pytest.TempPathFactory, place: tuple[str, ...], value: Any
) -> None:
    content: Any = json.loads(json.dumps(GOOD))
    inner = content
    for name in place[:-1]:
        inner = inner.setdefault(name, {})
    inner[place[-1]] = value
    path = tmp_path_factory.mktemp("space") / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    refused = ""
    try:
        space = load_space(str(path))
    except ConfigError as error:
        refused = str(error)
    else:
        space.config(space.middle())
        space.paper_point()
        space.for_demo()
    assert all(line.startswith(str(path)) for line in refused.splitlines())


# --- values -----------------------------------------------------------------------------------------------------------


@given(low=st.integers(0, 20), steps=st.integers(1, 30), step=st.sampled_from([0.1, 0.25, 0.05, 1.0, 0.001]))
def test_a_stepped_range_holds_each_of_its_values_once(low: int, steps: int, step: float) -> None:
    start = low * step
    dimension = Dimension(low=start, high=start + steps * step, step=step)
    values = dimension.values()
    assert values is not None
    assert len(values) == steps + 1, "high is one of them"
    assert list(values) == sorted(set(values))
    assert all(value in dimension for value in values)
    assert start + step / 3 not in dimension
    assert values[-1] + step not in dimension


@given(low=st.floats(-1e6, 1e6), width=st.floats(1e-3, 1e6), where=st.floats(0, 1))
def test_a_continuum_holds_what_lies_between_its_ends(low: float, width: float, where: float) -> None:
    dimension = Dimension(low=low, high=low + width)
    assert dimension.values() is None
    assert min(low + where * width, low + width) in dimension
    assert low - width not in dimension
    assert low + 2 * width not in dimension


def test_whole_numbers_stay_whole_in_a_grid(tmp_path: Path) -> None:
    space = load(tmp_path, search={"hidden": {"low": 8, "high": 32, "step": 8}, "batch_size": {"low": 2.0, "high": 3}})
    grid = space.grid()
    assert {(p["hidden"], p["batch_size"]) for p in grid} == {(h, b) for h in (8, 16, 24, 32) for b in (2, 3)}
    for point in (*grid, space.middle()):
        assert {type(value) for value in point.values()} == {int}
        space.config(point)


def test_a_range_of_whole_numbers_on_a_log_scale_has_a_middle(tmp_path: Path) -> None:
    space = load(tmp_path, search={"hidden": {"low": 8, "high": 33, "log": True}})
    assert space.middle() == {"hidden": 20}
    with pytest.raises(ConfigError, match="a grid needs a step or choices"):
        space.grid()


def test_what_decides_on_shapes_makes_static_groups_in_a_grid(tmp_path: Path) -> None:
    search = {
        "alpha": {"choices": [0.1, 0.5, 1.0]},
        "channels": {"choices": [[2, 3, 4], [4, 5, 6]]},
        "hidden": {"low": 4, "high": 6},
    }
    space = load(tmp_path, search=search)
    assert len(space.grid()) == 3 * 2 * 3
    assert signature_count(space) == 2 * 3, "alpha is a number in the losses: its trials share a shape"
    assert len({space.config(point).signature() for point in space.grid()}) == 6


def test_the_demo_s_settings_replace_the_space_s(tmp_path: Path) -> None:
    space = load(
        tmp_path,
        fixed={"hidden": 64, "batch_size": 16},
        demo={"fixed": {"hidden": 8}, "trials": 2, "epochs": 3, "grace_epochs": 9},
    )
    demo = space.for_demo()
    assert demo.fixed == {"hidden": 8, "batch_size": 16}
    assert (demo.trials, demo.epochs, demo.pruning.grace_epochs) == (2, 3, 3), "no grace beyond the last epoch"
    assert (space.trials, space.epochs) == (4, 8), "the space itself is as it was"


def test_a_space_comes_back_from_the_study_s_json(tmp_path: Path) -> None:
    for name in space_names():
        space = load_space(name)
        again = type(space).model_validate(json.loads(json.dumps(space.model_dump(mode="json"))))
        assert again == space
        assert again.grid() == space.grid()


def test_names_that_are_no_space(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("nothing", "", ".", "aae_alpha_beta.yml", str(tmp_path)):
        with pytest.raises(ConfigError, match=r"no such space or file; .*aae_alpha_beta.*, or a path"):
            load_space(name)
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match=r"binary\.yaml: not YAML that can be read"):
        load_space("binary.yaml")
    (tmp_path / "empty.yaml").write_text("")
    with pytest.raises(ConfigError, match="`sersearch spaces` lists spaces to copy from"):
        load_space("empty.yaml")
    (tmp_path / "object.yaml").write_text("!!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="not YAML that can be read"):
        load_space("object.yaml")
