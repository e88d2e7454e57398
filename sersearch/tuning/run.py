"""A search from request to result: Ray Tune, the journal, MLflow, and going on after anything."""

from __future__ import annotations

import json
import logging
import math
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Literal

from sersearch.cluster import cluster_named, prepare, ray_session
from sersearch.data.place import full_name, place
from sersearch.errors import ConfigError, StudyError
from sersearch.logs import handled, plain
from sersearch.redaction import redact_uri
from sersearch.study import SETTLE, OnEvent, Study
from sersearch.training import CPU_ENVIRONMENT
from sersearch.tuning.plan import TuneRequest, check_same, check_unaltered, create
from sersearch.tuning.space import SearchSpace, signatures

SERVER_CPUS, CLIENT_CPUS = 0.9, 0.001
"""Of a core, what a lane server and each of its clients reserve: one server a core, and clients beside it."""

GRACE_S = 20.0
"""Seconds that a search takes to leave, by default, when it is asked to: Kubernetes kills after 30."""

_ENVIRONMENT = {
    **CPU_ENVIRONMENT,
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": str(10**9),  # a resume reads the journal
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
}
_log = logging.getLogger("sersearch.search")


@dataclass(frozen=True, kw_only=True)
class How:
    """How a search is run this time; none of it changes a result, beyond a GPU's rounding."""

    concurrency: int | None = None
    """Trials at a time; None: as many as there is room for."""
    address: str | None = None
    """Of a Ray cluster; None: this machine."""
    tracking_uri: str | None = None
    """Of MLflow; None: the study's own, or a file beside the folder of studies."""
    gpu: bool = False
    """Whether to train on GPUs only, and wait for a node that has one; else on CPUs where there is no GPU now."""
    grace: float = GRACE_S
    """Seconds to leave in, once the process is asked to end."""

    @property
    def given(self) -> list[str]:
        """Words of a command: the options without which it would be run elsewhere, or give other suggestions."""
        values = {"--concurrency": self.concurrency, "--address": self.address}
        words = [word for name, value in values.items() if value is not None for word in (name, str(value))]
        return words + ["--gpu"] * self.gpu


def tune(request: TuneRequest, how: How = How(), on_event: OnEvent | None = None, fresh: bool = False) -> Study:
    """Run a search to its end; one whose study is there goes on, unless it is to be `fresh`.

    Raises what the checks find (:class:`ConfigError`, :class:`DataError`, :class:`StudyError`, :class:`TrackingError`)
    before Ray starts; StudyError when the machine fails (a full disk), and KeyboardInterrupt when it is interrupted:
    after both, the study can be resumed.
    """
    from sersearch.tracking import check_uri, default_uri

    _check_gpu(how)
    old = _there(request)
    if old is not None and not fresh:
        check_same(old, request)
        return resume(old.name, request.root, how, on_event)
    _check_free(request, old)
    request.root.parent.mkdir(parents=True, exist_ok=True)
    uri = how.tracking_uri or default_uri(request.root.parent)
    check_uri(uri)
    aside = () if old is None else (partial(_set_aside, old, uri, _waiting(on_event)),)
    study = create(request, uri, *aside)
    return _run(study, how, uri, on_event)


@contextmanager
def session(how: How) -> Iterator[None]:
    """One Ray for several searches, which would start one each."""
    prepare(how.address, _ENVIRONMENT)
    with ray_session(how.address, _ENVIRONMENT):
        yield


def _there(request: TuneRequest) -> Study | None:
    """The study of that name, here or in the storage."""
    from sersearch.tuning.storage import fetch

    if request.name is None:
        return None
    if request.storage is not None:
        fetch(request.name, request.storage, request.root)
    there = (request.root / request.name / "study.json").is_file()
    return Study.open(request.name, request.root) if there else None


def _check_free(request: TuneRequest, old: Study | None) -> None:
    """Raise :class:`StudyError` where a new study's place in the storage is another's than the one's it replaces."""
    from sersearch.tuning.storage import described

    if request.storage is not None and request.name is not None:
        home = place(request.storage) / request.name
        if old is None or full_name(old.home) != full_name(home):
            described(home, created=None)


