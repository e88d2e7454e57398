"""Which of our figures are significantly better than a baseline's, by the paper's own test."""

from __future__ import annotations

from collections.abc import Mapping

from sersearch.errors import DataError
from sersearch.evaluation.comparison import ALPHA, TESTS
from sersearch.evaluation.statistics import Outcome, fisher_z, observations, paired_t, two_sample_t
from sersearch.papers.collecting import Sample
from sersearch.papers.declaration import Table, Test

Place = tuple[int, int]
"""Row and column."""


def marks(table: Table, samples: Mapping[Place, Sample]) -> tuple[dict[Place, str], list[str]]:
    """The marks of each cell, and sentences on tests that couldn't be made."""
    test = table.test
    found: dict[Place, str] = {}
    problems: dict[str, None] = {}
    if test is None or not _applies(table, test):
        return found, []
    labels = [row.label for row in table.rows] if test.within == "column" else [name for _, name in table.columns]
    for (row, column), sample in samples.items():
        own = row if test.within == "column" else column
        if labels[own] in test.untested:
            continue
        beaten = []
        rivals = _rivals(test, labels, own)
        for name in rivals:
            number = labels.index(name)
            other = samples.get((number, column) if test.within == "column" else (row, number))
            if other is None:
                continue
            try:
                outcome = _tested(table, test, sample, other)
            except DataError as error:
                problems[f"Of some cells there is no test: {error}"] = None
                continue
            if outcome.p < ALPHA and outcome.difference > 0:
                beaten.append(name)
        found[row, column] = "".join(test.marks[name] for name in beaten)
        if test.all and rivals and len(beaten) == len(rivals):
            found[row, column] = test.all
    return found, list(problems)


def legend(table: Table) -> str:
    """What the marks say, and the test."""
    test = table.test
    if test is None:
        return "The paper has no test of significance for what is shown."
    procedure = TESTS[test.name]
    if not _applies(table, test):
        return f"The paper's test, {procedure.title}, is of correlations: there is none of classes."
    if test.all:
        said = f"{test.all} better than all of {', '.join(test.marks)}"
    else:
        said = ", ".join(f"{mark} better than {name}" for name, mark in test.marks.items())
    tails = "one" if procedure.tails == 1 else "two"
    return f"{said}: {procedure.title}, {tails}-tailed, p < {ALPHA}, not corrected for the number of tests."


def _applies(table: Table, test: Test) -> bool:
    """Whether there can be such a test: Fisher's is of correlations, not of classes that are told apart."""
    return test.name != "fisher_z" or all(cell.attribute is not None for _, _, cell in table.cells())


def _rivals(test: Test, labels: list[str], own: int) -> list[str]:
    """The baselines that are tested against: of a baseline itself those named before it."""
    names = [name for name in test.marks if name in labels]
    return names[: names.index(labels[own])] if labels[own] in names else names


def _tested(table: Table, test: Test, sample: Sample, other: Sample) -> Outcome:
    """Raises :class:`DataError` where there is no test of these figures."""
    tails = TESTS[test.name].tails
    if test.name == "fisher_z":
        means = sample.spread.mean, other.spread.mean
        return fisher_z(*means, sample.utterances, other.utterances, tails)
    ours, theirs = (observations(own.values, subsets=table.over == "subsets") for own in (sample, other))
    if test.name == "student_t":
        return two_sample_t([*ours.values()], [*theirs.values()], tails)
    if ours.keys() != theirs.keys():
        raise DataError("a paired test needs both models on the same test parts; run the others, too")
    return paired_t([*ours.values()], [theirs[run] for run in ours], tails)


__all__ = ["legend", "marks"]
