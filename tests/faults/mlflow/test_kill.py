"""A driver that is killed with events unsent, the next one, and what is settled when there is none."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from sersearch.study import Study
from sersearch.tracking.spool import Spool
from tests.faults.mlflow.streams import Teller, begin, calls, runs, sent, study, tracker
from tests.services import Server

pytestmark = [
    # MLflow's own use of SQLAlchemy
    pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning"),
    pytest.mark.usefixtures("impatient"),
]


def drive(of: Study, uri: str, pause_ms: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.faults.mlflow.driver", str(of.folder.parent), uri, str(pause_ms)]
    return subprocess.Popen(command, cwd=Path(__file__).parents[3], stdout=subprocess.DEVNULL)


def told(of: Study) -> int:
    """Events in the study's journal."""
    return len(of.journal.read_bytes().splitlines()) if of.journal.exists() else 0


def kill(driver: subprocess.Popen[bytes], of: Study, events: int) -> None:
    """Kill the driver when it has told `events` more."""
    wanted = told(of) + events
    while told(of) < wanted:
        assert driver.poll() is None
        time.sleep(0.005)
    driver.kill()
    driver.wait()


@pytest.mark.slow
def test_drivers_that_are_killed_lose_nothing_and_repeat_nothing(
    server: Server, reference: dict[Any, Any], tmp_path: Path
) -> None:
    of = study(tmp_path)
    server.start()
    kill(drive(of, server.uri, 100), of, 15)  # while MLflow's client is loaded, and then connects
    kill(drive(of, server.uri, 400), of, 12)  # while it sends
    server.stop(signal.SIGKILL)
    kill(drive(of, server.uri, 20), of, 20)  # while the server is away
    assert len(Spool(of.spool).load()) >= 20
    server.start()
    assert drive(of, server.uri, 1).wait(400) == 0
    assert not of.spool.exists()
    assert runs(server.uri) == reference


@pytest.mark.parametrize("state", ["running", "finished"])
def test_a_dead_driver_s_runs_are_settled_once(local: str, tmp_path: Path, state: str) -> None:
    of = study(tmp_path)
    subject, events = begin(of, local), calls(of)
    Teller(of, subject).tell(events, most=33)  # three trials are over, and three began
    sent(subject)
    subject.close()  # as after a kill: nothing says how the rest ended
    of.write_meta(state=state)
    assert {key: run["status"] for key, run in runs(local).items()} == {
        **{None: "RUNNING", 0: "FINISHED", 1: "KILLED", 2: "FAILED"},
        **{3: "RUNNING", 4: "RUNNING", 5: "RUNNING"},
    }
    of.append("end", 3, state="failed", reason="out of memory")  # told to the journal alone
    unsent = Spool(of.spool)
    unsent.start([{"event": "epoch", "time": 0, "trial": 4, "epoch": 1, "metrics": {"dev_ua": 0.5}, "at": 1}])
    unsent.close()

    assert tracker(of, local).settle(of.meta) == 4
    settled = runs(local)
    assert [settled[key]["status"] for key in (3, 4, 5)] == ["FAILED", "KILLED", "KILLED"]
    assert settled[3]["tags"]["reason"] == "out of memory"
    assert settled[4]["tags"]["state"] == "interrupted"
    assert settled[4]["latest"] == {"dev_ua": 0.5}
    ended = {"running": ("KILLED", "interrupted"), "finished": ("FINISHED", "finished")}
    assert (settled[None]["status"], settled[None]["tags"]["state"]) == ended[state]
    assert settled[None]["latest"] == {"best_dev_ua": pytest.approx(0.018)}  # trial 1's; the failed one doesn't count
    assert not unsent.path.exists()
    assert tracker(of, local).settle(of.meta) == 0
    assert runs(local) == settled


def test_a_settled_study_goes_on(local: str, reference: dict[Any, Any], tmp_path: Path) -> None:
    of = study(tmp_path)
    subject, events = begin(of, local), calls(of)
    Teller(of, subject).tell(events, most=33)
    sent(subject)
    subject.close()
    assert tracker(of, local).settle(of.meta) == 4
    again = begin(of, local)
    teller = Teller(of, again)
    teller.tell(call for call in calls(of, trials=6) if call[1][0] >= 3)
    again.finish("finished")
    again.close(60)
    assert again.warnings == []
    went_on = runs(local)
    # The step of the best value is what was trained by then: once it was settled, and once in the end.
    assert went_on[None]["metrics"].pop("best_dev_ua") == [(24, pytest.approx(0.018), None), (48, 0.058, None)]
    assert went_on[None] == {**reference[None], "metrics": {}}
    assert went_on == {**reference, None: went_on[None]}


def test_a_study_that_mlflow_never_heard_of_needs_no_settling(local: str, tmp_path: Path) -> None:
    of = study(tmp_path)
    assert tracker(of, local).settle(of.meta) == 0
    assert not of.spool.exists()
