"""A study's folder: what its journal says after kills and resumes, and who may write it."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shlex
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sersearch.errors import StudyError
from sersearch.study import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return Study.create("one", {"state": "running"}, tmp_path)


def epoch(study: Study, trial: int, number: int, value: float, **fields: object) -> None:
    fields = {"metrics": {"dev_ua": value}, "best": True, "seconds": 2.0, "checkpoint": None, **fields}
    study.append("epoch", trial, epoch=number, value=value, **fields)


def test_trials_as_the_journal_tells_them(study: Study) -> None:
    for number in (0, 1):
        study.append("start", number, params={"alpha": 0.4, "x": 1}, searched={"alpha": 0.4})
        epoch(study, number, 1, 0.5 + number / 10)
    epoch(study, 0, 2, 0.4)
    study.append("end", 0, state="complete", reason="all epochs done")
    first, second = Study.open("one", study.folder.parent).trials()
    assert (first.state, first.value, first.best_epoch, first.seconds) == ("complete", 0.5, 1, 4.0)
    assert (second.state, second.value) == ("running", 0.6)
    assert study.best().number == 1
    assert study.trial(0).searched == {"alpha": 0.4}
    with pytest.raises(StudyError, match="has no trial 7; it has 2"):
        study.trial(7)


def test_each_metric_has_a_best_trial_and_epoch_of_its_own(study: Study) -> None:
    curves = {0: [(0.5, 0.1), (0.4, 0.3)], 1: [(0.6, 0.2), (0.7, 0.1)], 2: [(0.9, 0.9)], 3: [(0.7, 0.3)]}
    for number, curve in curves.items():
        study.append("start", number, params={}, searched={})
        for position, (both, valence) in enumerate(curve, start=1):
            metrics = {"dev_ccc": both, "dev_ccc_valence": valence, "dev_loss_prediction": 9.0, "dev_ccc_snr0": None}
            epoch(study, number, position, both, metrics=metrics)
    study.append("end", 2, state="failed", reason="loss is nan in epoch 2")
    assert study.trial(0).best_of("dev_ccc_valence") == (0.3, 2)
    assert study.trial(1).best_of("dev_ccc_valence") == (0.2, 1)
    assert study.trial(1).best_of("dev_ccc") == (study.trial(1).value, study.trial(1).best_epoch) == (0.7, 2)
    assert (study.trial(1).best_of("dev_ccc_snr0"), study.trial(1).best_of("dev_ua")) == (None, None)
    assert (study.best().number, study.best("dev_ccc").number) == (1, 1)
    assert study.best("dev_ccc_valence").number == 0, "the first of equals"
    with pytest.raises(StudyError, match="has no metric 'dev_ccc_valance'; did you mean dev_ccc_valence") as raised:
        study.best("dev_ccc_valance")
    assert "loss" not in str(raised.value)


def test_an_epoch_trained_again_keeps_its_figures_and_gets_a_new_checkpoint(study: Study) -> None:
    for name in ("c1", "c1-again", "c2"):
        (study.folder / name).mkdir()
    study.append("start", 0, params={}, searched={})
    epoch(study, 0, 1, 0.9, checkpoint="c1")
    study.append("end", 0, state="interrupted", reason="")
    study.append("start", 0, params={}, searched={})
    study.append("again", 0, epoch=1, checkpoint="c1-again")
    (trial,) = study.trials()
    assert (trial.state, trial.value, len(trial.epochs)) == ("running", 0.9, 1)
    assert trial.checkpoint == study.folder / "c1-again"
    epoch(study, 0, 2, 0.8, checkpoint="c2")
    (trial,) = study.trials()
    assert [(e["epoch"], e["value"]) for e in trial.epochs] == [(1, 0.9), (2, 0.8)]
    assert list(trial.checkpoints()) == [study.folder / "c2", study.folder / "c1-again"]


def test_an_epoch_told_twice_counts_once_as_it_was_first(study: Study) -> None:
    study.append("start", 0, params={}, searched={})
    epoch(study, 0, 1, 0.9)
    epoch(study, 0, 1, 0.3)
    epoch(study, 0, 7, 1.0)
    study.append("again", 0, epoch=5, checkpoint="c5")
    study.append("again", 0, epoch=0, checkpoint="c0")
    (trial,) = study.trials()
    assert [(e["epoch"], e["value"]) for e in trial.epochs] == [(1, 0.9)], "nor do epochs without those before them"


def test_events_are_in_the_file_s_order_though_a_clock_was_set_back(
    study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter((5000.0, 4000.0, 3000.0, 2000.0, 1000.0))
    monkeypatch.setattr("sersearch.study.time", SimpleNamespace(time=lambda: next(times)))
    for number in (0, 1):
        study.append("start", number, params={}, searched={})
    epoch(study, 1, 1, 0.5)
    epoch(study, 0, 1, 0.6)
    epoch(study, 1, 2, 0.7)
    first, second = study.trials()
    assert [e["time"] for e in second.epochs] == [3000.0, 1000.0]
    assert second.epochs[0]["order"] < first.epochs[0]["order"] < second.epochs[1]["order"]


def test_a_line_that_a_kill_tore_is_left_out_and_spoils_nothing(study: Study) -> None:
    study.append("start", 0, params={}, searched={})
    with (study.folder / "trials.jsonl").open("a") as file:
        file.write('{"event": "epoch", "trial": 0, "ep')
    epoch(study, 0, 1, 0.7)
    assert study.trials()[0].value == 0.7


def test_the_best_of_equals_is_the_first_and_failed_trials_are_out(study: Study) -> None:
    for number, value in enumerate((0.5, 0.6, 0.6, 0.9)):
        study.append("start", number, params={}, searched={})
        epoch(study, number, 1, value)
    study.append("end", 3, state="failed", reason="loss is nan in epoch 2")
    assert study.best().number == 1


def test_a_checkpoint_that_is_gone_is_not_offered(study: Study) -> None:
    study.append("start", 0, params={}, searched={})
    for number in (1, 2):
        (study.folder / f"c{number}").mkdir()
        epoch(study, 0, number, 0.5, checkpoint=f"c{number}")
    assert study.trials()[0].checkpoint == study.folder / "c2"
    (study.folder / "c2").rmdir()
    assert study.trials()[0].checkpoint == study.folder / "c1"


@pytest.mark.parametrize("name", ["../out", "a/../../out", "/etc", "", ".", None, 7])
def test_a_checkpoint_s_name_that_leads_out_of_the_study_is_passed_over(study: Study, name: object) -> None:
    (study.folder.parent / "out").mkdir()
    (study.folder / "a").mkdir()
    study.append("start", 0, params={}, searched={})
    epoch(study, 0, 1, 0.5, checkpoint="a")
    epoch(study, 0, 2, 0.6, checkpoint=name)
    assert list(study.trial(0).checkpoints()) == [study.folder / "a"]


def test_checkpoints_lie_in_the_storage_that_nodes_share(tmp_path: Path) -> None:
    study = Study.create("one", {"storage": str(tmp_path / "shared")}, tmp_path / "studies")
    (tmp_path / "shared" / "one" / "c1").mkdir(parents=True)
    study.append("start", 0, params={}, searched={})
    epoch(study, 0, 1, 0.5, checkpoint="c1")
    assert study.home == tmp_path / "shared" / "one"
    assert study.trial(0).checkpoint == tmp_path / "shared" / "one" / "c1"


def test_when_a_trial_ended_is_told_of_those_that_are_over(study: Study) -> None:
    for number, state in enumerate(("complete", "pruned", "failed", "interrupted")):
        study.append("start", number, params={}, searched={})
        study.append("end", number, state=state, reason="")
    told = [trial.ended is not None for trial in study.trials()]
    assert told == [True, True, True, False]
    study.append("start", 2, params={}, searched={})
    assert study.trial(2).ended is None, "a failed one that is run again"


def test_nothing_to_choose_from_says_how_to_go_on(study: Study) -> None:
    with pytest.raises(StudyError, match=r"no trial that finished an epoch; `sersearch tune --resume .*/one`"):
        study.best()


def test_a_command_finds_a_study_by_its_argument(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    places = {
        "one": Path("studies"),
        "two": tmp_path / "studies",
        "three": Path("my studies"),
        "four": tmp_path / "it's",
    }
    made = [Study.create(name, {}, root) for name, root in places.items()]
    assert [study.argument for study in made][:3] == ["one", "two", "'my studies/three'"]
    made[0].folder.rename("studies/one-until-now")
    made[0] = Study.open("one-until-now")
    for study in made:
        (word,) = shlex.split(study.argument)
        assert Study.open(word).folder.samefile(study.folder)


def test_a_name_that_is_taken_or_no_name(study: Study) -> None:
    with pytest.raises(StudyError, match=r"study one exists .*`--resume .*/one` goes on with it, --name"):
        Study.create("one", {}, study.folder.parent)
    for name in ("../x", "", ".hidden", "a b"):
        with pytest.raises(StudyError, match="letters, digits"):
            Study.create(name, {}, study.folder.parent)


def test_what_is_no_study(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"onne: isn't a study .*did you mean one"):
        Study.open("onne", tmp_path)
    (study.folder / "study.json").write_text("{")
    with pytest.raises(StudyError, match=r"study\.json: cannot be read"):
        Study.open("one", tmp_path)


def _hold(folder: Path, purpose: str, held: Any, seconds: float) -> None:
    with Study.open(folder).hold(purpose):
        held.set()
        time.sleep(seconds)


@contextmanager
def holder(study: Study, purpose: str = "run", seconds: float = 600) -> Iterator[Any]:
    """Another process that holds the study."""
    context = multiprocessing.get_context("spawn")
    held = context.Event()
    other = context.Process(target=_hold, args=(study.folder, purpose, held, seconds))
    other.start()
    try:
        assert held.wait(120)
        yield other
    finally:
        other.kill()
        other.join()


def test_a_second_driver_is_kept_out_however_patient_and_told_who_is_the_first(study: Study) -> None:
    assert study.driver is None
    with holder(study) as other:
        driver = study.driver
        assert driver is not None
        assert (driver["pid"], driver["host"]) == (other.pid, socket.gethostname())
        began = time.monotonic()
        message = f"study one is being run by process {other.pid} on {socket.gethostname()}; wait for it or end it"
        with pytest.raises(StudyError, match=message), study.hold(patience=600):
            pass
        assert time.monotonic() - began < 300
    assert study.driver is None, "the lock of a process that was killed is nobody's"
    with study.hold():
        assert study.driver is not None
        assert study.driver["pid"] == os.getpid()
    assert study.driver is None


def test_who_settles_what_a_dead_driver_left_is_waited_for(study: Study) -> None:
    with holder(study, "settle"):
        with pytest.raises(StudyError, match="is being run by process"), study.hold(patience=1.5):
            pass
        assert study.driver is not None
        assert study.driver["purpose"] == "settle"
    with holder(study, "settle", seconds=2.5) as other, study.hold(patience=400):
        other.join(300)
        assert other.exitcode == 0, "its work was done"
        assert study.driver is not None
        assert (study.driver["pid"], study.driver["purpose"]) == (os.getpid(), "run")


def test_who_waits_gets_the_study_when_its_driver_dies(study: Study) -> None:
    with holder(study) as other:
        killing = threading.Timer(2.0, other.kill)
        killing.start()
        with study.hold("settle", wait=True):
            other.join(300)
            assert other.exitcode == -signal.SIGKILL
        killing.join()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_is_said_and_nobody_drives_there(
    study: Study, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """It once was taken for a study that is being run, by a process unknown."""
    (study.folder / ".lock").touch()

    def without(*args: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", without)
    assert study.driver is None
    for wait in (True, False):
        message = rf"one: this file system has no locks \({os.strerror(number)}\); --studies names another place"
        with pytest.raises(StudyError, match=message), study.hold(wait=wait):
            pass


def test_a_place_where_no_folder_can_be_made_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file/two: cannot be made .*--studies names another place"):
        Study.create("two", {}, tmp_path / "file")
    (tmp_path / "two").write_text("")
    with pytest.raises(StudyError, match="two: cannot be made"):
        Study.create("two", {}, tmp_path)


@pytest.mark.parametrize("text", ["[]", "7", "{}", "null", "\xff"])
def test_a_study_json_of_something_else(study: Study, text: str) -> None:
    (study.folder / "study.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(StudyError, match=r"study\.json: cannot be read"):
        Study.open(study.folder)


def test_a_study_is_found_by_name_and_by_folder(study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    root = study.folder.parent
    for opened in (Study.open("one", root), Study.open(study.folder), Study.open(str(study.folder), root / "no")):
        assert (opened.name, opened.folder.resolve()) == ("one", study.folder.resolve())
    monkeypatch.chdir(root)
    assert Study.open("one").name == "one"
    with pytest.raises(StudyError, match="there are none"):
        Study.open("two", root / "no")


def test_what_is_written_of_a_study_is_read_again(study: Study) -> None:
    study.write_meta(state="finished", warnings=["MLflow was away"])
    assert Study.open(study.folder).meta == {"name": "one", "state": "finished", "warnings": ["MLflow was away"]}
    assert {path.name for path in study.folder.iterdir()} == {"study.json"}, "no temporary file stays"


def test_an_end_that_came_before_a_resume_is_over(study: Study) -> None:
    study.append("start", 0, params={"alpha": 0.1}, searched={})
    study.append("end", 0, state="interrupted", reason="the search was interrupted")
    study.append("start", 0, params={"alpha": 0.1}, searched={})
    epoch(study, 0, 1, 0.4)
    study.append("end", 0, state="complete", reason="all epochs done")
    (trial,) = study.trials()
    assert (trial.state, trial.reason) == ("complete", "all epochs done")


def test_events_of_trials_that_never_started_are_nobody_s(study: Study) -> None:
    epoch(study, 5, 1, 0.9)
    study.append("end", 5, state="complete", reason="")
    assert study.trials() == []


def test_an_epoch_without_a_value_is_never_the_best(study: Study) -> None:
    study.append("start", 0, params={}, searched={})
    study.append("epoch", 0, epoch=1, value=None, metrics={}, best=False, seconds=1.0, checkpoint=None)
    assert (study.trials()[0].value, study.trials()[0].best_epoch) == (None, None)
    epoch(study, 0, 2, 0.2)
    epoch(study, 0, 3, 0.2)
    assert study.trials()[0].best_epoch == 2, "the first of equals"


@given(
    values=st.lists(st.lists(st.floats(0, 1), max_size=4), min_size=1, max_size=4),
    cut=st.floats(0, 1),
    more=st.booleans(),
)
@settings(max_examples=50)
def test_a_journal_cut_at_any_byte_tells_what_was_whole(
    tmp_path_factory: pytest.TempPathFactory, values: list[list[float]], cut: float, more: bool
) -> None:
    study = Study.create("one", {}, tmp_path_factory.mktemp("cut"))
    for number, curve in enumerate(values):
        study.append("start", number, params={"text": "\u2028 e\u0301\n"}, searched={})
        for position, value in enumerate(curve, start=1):
            epoch(study, number, position, value)
        study.append("end", number, state="complete", reason="all epochs done")
    whole = study.trials()
    path = study.folder / "trials.jsonl"
    path.write_bytes(path.read_bytes()[: round(cut * path.stat().st_size)])
    if more:
        study.append("start", 99, params={}, searched={})
    told = [trial for trial in study.trials() if trial.number != 99]
    assert ([99] if more else []) == [t.number for t in study.trials() if t.number == 99]
    for before, after in zip(whole, told, strict=False):
        assert after.epochs == before.epochs[: len(after.epochs)]
        assert after.state in ("running", before.state)
    assert all(trial.state == "complete" for trial in told[:-1]), "only the last can be incomplete"


def test_files_that_are_no_study_are_not_adopted(tmp_path: Path) -> None:
    old = Study.create("one", {}, tmp_path)
    old.append("start", 0, params={}, searched={})
    (old.folder / "study.json").unlink()
    with pytest.raises(StudyError, match="one has files and is no study; remove it, or give the study another --name"):
        Study.create("one", {}, tmp_path)


def test_damage_in_a_study_is_named(tmp_path: Path) -> None:
    study = Study.create("one", {"space": {}}, tmp_path)
    with pytest.raises(StudyError, match=r"study\.json: damaged: it has no 'data'; begin a new study"):
        Study.open("one", tmp_path).meta["data"]
    study.append("start", 0, params={}, searched={})
    with (study.folder / "trials.jsonl").open("ab") as file:
        file.write(b'12\n{"event": "end"}\n{"event": "epoch", "trial": 0}\n\xff\xfe\n')
    (only,) = study.trials()
    assert (only.number, only.state, only.epochs) == (0, "running", [])
