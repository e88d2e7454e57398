"""What a person sees of a search: a live table, or lines where there is no terminal, and a summary at the end."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table

from sersearch.data.conditions import CLEAN, DEVIATION, by_noise
from sersearch.errors import printable
from sersearch.study import SECONDS, Study, TrialRecord
from sersearch.tracking import page

if TYPE_CHECKING:  # `status` begins without torch
    from sersearch.tuning.plan import DryRun, TuneRequest
    from sersearch.tuning.space import SearchSpace

SHOWN = 12
"""Rows of the live table: running trials and the best and latest others."""
MOST_ROWS = 70
"""Of the summary: the ladder paper's grid has 66."""
SHORT = 10
"""Characters of a column's heading that need no break: as many as "activation" has."""


class Live:
    """Follows a search. Call it with the journal's events."""

    def __init__(self, study: Study | None = None, verbose: bool = False) -> None:
        """`study`: the one that goes on. `verbose`: print the log, too."""
        self._verbose = verbose
        self._trials: dict[int, TrialRecord] = {t.number: t for t in study.trials()} if study else {}
        self._console = Console()
        self._live = RichLive(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._began = time.monotonic()
        self._done_before = sum(t.state in ("complete", "pruned", "failed") for t in self._trials.values())
        self.total: int | None = study.meta["trials"] if study else None
        self._metric = label(study.meta["objective"]["metric"]) if study else ""
        self._page: Callable[[], str | None] = lambda: None

    def __enter__(self) -> Live:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: str, trial: int, fields: dict[str, Any]) -> None:
        """Take in an event of the journal; at the end of the search, sum it up."""
        if event == "finished":
            self.__exit__()
            return summary(fields["study"])
        if event == "wait":
            return self._console.print(
                printable(f"Waiting: {fields['why']}"), soft_wrap=True, highlight=False, markup=False
            )
        if event == "begin":
            self.total, self._metric, self._page = fields["trials"], label(fields["metric"]), fields["page"]
            for note in fields["notes"]:
                self._console.print(printable(f"Note: {note}"), highlight=False, markup=False)
            return
        if shown := self._page():
            self._page = lambda: None
            self._console.print(f"MLflow: {shown}", soft_wrap=True, highlight=False, markup=False)
        if event == "log":
            if self._verbose:
                self._console.print(printable(log_line(trial, fields)), soft_wrap=True, highlight=False, markup=False)
            return
        if event == "start":
            known = self._trials.get(trial)
            self._trials[trial] = TrialRecord(trial, fields["params"], fields["searched"])
            self._trials[trial].epochs = known.epochs if known else []
        elif event == "epoch":
            self._trials[trial].epochs.append(fields)
        else:
            self._trials[trial].state, self._trials[trial].reason = fields["state"], fields["reason"]
        if self._live:
            self._live.update(self._table(), refresh=True)
        elif event != "start":
            line = printable(self._line(event, self._trials[trial]))
            self._console.print(line, soft_wrap=True, highlight=False, markup=False)

    def _line(self, event: str, trial: TrialRecord) -> str:
        searched = " ".join(f"{name} {short(value)}" for name, value in trial.searched.items())
        head = f"trial {trial.number}  {searched}"
        if event == "end":
            return f"{head}  {trial.state}: {trial.reason}  best {self._metric} {figure(trial.value)}; {self._left()}"
        last = trial.epochs[-1]
        now = f"epoch {last['epoch']}  {self._metric} {figure(last['value'])}"
        return f"{head}  {now}  best so far {figure(self._best())}"

    def _best(self) -> float | None:
        values = [t.value for t in self._trials.values() if t.value is not None and t.state != "failed"]
        return max(values, default=None)

    def _left(self) -> str:
        over = sum(t.state in ("complete", "pruned", "failed") for t in self._trials.values())
        done = over - self._done_before
        text = f"{over} of {self.total or '?'} trials done"
        if done and self.total:
            seconds = (time.monotonic() - self._began) / done * (self.total - over)
            text += f", about {duration(seconds)} left"
        return text

    def _table(self) -> Table:
        best = self._best()
        searched = list(next(iter(self._trials.values())).searched)
        table = Table(title=f"best so far: {self._metric} {figure(best)}", caption=self._left())
        _add_columns(table, ["trial", *searched, "epoch", self._metric, f"best {self._metric}", "state"])
        rows = sorted(self._trials.values(), key=lambda t: (t.state != "running", -(t.value or 0), -t.number))
        for t in sorted(rows[:SHOWN], key=lambda t: t.number):
            last: dict[str, Any] = t.epochs[-1] if t.epochs else {"epoch": "", "value": None}
            values = [escape(short(v)) for v in t.searched.values()]
            style = "bold green" if t.value is not None and t.value == best else None
            figures = (figure(last["value"]), figure(t.value))
            table.add_row(str(t.number), *values, str(last["epoch"]), *figures, t.state, style=style)
        return table


