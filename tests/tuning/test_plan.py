"""The study that a search becomes, and whether a request is for the same search."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, DataError, StudyError
from sersearch.study import Study
from sersearch.tuning import plan
from sersearch.tuning.plan import TuneRequest, check_same, check_unaltered, create
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS

SPACE = load_space("aae_alpha_beta").changed(fixed=PARAMS, trials=6, epochs=7, method="random")


@pytest.fixture
def request_(tmp_path: Path) -> TuneRequest:
    data = write_table(tmp_path / "data", make_table())
    return TuneRequest(space=SPACE, data=data, protocol=Protocol("loso", "s0"), name="one", root=tmp_path / "studies")


@pytest.fixture
def study(request_: TuneRequest) -> Study:
    return create(request_, "sqlite:///mlflow.db")


def refused(study: Study, request_: TuneRequest) -> str:
    """What is said of a request for another search."""
    with pytest.raises(StudyError) as raised:
        check_same(Study.open(study.folder), request_)
    return str(raised.value)


def test_a_study_says_what_was_asked_for(study: Study) -> None:
    meta = json.loads((study.folder / "study.json").read_text())
    assert {name: meta[name] for name in ("name", "family", "method", "trials", "epochs", "seed", "state")} == {
        "name": "one",
        "family": "aae",
        "method": "random",
        "trials": 6,
        "epochs": 7,
        "seed": 0,
        "state": "running",
    }
    assert meta["objective"] == {"metric": "dev_ua", "mode": "max"}
    assert {path.name for path in study.folder.iterdir()} == {"study.json", "space.yaml", "split.json", "context.json"}


def test_a_search_may_take_the_last_epoch(request_: TuneRequest) -> None:
    def asked(metric: str) -> TuneRequest:
        return dataclasses.replace(request_, space=SPACE.changed(objective={"metric": metric}))

    assert create(asked("dev_epoch"), "sqlite:///mlflow.db").meta["objective"] == {"metric": "dev_epoch", "mode": "max"}
    with pytest.raises(ConfigError, match="objective dev_gender: no such metric for this target"):
        create(asked("dev_gender"), "sqlite:///mlflow.db")


def test_no_password_is_written_down(request_: TuneRequest) -> None:
    study = create(request_, "https://me:hunter2@host")
    assert study.meta["tracking"]["uri"] == "https://***@host"
    assert "hunter2" not in "".join(path.read_text() for path in study.folder.iterdir())


def test_the_same_request_goes_on(study: Study, request_: TuneRequest) -> None:
    before = {path: path.read_bytes() for path in study.folder.iterdir()}
    check_same(Study.open(study.folder), request_)
    assert {path: path.read_bytes() for path in study.folder.iterdir()} == before


def test_the_same_request_is_told_by_names_alone(
    study: Study, request_: TuneRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features aren't read, and no model is built: a finished study is only told of once more."""
    for name in ("load_data", "Engine", "check_leaks"):
        monkeypatch.setattr(plan, name, lambda *args, **kwargs: pytest.fail("its features were read"))
    check_same(Study.open(study.folder), request_)


def test_a_study_of_an_earlier_version_is_compared_by_what_it_says(study: Study, request_: TuneRequest) -> None:
    del study.meta["precision"], study.meta["storage"]
    study.write_meta()
    check_same(Study.open(study.folder), request_)
    assert 'precision was "float32", now "bf16"' in refused(study, dataclasses.replace(request_, precision="bf16"))
    del study.meta["seed"]
    study.write_meta()
    assert "study.json: damaged: it has no 'seed'; begin a new study" in refused(study, request_)


def test_an_auxiliary_corpus_is_for_families_that_are_pretrained(request_: TuneRequest, tmp_path: Path) -> None:
    request = dataclasses.replace(request_, aux=write_table(tmp_path / "aux", make_table(seed=3, corpus="other")))
    ladder = dataclasses.replace(request, space=load_space("ladder_alpha_beta"))
    with pytest.raises(ConfigError, match="--aux: ladder models are not pre-trained on an auxiliary corpus; leave it"):
        create(ladder, "sqlite:///mlflow.db")
    assert not request.root.exists()
    baselines = load_space("aae_baselines").changed(fixed=PARAMS)
    assert "stl" in baselines.search["tasks"].choices, "single-task points of an AAE's search may stand beside others"
    assert create(dataclasses.replace(request, space=baselines), "sqlite:///mlflow.db").meta["data"]["aux"]


@pytest.mark.parametrize("how", [{"lanes": 8}, {"compile": True}, {"epoch_limit": 90.0}])
def test_how_it_is_run_may_differ(study: Study, request_: TuneRequest, how: dict[str, Any]) -> None:
    check_same(Study.open(study.folder), dataclasses.replace(request_, **how))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"seed": 1}, ["seed was 0, now 1"]),
        ({"space": SPACE.changed(trials=9)}, ["space.trials was 6, now 9"]),
        ({"space": SPACE.changed(fixed={**PARAMS, "hidden": 6})}, ["space.fixed.hidden was 5, now 6"]),
        ({"precision": "bf16"}, ['precision was "float32", now "bf16"']),
        ({"protocol": Protocol("loso", "s1")}, ['data.protocol.test_speaker was "s0", now "s1"']),
        ({"storage": "file:///shared"}, ['storage was null, now "/shared"']),
        ({"target": "emotion4"}, ['data.target was "emotion", now "emotion4"']),
        (
            {"seed": 1, "space": SPACE.changed(epochs=8, method="tpe")},
            ['space.method was "random", now "tpe"', "space.epochs was 7, now 8", "seed was 0, now 1"],
        ),
        (
            {"space": SPACE.changed(objective={"metric": "dev_wa"})},
            ['objective.metric was "dev_ua", now "dev_wa"'],
        ),
    ],
)
def test_another_search_is_refused_with_all_that_differs_and_what_to_do(
    study: Study, request_: TuneRequest, changes: dict[str, Any], told: list[str]
) -> None:
    said = refused(study, dataclasses.replace(request_, **changes))
    assert said.startswith("study one exists and is another search: ")
    for difference in told:
        assert difference in said
    ways = f"`--resume {study.folder}` goes on with it as it was begun, --fresh begins anew, --name names another"
    assert said.endswith(ways)


def test_other_data_are_named(study: Study, request_: TuneRequest, tmp_path: Path) -> None:
    other = write_table(tmp_path / "other", make_table(speakers=5, seed=1))
    said = refused(study, dataclasses.replace(request_, data=other))
    assert f'data.path was "{request_.data}", now "{other}"' in said
    assert "data.hash was" in said


def test_a_request_that_is_wrong_in_itself_is_told_first(study: Study, request_: TuneRequest) -> None:
    with pytest.raises(DataError, match="s9"):
        check_same(study, dataclasses.replace(request_, protocol=Protocol("loso", "s9")))


def test_a_search_without_a_storage_of_its_own_has_the_folder_s_name(study: Study) -> None:
    assert study.home == study.folder


def test_data_that_were_changed_since_are_refused(study: Study, request_: TuneRequest) -> None:
    check_unaltered(study)
    card = request_.data / "spectrogram" / "card.json"
    content = json.loads(card.read_text())
    card.write_text(json.dumps({**content, "hash": "0" * 16}))
    with pytest.raises(StudyError, match="its features were changed since study one began; start a new study"):
        check_unaltered(study)
