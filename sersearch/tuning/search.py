"""Optuna as a Ray Tune searcher whose whole state is the history of its trials.

The sampler of trial n is seeded with (seed, n) before it is asked: what it suggests is a function of the seed, n and
the trials before it. So a search is resumed by telling a new study what the journal knows.
"""

from __future__ import annotations

import json
import warnings
from collections import Counter, deque
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial
from ray.tune.search import Searcher

from sersearch.errors import ConfigError
from sersearch.families import get_family
from sersearch.study import TrialRecord
from sersearch.tuning.client import Order
from sersearch.tuning.leaving import Leaving
from sersearch.tuning.space import SearchSpace, is_integer
from sersearch.tuning.warm import WarmTrial, best_points, read_warm

MOST_ATTEMPTS = 1000
"""Points that are drawn for one trial until one keeps the space's constraint."""

CHOSEN_ATTEMPTS = 10
"""Of them, those that TPE chooses among its candidates: where the best lies beyond the constraint, it would choose what
breaks it again and again. The others it draws from all that it holds to be good."""


def population(budget: int) -> int:
    """Trials of a generation of NSGA-II: Optuna's 50, and no more than a quarter of the budget, of 4 at least."""
    return max(4, min(50, budget // 4))


def startup_trials(budget: int) -> int:
    """Random trials before TPE begins to model: Optuna's 10, and no more than a quarter of a small budget."""
    return max(2, min(10, budget // 4))


def most_at_once(space: SearchSpace) -> int:
    """Trials that may be running at a time.

    For TPE a quarter of the budget, or it would choose most of them blindly, and for NSGA-II a generation.
    """
    if space.method == "nsga2":
        return population(space.trials)
    return max(startup_trials(space.trials), space.trials // 4)


def distributions(space: SearchSpace) -> dict[str, BaseDistribution]:
    """An Optuna distribution per searched hyperparameter, chosen by the type of the config's field."""
    family = get_family(space.family)
    made: dict[str, BaseDistribution] = {}
    for name, d in space.search.items():
        if d.choices is not None:
            made[name] = CategoricalDistribution([_told(choice) for choice in d.choices])
            continue
        assert d.low is not None
        assert d.high is not None
        if is_integer(family, name):
            made[name] = IntDistribution(int(d.low), int(d.high), log=d.log, step=int(d.step or 1))
        else:
            made[name] = FloatDistribution(d.low, d.high, log=d.log, step=d.step)
    return made


def _told(value: Any) -> Any:
    """A value as Optuna knows it: its choices can't be lists, such as channels."""
    return json.dumps(value) if isinstance(value, list) else value


class _Nsga2(optuna.samplers.NSGAIISampler):  # type: ignore[misc]
    """NSGA-II (Deb et al., 2002) for one trial, as a function of the seed and of the trials before it.

    A trial's generation follows from its number. Optuna's own remembers generations and parents beside the trials.
    """

    def __init__(self, size: int, seed: int, number: int, warm: int) -> None:
        """`size` of a generation; the study's first `warm` trials, told from elsewhere, are the first one's parents."""
        super().__init__(population_size=size, seed=seed)
        self._size, self._number, self._warm = size, number, warm

    def get_trial_generation(self, study: optuna.Study, trial: Any) -> int:
        """Counted from 0."""
        return self._number // self._size

    def get_population(self, study: optuna.Study, generation: int) -> list[Any]:
        """The generation's trials that are complete; those from elsewhere are generation -1."""
        first = self._warm + generation * self._size if generation >= 0 else 0
        complete = study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
        return [t for t in complete if first <= t.number < self._warm + (generation + 1) * self._size]

    def get_parent_population(self, study: optuna.Study, generation: int) -> list[Any]:
        """The best of all before the generation; none where there are too few to be crossed."""
        best: list[Any] = []
        for before in range(-1, generation):
            pool = self.get_population(study, before) + best
            best = self._elite_population_selection_strategy(study, pool) if pool else []
        return best if len(best) >= 2 else []


def _mirror(folder: Path, directions: list[str]) -> optuna.Study:
    """An empty study in `optuna.log`, for optuna-dashboard. Only written: the search itself runs in memory."""
    path = folder / "optuna.log"
    # A kill may leave the lock that Optuna takes to write, and without the file it waits for it for ever. The study is
    # held by this process: nobody else writes.
    for old in (path, folder / "optuna.log.lock"):
        old.unlink(missing_ok=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(path)))
    return optuna.create_study(study_name=folder.name, directions=directions, storage=storage)


class StudySearcher(Searcher):  # type: ignore[misc]
    """Suggests configurations: unfinished trials of `history` first, then new ones until the budget is used.

    ASHA-stopped trials are told as PRUNED with their values by epoch, which TPE ranks below complete ones. Failed ones
    are FAIL in `optuna.log`; the sampler, which would pass over a FAIL and go there again, has them as PRUNED without a
    value, below all others. Trial 0 is the family's default, the paper's configuration, when it lies in the space.
    Trials of other studies (`warm.jsonl`) are told to the sampler before, and the best of each study is suggested next.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        history: list[TrialRecord],
        folder: Path,
        leaving: Leaving | None = None,
        retry: bool = False,
    ) -> None:
        """With `retry`, only the failed trials of `history` are suggested; none, once the search is `leaving`."""
        super().__init__(metric="value", mode="max")
        self.space, self.seed, self._leaving, self._retry = space, seed, leaving, retry
        self._distributions = distributions(space)
        self._grid = space.grid() if space.method == "grid" else None
        self.budget = len(self._grid) if self._grid is not None else space.trials
        """Trials in all, earlier ones included."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        several = space.objectives if len(space.objectives) > 1 else ()
        self._metrics = [objective.metric for objective in several]
        self._directions = ["minimize" if o.mode == "min" else "maximize" for o in several] or ["maximize"]
        self.study = optuna.create_study(study_name=folder.name, directions=self._directions)
        self._mirror = _mirror(folder, self._directions)
        warm = read_warm(folder)
        self._warm = len(warm)
        """Of the study's trials those that are not ours: our numbers begin behind them."""
        self.study.add_trials([self._told_elsewhere(trial) for trial in warm])
        first = space.paper_point()
        self._opening = [first] * (first is not None) + [point for point in best_points(warm) if point != first]
        self._unfinished: deque[TrialRecord] = deque()
        self._numbers: dict[str, int] = {}
        self._epochs: dict[int, dict[int, Mapping[str, Any]]] = {}
        self._under_way: set[int] = set()
        self._failed: set[int] = set()
        self._tries: Counter[int] = Counter()
        for record in history:
            # Trials start in parallel: one may be killed before the journal knows it, but not the next.
            for number in range(self._count, record.number):
                self._unfinished.append(TrialRecord(number, {}, self._ask(number)))
            self._remember(record)
        if retry:
            self._unfinished = deque(record for record in self._unfinished if record.state == "failed")

    @property
    def _count(self) -> int:
        """Our trials so far."""
        return len(self.study.get_trials(deepcopy=False)) - self._warm

    def _told_elsewhere(self, trial: WarmTrial) -> optuna.trial.FrozenTrial:
        complete = trial.state == "complete"
        return create_trial(
            state=TrialState.COMPLETE if complete else TrialState.PRUNED,
            params={name: _told(value) for name, value in trial.searched.items()},
            distributions=self._distributions,
            values=list(trial.values) if complete else None,
            intermediate_values={} if self._metrics else trial.epochs,
        )

    def _by_epoch(self, number: int) -> dict[int, float]:
        """A trial's values by epoch; none where there are several objectives, as Optuna takes none then."""
        known = {} if self._metrics else self._epochs[number]
        return {epoch: float(event["value"]) for epoch, event in known.items()}

    def _outcome(self, number: int) -> list[float] | None:
        """What a complete trial is told with; None where it lacks one of several objectives."""
        if not self._metrics:
            return [max(self._by_epoch(number).values())]
        epochs = [dict(event) for _, event in sorted(self._epochs[number].items())]
        values = TrialRecord(number, {}, {}, epochs=epochs).values(self._metrics)
        return None if values is None else list(values)

    def _remember(self, record: TrialRecord) -> None:
        number = record.number
        self._epochs[number] = {e["epoch"]: e for e in record.epochs if e["value"] is not None}
        states = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
        again = record.unfinished or (self._retry and record.state == "failed")
        state = TrialState.RUNNING if again else states[record.state]
        values = self._outcome(number) if state == TrialState.COMPLETE else None
        if state == TrialState.COMPLETE and values is None:
            state = TrialState.FAIL
        trial = create_trial(
            state=state,
            params={name: _told(value) for name, value in record.searched.items()},
            distributions=self._distributions,
            values=values,
            intermediate_values=self._by_epoch(number),
        )
        self._mirror.add_trial(trial)
        if state in (TrialState.FAIL, TrialState.RUNNING):
            trial.intermediate_values = {}  # told when a running one ends
        if state == TrialState.FAIL:
            trial.state = TrialState.PRUNED
        self.study.add_trial(trial)
        if again:
            self._unfinished.append(record)

    def suggest(self, trial_id: str) -> Any:
        """The next trial for Tune: number, parameters and, for one to go on with, its checkpoint."""
        self._tell_failed()
        if self._leaving is not None and self._leaving.reason is not None:
            return Searcher.FINISHED
        if self._unfinished:
            record = self._unfinished.popleft()
            return self._config(trial_id, record)
        number = self._count
        if self._retry or number >= self.budget:
            return None if self._under_way else Searcher.FINISHED  # one of those may come again
        return self._config(trial_id, TrialRecord(number, {}, self._ask(number)))

    def again(self, record: TrialRecord) -> None:
        """Suggest a trial once more, whose machine was lost and which Tune has given up."""
        self._failed.discard(record.number)
        self._unfinished.append(record)

    def _config(self, trial_id: str, record: TrialRecord) -> Order:
        self._numbers[trial_id] = record.number
        self._under_way.add(record.number)
        self._tries[record.number] += 1
        return {
            "try": self._tries[record.number],
            "trial": record.number,
            "searched": record.searched,
            "params": self.space.config(record.searched).to_dict(),
            "checkpoints": [path.relative_to(record.home).as_posix() for path in record.checkpoints()],
        }

    @property
    def left(self) -> int:
        """Trials to run: new and unfinished ones."""
        new = 0 if self._retry else self.budget - self._count
        return max(new, 0) + len(self._unfinished)

    @property
    def begun(self) -> int:
        """Of them, those that a resume goes on with."""
        return len(self._unfinished)

    def _ask(self, number: int) -> dict[str, Any]:
        opening = self._opening[number : number + 1]
        fixed = self._grid[number] if self._grid is not None else next(iter(opening), None)
        if fixed is None and self.space.constraint is not None:
            fixed = self._feasible(number)
        if fixed is not None:
            self.study.enqueue_trial({name: _told(value) for name, value in fixed.items()})
        self.study.sampler = self._seeded(number)
        trial = self._asked(self.study)
        self._mirror.add_trial(self._own(number))
        self._epochs[number] = {}
        return self._point(trial)

    def _own(self, number: int) -> optuna.trial.FrozenTrial:
        """Our trial `number` in the study."""
        return self.study.get_trials(deepcopy=False)[self._warm + number]

    def _asked(self, study: optuna.Study) -> optuna.Trial:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # a step that doesn't divide the range, told by the space
            return study.ask(self._distributions)

    def _point(self, trial: optuna.Trial) -> dict[str, Any]:
        return {name: self._held(name, value) for name, value in trial.params.items()}

    def _feasible(self, number: int) -> dict[str, Any]:
        """A point for trial `number` that keeps the constraint: the first of those that the sampler suggests.

        They are asked of a copy of the study, so that it holds what was run alone. Raises :class:`ConfigError` when
        none of many keeps it.
        """
        copy = optuna.create_study(directions=self._directions)
        copy.add_trials(self.study.get_trials(deepcopy=False))
        for attempt in range(MOST_ATTEMPTS):
            copy.sampler = self._seeded(number, attempt)
            trial = self._asked(copy)
            if self.space.allows(point := self._point(trial)):
                return point
            copy.tell(trial, state=TrialState.FAIL)  # which samplers pass over
        raise ConfigError(
            f"constraint: of {MOST_ATTEMPTS} points that {self.space.method} suggested none keeps "
            f"{self.space.constraint}; search ranges of which more does, or use a grid"
        )

    def _held(self, name: str, told: Any) -> Any:
        """A value of Optuna's as we write it down: one on a step as a reader expects it, 0.3 and not 0.1 + 2 * 0.1."""
        dimension = self.space.search[name]
        if dimension.choices is not None:
            return next(choice for choice in dimension.choices if _told(choice) == told)
        return told if dimension.step is None else round(told, 10)

    def _seeded(self, number: int, attempt: int = 0) -> optuna.samplers.BaseSampler:
        """The sampler of trial `number`, seeded by it, the search's seed and which attempt this is."""
        seed = int(np.random.SeedSequence([self.seed, number, attempt]).generate_state(1)[0])
        if self.space.method == "nsga2":
            return _Nsga2(population(self.budget), seed, number, self._warm)
        if self.space.method != "tpe":
            return optuna.samplers.RandomSampler(seed=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.samplers.TPESampler(
                seed=seed,
                n_startup_trials=startup_trials(self.budget),
                n_ei_candidates=24 if attempt < CHOSEN_ATTEMPTS else 1,  # 24: Optuna's default
                constant_liar=True,
            )

    def on_trial_result(self, trial_id: str, result: Mapping[str, Any]) -> None:
        """Remember an epoch's value."""
        if not result["failed"]:
            self._note(result)

    def _note(self, result: Mapping[str, Any]) -> None:
        """Keep what an epoch is compared by. Of one that is trained again the first figures stand, as in the journal:
        its time is another one.
        """
        # Tune has made `metrics/dev_ua` of what was reported as metrics, dev_ua.
        found = {name: result.get(f"metrics/{name}") for name in self._metrics}
        told = {"epoch": result["epoch"], "value": result["value"], "metrics": found, "seconds": result.get("seconds")}
        known = self._epochs[result["trial"]]
        if not self._metrics or result["epoch"] not in known:
            known[result["epoch"]] = told

    def on_trial_complete(self, trial_id: str, result: Mapping[str, Any] | None = None, error: bool = False) -> None:
        """Tell the study how the trial ended; none is left running.

        Tune keeps the epoch that ASHA stops a trial at from :meth:`on_trial_result`: it is only told here.
        """
        number = self._numbers[trial_id]
        self._under_way.discard(number)
        reported = result is not None and not result.get("failed", True)
        if result is not None and reported:
            self._note(result)
        if self._own(number).state.is_finished():
            return
        by_itself = reported and result is not None and result["done_by_itself"]
        values = self._outcome(number) if by_itself else None
        if error or not reported or (by_itself and values is None):
            self._failed.add(number)
            return
        end = {"values": values} if by_itself else {"state": TrialState.PRUNED}
        for study, place in ((self.study, self._warm + number), (self._mirror, number)):
            _tell(study, place, self._by_epoch(number), **end)

    def _tell_failed(self) -> None:
        """Tell the study of failed trials, once it is sure that they aren't to come again."""
        for number in sorted(self._failed):
            self.study.tell(self._warm + number, state=TrialState.PRUNED)
            _tell(self._mirror, number, self._by_epoch(number), state=TrialState.FAIL)
        self._failed.clear()

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the journal is the state."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: a resumed study makes a new searcher from the journal."""


def _tell(study: optuna.Study, number: int, by_epoch: Mapping[int, float], **end: Any) -> None:
    """Report the epochs that the study doesn't know, and end the trial."""
    own = study.get_trials(deepcopy=False)[number]
    live = optuna.Trial(study, own._trial_id)
    for epoch in sorted(by_epoch.keys() - own.intermediate_values.keys()):
        live.report(by_epoch[epoch], epoch)
    study.tell(number, **end)
