"""What the page holds of one study."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from sersearch.errors import StudyError
from sersearch.report import cost, curves, groups, predicted, tables
from sersearch.report.evaluated import Evaluated
from sersearch.report.failures import failures
from sersearch.report.importance import importance_picture
from sersearch.report.maps import map_pictures
from sersearch.report.parallel import parallel_picture
from sersearch.report.pareto import pareto_picture
from sersearch.report.picture import Picture, Shown, picture, save, write_rows
from sersearch.report.summary import Summary, counts, pretty

MOST_ROWS = 60
"""Trials beyond which the table of all is folded, with the best ones before it."""
FIRST_ROWS = 20


@dataclass(frozen=True)
class Place:
    """Where a study's part of a report lies."""

    page: Path
    """The folder of index.html."""
    key: str
    """In the page's anchors; unique."""
    folder: str
    """Of its files, below `page`; empty for `page` itself."""

    @property
    def files(self) -> Path:
        """The folder of its files."""
        return self.page / self.folder

    @property
    def link(self) -> str:
        """What links to its files begin with."""
        return f"{quote(self.folder)}/" if self.folder else ""


def section(summary: Summary, place: Place) -> dict[str, Any]:
    """Write a study's files and give what the page's template wants of it."""
    problem = ""
    try:
        _ = summary.best
    except StudyError as reason:
        problem = str(reason)
    evaluated = Evaluated(summary)
    place.files.mkdir(parents=True, exist_ok=True)
    meta = summary.study.meta
    return {
        "key": place.key,
        "link": place.link,
        "name": summary.study.name,
        "synthetic": bool((meta.get("data") or {}).get("synthetic")),
        "notes": [*(summary.split.get("notes") or []), *(meta.get("warnings") or [])],
        "facts": _facts(summary),
        "versions": meta.get("versions") or {},
        "counts": counts(summary.trials),
        "label": summary.label,
        "problem": problem,
        "split": summary.split,
        "no_split": summary.no_split,
        "test": evaluated.result and _test(evaluated, place),
        "no_test": evaluated.missing,
        "seeds": evaluated.seeds,
        "tested": evaluated.used,
        "figures": {} if problem else {part: _saved(made, place) for part, made in _pictures(summary, evaluated)},
        "cost": _cost(summary, place),
        "failures": failures(summary, place.page),
        "logs": (summary.study.folder / "logs").is_dir(),
        **({} if problem else _best(summary)),
        **_trials(summary, place),
    }


def _best(summary: Summary) -> dict[str, Any]:
    best, own = summary.best, summary.paper_trial
    winners_head, winners = tables.winners(summary)
    return {
        "best": best,
        "best_value": tables.figure(summary.score(best)),
        "best_config": [(name, tables.text(value), name in best.searched) for name, value in best.params.items()],
        "best_metrics": [
            (pretty(name), tables.text(value))
            for name, value in tables.best_metrics(summary, best).items()
            if name.startswith("dev_")
        ],
        "paper": None
        if own is None
        else {
            "trial": own.number,
            "value": tables.figure(summary.score(own)),
            "point": ", ".join(f"{name} = {tables.text(value)}" for name, value in own.searched.items()),
        },
        "winners_head": winners_head,
        "winners": winners,
    }


def _trials(summary: Summary, place: Place) -> dict[str, Any]:
    """The table of trials on the page, and as files."""
    ranked = tables.ranked(summary)
    head, lines = tables.columns(summary), [tables.row(summary, trial) for trial in ranked]
    tables.write_csv(summary, place.files / "trials.csv")
    tables.write_markdown(head, lines, place.files / "trials.md")
    best = summary.scored and summary.best.number
    rows = [
        (line, "best" if summary.scored and trial.number == best else trial.state)
        for line, trial in zip(lines, ranked, strict=True)
    ]
    return {"columns": head, "rows": rows, "first": rows[:FIRST_ROWS] if len(rows) > MOST_ROWS else []}