def log_line(trial: int, record: dict[str, Any]) -> str:
    """A log record for people; `trial` is -1 for the driver's."""
    at = time.strftime("%H:%M:%S", time.localtime(record["time"]))
    return f"{at} {record['level'].lower()} {f'trial {trial}' if trial >= 0 else 'search'}: {record['message']}"


def announce(space: SearchSpace) -> None:
    """Say what of the settings isn't the paper's."""
    if differences := space.differences():
        print("Unlike the family's defaults, the paper's values where it states them: " + "; ".join(differences))


def summary(study: Study) -> None:
    """The best configuration, all trials, warnings, and the commands to type next."""
    classes, attributes = _labels(study)
    metrics = _metrics(study.meta["objective"]["metric"], attributes)
    trials = study.trials()
    print(f"Study {study.name}: development {label(metrics[0])} (the test set was not touched)")
    Console().print(_all_trials(trials, metrics))
    for t in trials:
        if t.state == "failed":
            print(printable(f"Trial {t.number} failed: {t.reason}"))
    for warning in study.meta.get("warnings", []):
        print(printable(f"Warning: {warning}"))
    best = study.best()
    chance = f" (chance {1 / len(classes):.3f})" if classes and metrics[0] == "dev_ua" else ""
    spread = _at_best(best).get(metrics[0] + DEVIATION)
    value = figure(best.value) + ("" if spread is None else f" ± {spread:.3f}")
    print(f"Best: trial {best.number}, {_values(best)}: development {label(metrics[0])} {value}{chance}")
    if len(study.objectives) > 1:
        _print_front(study)
    several = attributes if len(attributes) > 1 else []
    for line in [*_in_noise(best, metrics, attributes), *(_winner(study, name) for name in several)]:
        print(printable(f"  {line}"))
    if study.meta["data"]["synthetic"]:
        what = "attributes are predicted" if attributes else "emotions are recognised"
        print(f"The demo corpus is synthetic: this shows that everything runs, not how well {what}.")
    if study.meta.get("state", "finished") != "finished":
        over = f"{sum(not t.unfinished for t in trials)} of {study.meta['trials']} trials are over"
        print(printable(f"{over}: `{study.again()}` runs the others"))
    elif any(t.state == "failed" for t in trials):
        print(printable(f"`{study.again('--retry-failed')}` runs failed trials again"))
    print("Next:")
    tracking = study.meta["tracking"]
    uri = tracking["uri"]
    shown = page(uri, tracking.get("experiment_id"), tracking.get("run_id")) or uri
    print(
        f"  {shown} in a browser" if uri.startswith("http") else f"  mlflow ui --backend-store-uri {shlex.quote(uri)}"
    )
    print(f"  sersearch report {study.argument}")
    print(f"  sersearch export {study.argument} --out model/")
    for name in several:
        print(f"  sersearch export {study.argument} --metric dev_ccc_{name} --out model/")
    print(f"  sersearch evaluate {study.argument}        # touches the test set")


def _all_trials(trials: list[TrialRecord], metrics: list[str]) -> Table:
    """All trials, the best first, with the metrics of their best epochs."""
    table = Table(box=box.SIMPLE_HEAD, padding=0, show_edge=False)  # two parameters, three attributes: 80 columns
    searched = list(trials[0].searched) if trials else []
    named = [label(metric).replace(" ", "\n") for metric in metrics]
    _add_columns(table, ["trial", *searched, "best\nepoch", "epochs", *named, "state"])
    ranked = sorted(trials, key=lambda t: -math.inf if t.value is None else t.value, reverse=True)
    if len(ranked) > MOST_ROWS:
        table.caption = f"the best {MOST_ROWS} of {len(ranked)} trials"
    for t in ranked[:MOST_ROWS]:
        at_best = _at_best(t)
        cells = [escape(short(t.searched[name])) for name in searched]
        figures = [figure(t.value), *(figure(at_best.get(name)) for name in metrics[1:])]
        table.add_row(str(t.number), *cells, str(t.best_epoch or ""), str(len(t.epochs)), *figures, t.state)
    return table


def _add_columns(table: Table, names: list[str]) -> None:
    """Columns whose headings are broken, at an underscore where they are long, and never cut."""
    for name in names:
        heading = name if len(name) <= SHORT else name.replace("_", "_\n")
        last = name == "state"
        table.add_column(heading, justify="left" if last else "right", overflow="fold", no_wrap=last)


def _print_front(study: Study) -> None:
    """The trials that no other one is better than by all of several objectives."""
    names = [objective["metric"] for objective in study.objectives]
    print(f"Not dominated, by {', '.join(map(label, names))}:")
    for trial in study.pareto():
        values = ", ".join(figure(value) for value in trial.values(names) or ())
        print(printable(f"  trial {trial.number}, {_values(trial)}: {values}"))


