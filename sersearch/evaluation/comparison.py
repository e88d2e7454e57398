"""Which of several studies is better, and marked as the papers mark it: a table of tests against baselines."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from sersearch.bootstrap import Interval
from sersearch.errors import ConfigError, DataError, StudyError, one_of
from sersearch.evaluation.results import Results, Spread, label, listed
from sersearch.evaluation.statistics import (
    Outcome,
    Tails,
    fisher_z,
    holm,
    paired_t,
    two_sample_t,
)

ALPHA = 0.05
"""The level of significance of all papers."""

MARKS = ("*", "†", "‡", "§", "¶")
"""Over the first baseline, the second, ...: those of DeepEmoCluster's Table 2. (The ladder paper has a dot over its STL
baseline and an asterisk over MTL, Table I; the multimodal ladder a star over all three, Table 1.)"""


@dataclass(frozen=True)
class Procedure:
    """A test as the papers run it."""

    title: str
    tails: Tails
    """In the paper."""
    effect: str
    """Its effect size."""
    run: Callable[[Results, Results, str, Tails], Outcome]


@dataclass(frozen=True)
class Row:
    """One study's figures."""

    study: str
    family: str
    spread: Spread
    """Over its runs."""
    seeds: tuple[int, ...]
    interval: Interval | None
    """Of the mean; None where there is none."""
    no_interval: str
    """Why there is none; empty where there is one."""
    marks: str
    """Over which baselines the study is significantly better."""


@dataclass(frozen=True)
class Pair:
    """One study against one baseline."""

    study: str
    baseline: str
    outcome: Outcome
    p_corrected: float | None
    """None without a correction."""

    @property
    def better(self) -> bool:
        """Whether the study is significantly better: higher, with p, corrected where that was asked, below 0.05."""
        p = self.outcome.p if self.p_corrected is None else self.p_corrected
        return p < ALPHA and self.outcome.difference > 0


@dataclass(frozen=True)
class Comparison:
    """Several studies by one metric, and the tests against their baselines."""

    metric: str
    test: str
    """A name in :data:`TESTS`."""
    tails: Tails
    correction: str | None
    protocol: str
    target: str
    folds: tuple[str, ...]
    subsets: bool
    """Whether the folds are random subsets of one test part."""
    synthetic: bool
    baselines: tuple[str, ...]
    rows: tuple[Row, ...]
    """In the order the studies were given."""
    pairs: tuple[Pair, ...]
    notes: tuple[str, ...]
    """What must be known to read the tests, as sentences."""

    @property
    def label(self) -> str:
        """The metric for people: ccc_valence is "CCC valence"."""
        return label(self.metric)

    @property
    def legend(self) -> str:
        """What the marks say."""
        marks = ", ".join(f"{mark} better than {name}" for mark, name in zip(MARKS, self.baselines, strict=False))
        return f"{marks} (p < {ALPHA}{' by Holm' if self.correction else ''})"

    @property
    def caption(self) -> str:
        """One sentence after another: metric, protocol, seeds and folds, test and correction, marks, notes."""
        count = len(self.pairs)
        how = "corrected" if self.correction else "not corrected"
        tests = f"; {count} tests, {how} for their number" if count > 1 else ""
        parts = [
            f"{self.label} on the test set: {self.protocol}; target {self.target}"
            + ("; synthetic corpus" if self.synthetic else ""),
            self._runs(),
            *self._intervals(),
            f"{TESTS[self.test].title}, {'one' if self.tails == 1 else 'two'}-tailed{tests}",
            self.legend,
            *self.notes,
        ]
        return ". ".join(parts) + "."

    def _runs(self) -> str:
        what = "subset" if self.subsets else "test part"
        folds = f"{len(self.folds)} {what}{'s' if len(self.folds) > 1 else ''}"
        seeds = dict.fromkeys(row.seeds for row in self.rows)
        if all(row.spread.n == 1 for row in self.rows):
            return f"One run each, seed {' and '.join(listed(own) for own in seeds)}"
        each = [f"{len(own)} ({listed(own)})" for own in seeds]
        return f"Mean and sample standard deviation over seeds x {folds}; seeds: {', '.join(each)}"

    def _intervals(self) -> Iterator[str]:
        """What the intervals are of."""
        found = [row.interval for row in self.rows if row.interval is not None]
        kinds = dict.fromkeys(
            f"{ci.units} {'test part' if ci.by == 'fold' else ci.by}s" + (f" ({ci.note})" if ci.note else "")
            for ci in found
        )
        if found:
            yield f"95% CI: bootstrap over {', '.join(kinds)}"
        for reason in dict.fromkeys(row.no_interval for row in self.rows if row.no_interval):
            yield f"No 95% CI: {reason}"


