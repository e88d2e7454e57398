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
from sersearch.tuning.space import (
    Constraint,
    Dimension,
    SearchSpace,
    load_space,
    read_yaml,
    signature_count,
    signatures,
    space_names,
)

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


def test_the_ladder_s_grids_are_those_of_the_papers() -> None:
    for name in ("ladder_alpha_beta", "mtl_alpha_beta", "ladder_cnn_lld", "ladder_cnn_mfb"):
        space = load_space(name)
        assert len(space.grid()) == space.trials == 66
        assert signature_count(space) == 1
        assert (space.method, space.target, space.epochs) == ("grid", "attributes", 100)
        for point in space.grid():
            space.config(point)
    assert load_space("mtl_alpha_beta").config({}).to_dict()["model"] == "dense"
    assert {0.1, 1.0, 10.0} <= set(load_space("ladder_lambda").values("lambda_l") or ())
    assert 0.3 in (load_space("ladder_noise").values("noise_variance") or ())


def test_deepemocluster_s_searches_are_the_paper_s_tables() -> None:
    clusters = load_space("deepemocluster_clusters")
    assert set(clusters.values("clusters") or ()) == {10, 20, 30}, "table 4"
    assert 1.0 in (clusters.values("lambda_") or ())
    assert list(load_space("deepemocluster_unlabeled").values("unlabeled_size") or ()) == [0, 15_000, 40_000], "table 3"
    models = ["deepemocluster", "cnn_regressor", "cnn_ae", "cnn_vae"]
    baselines = load_space("deepemocluster_baselines")
    assert list(baselines.values("model") or ()) == models, "table 2"
    assert baselines.config({"model": "cnn_ae"}).to_dict()["unlabeled_size"] == 0, "fully supervised"


def test_the_multimodal_ladder_s_searches() -> None:
    space = load_space("multimodal_ladder_lambda")
    assert set(space.search) == {"lambda_0", "lambda_1", "lambda_2", "noise_variance"}
    paper = {"lambda_0": 0.5, "lambda_1": 0.5, "lambda_2": 0.1, "noise_variance": 0.2}
    assert space.paper_point() == paper
    assert signature_count(space) == 1, "all lanes"
    ablation = load_space("multimodal_ablation").values("model") or ()
    assert len(ablation) == 6, "the proposed model, two ablations, three baselines"


def test_each_grid_says_its_size() -> None:
    for space in map(load_space, space_names()):
        if space.method == "grid":
            assert len(space.grid()) == space.trials


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
        ({"method": "annealing"}, "method: input should be 'grid', 'random', 'tpe' or 'nsga2' (it"),
        ({"objective": {"metric": "test_ua"}}, "objective.metric: expected a development metric, such as dev_ua or"),
        ({"target": "valense"}, "target: 'valense' is unknown; did you mean valence?"),
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


def test_objective_and_target_may_be_left_to_the_family(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({name: value for name, value in GOOD.items() if name != "objective"}))
    space = load_space(str(path))
    assert (space.objective, space.target) == (None, None)
    changed = space.changed(objective={"metric": "dev_ccc_valence"})
    assert changed.objective is not None
    assert changed.objective.metric == "dev_ccc_valence"
    with pytest.raises(ConfigError, match="expected a development metric"):
        space.changed(objective={"metric": "ccc"})


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
        (
            {"objective": {"metric": "dev_ua", "mode": "min"}},
            "objective.mode: of dev_ua, the more, the better: mode max",
        ),
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
    + [("constraint",), ("target",)]
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
        assert again.middle() == space.middle()
        assert space.method != "grid" or again.grid() == space.grid()


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


# --- constraints ------------------------------------------------------------------------------------------------------

SIMPLEX: dict[str, Any] = {
    "search": {"alpha": {"low": 0, "high": 1, "step": 0.1}, "beta": {"low": 0, "high": 1, "step": 0.1}},
    "constraint": "alpha + beta <= 1",
}


def test_a_grid_leaves_out_what_breaks_the_constraint_and_no_more(tmp_path: Path) -> None:
    grid = load(tmp_path, **SIMPLEX).grid()
    tenths = [(a, b) for a in range(11) for b in range(11) if a + b <= 10]
    assert len(tenths) == 66
    assert [(round(10 * p["alpha"]), round(10 * p["beta"])) for p in grid] == tenths
    assert {"alpha": 0.7, "beta": 0.3} in grid, "0.7 + 0.3 is 1, whatever floats make of it"


