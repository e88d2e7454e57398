"""The report of a study: figures, tables, and one page that holds them all."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sersearch.confusion import draw_confusion, read_confusion
from sersearch.data.atomic import atomic
from sersearch.errors import DataError, StudyError
from sersearch.report import curves, maps, tables
from sersearch.report.summary import Summary, counts, pretty
from sersearch.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PREDICTIONS = "dev_predictions.csv"
_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}
_MOST_MAPS = 10


@dataclass(frozen=True)
class Picture:
    """A figure of the report, or, without one, why it is missing."""

    name: str
    title: str
    caption: str
    figure: Figure | None


def write_report(study_folder: Path, out: Path | None = None) -> Path:
    """Write the report of the study in `study_folder` into `out` (default: its `report/`); return its index.html.

    Raises :class:`StudyError` when the folder is no study, when no trial has finished an epoch, or when `out` cannot be
    written.
    """
    summary = Summary(Study.open(study_folder))
    out = summary.study.folder / "report" if out is None else out
    _ = summary.best  # nothing is written for a study without a result
    try:
        out.mkdir(parents=True, exist_ok=True)
        tables.write_csv(summary, out / "trials.csv")
        tables.write_markdown(summary, out / "trials.md")
        pictures = _save(summary, out)
        index = out / "index.html"
        with atomic(index) as temporary:
            temporary.write_text(_page(summary, pictures), "utf-8")
    except OSError as error:
        raise StudyError(f"{out}: the report cannot be written ({error.strerror or error})") from error
    return index


def _save(summary: Summary, out: Path) -> list[dict[str, Any]]:
    """Write the pictures; return what the page shows of each."""
    import matplotlib

    shown = []
    with matplotlib.rc_context(_STYLE):  # type: ignore[arg-type]
        for picture in _pictures(summary):
            path = out / f"{picture.name}.png"
            data, width = "", 0
            if picture.figure is None:
                path.unlink(missing_ok=True)  # an earlier report's
            else:
                with atomic(path) as temporary:
                    # Without the version of matplotlib in it, the same study gives the same bytes.
                    picture.figure.savefig(temporary, format="png", metadata={"Software": None})
                data, width = base64.b64encode(path.read_bytes()).decode(), round(96 * picture.figure.get_figwidth())
            words = {"title": _capital(picture.title), "caption": _capital(picture.caption)}
            shown.append({"name": picture.name, **words, "data": data, "width": width})
    return shown


def _pictures(summary: Summary) -> Iterator[Picture]:
    yield from _maps(summary)
    yield Picture(
        "learning_curves",
        "Learning curves",
        f"{summary.label} by epoch. Mean and standard deviation are over the trials still running at each epoch, whose "
        f"number is below: pruning leaves the better ones, so the mean rises for that reason, too. "
        f"n = {counts([t for t in summary.trials if t.epochs])}.",
        curves.learning_curves(summary),
    )
    if curves.loss_names(summary):
        yield Picture(
            "losses",
            "Losses by epoch",
            "Each loss on training and development data: mean and standard deviation over the trials still running at "
            f"each epoch. n = {counts([t for t in summary.trials if t.epochs])}.",
            curves.loss_curves(summary),
        )
    yield _importance(summary)
    yield _confusion(summary)


def _maps(summary: Summary) -> Iterator[Picture]:
    """Heat maps of the searched pairs, or a curve where there is one hyperparameter."""
    n = f"n = {counts(summary.trials)}."
    others = "; with other hyperparameters searched, too, the best over them" if len(summary.axes) > 2 else ""
    marks = "The best trial is framed in red; x marks trials that failed."
    for x, y in list(summary.pairs)[:_MOST_MAPS]:
        tried = [t for t in summary.scored if x.name in t.searched and y.name in t.searched]
        if not tried:
            continue
        name = f"heatmap_{_slug(x.name)}_{_slug(y.name)}"
        if x.values is None or y.values is None:
            how = f"Each point is a trial; triangles were pruned or did not finish. {marks}"
        else:
            how = (
                f"Each coloured cell was tried and shows its best value{others}; blank cells were not tried, and "
                f"nothing is interpolated. Hatched cells come from trials that were pruned or did not finish. {marks}"
            )
        title = f"{summary.label} over {x.name} and {y.name}"
        yield Picture(name, title, f"{how} {n}", maps.heat_map(summary, x, y))
    if len(summary.axes) == 1 and any(summary.axes[0].name in t.searched for t in summary.scored):
        (axis,) = summary.axes
        caption = f"Each point is a trial; triangles were pruned or did not finish. {n}"
        figure = maps.parameter_curve(summary, axis)
        yield Picture(f"curve_{_slug(axis.name)}", f"{summary.label} over {axis.name}", caption, figure)


def _importance(summary: Summary) -> Picture:
    title = "Importance of the hyperparameters"
    try:
        shares = maps.importance(summary)
    except StudyError as reason:
        return Picture("importance", title, f"Not shown: {reason}.", None)
    caption = (
        f"How much of the variance of {summary.label} each explains among the {len(summary.complete)} completed trials "
        "(fANOVA; pruned trials do not count). An estimate from so few trials is rough."
    )
    return Picture("importance", title, caption, maps.importance_chart(shares))


def _confusion(summary: Summary) -> Picture:
    best = summary.best
    title = f"Confusion matrix of the best trial ({best.number})"
    if best.checkpoint is None:
        return Picture("confusion", title, "Not shown: the trial's checkpoint is not in the study's folder.", None)
    try:
        classes, matrix = read_confusion(best.checkpoint / _PREDICTIONS)
    except DataError as error:
        return Picture("confusion", title, f"Not shown: {error}.", None)
    caption = f"Development set, epoch {best.best_epoch}. n = {matrix.sum()} utterances."
    return Picture("confusion", title, caption, draw_confusion(classes, matrix))


# --- the page ---------------------------------------------------------------------------------------------------------


def _page(summary: Summary, pictures: list[dict[str, Any]]) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    study, best = summary.study, summary.best
    split = _json(study.folder / "split.json")
    return environment.get_template("index.html.j2").render(
        name=study.name,
        synthetic=bool((study.meta.get("data") or {}).get("synthetic")),
        facts=_facts(summary, split),
        versions=study.meta.get("versions") or {},
        label=summary.label,
        best=best,
        best_value=f"{best.value:.4f}",
        best_config=[(name, tables.text(v), name in best.searched) for name, v in best.params.items()],
        best_metrics=[
            (pretty(name), tables.text(value))
            for name, value in tables.best_metrics(best).items()
            if name.startswith("dev_")
        ],
        split=split,
        columns=tables.columns(summary),
        rows=[(tables.row(summary, t), t.state, t.number == best.number) for t in tables.ranked(summary)],
        failed=summary.failed,
        pictures=pictures,
        counts=counts(summary.trials),
        test=_test(study),
        text=tables.text,
    )


def _facts(summary: Summary, split: dict[str, Any]) -> list[tuple[str, str]]:
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
        "protocol": split.get("caption"),
        "objective": f"{summary.label}, the best epoch's",
        "method": meta.get("method", space.get("method")),
        "pruning": ", ".join(v if k == "kind" else f"{k} {v}" for k, v in pruning.items())
        if isinstance(pruning, dict)
        else pruning,
        "trials": counts(summary.trials),
        "epochs, at most": meta.get("epochs", space.get("epochs")),
        "training time": tables.duration(sum(trial.seconds for trial in summary.trials)),
        "seed": meta.get("seed"),
        "sersearch": meta.get("sersearch"),
        "git commit": meta.get("git_commit"),
    }
    return [(name, tables.text(value)) for name, value in facts.items() if value not in (None, "")]


def _test(study: Study) -> dict[str, Any] | None:
    """The test result with its confusion matrix as a picture; None when the test set has not been used."""
    result = _json(study.folder / "evaluation" / "test.json", "confusion", "classes", "ua", "wa")
    if not result:
        return None
    from io import BytesIO

    picture = BytesIO()
    matrix = np.array(result["confusion"], dtype=np.int64)
    draw_confusion(tuple(result["classes"]), matrix).savefig(picture, format="png", metadata={"Software": None})
    return result | {"picture": base64.b64encode(picture.getvalue()).decode()}


def _json(path: Path, *needed: str) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        content: dict[str, Any] = json.loads(path.read_text("utf-8"))
        if not isinstance(content, dict) or not content.keys() >= set(needed):
            raise ValueError(f"expected an object with {', '.join(needed)}" if needed else "expected an object")
    except ValueError as error:
        raise StudyError(f"{path}: cannot be read ({error})") from error
    return content


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)