def compare(
    results: Sequence[Results],
    metric: str,
    test: str = "paired_t",
    correction: Literal["holm"] | None = None,
    baseline: str | Sequence[str] | None = None,
    tails: Tails | None = None,
) -> Comparison:
    """Test each study against each baseline (names of studies; None: the first one given) by `metric`.

    A baseline is tested against those named before it, as MTL against STL in Table III of the ladder paper.

    `test`:

    - `fisher_z`: the ladder paper's on CCCs (sections V-A, V-C), of the mean over seeds, on one test part;
    - `paired_t`: on pairs by test part (ladder paper, section V-B; multimodal ladder, section 5); on one test part by
      seed, so both studies need the same seeds;
    - `student_t`, `welch_t`: on two samples (DeepEmoCluster, section 5.1, on :meth:`Results.in_subsets`).

    What t-tests count are :func:`~sersearch.evaluation.statistics.observations`. `tails` are by default the papers'.
    `correction` "holm" is for the number of tests made here; the papers make none.

    Raises :class:`ConfigError` for an unknown test, metric, correction or baseline, :class:`StudyError` for studies
    that weren't tested on the same utterances with the same labels under one protocol, and for runs that don't match,
    and :class:`DataError` for figures that have no test (see :mod:`~sersearch.evaluation.statistics`).
    """
    if test not in TESTS:
        raise ConfigError(f"test {test!r} is unknown; {one_of(test, TESTS)}")
    if correction not in (None, "holm"):
        raise ConfigError(f"correction {correction!r} is unknown; {one_of(correction, ['holm'])}, or leave it out")
    by_name = _by_name(results)
    baselines = _baselines(list(by_name), baseline)
    first, *others = results
    for other in others:
        _check_alike(first, other, metric)
    sides = TESTS[test].tails if tails is None else tails
    pairs = _tested(by_name, baselines, lambda a, b: TESTS[test].run(a, b, metric, sides), correction)
    rows = [
        Row(r.study, r.family, r.spread(metric), r.seeds, *_interval(r, metric), _marks(r.study, pairs, baselines))
        for r in results
    ]
    return Comparison(
        metric=metric,
        test=test,
        tails=sides,
        correction=correction,
        protocol=first.caption,
        target=" and ".join(dict.fromkeys(r.target for r in results)),
        folds=first.folds,
        subsets=first.subsets > 0,
        synthetic=any(r.synthetic for r in results),
        baselines=baselines,
        rows=tuple(rows),
        pairs=tuple(pairs),
        notes=(*_notes(test, results, metric), *dict.fromkeys(_sentence(pair) for pair in pairs if pair.outcome.note)),
    )


def _tested(
    results: Mapping[str, Results],
    baselines: Sequence[str],
    run: Callable[[Results, Results], Outcome],
    correction: str | None,
) -> list[Pair]:
    """Each study against each baseline that isn't itself, nor one named after it."""
    names = [
        (study, against)
        for study in results
        for number, against in enumerate(baselines)
        if study not in baselines[: number + 1]
    ]
    outcomes = [run(results[study], results[against]) for study, against in names]
    corrected = holm([outcome.p for outcome in outcomes]) if correction else [None] * len(outcomes)
    return [Pair(*pair, outcome, p) for pair, outcome, p in zip(names, outcomes, corrected, strict=True)]


# --- what can be compared ---------------------------------------------------------------------------------------------


def _by_name(results: Sequence[Results]) -> Mapping[str, Results]:
    by_name = {r.study: r for r in results}
    if len(results) < 2 or len(by_name) < len(results):
        names = ", ".join(r.study for r in results) or "none"
        raise ConfigError(f"a comparison needs two studies of different names or more, these are: {names}")
    return by_name


def _baselines(studies: Sequence[str], baseline: str | Sequence[str] | None) -> tuple[str, ...]:
    chosen = tuple(dict.fromkeys([baseline] if isinstance(baseline, str) else baseline or studies[:1]))
    for name in chosen:
        if name not in studies:
            raise ConfigError(f"baseline {name!r} is not among the studies; {one_of(name, studies)}")
    if len(chosen) > len(MARKS):
        raise ConfigError(f"{len(chosen)} baselines are more than there are marks for; name at most {len(MARKS)}")
    return chosen


def _check_alike(a: Results, b: Results, metric: str) -> None:
    """Raise :class:`StudyError` unless both were judged on the same utterances by the same labels."""
    pair = f"studies {a.study} and {b.study} cannot be compared"
    if a.protocol != b.protocol:
        raise StudyError(f"{pair}: their protocols are {a.protocol!r} and {b.protocol!r}; evaluate both under one")
    for each in (a, b):
        each.runs(metric)  # refuses an unknown metric
    if _judges(a, metric) != _judges(b, metric):
        raise StudyError(
            f"{pair} by {metric}: it is of {', '.join(_judges(a, metric))} in one and of "
            f"{', '.join(_judges(b, metric))} in the other; choose studies of one target, or the CCC of an attribute "
            "that both learn"
        )
    if set(a.folds) != set(b.folds):
        raise StudyError(
            f"{pair}: one was tested on {len(a.folds)} test parts, the other on {len(b.folds)}; the difference is "
            f"{', '.join(sorted({*a.folds} ^ {*b.folds}))}; evaluate both on the same"
        )
    for fold in a.folds:
        (ours, expected), (theirs, labels) = _labels(a, fold, metric), _labels(b, fold, metric)
        if ours != theirs:
            odd = sorted({*ours} ^ {*theirs})
            raise StudyError(
                f"{pair}: their test utterances of {fold} differ: {len(odd)} are in one alone, such as {odd[0]}; "
                "evaluate both on the same prepared corpus"
            )
        if not np.allclose(expected, labels):
            raise StudyError(
                f"{pair}: labels of their test utterances of {fold} differ; prepare and evaluate both anew"
            )


