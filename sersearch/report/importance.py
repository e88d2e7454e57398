"""How much of the objective's variance each searched hyperparameter explains, and how sure that is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.errors import StudyError
from sersearch.figures import BLUE, new_figure, plain
from sersearch.report.picture import Picture
from sersearch.report.summary import Axis, Summary
from sersearch.study import TrialRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LEAST_TRIALS = 8
"""Completed trials from which importance is estimated."""
RESAMPLES = 10
MOST_TRIALS = 128
"""Of a resample: fANOVA's time grows with the square of them."""


def importance(summary: Summary) -> dict[str, tuple[float, float]]:
    """Share of the explained variance of each hyperparameter, the most important first: mean and standard deviation.

    fANOVA (Hutter et al., ICML 2014), as Optuna has it, over bootstrap resamples of the completed trials. Raises
    :class:`StudyError` with the reason when there is too little to estimate it from.
    """
    trials = [t for t in summary.complete if all(axis.name in t.searched for axis in summary.axes)]
    if len(trials) < LEAST_TRIALS:
        raise StudyError(f"{len(trials)} completed trials; importance needs {LEAST_TRIALS} or more")
    axes = [axis for axis in summary.axes if len({str(t.searched[axis.name]) for t in trials}) > 1]
    if len(axes) < 2:
        raise StudyError("fewer than two hyperparameters differ between the completed trials")
    if len({summary.value(t) for t in trials}) == 1:
        raise StudyError("all completed trials have the same value")
    rng = np.random.default_rng(0)
    found: dict[str, list[float]] = {axis.name: [] for axis in axes}
    while len(found[axes[0].name]) < RESAMPLES:
        drawn = [trials[i] for i in rng.integers(0, len(trials), min(len(trials), MOST_TRIALS))]
        if len({summary.value(t) for t in drawn}) > 1:
            for name, share in _fanova(summary, drawn, axes).items():
                found[name].append(share)
    shares = {name: (float(np.mean(each)), float(np.std(each, ddof=1))) for name, each in found.items()}
    return dict(sorted(shares.items(), key=lambda item: -item[1][0]))


def told_apart(shares: dict[str, tuple[float, float]]) -> bool:
    """Whether the first is more important than the second beyond two standard deviations of their difference."""
    (first, a), (second, b) = list(shares.values())[:2]
    return bool(first - second > 2 * np.hypot(a, b))


def importance_picture(summary: Summary) -> Picture:
    """Bars with their deviation, and whether it can be told which matters most."""
    shares = importance(summary)
    first, second = list(shares)[:2]
    verdict = (
        f"{first} matters most."
        if told_apart(shares)
        else f"Which of {first} and {second} matters more can't be told from these trials."
    )
    caption = (
        f"Share of the variance of {summary.label} that each hyperparameter explains among the {len(summary.complete)} "
        f"completed trials (fANOVA; pruned ones do not count): mean and standard deviation over {RESAMPLES} bootstrap "
        f"resamples of the trials. {verdict} {summary.provenance}"
    )
    said = "; ".join(f"{name} {mean:.2f} ± {deviation:.2f}" for name, (mean, deviation) in shares.items())
    rows: list[list[Any]] = [["hyperparameter", "share", "std"]]
    rows += [[name, *pair] for name, pair in shares.items()]
    title = "Importance of the hyperparameters"
    return Picture("importance", title, caption, _chart(shares), f"Bars of importance: {said}", rows)


def _chart(shares: dict[str, tuple[float, float]]) -> Figure:
    figure = new_figure(5.6, 0.42 * len(shares) + 1.0)
    axes = figure.add_subplot()
    places, means = range(len(shares)), [mean for mean, _ in shares.values()]
    deviations = [deviation for _, deviation in shares.values()]
    axes.barh(places, means, xerr=deviations, color=BLUE, height=0.6, error_kw={"capsize": 3, "elinewidth": 1})
    for place, (mean, deviation) in zip(places, shares.values(), strict=True):
        axes.text(mean + deviation + 0.02, place, f"{mean:.2f}", va="center", fontsize=8)
    axes.set_yticks(places, [plain(name) for name in shares])
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xlabel("share of the explained variance")
    return figure


def _fanova(summary: Summary, trials: Sequence[TrialRecord], axes: list[Axis]) -> dict[str, float]:
    """One estimate; hyperparameters that are the same in all `trials` have none of it."""
    import optuna

    with _quiet():
        varied = [axis for axis in axes if len({str(t.searched[axis.name]) for t in trials}) > 1]
        distributions = {axis.name: _distribution(axis, trials) for axis in varied}
        study = optuna.create_study(direction="maximize")
        for trial in trials:
            params = {a.name: float(v) if a.numeric else str(v) for a in varied for v in [trial.searched[a.name]]}
            value = summary.value(trial)
            study.add_trial(optuna.trial.create_trial(params=params, distributions=distributions, value=value))
        evaluator = optuna.importance.FanovaImportanceEvaluator(n_trees=16, seed=0)
        shares = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {axis.name: float(shares.get(axis.name, 0.0)) for axis in axes}


def _distribution(axis: Axis, trials: Sequence[TrialRecord]) -> Any:
    import optuna

    seen = [t.searched[axis.name] for t in trials]
    if axis.numeric:
        return optuna.distributions.FloatDistribution(min(seen), max(seen), log=axis.log)
    return optuna.distributions.CategoricalDistribution(tuple(dict.fromkeys(map(str, seen))))


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep Optuna from telling of each trial."""
    import warnings

    import optuna

    verbosity = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(verbosity)