def resume(
    name: str,
    root: Path,
    how: How = How(),
    on_event: OnEvent | None = None,
    retry: bool = False,
) -> Study:
    """Go on with a study: finished trials stay, unfinished ones continue from their checkpoints.

    A finished study is only told of once more, and what MLflow hasn't got of it is sent. With `retry`, the trials that
    failed are run again, from their last checkpoints, and no others. Raises :class:`StudyError` when `name` isn't a
    study, is held, its data were changed or nothing failed.
    """
    from sersearch.tracking import check_uri
    from sersearch.tuning.storage import Storage

    _check_gpu(how)
    study = Study.open(name, root)
    if study.meta.get("storage") is not None:  # another machine may have gone on with it
        with _held(study, _waiting(on_event)):
            Storage(study).catch_up()
    if retry and not any(record.state == "failed" for record in study.trials()):
        raise StudyError(f"study {study.name} has no trial that failed")
    over = study.meta["state"] == "finished" and not retry and study.driver is None
    if over and not study.spool.is_file():
        if on_event is not None:
            on_event("finished", -1, {"study": study})
        return study
    check_unaltered(study)
    uri = how.tracking_uri or study.meta["tracking"]["uri"]
    if how.tracking_uri or "***@" in uri:
        check_uri(uri)
    return _run(study, how, uri, on_event, retry)


def _check_gpu(how: How) -> None:
    """Raise :class:`ConfigError` when a GPU is asked for that won't come."""
    import torch

    if how.gpu and cluster_named(how.address) is None and not torch.cuda.is_available():
        raise ConfigError("--gpu: this machine has no GPU; leave it out, or name a cluster with --address")


def _waiting(on_event: OnEvent | None) -> Callable[[str], None]:
    """Tells whoever watches what is waited for before a search begins."""
    return lambda why: None if on_event is None else on_event("wait", -1, {"why": why})


@contextmanager
def _held(study: Study, wait: Callable[[str], None]) -> Iterator[None]:
    """Be the study's driver on this machine, once what a killed one left is settled."""
    from sersearch.tuning.reaper import PATIENCE_S

    if (study.driver or {}).get("purpose") == SETTLE:
        wait(f"what the last process left is settled first, which may take {PATIENCE_S:.0f} s")
    with study.hold(patience=PATIENCE_S):
        yield


def _set_aside(study: Study, uri: str, wait: Callable[[str], None]) -> None:
    """Rename the folder of a study that is begun anew: nothing is lost, and nothing of it runs on in MLflow.

    `uri` is the new one's MLflow, with the password that the old one's study.json lacks.
    """
    from sersearch.tuning.reaper import reap
    from sersearch.tuning.storage import Storage, set_aside

    name = f"{study.name}-until-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    with _held(study, wait):
        if study.meta.get("storage") is not None:
            with Storage(study).driven(lambda why: None, wait):  # nobody runs it elsewhere
                pass
            set_aside(study.home, name)
        known = study.meta["tracking"]["uri"]
        reap(study, uri if redact_uri(uri) == known else known)
        study.folder.rename(study.folder.with_name(name))


def _run(study: Study, how: How, uri: str, on_event: OnEvent | None, retry: bool = False) -> Study:
    prepare(how.address, _ENVIRONMENT)
    from sersearch.tracking import Tracker
    from sersearch.tuning import reaper
    from sersearch.tuning.leaving import Leaving
    from sersearch.tuning.storage import Storage
    from sersearch.tuning.trainable import FAILED

    leaving, wait = Leaving(how.grace), _waiting(on_event)
    with ExitStack() as stack:
        stack.enter_context(_held(study, wait))
        storage = None
        if study.meta.get("storage") is not None:
            storage = Storage(study)
            stack.enter_context(storage.driven(leaving.ask, wait))
            storage.catch_up()
        space = SearchSpace.model_validate(study.meta["space"])
        tracker, tracking = Tracker(uri, space.name, study.name, study.spool), study.meta["tracking"]
        known = tracking if tracking["uri"] == tracker.uri else {"uri": tracker.uri}  # ids are of one server
        study.write_meta(state="running", given=how.given, tracking=known)
        for failed in study.home.glob(f"pretrained-*{FAILED}"):
            failed.unlink(missing_ok=True)
        reaper.watch(study, uri)
        if storage is not None:
            storage.publish()
        tracker.begin(study.meta, [study.folder / name for name in ("space.yaml", "split.json", "study.json")])
        if on_event is not None:
            notes = json.loads((study.folder / "split.json").read_text("utf-8")).get("notes", [])
            metric = study.meta["objective"]["metric"]
            told = {"trials": study.meta["trials"], "metric": metric, "notes": notes, "page": lambda: tracker.page}
            on_event("begin", -1, told)
        _search(study, space, how, tracker, leaving, storage, on_event, retry)
    return study