@given(tenths=st.lists(st.integers(0, 100), min_size=1, max_size=8), bound=st.integers(0, 100))
def test_rounding_decides_no_constraint(tenths: list[int], bound: int) -> None:
    values = {f"x{number}": value / 10 for number, value in enumerate(tenths)}
    assert Constraint(tuple(values), bound / 10).allows(values) == (sum(tenths) <= bound)


@pytest.mark.parametrize(
    "text", ["alpha + beta <= 1", "alpha+beta<=1", "  alpha +  beta<= 1.0 ", "alpha + beta <= 1e0"]
)
def test_a_constraint_is_read_as_it_is_meant_and_comes_back_from_json(tmp_path: Path, text: str) -> None:
    space = load(tmp_path, **{**SIMPLEX, "constraint": text})
    assert space.constraint == Constraint(("alpha", "beta"), 1.0)
    again = SearchSpace.model_validate(json.loads(json.dumps(space.model_dump(mode="json"))))
    assert again == space == space.changed(trials=None)
    assert str(space.constraint) == "alpha + beta <= 1.0"


def test_what_is_fixed_counts_in_a_constraint(tmp_path: Path) -> None:
    changes = {"fixed": {"beta": 0.7}, "constraint": "alpha + beta <= 1"}
    assert [p["alpha"] for p in load(tmp_path, **changes).grid()] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"constraint": "alpha + beta < 1"}, "constraint: expected a sum and what it may be at most, such as alpha + "),
        ({"constraint": "alpha - beta <= 1"}, "constraint: expected a sum"),
        ({"constraint": "2 * alpha <= 1"}, "constraint: expected a sum"),
        ({"constraint": "alpha <= one"}, "constraint: expected a sum"),
        ({"constraint": "alpha <= nan"}, "constraint: expected a sum"),
        ({"constraint": "__import__('os') <= 1"}, "constraint: expected a sum"),
        ({"constraint": ["alpha", 1]}, "constraint: expected a sum"),
        ({"constraint": "alfa + beta <= 1"}, "constraint: alfa can't stand in a sum; did you mean alpha?"),
        ({"constraint": "alpha + hidden <= 1"}, "constraint: hidden can't stand in a sum; expected one of "),
        ({"constraint": "alpha + dropout <= 1"}, "constraint: dropout is neither searched nor fixed"),
        ({"constraint": "alpha + beta <= -0.5"}, "constraint: no point keeps alpha + beta <= -0.5"),
    ],
)
def test_a_constraint_that_cannot_be_is_refused(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(tmp_path, **{**SIMPLEX, **changes})
    assert message in str(error.value)
    assert str(error.value).count("\n") == 0


@given(
    alpha=st.sampled_from(
        [{"low": 0.0, "high": 1.0}, {"low": 0.25, "high": 1.0, "step": 0.25}, {"choices": [0.9, 0.2]}]
    ),
    beta=st.sampled_from([{"low": 0.01, "high": 1.0, "log": True}, {"low": 0.0, "high": 1.0, "step": 0.1}]),
    bound=st.floats(0.27, 2.0),
)
def test_every_point_that_a_space_names_by_itself_keeps_the_constraint(
    tmp_path_factory: pytest.TempPathFactory, alpha: dict[str, Any], beta: dict[str, Any], bound: float
) -> None:
    search = {"alpha": alpha, "beta": beta, "tasks": {"choices": ["mtl", "stl"]}}
    space = load(tmp_path_factory.mktemp("space"), search=search, constraint=f"alpha + beta <= {bound}")
    points = [space.middle(), *signatures(space), space.paper_point()]
    for point in points:
        assert point is None or point["alpha"] + point["beta"] <= bound + 1e-9
    assert len(signatures(space)) == 2
    assert (space.paper_point() is None) or bound >= 1 - 1e-9


def test_a_paper_s_point_that_breaks_the_constraint_is_none(tmp_path: Path) -> None:
    assert load(tmp_path, **SIMPLEX).paper_point() == {"alpha": 0.4, "beta": 0.6}
    assert load(tmp_path, **{**SIMPLEX, "constraint": "alpha + beta <= 0.9"}).paper_point() is None
