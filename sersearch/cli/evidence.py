"""Commands that show what was found: report, evaluate, compare and paper."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sersearch.cli.application import Gpu, Metric, Root, app, interruptible, number_of_lanes
from sersearch.errors import printable

if TYPE_CHECKING:
    from sersearch.study import Study


@app.command()
def report(
    study: Annotated[list[str], typer.Argument(help="Names or folders of studies.")],
    out: Annotated[
        Path | None, typer.Option(help="Folder to write; of one study, `report` in its own by default.")
    ] = None,
    studies: Root = Path("studies"),
) -> None:
    """Write figures, tables and one static page of a study, or of several side by side."""
    from sersearch.report import write_report
    from sersearch.study import Study

    print(write_report([Study.open(name, studies).folder for name in study], out))


@app.command()
def evaluate(
    study: Annotated[
        list[str], typer.Argument(help="A study's name or folder; with --seeds, one a fold of a protocol.")
    ],
    seeds: Annotated[
        str | None,
        typer.Option(metavar="N", help="Train the choice with so many fresh seeds, or with those of a list: 3,5,8."),
    ] = None,
    trial: Annotated[int | None, typer.Option(help="A trial; the best one by default.")] = None,
    metric: Metric = None,
    again: Annotated[bool, typer.Option("--again", help="Touch the test set a second time, knowing it.")] = False,
    svr: Annotated[
        bool, typer.Option("--svr", help="Two-step baseline: support vector regression on the trial's features.")
    ] = False,
    impostors: Annotated[str | None, typer.Option(help="Prepared corpus of impostors for the EER.")] = None,
    workers: Annotated[
        int | None, typer.Option(help="--seeds: processes; one a core, or a GPU, by default.", min=1)
    ] = None,
    out: Annotated[Path | None, typer.Option(help="--seeds: folder for the results of several studies.")] = None,
    studies: Root = Path("studies"),
) -> None:
    """Score the chosen trial on the test part, once; with --seeds, its configuration trained anew with fresh seeds."""
    from sersearch.errors import ConfigError
    from sersearch.study import Study

    opened = [Study.open(name, studies) for name in study]
    if seeds is not None:
        if svr or impostors is not None:
            raise ConfigError("--svr and --impostors are of the search's own model; leave them out, or --seeds")
        how = {"seeds": _seeds(seeds), "trial": trial, "metric": metric, "again": again, "workers": workers}
        return _evaluate_seeds(opened, how, out)
    if len(opened) > 1 or out is not None or workers is not None:
        raise ConfigError("several studies, --out and --workers go with --seeds N; leave them out, or add it")
    from sersearch.evaluation import evaluate as run

    print(json.dumps(run(opened[0], trial, metric=metric, again=again, impostors=impostors, svr=svr), indent=2))


def _seeds(text: str) -> int | list[int]:
    """What `--seeds` says: a number, or a list."""
    from sersearch.errors import ConfigError

    if not re.fullmatch(r"\d+(,\d*)*", text):
        raise ConfigError(f"--seeds {text}: expected how many, such as 10, or a list, such as 3,5,8")
    return [int(number) for number in text.split(",") if number] if "," in text else int(text)


def _evaluate_seeds(studies: list[Study], how: dict[str, Any], out: Path | None) -> None:
    """Train, test and print; several studies together."""
    from rich.console import Console

    from sersearch.errors import ConfigError
    from sersearch.evaluation.repeated import evaluate_folds, evaluate_seeds, write_results
    from sersearch.evaluation.tables import to_rich

    def say(seed: int, text: str) -> None:
        print(printable(f"seed {seed}: {text}" if seed >= 0 else text), file=sys.stderr, flush=True)

    several = len(studies) > 1
    if several and how["trial"] is not None:
        raise ConfigError("--trial: each study has trials of its own; leave it out, or evaluate one study at a time")
    if out is not None and not several:
        raise ConfigError(f"--out {out}: of one study, results lie in its own folder; leave it out")
    with interruptible():
        if several:
            results = evaluate_folds(studies, "+".join(study.name for study in studies), **how, on_event=say)
        else:
            results = evaluate_seeds(studies[0], **how, on_event=say)
    Console().print(to_rich(results))
    if out is not None:
        write_results(results, out)
    for folder in [study.folder / "evaluation" for study in studies] if out is None else [out]:
        print(f"{folder / 'results.json'}, {folder / 'results.csv'}")


@app.command()
def compare(
    study: Annotated[list[str], typer.Argument(help="Studies, or NAME=STUDY,STUDY,... for the folds of one protocol.")],
    metric: Annotated[str | None, typer.Option(help="ua, ccc_valence, ...; the first one's by default.")] = None,
    test: Annotated[
        Literal["paired_t", "student_t", "welch_t", "fisher_z"], typer.Option(help="The test of significance.")
    ] = "paired_t",
    subsets: Annotated[
        int | None,
        typer.Option(help="Test in so many random subsets of the test part, as the DeepEmoCluster paper in 4.", min=2),
    ] = None,
    tails: Annotated[int | None, typer.Option(help="1 or 2; the paper's by default.", min=1, max=2)] = None,
    correction: Annotated[Literal["holm"] | None, typer.Option(help="For the number of tests.")] = None,
    baseline: Annotated[
        list[str] | None, typer.Option(help="A study, or a NAME, to be better than; again for several.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In one condition (snr5), or of what is best by a metric (dev_ccc_valence)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for the table as CSV, Markdown and LaTeX, and the chart.")
    ] = None,
    studies: Root = Path("studies"),
) -> None:
    """Test which study is better, of what `evaluate --seeds` found, and mark it as the papers do."""
    from rich.console import Console

    from sersearch.evaluation.comparison import compare as run
    from sersearch.evaluation.rendering import to_rich, write_comparison
    from sersearch.evaluation.repeated import load_results

    whole = {text: load_results(text, studies, only) for text in study}
    named = whole if subsets is None else {text: own.in_subsets(subsets) for text, own in whole.items()}
    first = next(iter(named.values()))
    made = run(
        list(named.values()),
        metric or first.metrics[0],
        test,
        correction,
        [named[name].study if name in named else name for name in baseline or []] or None,
        tails,  # type: ignore[arg-type]  # 1 or 2
    )
    Console().print(to_rich(made))
    if out is not None:
        print(", ".join(map(str, write_comparison(made, out))))


@app.command()
def paper(
    name: Annotated[
        str | None, typer.Argument(help="PAPER/NAME, such as ladder/table1; all are listed without.")
    ] = None,
    data: Annotated[
        list[str] | None, typer.Option(help="A prepared corpus, or several one by one; the demo corpus by default.")
    ] = None,
    aux: Annotated[list[str] | None, typer.Option(help="A prepared corpus for pre-training (speaker, gender).")] = None,
    cross: Annotated[
        list[str] | None, typer.Option(help="A prepared corpus that is tested in place of --data.")
    ] = None,
    scale: Annotated[float, typer.Option(help="Share of the paper's budget, such as 0.02 for a laptop.")] = 1.0,
    out: Annotated[Path | None, typer.Option(help="Folder to write; papers/NAME by default.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and for how long.")] = False,
    concurrency: Annotated[int | None, typer.Option(help="Trials at a time; all cores by default.", min=1)] = None,
    lanes: Annotated[str, typer.Option(help="Trials trained as one model on each GPU, or core; or auto.")] = "1",
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster, such as auto; a Ray of its own by default.")
    ] = None,
    gpu: Gpu = False,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow; a local SQLite file by default.")] = None,
    studies: Root = Path("studies"),
) -> None:
    """Make a table or figure of the papers on a corpus, beside the paper's own numbers; a killed run goes on."""
    from sersearch.data.place import place
    from sersearch.papers import command, get_piece
    from sersearch.papers.planning import Given
    from sersearch.tuning.run import How

    if name is None:
        return command.show_list()
    given = Given(
        name=name,
        data=tuple(map(place, data)) if data else (command.demo(get_piece(name)),),
        aux=tuple(map(place, aux or ())),
        cross=tuple(map(place, cross or ())),
        studies=studies,
        scale=scale,
        lanes=number_of_lanes(lanes),
    )
    if dry_run:
        return command.show_cost(given, concurrency)
    how = How(concurrency=concurrency, address=address, gpu=gpu, tracking_uri=tracking_uri)
    with interruptible():
        command.make_piece(given, out or Path("papers") / name, how)