def _winner(study: Study, attribute: str) -> str:
    """The best point for one of several attributes: one search has a winner for each (TASLP 2020, section IV-D)."""
    best = study.best(f"dev_ccc_{attribute}")
    value, epoch = best.best_of(f"dev_ccc_{attribute}") or (None, None)
    return f"{attribute}: trial {best.number}, {_values(best)}, epoch {epoch}: CCC {figure(value)}"


def _in_noise(best: TrialRecord, metrics: list[str], attributes: list[str]) -> Iterator[str]:
    """The best trial's figures in each condition of the development part, a line each."""
    names = {*metrics, *(f"dev_ccc_{name}" for name in attributes)}
    by_condition: dict[str, list[str]] = {}
    for name, value in _at_best(best).items():
        of = max((n for n in names if name.startswith(f"{n}_")), key=len, default=None)
        if of in metrics and name not in names and not name.endswith(DEVIATION):
            by_condition.setdefault(name.removeprefix(f"{of}_"), []).append(f"{label(of)} {figure(value)}")
    what = "a part of what was selected by" if CLEAN in by_condition else "which was not selected by"
    for condition in by_noise(by_condition):
        yield f"in {condition}, {what}: {', '.join(by_condition[condition])}"


def label(metric: str) -> str:
    """A development metric in a reader's words: dev_ccc_valence is CCC valence."""
    if metric == SECONDS:
        return "training time (s)"
    name, _, of = metric.removeprefix("dev_").partition("_")
    return f"{name.upper()} {of.replace('_', ' ')}".rstrip()


def _labels(study: Study) -> tuple[list[str], list[str]]:
    """Classes and attributes of the study's target: one of them is empty."""
    labels = json.loads((study.folder / "context.json").read_text("utf-8"))["labels"]
    return labels["emotion"], labels.get("attributes", [])


def _metrics(objective: str, attributes: list[str]) -> list[str]:
    """The development metrics that are worth a column, the objective first."""
    several = [f"dev_ccc_{name}" for name in attributes] if len(attributes) > 1 else []
    metrics = ["dev_ccc", *several] if attributes else ["dev_ua", "dev_wa"]
    return list(dict.fromkeys([objective, *metrics]))


def _at_best(trial: TrialRecord) -> dict[str, Any]:
    """All metrics of the trial's best epoch."""
    return next((e["metrics"] for e in trial.epochs if e["epoch"] == trial.best_epoch), {})


def _values(trial: TrialRecord) -> str:
    return ", ".join(f"{name} = {short(value)}" for name, value in trial.searched.items())


def show_dry_run(request: TuneRequest, plan: DryRun) -> None:
    """Print what `request` would run."""
    space, split = request.space, plan.split
    print(f"space       {space.name}: {space.family}, {space.method}, pruning {space.pruning.kind}")
    for name, dimension in space.search.items():
        print(f"searched    {name}: {dimension}")
    print(printable(f"data        {request.data}: {split['caption']}"))
    for part, card in split["parts"].items():
        held = ", ".join(f"{name} {count}" for name, count in card["conditions"].items())
        count = f"{card['utterances']} utterances" + (f" ({held})" if held else "")
        print(printable(f"  {part:10} {count}, speakers {', '.join(card['speakers']) or 'none'}"))
    for leak in split["leaks"]:
        where = " and ".join(leak["between"])
        print(f"  leak       {leak['count']} {leak['kind']}s stand in {where}: meant by the protocol")
    for note in split["notes"]:
        print(printable(f"note        {note}"))
    if space.constraint is not None:
        print(f"constraint  {space.constraint}")
    print(f"trials      {plan.trials}, up to {plan.epochs} epochs of {plan.steps} steps each")
    labelled, unlabelled = (split["parts"][part]["utterances"] for part in ("train", "unlabelled"))
    print(f"segments    {plan.train_segments} for training, {plan.dev_segments} for development")
    print(f"labels      {labelled} labelled and {unlabelled} unlabelled utterances for training")
    print(f"lanes       {request.lanes} on each GPU or core")
    if plan.members > 1:
        print(f"members     {plan.members} of each trial: the seeds, in each development fold; times are for all")
    print(f"groups      {plan.groups} static ({'all trials' if plan.groups == 1 else 'trials of one'} share shapes)")
    print(f"time        {plan.epoch_seconds:.1f} s an epoch and core; at most {duration(plan.longest_hours * 3600)}")
    print(f"disk        about {plan.disk_bytes / 2**20:.0f} MiB for checkpoints and artifacts")
    print("Nothing was run.")


def figure(value: float | None) -> str:
    """A metric's value in a table."""
    return "-" if value is None else f"{value:.3f}"


def short(value: Any) -> str:
    """A hyperparameter's value in a table."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def duration(seconds: float) -> str:
    """Seconds in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
