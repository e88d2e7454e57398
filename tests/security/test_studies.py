"""Studies from strangers: a journal's checkpoints lie in the study's folder, whatever it calls them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sersearch.errors import StudyError
from sersearch.export import export_bundle
from sersearch.study import Study


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


@pytest.mark.parametrize("name", ["../mine", "/etc/mine", "a/b", "", ".", "..", "a\x1b[2Jb", "x" * 200])
def test_a_study_s_name_is_no_path(tmp_path: Path, name: str) -> None:
    with pytest.raises(StudyError, match="expected letters, digits") as error:
        Study.create(name, {}, tmp_path / "studies")
    assert "\x1b" not in str(error.value)
    assert list(tmp_path.iterdir()) == []
