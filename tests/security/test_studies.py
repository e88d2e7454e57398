"""Studies from strangers: a journal's checkpoints lie in the study's folder, whatever it calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sersearch.errors import StudyError
from sersearch.export import export_bundle
from sersearch.study import Study
from sersearch.tuning.run import resume
from sersearch.tuning.storage import Storage


def study(folder: Path, checkpoint: str) -> Study:
    """A study of one trial of one epoch, whose checkpoint is called so."""
    folder.mkdir()
    meta = {"name": "mine", "family": "aae", "objective": {"metric": "dev_ua"}, "state": "finished"}
    (folder / "study.json").write_text(json.dumps(meta))
    figures = {"epoch": 1, "value": 0.5, "metrics": {"dev_ua": 0.5}, "seconds": 1.0, "checkpoint": checkpoint}
    events = [{"event": "start", "params": {}, "searched": {}}, {"event": "epoch", **figures}]
    lines = [json.dumps({"trial": 0, "time": 1.0, **event}) for event in events]
    (folder / "trials.jsonl").write_text("\n".join(lines) + "\n")
    labels = {"emotion": ["a", "b"], "gender": [], "speaker": []}
    context = {"features": {}, "normaliser": {"mean": [], "std": []}, "labels": labels, "target": "emotion"}
    (folder / "context.json").write_text(json.dumps(context))
    return Study.open(folder)


@pytest.mark.parametrize("name", ["../elsewhere", "ray/../../elsewhere", "{}/elsewhere"])
def test_a_checkpoint_is_looked_for_in_the_study_s_folder_alone(tmp_path: Path, name: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    opened = study(tmp_path / "study", name.format(tmp_path))
    assert opened.trial(0).checkpoint is None
    with pytest.raises(StudyError, match="the files of its checkpoint are gone"):
        export_bundle(opened, tmp_path / "model")
    assert not (tmp_path / "model").exists()


def test_a_study_s_place_in_a_storage_is_no_folder_of_somebody_s(tmp_path: Path) -> None:
    """By its storage and its own name a study can call any folder its place, and what lies there its checkpoints."""
    mine = tmp_path / "home" / "Documents"
    for file in ("photos/a.jpg", "journal/000000001.jsonl"):
        (mine / file).parent.mkdir(parents=True)
        (mine / file).write_text("mine")
    there = sorted(mine.rglob("*"))
    (tmp_path / "got").mkdir()
    got = study(tmp_path / "got" / "Documents", "photos")
    got.write_meta(storage=str(tmp_path / "home"), state="interrupted", tracking={"uri": "sqlite:///mlflow.db"})
    with pytest.raises(StudyError, match=r"home/Documents is another study's place, or no study's"):
        resume("Documents", tmp_path / "got")
    with pytest.raises(StudyError, match="or no study's"), Storage(got).driven(print, print):
        pass
    assert sorted(mine.rglob("*")) == there


@pytest.mark.parametrize("name", ["../mine", "/etc/mine", "a/b", "", ".", "..", "a\x1b[2Jb", "x" * 200])
def test_a_study_s_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="expected letters, digits") as error:
        Study.create(name, {}, tmp_path / "studies")
    assert "\x1b" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
