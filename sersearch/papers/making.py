"""A table or figure, from its studies to its files; what is there already isn't run again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sersearch.papers.collecting import Collected, Sample
from sersearch.papers.declaration import Figure, Number, Table
from sersearch.papers.planning import Given, Job, Sheet, same_request, size
from sersearch.papers.significance import legend, marks
from sersearch.study import Study
from sersearch.tuning.plan import DryRun, dry_run
from sersearch.tuning.run import How, session, tune

Say = Callable[[str], None]

START_S = 12.0
"""Of each study: Ray's start and end, and MLflow's."""


@dataclass(frozen=True)
class Made:
    """A piece for one corpus, as text and as what to draw."""

    heading: str
    groups: tuple[str, ...]
    """Of the columns behind the first; empty where they have none."""
    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    caption: str
    bars: tuple[Bars, ...] = ()
    figure: Callable[..., None] | None = None
    """Draws it."""


@dataclass(frozen=True)
class Bars:
    """A row of a table, to be drawn."""

    label: str
    values: tuple[float | None, ...]
    deviations: tuple[float | None, ...]
    marks: tuple[str, ...]


def run(sheets: Sequence[Sheet], how: How, say: Say) -> None:
    """Run what isn't finished, study after study. Raises what `tune` does; the next call goes on where this ended."""
    jobs = list({job.request.name: job for sheet in sheets for job in sheet.jobs}.values())
    left = [job for job in jobs if not _finished(job)]
    say(f"{len(jobs)} studies, {len(jobs) - len(left)} of them finished before")
    if not left:
        return

    def told(event: str, trial: int, fields: dict[str, Any]) -> None:
        if event == "wait":
            say(f"    waiting: {fields['why']}")
        if event == "end" and fields["state"] != "complete":
            say(f"    trial {trial}: {fields['state']}, {fields['reason']}")

    with session(how):
        for number, job in enumerate(left, start=1):
            trials = f"trials: {size(job.request.space)}, epochs: up to {job.request.space.epochs}"
            say(f"[{number}/{len(left)}] {job.request.name}, {trials}")
            tune(job.request, how, told)


def _finished(job: Job) -> bool:
    """Whether a study is there, is over and is of what is asked for; any other one `tune` goes on with, or refuses."""
    assert job.request.name is not None
    if not (job.request.root / job.request.name / "study.json").is_file():
        return False
    study = Study.open(job.request.name, job.request.root)
    return study.meta["state"] == "finished" and study.driver is None and same_request(study.meta, job.request)


def make(sheet: Sheet, given: Given, workers: int | None = None) -> Made:
    """The piece for one corpus, from finished studies, evaluating what hasn't been."""
    collected, piece = Collected(sheet.jobs, workers), sheet.piece
    if isinstance(piece, Figure):
        content = piece.content(collected)
        return Made(_heading(sheet), (), content.head, content.lines, _caption(sheet, given, []), figure=content.draw)
    assert isinstance(piece, Table)
    samples = {(row, column): collected.sample(cell, piece.over) for row, column, cell in piece.cells()}
    found, problems = marks(piece, samples)
    bars = tuple(_bars(piece, row, samples, found) for row in range(len(piece.rows)))
    lines, beside = _lines(piece, sheet.corpus, bars)
    groups = tuple(group for group, _ in piece.columns for _ in range(1 + beside))
    head = tuple(name for _, label in piece.columns for name in ((label, "paper") if beside else (label,)))
    return Made(
        _heading(sheet),
        groups if any(groups) else (),
        (piece.measure, *head),
        lines,
        _caption(sheet, given, [legend(piece), *problems]),
        bars,
    )


# --- lines ------------------------------------------------------------------------------------------------------------


def _bars(piece: Table, row: int, samples: dict[tuple[int, int], Sample], found: dict[tuple[int, int], str]) -> Bars:
    scale = 100 if piece.percent else 1
    here = [samples.get((row, column)) for column in range(len(piece.columns))]
    deviations = [None if s is None or s.spread.deviation is None else scale * s.spread.deviation for s in here]
    return Bars(
        piece.rows[row].label,
        tuple(None if sample is None else scale * sample.spread.mean for sample in here),
        tuple(deviations),
        tuple(found.get((row, column), "") for column in range(len(piece.columns))),
    )


def _lines(piece: Table, corpus: str, bars: Sequence[Bars]) -> tuple[tuple[tuple[str, ...], ...], bool]:
    """Our rows and others' results, in the paper's order, and whether the paper's numbers stand beside ours."""
    paper = piece.paper(corpus if corpus in piece.numbers else next(iter(piece.numbers), ""))
    ours = {row.label: row for row in bars}
    order = [label for label in paper if label in ours or label not in {row.label for row in piece.rows}]
    order = _merged(order, list(ours))

    def line(label: str) -> Iterator[str]:
        yield label
        for column in range(len(piece.columns)):
            yield _text(ours.get(label), column, piece.percent)
            if paper:
                yield _paper(paper.get(label, ()), column)

    return tuple(tuple(line(label)) for label in order), bool(paper)


def _merged(order: list[str], ours: list[str]) -> list[str]:
    """The paper's order, and what only we have behind it."""
    return order + [label for label in ours if label not in order]


