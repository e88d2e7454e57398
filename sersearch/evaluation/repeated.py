"""The claim: a study's choice trained with fresh seeds, and all of them tested in one look; folds put together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.data.atomic import atomic
from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, StudyError, one_of
from sersearch.evaluation.choice import RESULTS, check_choice, previous_results, tested_before
from sersearch.evaluation.look import Look, Outputs, fold_of, turns_of
from sersearch.evaluation.nested import together
from sersearch.evaluation.results import Results, listed
from sersearch.evaluation.retraining import Event, outcome, retrain
from sersearch.evaluation.tables import to_csv
from sersearch.export import Predictor, chosen, winning_metrics
from sersearch.provenance import versions
from sersearch.study import Study

if TYPE_CHECKING:
    from sersearch.study import TrialRecord

_OF_NO_CONCERN = ("doc", "time", "demo")
"""What a search space says beside what is searched, and how."""

MOST_SEEDS = 1000
"""More are taken for a slip: the papers train ten to twenty times."""


def evaluate_seeds(
    study: Study,
    *,
    seeds: int | Sequence[int],
    trial: int | None = None,
    metric: str | None = None,
    again: bool = False,
    workers: int | None = None,
    on_event: Event | None = None,
) -> Results:
    """Train the configuration of `trial` (None: the study's best one) with fresh seeds, and test all models at once.

    `seeds`: how many, or which, see :func:`fresh_seeds`. Each is trained as the search did, for up to as many epochs,
    and tested with the weights of its best development epoch by `metric` (None: the study's objective). As with
    :func:`~sersearch.evaluation.evaluate.evaluate`, figures are of clean utterances, and `further` holds those by
    condition, and, where several attributes were learnt at once, those of the trial and epoch that are best by each.
    `origin` says what was trained: `trial`, `metric`, `by_hand` (whether another trial is the best by it), the `runs`
    (seed, best epoch), the trials that were `tested_before`, and what makes studies folds of one (`common`). Written to
    `evaluation/results.json` and `results.csv` of the study. Of a nested study a seed trains a model a development
    fold, taken at the epoch that is best by the mean over them, and its figures are the means of theirs.

    The test part is looked at once, when all models are trained: a run that was cut off before that goes on, as it
    showed no figure. A result that is there for these seeds is read back; for other seeds, another trial or metric
    this raises :class:`StudyError`, unless it is to be tested `again`. Raises what is wrong with the study or its
    corpus before anything is trained, and what :func:`~sersearch.evaluation.retraining.retrain` raises.
    """
    record, metric = chosen(study, trial, metric)
    wanted = fresh_seeds([study], seeds)
    before = previous_results(study)
    if not again:
        check_choice(study, record.number, metric)
        if before is not None:
            return _read_back(study, before, wanted)
    looks = [Look.of(study, turn) for turn in turns_of(study)]
    winners = {metric: record, **_winners(study, record, metric)}
    jobs = [(n, seed) for n in dict.fromkeys(r.number for r in winners.values()) for seed in wanted]
    with study.hold("evaluate"):
        retrain(study, jobs, workers, on_event)
        if on_event is not None:
            on_event(-1, f"testing {len(winners) * len(wanted) * len(looks)} models")
        earlier = tested_before(study, RESULTS, record.number)
        found = {by: _tested(looks, own, by, wanted, earlier) for by, own in winners.items()}
        main = found.pop(metric)
        results = replace(main, further={**main.further, **found})
        write_results(results, study.folder / RESULTS.parent)
    return results


def evaluate_folds(studies: Sequence[Study], name: str, *, seeds: int | Sequence[int], **how: Any) -> Results:
    """The folds of one protocol, each the study of its own, by :func:`evaluate_seeds` and :func:`merged`.

    `seeds` as :func:`fresh_seeds` has them for all studies together. Raises :class:`StudyError` where they don't belong
    together, before anything is trained.
    """
    folds = {study.name: fold_of(Protocol.from_dict(study.meta["data"]["protocol"])) for study in studies}
    if len(folds) < len(studies):
        raise ConfigError(f"{', '.join(study.name for study in studies)}: name each study once")
    _check_folds({study.name: _common(study) for study in studies}, {own: [fold] for own, fold in folds.items()})
    wanted = fresh_seeds(studies, seeds)
    return merged([evaluate_seeds(study, seeds=wanted, **how) for study in studies], name)


def merged(results: Sequence[Results], name: str) -> Results:
    """Results of several folds of one protocol as those of one study.

    LOSO has a study a speaker, kfold one a fold, and speaker-disjoint splits one a seed that draws them. Raises
    :class:`StudyError` where they don't belong together: of other families, corpora, targets, protocols, searches,
    metrics or seeds, or of one fold twice.
    """
    first = results[0]
    facts = {r.study: {**_facts(r), **r.origin.get("common", {})} for r in results}
    if len(facts) < len(results):
        raise ConfigError(f"{', '.join(r.study for r in results)}: name each study once")
    _check_folds(facts, {r.study: r.folds for r in results})
    shared = [key for key in first.further if all(key in r.further for r in results)]
    return replace(
        first,
        study=name,
        protocol=facts[first.study]["protocol"],
        scores={
            metric: {seed: {f: s for r in results for f, s in r.scores[metric][seed].items()} for seed in first.seeds}
            for metric in first.metrics
        },
        parts={fold: part for r in results for fold, part in r.parts.items()},
        outputs={
            seed: {f: own for r in results for f, own in r.outputs[seed].items()}
            for seed in (first.seeds if all(r.outputs for r in results) else ())
        },
        synthetic=any(r.synthetic for r in results),
        origin={"studies": {r.study: dict(r.origin) for r in results}},
        further={key: merged([r.further[key] for r in results], name) for key in shared},
    )


def fresh_seeds(studies: Sequence[Study], seeds: int | Sequence[int]) -> list[int]:
    """The seeds that are asked for, in order: so many, the first from 0, or these; none that a search had itself.

    Raises :class:`ConfigError` for none, for what can't be one, and for a search's own.
    """
    own = {seed for study in studies for seed in _own_seeds(study)}
    if isinstance(seeds, int) and seeds > MOST_SEEDS:
        raise ConfigError(f"--seeds {seeds}: at most {MOST_SEEDS}; to name one seed, add a comma")
    if isinstance(seeds, int):
        wanted = list(islice((seed for seed in count() if seed not in own), max(seeds, 0)))
    else:
        wanted = sorted(seeds)
    if not wanted or len(set(wanted)) < len(wanted) or not 0 <= wanted[0] <= wanted[-1] < 2**32:
        raise ConfigError(
            f"--seeds {seeds}: expected how many, from 1, or different whole numbers from 0, such as 3,5,8"
        )
    if taken := sorted(own & {*wanted}):
        raise ConfigError(
            f"--seeds {listed(wanted)}: the search had seed {listed(taken)} itself, by which it chose, so that isn't a "
            "fresh one; name others"
        )
    return wanted


def _own_seeds(study: Study) -> range:
    """The seeds that a search trained its trials with."""
    first = study.meta["seed"]
    return range(first, first + (study.meta.get("space") or {}).get("repeats", 1))


def load_results(text: str, root: Path, only: str | None = None) -> Results:
    """What `evaluate --seeds` found of a study in `root`, or, of NAME=STUDY,STUDY,..., of several folds together.

    `only` the results of one condition, or of what is best by a further metric. Raises :class:`StudyError` where it
    found nothing yet.
    """
    name, equals, names = text.partition("=")
    found = [_load(Study.open(own, root)) for own in (names if equals else name).split(",")]
    results = merged(found, name) if equals else found[0]
    if only is None:
        return results
    if only not in results.further:
        raise ConfigError(f"study {results.study} has no results of {only!r}; {one_of(only, results.further)}")
    return results.further[only]


def _load(study: Study) -> Results:
    found = previous_results(study)
    if found is None:
        raise StudyError(
            f"study {study.name} has no results of seeds; `sersearch evaluate {study.argument} --seeds N` makes them"
        )
    return found


def write_results(results: Results, folder: Path) -> None:
    """Write results.csv and, last, results.json."""
    with atomic(folder / "results.csv") as temporary:
        temporary.write_text(to_csv(results), "utf-8")
    results.save(folder / "results.json")


# --- one study --------------------------------------------------------------------------------------------------------


def _read_back(study: Study, before: Results, wanted: Sequence[int]) -> Results:
    if list(before.seeds) != list(wanted):
        raise StudyError(
            f"study {study.name} was already tested with seeds {listed(before.seeds)}; testing {listed(wanted)} too "
            "would let the test part choose the seeds. If you must (say so where you report it), evaluate again with "
            "--again"
        )
    return before


def _winners(study: Study, record: TrialRecord, metric: str) -> dict[str, TrialRecord]:
    """What is best by each further metric of the study, beside its best trial; none beside another one."""
    objective, *others = winning_metrics(study)
    if metric != objective or record.number != study.best().number:
        return {}
    return {other: study.best(other) for other in others}


def _tested(
    looks: Sequence[Look], record: TrialRecord, metric: str, seeds: Sequence[int], earlier: list[int]
) -> Results:
    """A trial's models on the test part, and by condition."""
    look, study, runs = looks[0], looks[0].study, []
    every: dict[int, Outputs] = {}
    for seed in seeds:
        kept = outcome(study, record.number, seed)
        predictors = [Predictor.from_checkpoint(study, record, metric, kept, own.rotation) for own in looks]
        every[seed] = together([own.tested(predictor) for own, predictor in zip(looks, predictors, strict=True)])
        runs.append({"seed": seed, "epoch": predictors[0].card["epoch"]})

    def of(chosen: np.ndarray, **more: Any) -> Results:
        return look.results({seed: own.of(chosen) for seed, own in every.items()}, **more)

    common = _common(study)
    origin = {
        "trial": record.number,
        "metric": metric,
        "by_hand": record.number != chosen(study, None, metric)[0].number,
        "params": record.params,
        "runs": runs,
        "tested_before": earlier,
    }
    conditions = {
        name: of(look.condition == name, origin={"condition": name, "common": common}) for name in look.conditions
    }
    return of(look.clean, origin={**origin, "common": common, "versions": versions()}, further=conditions)


# --- several folds ----------------------------------------------------------------------------------------------------


def _common(study: Study) -> dict[str, Any]:
    """What the folds of one protocol have in common."""
    meta, data = study.meta, study.meta["data"]
    space = {name: value for name, value in (meta.get("space") or {}).items() if name not in _OF_NO_CONCERN}
    return {
        "family": meta["family"],
        "prepared corpus": data.get("hash") or data["path"],
        "auxiliary corpus": data.get("aux_hash") or data.get("aux"),
        "target": data["target"],
        "protocol": Protocol.from_dict(data["protocol"]).in_common,
        "search space": space,
        "objective": meta["objective"]["metric"],
    }


def _facts(results: Results) -> dict[str, Any]:
    """The same, as far as results tell it, and the seeds."""
    return {
        "family": results.family,
        "target": results.target,
        "protocol": results.protocol,
        "metric": results.origin.get("metric"),
        "labels": ", ".join(results.classes or results.attributes),
        "seeds": listed(results.seeds),
    }


def _difference(name: str, one: Any, other: Any) -> str:
    """The first thing in which both differ, by its name within them; empty where they don't."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = dict.fromkeys([*one, *other])
        told = (_difference(f"{name}.{key}".lstrip("."), one.get(key), other.get(key)) for key in keys)
        return next(filter(None, told), "")
    return "" if one == other else f"{name} is {one} in one and {other} in the other"


def _check_folds(facts: Mapping[str, Mapping[str, Any]], folds: Mapping[str, Sequence[str]]) -> None:
    """Raise :class:`StudyError` unless studies, by name, have all `facts` in common, and no fold."""
    (first, expected), *others = facts.items()
    tested = dict.fromkeys(folds[first], first)
    for name, own in others:
        pair = f"studies {first} and {name} are not folds of one protocol"
        if told := _difference("", expected, own):
            raise StudyError(f"{pair}: {told}")
        for fold in folds[name]:
            if fold in tested:
                raise StudyError(
                    f"studies {tested[fold]} and {name} are both of one test part, {fold}; give one study a fold"
                )
            tested[fold] = name


__all__ = ["evaluate_folds", "evaluate_seeds", "fresh_seeds", "load_results", "merged", "write_results"]
