"""`sersearch status`: what is going on in a study, told from its files."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from sersearch.logs import write
from sersearch.study import Study
from sersearch.tuning import status


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Five trials of 24: one of each kind."""
    monkeypatch.setenv("COLUMNS", "200")
    meta = {
        "state": "running",
        "trials": 24,
        "objective": {"metric": "dev_ua"},
        "tracking": {"uri": "http://host:5000"},
    }
    made = Study.create("one", meta, tmp_path)
    for number, value in enumerate((0.5, 0.7, 0.9, 0.6, 0.4)):
        made.append("start", number, params={}, searched={"alpha": number / 10})
        for epoch in (1, 2):
            fields = {"metrics": {}, "best": True, "seconds": 1.0, "checkpoint": None}
            made.append("epoch", number, epoch=epoch, value=value - 0.1 * (2 - epoch), **fields)
    made.append("end", 0, state="pruned", reason="stopped by ASHA after epoch 2")
    made.append("end", 1, state="complete", reason="all epochs done")
    made.append("end", 2, state="failed", reason="loss is nan in epoch 3")
    made.append("end", 4, state="interrupted", reason="the search was interrupted")
    return made


def shown(capsys: pytest.CaptureFixture[str], study: Study) -> str:
    status.show(Study.open(study.folder))
    return capsys.readouterr().out


def test_a_search_that_runs_names_its_driver_its_pace_and_its_trials(
    capsys: pytest.CaptureFixture[str], study: Study
) -> None:
    with study.hold():
        study.append("end", 0, state="pruned", reason="stopped by ASHA after epoch 2")
        out = shown(capsys, study)
    first, second, third, *_ = out.splitlines()
    assert first == f"Study one: is run by process {os.getpid()} on {socket.gethostname()}"
    assert second == (
        "5 of 24 trials begun: 1 complete, 1 pruned, 1 failed, 1 interrupted, 1 running; best: trial 1, "
        "development UA 0.700"
    ), "the failed one's 0.9 is nobody's best"
    assert "trials an hour, about" in third
    assert third.endswith("left")
    (row,) = [line.split() for line in out.splitlines() if line.split()[:2] in (["3", "0.3"], ["│", "3"])]
    assert [cell for cell in row if cell != "│"][:4] == ["3", "0.3", "2", "0.600"]
    assert "ago" in " ".join(row)


@pytest.mark.parametrize(
    ("minutes", "pace"), [(10, "60 trials an hour, about 25 min left"), (240, "10 trials an hour")]
)
def test_the_pace_is_of_the_last_hour_and_of_this_run_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, minutes: int, pace: str
) -> None:
    """Five trials yesterday, and ten in the last ten minutes by a driver that has been there for so long."""
    study = Study.create("one", {"objective": {"metric": "dev_ua"}, "trials": 40}, tmp_path)
    now = time.time()
    ends = [now - 86400 + 60 * n for n in range(5)] + [now - 60 * n - 1 for n in range(10)]
    for number, at in enumerate(ends):
        monkeypatch.setattr("sersearch.study.time", SimpleNamespace(time=lambda at=at: at, monotonic=time.monotonic))
        study.append("start", number, params={}, searched={})
        study.append("epoch", number, epoch=1, metrics={}, value=0.1, best=True, seconds=60.0)
        study.append("end", number, state="complete", reason="all epochs done")
    with study.hold():
        os.utime(study.folder / ".lock", (now, now - 60 * minutes))
        assert status._pace(study, study.trials()).startswith(pace)