def _search(
    study: Study,
    space: SearchSpace,
    how: How,
    tracker: Any,
    leaving: Any,
    storage: Any,
    on_event: OnEvent | None,
    retry: bool,
) -> None:
    """The search itself, and what must be done however it ends."""
    from sersearch.tuning.client import machine_fails
    from sersearch.tuning.journal import Journal

    journal = Journal(study, tracker, leaving, on_event, storage)
    on_again = f"`{study.again()}` goes on"
    with ExitStack() as stack:
        stack.enter_context(_logged(journal))
        try:
            cluster = stack.enter_context(ray_session(how.address, _ENVIRONMENT))
            stack.enter_context(_terminable(leaving))
            _fit(study, space, how, journal, leaving, retry, cluster)
        except KeyboardInterrupt:
            leaving.ask(ASKED)
            raise KeyboardInterrupt(on_again) from None
        except BaseException as error:
            # A storage that is away fails in Tune as well as in the journal and the trials: one sentence for all.
            of_machine = isinstance(error, OSError) or machine_fails(error)
            lines = (str(error).strip() or type(error).__name__).splitlines()
            known = isinstance(error, Exception) and (of_machine or leaving.reason is not None)
            leaving.ask(lines[-1] if of_machine else f"{type(error).__name__}: {lines[0]}")
            if not known:
                raise
            _log.error("Tune ended with an error", exc_info=error)
        finally:
            _conclude(study, journal, tracker, leaving, storage)
        if leaving.reason == ASKED:
            raise KeyboardInterrupt(on_again)
        if storage is not None and storage.lost.is_set():
            raise StudyError(f"study {study.name}: {leaving.reason}; this process has left it: nothing is to be done")
        if leaving.reason is not None:
            raise StudyError(f"study {study.name} was stopped: {leaving.reason}; mend that, then {on_again}")
        if on_event is not None:
            on_event("finished", -1, {"study": study})


def _conclude(study: Study, journal: Any, tracker: Any, leaving: Any, storage: Any) -> None:
    """Write down how a search ended; a disk that takes no more is a reason to leave, too."""
    journal.settle()
    state = "finished" if leaving.reason is None and _over(study) else "interrupted"
    if storage is None or not storage.lost.is_set():
        tracker.finish(state)
    tracker.close(most=max(5.0, leaving.left) if leaving.reason else math.inf)
    ids = {"experiment_id": tracker.experiment_id, "run_id": tracker.run_id}
    try:
        study.write_meta(state=state, tracking={**study.meta["tracking"], **ids}, warnings=tracker.warnings)
        if storage is not None:
            storage.publish()
    except OSError as error:
        leaving.ask(str(error))


def _over(study: Study) -> bool:
    """Whether all trials have run to their ends."""
    trials = study.trials()
    return len(trials) >= study.meta["trials"] and not any(record.unfinished for record in trials)


ASKED = "the process was asked to end"
"""Why a search leaves after SIGTERM."""


