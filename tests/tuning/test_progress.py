"""What a person sees of a search: lines by epoch, what is left, the table at the end, and what a dry run promises."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sersearch.data.atomic import write_json
from sersearch.data.protocols import Protocol
from sersearch.study import Study
from sersearch.tuning import progress, run
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table


def event(value: float, epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "value": value, "metrics": {"dev_ua": value, "dev_wa": value - 0.1}, "seconds": 1.0}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    meta = {"data": {"synthetic": True}, "tracking": {"uri": "sqlite:///m.db"}, "warnings": ["MLflow was away"]}
    made = Study.create("mine", meta, tmp_path / "studies")
    write_json(made.folder / "context.json", {"labels": {"emotion": ["a", "b", "c", "d"]}})
    for number, values in enumerate(([0.4, 0.6], [0.5], [])):
        made.append("start", number, params={}, searched={"alpha": 0.1 + number, "beta": 0.5})
        for epoch, value in enumerate(values, start=1):
            made.append("epoch", number, **event(value, epoch), best=True, checkpoint=None)
    made.append("end", 0, state="complete", reason="all epochs done")
    made.append("end", 1, state="pruned", reason="stopped by ASHA after epoch 1")
    made.append("end", 2, state="failed", reason="train_loss_emotion is nan in epoch 1")
    return made


def test_without_a_terminal_each_epoch_and_end_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Live() as live:
        live("begin", -1, {"trials": 2})
        for trial in (0, 1):
            live("start", trial, {"params": {}, "searched": {"alpha": 0.1, "beta": 0.5}})
        live("epoch", 0, event(0.625, 1))
        live("epoch", 1, event(0.5, 1))
        live("end", 1, {"state": "pruned", "reason": "stopped by ASHA after epoch 1"})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "trial 0  alpha 0.1 beta 0.5  epoch 1  UA 0.625  best so far 0.625"
    assert second.endswith("UA 0.500  best so far 0.625")
    assert "pruned: stopped by ASHA after epoch 1  best UA 0.500; 1 of 2 trials done, about" in third


def test_the_end_shows_all_trials_the_best_and_what_to_type_next(
    capsys: pytest.CaptureFixture[str], study: Study
) -> None:
    progress.summary(study)
    out = capsys.readouterr().out
    assert "Best: trial 0, alpha = 0.1, beta = 0.5: development UA 0.600 (chance 0.250)" in out
    assert "synthetic" in out
    assert "Warning: MLflow was away" in out
    assert "the test set was not touched" in out
    assert "Trial 2 failed: train_loss_emotion is nan in epoch 1" in out
    for command in (
        "mlflow ui --backend-store-uri sqlite:///m.db",
        "sersearch report mine",
        "sersearch export mine --out model/",
        "sersearch evaluate mine",
    ):
        assert command in out


def test_a_dry_run_says_what_would_run_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    fixed = {"channels": [2, 3, 4], "hidden": 5, "batch_size": 8, "segment_frames": 32, "segment_hop": 32}
    before = sorted(tmp_path.rglob("*"))
    request = run.TuneRequest(
        space=load_space("aae_alpha_beta").changed(fixed=fixed, trials=6, epochs=7, method="random"),
        data=tmp_path / "data",
        protocol=Protocol("loso", "s0"),
        root=tmp_path / "studies",
        concurrency=2,
    )
    progress.show_dry_run(request, run.dry_run(request))
    out = capsys.readouterr().out
    for piece in (
        "alpha: 0.1 to 1 by 0.1",
        "trials      6, up to 7 epochs of",
        "groups      1 static",
        "Nothing was run.",
    ):
        assert piece in out
    assert "an epoch and core; at most" in out
    assert "MiB for checkpoints" in out
    new = set(tmp_path.rglob("*")) - set(before)
    assert {p.name for p in new} <= {".frames.lock"} | {p.name for p in new if p.name.startswith("frames-")}
    assert not (tmp_path / "studies").exists()


def test_the_full_grid_is_counted(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    fixed = {"channels": [2, 3, 4], "hidden": 5, "batch_size": 8, "segment_frames": 32, "segment_hop": 32}
    space = load_space("aae_alpha_beta").changed(fixed=fixed, method="grid")
    plan = run.dry_run(run.TuneRequest(space=space, data=tmp_path / "data", protocol=Protocol("loso", "s0")))
    assert (plan.trials, plan.groups) == (100, 1)
    assert plan.longest_hours > 0