def test_a_killed_search_says_so_and_how_to_go_on(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    out = shown(capsys, study)
    assert out.splitlines()[0] == (
        f"Study one: its driver was killed; `sersearch tune --resume {study.folder}` goes on"
    )
    assert "an hour" not in out, "nobody runs it"


def test_what_a_driver_left_is_being_settled(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    with study.hold("settle"):
        assert "its driver has ended, and what it left is being settled" in shown(capsys, study)


def test_an_interrupted_search_says_how_to_go_on(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    study.write_meta(state="interrupted")
    first = shown(capsys, study).splitlines()[0]
    assert first == f"Study one: interrupted; `sersearch tune --resume {study.folder}` goes on"


def test_the_command_that_goes_on_can_be_typed_as_it_stands(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    meta = {"state": "interrupted", "trials": 3, "objective": {"metric": "dev_ua"}, "tracking": {"uri": "x"}}
    for root, argument in ((Path("studies"), "one"), (Path("my studies"), "'my studies/one'")):
        out = shown(capsys, Study.create("one", meta, root))
        assert out.splitlines()[0] == f"Study one: interrupted; `sersearch tune --resume {argument}` goes on"


def test_the_command_that_goes_on_has_what_was_given_last(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    """A search on a cluster would go on without it on this machine's CPUs; studies are handed on, too."""
    study.write_meta(given=["--concurrency", "1", "--address", "a b;c\x1b[2J", "--gpu"])
    out = shown(capsys, study)
    how = f"{study.folder} --concurrency 1 --address 'a b;c\\x1b[2J' --gpu"
    assert out.splitlines()[0] == f"Study one: its driver was killed; `sersearch tune --resume {how}` goes on"
    assert out.splitlines()[-1] == f"`sersearch tune --retry-failed {how}` runs failed trials again"


def test_a_finished_search_has_nothing_to_go_on_with(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    for number in (3, 4):
        study.append("end", number, state="complete", reason="all epochs done")
    study.write_meta(state="finished", trials=5)
    out = shown(capsys, study)
    assert out.splitlines()[0] == "Study one: finished"
    assert "5 of 5 trials begun: 3 complete, 1 pruned, 1 failed; best: trial 1" in out
    assert "--resume" not in out
    assert "running" not in out


def test_failures_come_with_their_reason_their_log_and_how_to_try_again(
    capsys: pytest.CaptureFixture[str], study: Study
) -> None:
    assert "Trial 2 failed: loss is nan in epoch 3\n" in shown(capsys, study)
    write(study.folder, 2, [{"message": "epoch 3 failed"}])
    out = shown(capsys, study)
    assert f"Trial 2 failed: loss is nan in epoch 3; {study.folder}/logs/trial-0002.jsonl" in out
    assert out.splitlines()[-1] == f"`sersearch tune --retry-failed {study.folder}` runs failed trials again"


def test_a_search_without_failures_offers_no_second_try(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    study.append("start", 2, params={}, searched={})
    assert "--retry-failed" not in shown(capsys, study)


def test_what_mlflow_has_not_got_is_counted(capsys: pytest.CaptureFixture[str], study: Study) -> None:
    (study.folder / "mlflow_spool.jsonl").write_text('\n{"event": "begin"}\n{"event": "finish"}')
    study.write_meta(warnings=["MLflow was away"])
    out = shown(capsys, study)
    assert "2 events wait to be sent to MLflow at http://host:5000" in out
    assert "Warning: MLflow was away" in out


def test_before_the_first_trial_there_is_little_to_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    meta = {"state": "running", "trials": 24, "objective": {"metric": "dev_ua"}, "tracking": {"uri": "x"}}
    study = Study.create("new", meta, tmp_path)
    with study.hold():
        assert shown(capsys, study).splitlines()[1:] == ["0 of 24 trials begun"]
    study.append("start", 0, params={}, searched={"alpha": 0.5})
    with study.hold():
        out = shown(capsys, study)
    assert "1 of 24 trials begun: 1 running" in out
    assert "none yet" in out
    study.append("end", 0, state="failed", reason="hidden: 0 is outside")
    with study.hold():
        assert "1 of 24 trials begun: 1 failed" in shown(capsys, study)


def test_it_is_quick_to_begin() -> None:
    """It is asked again and again while a search runs: torch alone takes longer to import than all it does."""
    code = (
        "import sys, sersearch.tuning.status; print(*{'torch', 'ray', 'mlflow', 'optuna', 'pandas'} & {*sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