def _pictures(summary: Summary, evaluated: Evaluated) -> Iterator[tuple[str, list[Picture]]]:
    """The figures by part of the page; each says why, where it can't be drawn."""
    test = evaluated.result

    def made(name: str, title: str, draw: Callable[[], Picture | None]) -> list[Picture]:
        found = picture(name, title, draw)
        return [] if found is None else [found]

    def all_made(name: str, title: str, draw: Callable[[], Iterator[Picture]]) -> list[Picture]:
        found: list[Picture] = []
        failed = picture(name, title, lambda: found.extend(draw()))
        return found if failed is None else [*found, failed]

    def winner_maps(winner: Summary) -> list[Picture]:
        return all_made(f"heatmap_{winner.metric}", "Heat maps", lambda: map_pictures(winner, f"_{winner.metric}"))

    best = f"best trial ({summary.best.number})"
    yield (
        "Search",
        [
            *all_made("heatmap", "Heat maps", lambda: map_pictures(summary)),
            *(drawn for winner in summary.winners for drawn in winner_maps(winner)),
            *made("parallel", "Trials over all hyperparameters", lambda: parallel_picture(summary)),
            *made("importance", "Importance of the hyperparameters", lambda: importance_picture(summary)),
            *made("pareto", "Pareto fronts", lambda: pareto_picture(summary)),
        ],
    )
    yield (
        "Training",
        [
            *made("learning_curves", "Learning curves", lambda: curves.learning_picture(summary)),
            *made("losses", "Losses by epoch", lambda: curves.loss_picture(summary)),
            *made("best_trial", f"Training of the {best}", lambda: curves.best_picture(summary)),
            *made("conditions", f"Conditions, {best}", lambda: curves.condition_picture(summary)),
        ],
    )
    attributes = bool(summary.attributes)
    what = ("scatter", "Predicted and true values") if attributes else ("confusion", "Confusion matrix")
    yield (
        "Predictions",
        [
            *made(what[0], f"{what[1]} of the {best}", lambda: predicted.predictions_picture(summary)),
            *made("speakers", "By speaker", lambda: groups.speaker_picture(summary, test)),
            *made("by_condition", "By condition", lambda: groups.by_condition_picture(summary, test)),
            *all_made("family", f"The family's pictures, {best}", lambda: predicted.family_pictures(summary)),
        ],
    )


def _saved(made: list[Picture], place: Place) -> list[Shown]:
    return [save(own, place.files, place.link) for own in made]


def _cost(summary: Summary, place: Place) -> dict[str, Any]:
    """The table of time, and its figure."""
    drawn = picture("cost", "Time and utilisation", lambda: cost.cost_picture(summary))
    assert drawn is not None
    facts = cost.facts(summary) if drawn.figure is not None else []
    return {"facts": facts, "figure": save(drawn, place.files, place.link)}


def _test(evaluated: Evaluated, place: Place) -> dict[str, Any]:
    drawn = picture("test", "Predictions for the test set", evaluated.picture)
    assert drawn is not None
    grids = evaluated.grids()
    for number, (head, rows) in enumerate(grids):
        write_rows(place.files / f"test_{number + 1}.csv", [head, *rows])
    return evaluated.result | {
        "headline": evaluated.headline,
        "grids": grids,
        "figure": save(drawn, place.files, place.link),
    }


def _facts(summary: Summary) -> list[tuple[str, str]]:
    """What was run, on what, with what."""
    meta = summary.study.meta
    data, space = meta.get("data") or {}, meta.get("space") or {}
    pruning = meta.get("pruning", space.get("pruning"))
    facts = {
        "state": meta.get("state"),
        "created": meta.get("created"),
        "space": space.get("name"),
        "family": meta.get("family"),
        "corpus": data.get("corpus"),
        "auxiliary corpus": data.get("aux"),
        "features": data.get("features"),
        "target": data.get("target"),
        "protocol": summary.split.get("caption"),
        "objective": f"{summary.label}, the best epoch's",
        "method": meta.get("method", space.get("method")),
        "pruning": ", ".join(v if k == "kind" else f"{k} {v}" for k, v in pruning.items())
        if isinstance(pruning, dict)
        else pruning,
        "trials": counts(summary.trials),
        "epochs, at most": meta.get("epochs", space.get("epochs")),
        "seed": meta.get("seed"),
        "sersearch": meta.get("sersearch"),
        "git commit": meta.get("git_commit"),
    }
    return [(name, tables.text(value)) for name, value in facts.items() if value not in (None, "")]