@contextmanager
def _terminable(leaving: Any) -> Iterator[None]:
    """At SIGTERM the search leaves within its grace, at the second one at once, in place of what Ray does then.

    In the main thread, where alone that can be said.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def leave(number: int, frame: FrameType | None) -> None:
        if leaving.reason is not None or not leaving.running:
            raise KeyboardInterrupt
        leaving.ask(ASKED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _logged(journal: Any) -> Iterator[None]:
    """What the driver logs goes to the search's file."""

    class Written(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            journal.log(None, [plain(record)])

    with handled(Written(logging.INFO), "sersearch"):
        yield


def _fit(study: Study, space: SearchSpace, how: How, journal: Any, leaving: Any, retry: bool, cluster: bool) -> None:
    import ray.tune as rt
    from ray.tune.execution.class_cache import ENV_VARS_TO_PROPAGATE

    from sersearch.tuning.asha import overdue, scheduler
    from sersearch.tuning.client import KEPT_CHECKPOINTS, RETRIES
    from sersearch.tuning.search import StudySearcher, most_at_once
    from sersearch.tuning.storage import tune_storage

    for name in ("ray", "ray.tune", "ray.train"):
        logging.getLogger(name).setLevel(logging.CRITICAL)  # the trials' logs have it
    # Tune gives trials the driver's AWS keys by way of Ray's logs, which every user of a machine can read.
    ENV_VARS_TO_PROPAGATE.difference_update([name for name in ENV_VARS_TO_PROPAGATE if name.startswith("AWS_")])
    for record in overdue(space, study.trials()):
        journal.end_pruned(record.number, record.epochs[-1]["epoch"])
    history = study.trials()
    searcher = StudySearcher(space, study.meta["seed"], history, study.folder, leaving, retry)
    journal.again = searcher.again
    _log.info("%d trials to run, %d of them begun", searcher.left, searcher.begun)
    asked = how.concurrency or (most_at_once(space) if space.method in ("tpe", "nsga2") else searcher.left)
    with _trainable(study, space, min(searcher.left, asked), how.gpu, cluster) as (train, at_once):
        rt.Tuner(
            train,
            tune_config=rt.TuneConfig(
                metric="value",
                mode="max",
                search_alg=searcher,
                scheduler=scheduler(space, history),
                num_samples=-1,  # until the searcher says that there are no more
                max_concurrent_trials=how.concurrency or min(at_once or asked, asked),
                reuse_actors=True,
                trial_name_creator=_name,
                trial_dirname_creator=_name,
            ),
            run_config=rt.RunConfig(
                name=f"run-{time.time_ns()}",
                checkpoint_config=rt.CheckpointConfig(num_to_keep=KEPT_CHECKPOINTS),
                failure_config=rt.FailureConfig(max_failures=RETRIES),
                callbacks=[journal],
                stop=leaving,
                verbose=0,
                **tune_storage(study.home),
            ),
        ).fit()


def _name(trial: Any) -> str:
    """Of a trial's folder, another one for each try."""
    tries = trial.config["try"]
    return f"trial-{trial.config['trial']:04d}" + (f"-{tries}" if tries > 1 else "")


@contextmanager
def _trainable(
    study: Study, space: SearchSpace, wanted: int, gpu: bool, cluster: bool
) -> Iterator[tuple[Any, int | None]]:
    """The trainable with its resources, and the trials that there is room for at once; of `wanted` ones, lane servers.

    With lanes, a lane server holds each GPU, or core, and a trial is only its client. In a cluster there may be more
    room later: there the number of trials isn't bound (None), and servers wait for nodes to come.
    """
    import ray
    import ray.tune as rt

    from sersearch.tuning import client, trainable

    shared = {**study.meta, "home": full_name(study.home)}
    gpus, cpus = (int(ray.cluster_resources().get(kind, 0)) for kind in ("GPU", "CPU"))
    gpus = max(gpus, int(gpu))  # a trial that no node has room for yet waits
    lanes = _lanes(study, space, gpus)
    if lanes == 1:
        train = rt.with_resources(partial(trainable.train, shared=shared), {"cpu": 1, "gpu": 1 if gpus else 0})
        yield train, None if cluster else gpus or cpus
        return
    from sersearch.tuning.lanes import LaneServer

    most = max(8, 2 * (gpus or cpus)) if cluster else gpus or cpus
    names = [f"lanes-{time.time_ns()}-{n}" for n in range(min(most, math.ceil(max(wanted, 1) / lanes)))]
    # A call that waits takes a thread: one of each lane's client, and of clients that died or ask for a lane.
    options = {"num_cpus": SERVER_CPUS, "num_gpus": 1 if gpus else 0, "max_concurrency": 2 * lanes + 16}
    kind = ray.remote(LaneServer)
    servers = [kind.options(name=name, max_restarts=-1, **options).remote(name, lanes, shared) for name in names]
    try:
        ray.wait([server.held.remote() for server in servers], num_returns=1 if cluster else len(servers))
        yield rt.with_resources(partial(client.train, servers=names), {"cpu": CLIENT_CPUS}), lanes * len(names)
    finally:
        for server in servers:
            ray.kill(server)


def _lanes(study: Study, space: SearchSpace, gpus: int) -> int:
    """Lanes on each GPU, or core. Those of `auto` are measured on one of the GPUs, as each run begins."""
    import ray
    from ray.exceptions import WorkerCrashedError

    asked: int | Literal["auto"] = study.meta.get("lanes", 1)
    if asked != "auto":
        return asked
    if not gpus:
        return 1
    from sersearch.tuning.lanes import measured_lanes

    points = [space.config(point).to_dict() for point in signatures(space)]
    measure = ray.remote(num_gpus=1, max_calls=1)(measured_lanes)
    try:
        lanes: int = ray.get(measure.remote(study.meta, points))
    except WorkerCrashedError:
        raise StudyError(
            f"study {study.name}: the process died that measured how many lanes fit; run it again"
        ) from None
    return lanes
