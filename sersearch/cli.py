"""The command line. Options are parsed here; a command's module is imported only when the command runs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sersearch.errors import SersearchError

app = typer.Typer(
    name="sersearch",
    help="Hyperparameter search for semi-supervised speech emotion recognition.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

TARGETS = "emotion, emotion4, activation_levels, valence_levels, clusters3 or clusters5"
Root = Annotated[Path, typer.Option("--studies", help="Folder of studies.")]


@app.command()
def prep(
    corpus: Annotated[str, typer.Argument(help="A reader; `sersearch corpora` lists them.")],
    root: Annotated[Path | None, typer.Argument(help="The corpus's folder or manifest; none for demo.")] = None,
    features: Annotated[str, typer.Option(help="Feature set.")] = "spectrogram",
    out: Annotated[Path | None, typer.Option(help="Folder to write; data/CORPUS by default.")] = None,
    max_rejected: Annotated[float, typer.Option(help="Largest fraction of utterances that may be unusable.")] = 0.05,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.")] = None,
) -> None:
    """Extract a corpus's features. A killed run goes on where it was; a finished one is left alone."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    from data_prep.pipeline import prepare

    folder = out or Path("data") / corpus
    columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(f"{corpus} {features}", total=None)
        made = prepare(
            corpus,
            root,
            features,
            folder,
            max_rejected=max_rejected,
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    synthetic = " (synthetic)" if made.synthetic else ""
    print(
        f"{made.out}: {made.corpus}{synthetic}, {made.utterances} utterances, {made.rejected} rejected, "
        f"{made.written} of {made.shards} shards written in {made.seconds:.0f} s"
    )
    if made.rejected:
        print(f"Rejected utterances and reasons: {made.out / 'rejected.parquet'}")


@app.command()
def corpora() -> None:
    """List the corpus readers."""
    from data_prep.corpora import corpus_names, get_corpus

    for name in corpus_names():
        print(f"{name:12} {get_corpus(name).summary}")


@app.command()
def spaces() -> None:
    """List the search spaces that come with sersearch: what they search, and how long they take."""
    from sersearch.tuning.space import load_space, space_names

    for name in space_names():
        space = load_space(name)
        searched = "; ".join(f"{parameter} {dimension}" for parameter, dimension in space.search.items())
        print(f"{name}\n    {space.doc}\n    searches {searched}")
        print(f"    {space.method}, {space.trials} trials of up to {space.epochs} epochs: {space.time}")


@app.command()
def tune(
    context: typer.Context,
    space: Annotated[str | None, typer.Option(help="A space's name or YAML file.")] = None,
    data: Annotated[Path | None, typer.Option(help="A prepared corpus; the synthetic demo corpus by default.")] = None,
    aux: Annotated[Path | None, typer.Option(help="A prepared corpus for pre-training (speaker, gender).")] = None,
    protocol: Annotated[str | None, typer.Option(help="official, speaker, loso or kfold.")] = None,
    test_speaker: Annotated[str | None, typer.Option(help="LOSO: who is left out.")] = None,
    dev_speaker: Annotated[str | None, typer.Option(help="LOSO: who develops; the next one by default.")] = None,
    fold: Annotated[int | None, typer.Option(help="k-fold: the fold that is tested, from 1.")] = None,
    folds: Annotated[int, typer.Option(help="k-fold: number of folds.")] = 10,
    target: Annotated[
        str, typer.Option(help="emotion, emotion4, activation_levels, valence_levels, clusters3 or clusters5.")
    ] = "emotion",
    method: Annotated[str | None, typer.Option(help="grid, random or tpe; the space's by default.")] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials; the space's by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs of a trial; the space's by default.")] = None,
    fixed: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a fixed hyperparameter.")] = None,
    seed: Annotated[
        int, typer.Option(help="Of weights, batches, the search and random splits.", min=0, max=2**32 - 1)
    ] = 0,
    name: Annotated[str | None, typer.Option(help="Of the study; the space and the time by default.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Trials at a time; all cores by default.", min=1)] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow; a local SQLite file by default.")] = None,
    resume: Annotated[str | None, typer.Option(metavar="STUDY", help="Go on with a study.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and for how long.")] = False,
    studies: Root = Path("studies"),
) -> None:
    """Search a family's hyperparameters on the development set of a corpus."""
    from sersearch.data.protocols import Protocol
    from sersearch.errors import ConfigError
    from sersearch.tuning import progress, run
    from sersearch.tuning.space import load_space

    if resume is not None:
        return _resume(context, resume, studies, concurrency, tracking_uri)
    if space is None:
        raise ConfigError("tune needs --space NAME (`sersearch spaces` lists them) or --resume STUDY")
    chosen = load_space(space) if data is not None else load_space(space).for_demo()
    if trials is not None and (method or chosen.method) == "grid":
        raise ConfigError("--trials: a grid runs all of its points; leave it out, or choose --method tpe or random")
    changes = {**chosen.fixed, **_assignments(fixed or [])}
    chosen = chosen.changed(method=method, trials=trials, epochs=epochs, fixed=changes)
    rule = Protocol(
        protocol or ("official" if data is None else "speaker"),  # type: ignore[arg-type]  # checked by Protocol
        test_speaker=test_speaker,
        dev_speaker=dev_speaker,
        fold=fold,
        folds=folds,
        seed=seed,
    )
    request = run.TuneRequest(
        space=chosen,
        data=data or _demo(),
        protocol=rule,
        target=target,
        aux=aux,
        name=name,
        root=studies,
        seed=seed,
        concurrency=concurrency,
        tracking_uri=tracking_uri,
    )
    progress.announce(chosen)
    if dry_run:
        return progress.show_dry_run(request, run.dry_run(request))
    with _interruptible(), progress.Live() as live:
        study = run.tune(request, live)
    progress.summary(study)


def _demo() -> Path:
    """The demo corpus, made when it isn't there."""
    from data_prep import demo_data

    print("No --data: using the demo corpus. It is synthetic: results on it say nothing about speech.")
    return demo_data(Path("data/demo"))


def _resume(
    context: typer.Context, name: str, studies: Path, concurrency: int | None, tracking_uri: str | None
) -> None:
    """Go on with a study; options that would change what it is are refused."""
    from sersearch.errors import ConfigError
    from sersearch.study import Study
    from sersearch.tuning import progress, run

    sources = {p.opts[0]: context.get_parameter_source(p.name or "") for p in context.command.params}
    given = {option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    if extra := sorted(given - {"--resume", "--studies", "--concurrency", "--tracking-uri"}):
        raise ConfigError(f"--resume goes on with a study as it was begun; leave out {', '.join(extra)}")
    with _interruptible(), progress.Live(Study.open(name, studies)) as live:
        study = run.resume(name, studies, live, concurrency, tracking_uri)
    progress.summary(study)


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say after Ctrl-C how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(f"Interrupted. {interrupt}", file=sys.stderr)
        raise typer.Exit(130) from None


def _assignments(texts: list[str]) -> dict[str, object]:
    """NAME=VALUE pairs, values as YAML reads them."""
    import yaml

    from sersearch.errors import ConfigError
    from sersearch.tuning.space import read_yaml

    values: dict[str, object] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(f"--set {text}: expected NAME=VALUE, such as --set learning_rate=0.001")
        try:
            values[name.strip()] = read_yaml(value)
        except (yaml.YAMLError, ValueError) as error:
            raise ConfigError(f"--set {text}: {value!r} is not a YAML value ({error})") from None
    return values


@app.command()
def report(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    out: Annotated[Path | None, typer.Option(help="Folder to write; `report` in the study's by default.")] = None,
    studies: Root = Path("studies"),
) -> None:
    """Write figures, tables and one static page of a study."""
    from sersearch.report import write_report
    from sersearch.study import Study

    print(write_report(Study.open(study, studies).folder, out))


@app.command()
def export(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    trial: Annotated[int | None, typer.Option(help="A trial; the best one by default.")] = None,
    studies: Root = Path("studies"),
) -> None:
    """Write a trial's model as a bundle that predicts without Ray and MLflow."""
    from sersearch.export import export_bundle
    from sersearch.study import Study

    print(f"{export_bundle(Study.open(study, studies), out, trial)}: try `sersearch predict {out} some.wav`")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `sersearch export` wrote.")],
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list instead of a table.")] = False,
) -> None:
    """Class posteriors of audio files, averaged over segments. Files that can't be used are listed: exit code 2."""
    import dataclasses

    from sersearch.export import Predictor

    predictor = Predictor.load(model)
    rows: list[dict[str, object]] = []
    failed = False
    for path in files:
        try:
            rows.append(dataclasses.asdict(predictor.predict(path)) | {"path": str(path)})
        except SersearchError as error:
            failed = True
            rows.append({"path": str(path), "error": str(error)})
    if as_json:
        print(json.dumps(rows, indent=2))
    else:
        for row in rows:
            _print_prediction(row)
    if failed:
        raise typer.Exit(2)


def _print_prediction(row: dict[str, object]) -> None:
    if "error" in row:
        print(f"{row['path']}: {row['error']}", file=sys.stderr)
        return
    posteriors = row["posteriors"]
    assert isinstance(posteriors, dict)
    print(f"{row['path']}: {row['label']}  " + "  ".join(f"{name} {p:.3f}" for name, p in posteriors.items()))


@app.command()
def evaluate(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    trial: Annotated[int | None, typer.Option(help="A trial; the best one by default.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Touch the test set a second time, knowing it.")] = False,
    impostors: Annotated[Path | None, typer.Option(help="Prepared corpus of impostors for the EER.")] = None,
    studies: Root = Path("studies"),
) -> None:
    """Score the chosen trial on the test part, once."""
    from sersearch.evaluation import evaluate as run
    from sersearch.study import Study

    result = run(Study.open(study, studies), trial, again=again, impostors=impostors)
    print(json.dumps(result, indent=2))


def main() -> None:
    """Entry point: errors that a user can mend are printed without a traceback, exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be in another encoding
    try:
        app()
    except SersearchError as error:
        print(f"Error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # what the system refuses: a folder that can't be read or written, a full disk
        if isinstance(error, BrokenPipeError):
            raise
        print(f"Error: {f'{error.filename}: ' if error.filename else ''}{error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None


__all__ = ["app", "main"]