def _judges(results: Results, metric: str) -> tuple[str, ...]:
    """What the metric is of: an attribute, several, or classes."""
    name = metric.removeprefix("ccc_")
    return (name,) if name in results.attributes else results.attributes or (results.target, *results.classes)


def _labels(results: Results, fold: str, metric: str) -> tuple[list[str], np.ndarray]:
    """The test utterances by name, and what the metric judges each of them by."""
    part = results.parts[fold]
    order = sorted(range(len(part.ids)), key=part.ids.__getitem__)
    labels = part.labels[order]
    if results.attributes:
        labels = labels[:, [results.attributes.index(name) for name in _judges(results, metric)]]
    return [part.ids[row] for row in order], labels


# --- tests of two studies ---------------------------------------------------------------------------------------------


def _correlations(a: Results, b: Results, metric: str, tails: Tails) -> Outcome:
    if len(a.folds) > 1 or _judges(a, metric) not in [(name,) for name in a.attributes]:
        of = f"{metric} on {len(a.folds)} test part{'s' if len(a.folds) > 1 else ''}"
        raise ConfigError(
            f"fisher_z compares the CCC of one attribute on one test part, not {of}; use another --test, or --metric "
            "ccc_<attribute>"
        )
    n = len(a.parts[a.folds[0]].ids)
    return fisher_z(a.spread(metric).mean, b.spread(metric).mean, n, n, tails)


def _pairs(a: Results, b: Results, metric: str, tails: Tails) -> Outcome:
    ours, theirs = a.observations(metric), b.observations(metric)
    if odd := sorted(ours.keys() ^ theirs.keys()):
        seed, fold = odd[0]
        raise StudyError(
            f"paired_t pairs runs by seed and fold, but {len(odd)} runs are of {a.study} or {b.study} alone, such as "
            f"seed {seed} on {fold}; evaluate both with the same seeds, or use student_t"
        )
    return paired_t([*ours.values()], [theirs[run] for run in ours], tails)


def _samples(a: Results, b: Results, metric: str, tails: Tails, *, equal_variances: bool) -> Outcome:
    ours, theirs = [*a.observations(metric).values()], [*b.observations(metric).values()]
    return two_sample_t(ours, theirs, tails, equal_variances=equal_variances)


TESTS = {
    "fisher_z": Procedure("Fisher Z-transformation test", 1, "q", _correlations),
    "paired_t": Procedure("Matched-pair t-test", 1, "d_z", _pairs),
    "student_t": Procedure("Student's t-test", 2, "d", partial(_samples, equal_variances=True)),
    "welch_t": Procedure("Welch's t-test", 2, "d", partial(_samples, equal_variances=False)),
}
"""By name."""


# --- what is said of them ---------------------------------------------------------------------------------------------


def _marks(study: str, pairs: Sequence[Pair], baselines: Sequence[str]) -> str:
    beaten = {pair.baseline for pair in pairs if pair.study == study and pair.better}
    return "".join(mark for mark, name in zip(MARKS, baselines, strict=False) if name in beaten)


def _interval(results: Results, metric: str) -> tuple[Interval | None, str]:
    """The interval, or why there is none: a table without it is still one."""
    try:
        return results.interval(metric), ""
    except DataError as error:
        return None, str(error)


def _notes(test: str, results: Sequence[Results], metric: str) -> list[str]:
    """What the test takes for granted, and these runs don't give."""
    if test == "fisher_z":
        return ["The test takes the CCCs for correlations of independent samples; they are of the same utterances"]
    first, notes = results[0], []
    several = any(spread.n > 1 for r in results for spread in r.by_fold(metric).values())
    if several and first.subsets:
        notes.append("Runs of several seeds on one subset aren't independent, as the test takes them to be")
    elif several and len(first.folds) == 1:
        notes.append("All runs are on the same test utterances: p is of other seeds, not of other speakers")
    elif several:
        notes.append("The test counts each test part once, by its mean over seeds")
    if not first.speakers_apart and not first.subsets:
        notes.append("Test parts share speakers: p isn't of other speakers")
    return notes


def _sentence(pair: Pair) -> str:
    return f"{pair.study} against {pair.baseline}: {pair.outcome.note}"