def _text(row: Bars | None, column: int, percent: bool) -> str:
    if row is None or row.values[column] is None:
        return "-"
    digits, deviation = (1 if percent else 3), row.deviations[column]
    spread = "" if deviation is None else f" ± {deviation:.{digits}f}"
    return f"{row.values[column]:.{digits}f}{spread}{' ' if row.marks[column] else ''}{row.marks[column]}"


def _paper(numbers: Sequence[Number | None], column: int) -> str:
    """As the paper prints it."""
    number = numbers[column] if column < len(numbers) else None
    if number is None:
        return "-"
    spread = "" if number.deviation is None else f" ± {number.deviation:.{number.digits}f}"
    return f"{number.mean:.{number.digits}f}{spread}{' ' if number.marks else ''}{number.marks}"


# --- captions ---------------------------------------------------------------------------------------------------------


def _heading(sheet: Sheet) -> str:
    where = sheet.corpus if sheet.trained == sheet.corpus else f"trained on {sheet.trained}, tested on {sheet.corpus}"
    return f"{where}{' (synthetic)' if sheet.synthetic else ''}"


def _caption(sheet: Sheet, given: Given, tests: Sequence[str]) -> str:
    """What a reader must know, a sentence after the other."""
    piece, jobs = sheet.piece, sheet.jobs
    sentences = [f"{piece.title}. {piece.source}.", f"Protocol: {piece.protocol}."]
    rules = dict.fromkeys(str(job.request.protocol.whole) for job in jobs)
    if all(job.part.protocol.name != "speaker" for job in jobs):
        sentences.append(f"Here: {'; '.join(rules)}.")
    sentences.append(_seeds(jobs))
    if sheet.corpus not in piece.corpora or sheet.trained not in (piece.trained or piece.corpora):
        sentences.append(_other_corpus(sheet))
    if sheet.synthetic:
        sentences.append("It is synthetic: figures on it say nothing about speech.")
    if isinstance(piece, Table) and piece.numbers:
        whose = sheet.corpus if sheet.corpus in piece.numbers else next(iter(piece.numbers))
        where = "Black lines, in tables columns `paper`," if piece.drawn else "Columns `paper`"
        sentences.append(f"{where} are the paper's own numbers, on {whose}.")
    sentences += [*sheet.notes, *piece.notes, *tests]
    if given.scale != 1:
        budget = max(job.request.space.epochs for job in jobs)
        sentences.append(
            f"Scaled by {given.scale:g}: at most {budget} epochs, fewer values of what is searched, seeds and folds, "
            "and the small networks and rates of the spaces' demo settings. Figures of a scaled run say nothing about "
            "the paper."
        )
    return " ".join(sentences)


def _other_corpus(sheet: Sheet) -> str:
    """That the corpora aren't the paper's."""
    names, trained = ", ".join(sheet.piece.corpora), ", ".join(sheet.piece.trained)
    if not trained:
        return f"Ours is another corpus, {_heading(sheet)}; the paper's: {names}."
    return f"Ours are other corpora, {_heading(sheet)}; the paper's: trained on {trained}, tested on {names}."


def _seeds(jobs: Sequence[Job]) -> str:
    repeats = max((job.seeds for job in jobs), default=0)
    own = sorted({job.run[0] for job in jobs})
    listed = str(own[0]) if len(own) == 1 else f"{own[0]} to {own[-1]}"
    return f"Seeds: {listed}" + (f", and {repeats} further trainings of what was chosen." if repeats else ".")


# --- cost -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cost:
    """What a piece would take here."""

    studies: int
    finished: int
    trials: int
    epochs: int
    """Of all trainings, if none stops early."""
    hours: float
    disk_bytes: int
    by_family: tuple[tuple[str, float], ...]
    """Seconds of an epoch on one core, of one model of each family and feature set."""


def cost(sheets: Sequence[Sheet], cores: int, measure: Callable[..., DryRun] = dry_run) -> Cost:
    """An estimate by the first steps of one model of each family and feature set. Writes nothing."""
    jobs = list({job.request.name: job for sheet in sheets for job in sheet.jobs}.values())
    seconds: dict[str, DryRun] = {}
    trials = epochs = disk = 0
    hours = 0.0
    for job in jobs:
        space, finished = job.request.space, _finished(job)
        kind = f"{space.family}, {space.features}"
        if kind not in seconds:
            seconds[kind] = measure(job.request)
        count = 0 if finished else size(space)
        trained = count + job.seeds
        found = seconds[kind]
        trials, epochs = trials + count, epochs + trained * space.epochs
        rounds = -(-count // cores) + -(-job.seeds // cores)
        hours += (found.epoch_seconds * space.epochs * rounds + (0 if finished else START_S)) / 3600
        disk += count * found.disk_bytes // max(found.trials, 1)
    return Cost(
        len(jobs),
        sum(map(_finished, jobs)),
        trials,
        epochs,
        hours,
        disk,
        tuple((kind, found.epoch_seconds) for kind, found in seconds.items()),
    )


__all__ = ["Bars", "Cost", "Made", "cost", "make", "run"]
