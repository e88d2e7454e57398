"""What a person sees of a search: a live table, or lines where there is no terminal, and a summary at the end."""

from __future__ import annotations

import shlex
import time
from typing import Any

from rich.console import Console
from rich.live import Live as RichLive
from rich.markup import escape
from rich.table import Table

from sersearch.study import STUDIES, Study, TrialRecord
from sersearch.tuning.run import DryRun, TuneRequest
from sersearch.tuning.space import SearchSpace

SHOWN = 12
"""Rows of the live table: running trials and the best and latest others."""


class Live:
    """Follows a search. Call it with the journal's events."""

    def __init__(self, study: Study | None = None) -> None:
        self._trials: dict[int, TrialRecord] = {t.number: t for t in study.trials()} if study else {}
        self._console = Console()
        self._live = RichLive(console=self._console, auto_refresh=False) if self._console.is_terminal else None
        self._began = time.monotonic()
        self._done_before = sum(t.state in ("complete", "pruned", "failed") for t in self._trials.values())
        self.total: int | None = study.meta["trials"] if study else None

    def __enter__(self) -> Live:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._live:
            self._live.stop()

    def __call__(self, event: str, trial: int, fields: dict[str, Any]) -> None:
        """Take in an event of the journal."""
        if event == "begin":
            self.total = fields["trials"]
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
            self._console.print(self._line(event, self._trials[trial]), soft_wrap=True, highlight=False, markup=False)

    def _line(self, event: str, trial: TrialRecord) -> str:
        searched = " ".join(f"{name} {_short(value)}" for name, value in trial.searched.items())
        head = f"trial {trial.number}  {searched}"
        if event == "end":
            return f"{head}  {trial.state}: {trial.reason}  best UA {_ua(trial.value)}; {self._left()}"
        last = trial.epochs[-1]
        return f"{head}  epoch {last['epoch']}  UA {_ua(last['value'])}  best so far {_ua(self._best())}"

    def _best(self) -> float | None:
        values = [t.value for t in self._trials.values() if t.value is not None and t.state != "failed"]
        return max(values, default=None)

    def _left(self) -> str:
        over = sum(t.state in ("complete", "pruned", "failed") for t in self._trials.values())
        done = over - self._done_before
        text = f"{over} of {self.total or '?'} trials done"
        if done and self.total:
            seconds = (time.monotonic() - self._began) / done * (self.total - over)
            text += f", about {_duration(seconds)} left"
        return text

    def _table(self) -> Table:
        best = self._best()
        searched = list(next(iter(self._trials.values())).searched)
        table = Table(title=f"best so far: UA {_ua(best)}", caption=self._left())
        for name in ("trial", *searched, "epoch", "UA", "best UA", "state"):
            table.add_column(name, justify="left" if name == "state" else "right")
        rows = sorted(self._trials.values(), key=lambda t: (t.state != "running", -(t.value or 0), -t.number))
        for t in sorted(rows[:SHOWN], key=lambda t: t.number):
            last: dict[str, Any] = t.epochs[-1] if t.epochs else {"epoch": "", "value": None}
            values = [escape(_short(v)) for v in t.searched.values()]
            style = "bold green" if t.value is not None and t.value == best else None
            table.add_row(
                str(t.number), *values, str(last["epoch"]), _ua(last["value"]), _ua(t.value), t.state, style=style
            )
        return table


def announce(space: SearchSpace) -> None:
    """Say what of the settings isn't the paper's."""
    if differences := space.differences():
        print("Unlike the family's defaults, the paper's values: " + "; ".join(differences))


def summary(study: Study) -> None:
    """The best configuration, all trials, warnings, and the commands to type next."""
    console = Console()
    trials = study.trials()
    table = Table(title=f"Study {study.name}: development UA (the test set was not touched)")
    searched = list(trials[0].searched) if trials else []
    for name in ("trial", *searched, "best epoch", "epochs", "UA", "WA", "state"):
        table.add_column(name, justify="left" if name == "state" else "right")
    for t in sorted(trials, key=lambda t: -(t.value or -1)):
        at_best: dict[str, Any] = next((e["metrics"] for e in t.epochs if e["epoch"] == t.best_epoch), {})
        cells = [escape(_short(t.searched[name])) for name in searched]
        row = [str(t.best_epoch or ""), str(len(t.epochs)), _ua(t.value), _ua(at_best.get("dev_wa"))]
        table.add_row(str(t.number), *cells, *row, t.state)
    console.print(table)
    for t in trials:
        if t.state == "failed":
            print(f"Trial {t.number} failed: {t.reason}")
    for warning in study.meta.get("warnings", []):
        print(f"Warning: {warning}")
    best = study.best()
    values = ", ".join(f"{name} = {_short(value)}" for name, value in best.searched.items())
    chance = 1 / len(_classes(study))
    print(f"Best: trial {best.number}, {values}: development UA {_ua(best.value)} (chance {chance:.3f})")
    if study.meta["data"]["synthetic"]:
        print("The demo corpus is synthetic: this shows that everything runs, not how well emotions are recognised.")
    parent = study.folder.parent
    place = "" if parent.resolve() == STUDIES.resolve() else f" --studies {shlex.quote(str(parent))}"
    print("Next:")
    uri = study.meta["tracking"]["uri"]
    print(f"  {uri} in a browser" if uri.startswith("http") else f"  mlflow ui --backend-store-uri {shlex.quote(uri)}")
    print(f"  sersearch report {study.name}{place}")
    print(f"  sersearch export {study.name} --out model/{place}")
    print(f"  sersearch evaluate {study.name}{place}        # touches the test set")


def _classes(study: Study) -> list[str]:
    import json

    classes: list[str] = json.loads((study.folder / "context.json").read_text("utf-8"))["labels"]["emotion"]
    return classes


def show_dry_run(request: TuneRequest, plan: DryRun) -> None:
    """Print what `request` would run."""
    space, split = request.space, plan.split
    print(f"space       {space.name}: {space.family}, {space.method}, pruning {space.pruning.kind}")
    for name, dimension in space.search.items():
        print(f"searched    {name}: {dimension}")
    print(f"data        {request.data}: {split['caption']}")
    for part, card in split["parts"].items():
        print(f"  {part:10} {card['utterances']} utterances, speakers {', '.join(card['speakers']) or 'none'}")
    for leak in split["leaks"]:
        allowed = "meant by the protocol" if leak["allowed"] else "NOT meant by the protocol"
        print(f"  leak       {leak['count']} {leak['kind']}s stand in {' and '.join(leak['between'])}: {allowed}")
    print(f"trials      {plan.trials}, up to {plan.epochs} epochs of {plan.steps} steps each")
    print(f"segments    {plan.train_segments} for training, {plan.dev_segments} for development")
    print(f"groups      {plan.groups} static ({'all trials' if plan.groups == 1 else 'trials of one'} share shapes)")
    print(f"time        {plan.epoch_seconds:.1f} s an epoch and core; at most {_duration(plan.longest_hours * 3600)}")
    print(f"disk        about {plan.disk_bytes / 2**20:.0f} MiB for checkpoints and artifacts")
    print("Nothing was run.")


def _ua(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
