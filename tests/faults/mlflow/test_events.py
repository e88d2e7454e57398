"""Events that MLflow refuses, files it cannot store, clocks that are set, and namesakes."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from sersearch.tracking import tracker as module
from tests.faults.mlflow.streams import FIRST_MS, Teller, begin, calls, metrics, runs, sent, study, undisturbed, until
from tests.services import Server

pytestmark = [
    # MLflow's own use of SQLAlchemy
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.usefixtures("impatient"),
]


def test_refused_events_cost_no_other(server: Server, reference: dict[Any, Any], tmp_path: Path) -> None:
    of = study(tmp_path)
    subject = begin(of, server.uri)
    refused = [
        ("trial_start", (1, {"alpha": "MLflow never changes a parameter"})),
        ("trial_start", (1, {"../alpha": 1})),
        ("epoch", (1, 5, {"dev//ua": 1.0}, FIRST_MS)),
        ("trial_end", (2, "failed", "no such file", [tmp_path / "gone.csv"])),
    ]
    teller, told = Teller(of, subject), calls(of)
    teller.tell(told, most=12)  # up to the fourth epochs of trials 0, 1 and 2, and a fifth
    for kind, arguments in refused:
        teller.call(kind, *arguments)
        teller.tell(told, most=1)
    teller.tell(told)
    subject.finish("finished")
    server.start()
    sent(subject)
    subject.close()
    assert [warning.partition(":")[0] for warning in subject.warnings] == [
        "MLflow at http",
        "MLflow refused a trial_start event, which is left out",
        "MLflow refused a epoch event, which is left out",
        "the artifact gone.csv is missing in MLflow",
    ]
    assert runs(server.uri) == reference


def test_long_and_odd_texts_are_taken(server: Server, tmp_path: Path) -> None:
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    odd = {"long": "x" * 9000, "nul": "a\0b", "half": "\ud800", "key with {braces}": [1, None], "empty": ""}
    subject.trial_start(0, odd)
    subject.epoch(0, 1, {"a" * 300: 1.0, "dev_ua (mean)": 2.0, "infinite": float("inf")}, FIRST_MS)
    subject.trial_end(0, "failed", "the trial's process died: \0\ud800" + "x" * 9000, [])
    subject.finish("finished")
    subject.close(60)
    assert subject.warnings == []
    trial = runs(server.uri)[0]
    assert trial["params"] == {
        "long": "x" * 497 + "...",
        "nul": "ab",
        "half": "?",
        "key with _braces_": "[1, null]",
        "empty": "",
    }
    assert trial["latest"].keys() == {"a" * 250, "dev_ua _mean_", "infinite"}
    assert trial["status"] == "FAILED"
    assert len(trial["tags"]["reason"]) == 5000


def test_storage_for_files_that_is_away_holds_up_nothing_else(
    server: Server, reference: dict[Any, Any], tmp_path: Path
) -> None:
    server.artifacts.write_text("a file, where a folder should be")
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    Teller(of, subject).tell(calls(of))
    subject.finish("finished")
    until(subject, lambda: {event["event"] for event in subject._spool.first(1000)} == {"artifacts"})
    bare = runs(server.uri)
    assert {key: run | {"artifacts": {}} for key, run in reference.items()} == bare
    server.artifacts.unlink()
    sent(subject)
    subject.close()
    assert len(subject.warnings) == 1
    assert "stores no files now; they are kept and sent later" in subject.warnings[0]
    assert runs(server.uri) == reference


def test_files_that_cannot_be_stored_are_kept_for_a_resume(server: Server, tmp_path: Path) -> None:
    server.artifacts.write_text("a file, where a folder should be")
    of = study(tmp_path)
    subject = begin(of, server.start().uri)
    Teller(of, subject).tell(calls(of))
    subject.finish("finished")
    began = time.monotonic()
    subject.close(300)
    assert time.monotonic() - began < 200
    assert of.spool.is_file()
    bare = runs(server.uri)
    assert {run["status"] for run in bare.values()} == {"FINISHED", "FAILED", "KILLED"}
    server.artifacts.unlink()
    again = begin(of, server.uri)
    again.finish("finished")
    again.close(60)
    assert again.warnings == []
    assert all(run["artifacts"] for run in runs(server.uri).values())


def test_clocks_that_are_set_change_no_order(local: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FIRST_MS
    monkeypatch.setattr(module, "now", lambda: clock)
    hour = 3_600_000
    jumps = {3: -hour, 5: 2 * hour, 6: -3 * hour}
    of = study(tmp_path)
    subject = begin(of, local)
    for kind, arguments in calls(of, trials=1, epochs=1):
        if kind == "trial_start":
            Teller(of, subject).tell(iter([(kind, arguments)]))
    for epoch in range(1, 9):
        clock += 1000 + jumps.get(epoch, 0)
        Teller(of, subject).tell(iter([("epoch", (0, epoch, metrics(0, epoch), clock))]))
        sent(subject)  # so that each epoch is a request of its own
    subject.finish("interrupted")
    subject.close()
    clock -= hour
    subject = begin(of, local)
    Teller(of, subject).tell(iter([("epoch", (0, 9, metrics(0, 9), clock))]))
    Teller(of, subject).tell(iter([("trial_end", (0, "complete", "epochs", []))]))
    subject.finish("finished")
    subject.close()

    found = runs(local)  # which checks that no run ends before it begins
    points = found[0]["metrics"]["dev_ua"]
    assert [step for step, _, _ in points] == list(range(1, 10))
    assert [value for _, value, _ in points] == [metrics(0, epoch)["dev_ua"] for epoch in range(1, 10)]
    stamps = [stamp for _, _, stamp in points]
    assert stamps == sorted(set(stamps))
    assert stamps[:2] == [FIRST_MS + 1000, FIRST_MS + 2000]
    assert stamps[2] == FIRST_MS + 2001  # set back: the least that is later
    assert stamps[4] == FIRST_MS + 5000 + hour  # set forward: what the clock says
    assert found[0]["latest"] == metrics(0, 9)
    assert found[None]["latest"] == {"best_dev_ua": pytest.approx(0.009)}
    assert [step for step, _, _ in found[None]["metrics"]["best_dev_ua"]] == [8, 9]


def test_namesakes_that_begin_at_once_do_not_mix(server: Server, local: str, tmp_path: Path) -> None:
    server.start()
    here = study(tmp_path / "here", created="2026-01-02T03:04:05.000006")
    there = study(tmp_path / "there", created="2026-01-02T03:04:05.000007")
    trackers = {of: begin(of, server.uri) for of in (here, there)}
    sizes = {here: {"trials": 3, "epochs": 4}, there: {"trials": 5, "epochs": 2}}
    threads = [
        threading.Thread(target=Teller(of, subject, pause=0.01).tell, args=(calls(of, **sizes[of]),))
        for of, subject in trackers.items()
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for subject in trackers.values():
        subject.finish("finished")
        subject.close(60)
        assert subject.warnings == []
    assert len({subject.experiment_id for subject in trackers.values()}) == 1
    for of, subject in trackers.items():
        alone = tmp_path / of.folder.parent.name / "mlflow.db"
        alone.write_bytes(Path(local.removeprefix("sqlite:///")).read_bytes())
        expected = undisturbed(alone.parent, f"sqlite:///{alone}", **sizes[of])
        assert runs(server.uri, run_id=subject.run_id) == expected
