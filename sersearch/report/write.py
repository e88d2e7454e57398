"""The report of a study: figures, tables, and one page that holds them all."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sersearch.data.atomic import atomic
from sersearch.errors import DataError, StudyError
from sersearch.predictions import PREDICTIONS, read_predictions
from sersearch.report import curves, maps, tables
from sersearch.report.summary import Summary, counts, pretty, read_json
from sersearch.study import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_STYLE = {"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "font.family": "DejaVu Sans"}
_MOST_MAPS = 10
_METRICS = ("ua", "wa", "precision", "f1", "ccc")


@dataclass(frozen=True)
class Picture:
    """A figure of the report, drawn or as a file, or, without one, why it is missing."""

    name: str
    title: str
    caption: str
    figure: Figure | Path | None


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
        trials = [tables.row(summary, trial) for trial in tables.ranked(summary)]
        tables.write_markdown(tables.columns(summary), trials, out / "trials.md")
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
                    if isinstance(picture.figure, Path):
                        temporary.write_bytes(picture.figure.read_bytes())
                    else:
                        # Without the version of matplotlib in it, the same study gives the same bytes.
                        picture.figure.savefig(temporary, format="png", metadata={"Software": None})
                data, width = base64.b64encode(path.read_bytes()).decode(), _width(path)
            words = {"title": _capital(picture.title), "caption": _capital(picture.caption)}
            shown.append({"name": picture.name, **words, "data": data, "width": width})
    return shown


def _pictures(summary: Summary) -> Iterator[Picture]:
    yield from _maps(summary)
    for winner in summary.winners:
        yield from _maps(winner, f"_{winner.metric}")
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
            "Each loss on training and development data, and what else was watched in training: mean and standard "
            "deviation over the trials still running at each epoch, and of what else was watched the best trial. "
            f"n = {counts([t for t in summary.trials if t.epochs])}.",
            curves.loss_curves(summary),
        )
    if summary.conditions:
        how = (
            "over all conditions together, by which the trial and its epoch were chosen, and in each of them."
            if summary.mixed
            else "on clean speech, by which the trial and its epoch were chosen, and on noisy copies of the same "
            "utterances, by which nothing was."
        )
        title = f"Development set by condition, best trial ({summary.best.number})"
        yield Picture("conditions", title, f"{summary.label} by epoch: {how}", curves.condition_curves(summary))
    yield _importance(summary)
    yield _predictions(summary)
    yield from _artifacts(summary)


def _maps(summary: Summary, suffix: str = "") -> Iterator[Picture]:
    """Heat maps of the searched pairs, or a curve where there is one hyperparameter; names end in `suffix`."""
    n = f"n = {counts(summary.trials)}."
    others = "; with other hyperparameters searched, too, the best over them" if len(summary.axes) > 2 else ""
    marks = "The best trial is framed in red; x marks trials that failed."
    for x, y in list(summary.pairs)[:_MOST_MAPS]:
        tried = [t for t in summary.scored if x.name in t.searched and y.name in t.searched]
        if not tried:
            continue
        name = f"heatmap_{_slug(x.name)}_{_slug(y.name)}{suffix}"
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
        yield Picture(f"curve_{_slug(axis.name)}{suffix}", f"{summary.label} over {axis.name}", caption, figure)


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


def _predictions(summary: Summary) -> Picture:
    """What the best trial predicts for the development set: a confusion matrix, or predicted against true values."""
    best, attributes = summary.best, bool(summary.attributes)
    name = "scatter" if attributes else "confusion"
    what = "Predicted and true values" if attributes else "Confusion matrix"
    title = f"{what} of the best trial ({best.number})"
    if best.checkpoint is None:
        return Picture(name, title, "Not shown: the trial's checkpoint is not in the study's folder.", None)
    try:
        shown = read_predictions(best.checkpoint / PREDICTIONS)
    except DataError as error:
        return Picture(name, title, f"Not shown: {error}.", None)
    caption = f"Development set, epoch {best.best_epoch}. n = {shown.utterances} utterances."
    return Picture(name, title, caption, shown.draw())


def _artifacts(summary: Summary) -> Iterator[Picture]:
    """What the family itself has drawn of the best trial, such as its clusters."""
    best = summary.best
    for path in sorted(best.checkpoint.glob("*.png")) if best.checkpoint is not None else []:
        title = f"{path.stem.replace('_', ' ')}, best trial ({best.number})"
        yield Picture(path.stem, title, f"Training set; the trial's best epoch is {best.best_epoch}.", path)


def _width(path: Path) -> int:
    """Pixels that a picture of 150 dots an inch takes on a page of 96: its width is in bytes 16 to 20 of a PNG."""
    return round(int.from_bytes(path.read_bytes()[16:20], "big") * 96 / 150)


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
    winners_head, winners = tables.winners(summary)
    return environment.get_template("index.html.j2").render(
        name=study.name,
        synthetic=bool((study.meta.get("data") or {}).get("synthetic")),
        facts=_facts(summary),
        versions=study.meta.get("versions") or {},
        label=summary.label,
        best=best,
        best_value=f"{best.value:.4f}",
        best_config=[(name, tables.text(v), name in best.searched) for name, v in best.params.items()],
        best_metrics=[
            (pretty(name), tables.text(value))
            for name, value in tables.best_metrics(summary, best).items()
            if name.startswith("dev_")
        ],
        split=summary.split,
        winners_head=winners_head,
        winners=winners,
        columns=tables.columns(summary),
        rows=[(tables.row(summary, t), t.state, t.number == best.number) for t in tables.ranked(summary)],
        failed=summary.failed,
        pictures=pictures,
        counts=counts(summary.trials),
        test=_test(study),
        text=tables.text,
    )


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
        "training time": tables.duration(sum(trial.seconds for trial in summary.trials)),
        "seed": meta.get("seed"),
        "sersearch": meta.get("sersearch"),
        "git commit": meta.get("git_commit"),
    }
    return [(name, tables.text(value)) for name, value in facts.items() if value not in (None, "")]


def _test(study: Study) -> dict[str, Any] | None:
    """The test result with its picture and its tables; None when the test set has not been used."""
    needed = ("trial", "utterances", "speakers", "condition", "conditions", "winners", "svr")
    result = read_json(study.folder / "evaluation" / "test.json", *needed)
    if not result:
        return None
    names = [name for name in result if name.startswith(_METRICS)]
    labels = {name: pretty(f"dev_{name}").removeprefix("development ") for name in names}
    winners = {pretty(metric): figures for metric, figures in result["winners"].items()}
    groups: dict[str, dict[str, dict[str, Any]]] = {
        "condition": result["conditions"],
        "best by": winners,
        **{f"best by {label}, in condition": figures.get("conditions", {}) for label, figures in winners.items()},
        "two-step baseline on": result["svr"] or {},
        "test speaker": result["speakers"],
    }
    columns = {"trial": "trial", "epoch": "epoch", "utterances": "utterances", **labels}
    return result | {
        "headline": ", ".join(f"{label} {tables.figure(result[name])}" for name, label in labels.items()),
        "grids": [_grid(title, rows, columns) for title, rows in groups.items() if rows],
        "picture": _test_picture(study, result),
    }


def _grid(
    title: str, rows: dict[str, dict[str, Any]], columns: dict[str, str]
) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Heading and rows of a table of figures: those of `columns` that the first row has."""
    names = [name for name in columns if name in next(iter(rows.values()))]
    cells = {
        row: [tables.figure(f[name]) if name.startswith(_METRICS) else str(f[name]) for name in names]
        for row, f in rows.items()
    }
    return [title, *(columns[name] for name in names)], list(cells.items())


def _test_picture(study: Study, result: dict[str, Any]) -> str:
    """What the trial predicts for the test set, in base64; empty where its table of predictions is lost."""
    try:
        shown = read_predictions(study.folder / "evaluation" / "predictions.csv", result["condition"])
    except DataError:
        return ""
    picture = BytesIO()
    shown.draw().savefig(picture, format="png", metadata={"Software": None})
    return base64.b64encode(picture.getvalue()).decode()


def _capital(sentence: str) -> str:
    return sentence[:1].upper() + sentence[1:]


def _slug(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9.-]+", "_", name)
