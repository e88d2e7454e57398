"""The command line. Options are parsed here; a command's module is imported only when the command runs."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from sersearch.errors import SersearchError, printable

if TYPE_CHECKING:
    from sersearch.study import Study
    from sersearch.tuning.run import How
    from sersearch.tuning.space import SearchSpace

app = typer.Typer(
    name="sersearch",
    help="Hyperparameter search for semi-supervised speech emotion recognition.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

data_app = typer.Typer(no_args_is_help=True, help="Look at prepared corpora.")
app.add_typer(data_app, name="data")

TARGETS = (
    "emotion, emotion4, activation, valence, dominance, attributes, activation_levels, valence_levels, clusters3 "
    "or clusters5"
)
Gpu = Annotated[
    bool, typer.Option("--gpu", help="Train on GPUs only: wait for a node with one where the cluster has none yet.")
]
Root = Annotated[Path, typer.Option("--studies", help="Folder of studies.")]
Metric = Annotated[
    str | None, typer.Option(help="What is best: the study's objective by default, or e.g. dev_ccc_valence.")
]


@app.command()
def prep(
    corpus: Annotated[str, typer.Argument(help="A reader; `sersearch corpora` lists them.")],
    root: Annotated[
        Path | None, typer.Argument(help="The corpus's folder or manifest; for demo none, or where to make it.")
    ] = None,
    features: Annotated[list[str] | None, typer.Option(help="A feature set; again for several.")] = None,
    out: Annotated[
        str | None, typer.Option(help="Folder to write, or a URL such as s3://bucket/folder; data/CORPUS by default.")
    ] = None,
    unlabeled: Annotated[Path | None, typer.Option(help="The corpus's unlabelled pool, where it lies apart.")] = None,
    option: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of an option of the reader.")] = None,
    noise: Annotated[Path | None, typer.Option(help="Folder of noises: adds noisy copies.")] = None,
    snr: Annotated[list[float] | None, typer.Option(help="Of the noisy copies, in dB: one or several.")] = None,
    seed: Annotated[int, typer.Option(help="Of the noisy copies.", min=0)] = 0,
    visual: Annotated[Path | None, typer.Option(help="Folder of visual features, called as the audio files.")] = None,
    max_rejected: Annotated[float, typer.Option(help="Largest fraction of utterances that may be unusable.")] = 0.05,
    workers: Annotated[int | None, typer.Option(help="Processes; all cores by default.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster, such as auto; a Ray of its own by default.")
    ] = None,
) -> None:
    """Extract a corpus's features. A killed run goes on where it was; a finished one is left alone."""
    from data_prep.noise import NoiseCopies
    from data_prep.pipeline import prepare
    from data_prep.progress import bar
    from sersearch.data.place import place
    from sersearch.errors import ConfigError

    if snr and noise is None:
        raise ConfigError("--snr needs --noise, a folder of noises")
    if out is not None and out.startswith("memory://"):
        raise ConfigError(f"--out {out}: what is in memory is gone when the command ends; name a folder or a store")
    if corpus.startswith("audb:"):
        corpus, root = "audformat", Path(corpus)
    options = _assignments(option or []) | ({} if unlabeled is None else {"unlabeled": str(unlabeled)})
    with bar(corpus) as progress:
        made = prepare(
            corpus,
            root,
            features or ["spectrogram"],
            place(out or f"data/{corpus}"),
            options=options,
            noise=None if noise is None else NoiseCopies(noise, tuple(snr or ()), seed),
            visual=visual,
            max_rejected=max_rejected,
            workers=workers,
            address=address,
            progress=progress,
        )
    synthetic = " (synthetic)" if made.synthetic else ""
    print(
        f"{made.out}: {made.corpus}{synthetic}, {', '.join(made.features)}: {made.utterances} utterances, "
        f"{made.rejected} rejected, {made.written} of {made.shards} shards written in {made.seconds:.0f} s"
    )
    for note in made.notes:
        print(printable(f"Note: {note}"))
    if made.rejected:
        print(f"Rejected utterances and reasons: {made.out / 'rejected.parquet'}")


@data_app.command()
def show(root: Annotated[str, typer.Argument(help="A folder that `sersearch prep` wrote.")]) -> None:
    """What a prepared corpus holds: rows, speakers, hours, labels, features, what was rejected, and a page of plots."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from data_prep.show import Contents, write_page
    from sersearch.data.place import place

    contents = Contents.of(place(root))
    table = Table("", "", title=str(root), show_header=False, title_justify="left")
    for name, value in contents.facts().items():
        table.add_row(escape(name), escape(value))
    Console().print(table)
    print(write_page(contents))


@data_app.command()
def check(root: Annotated[str, typer.Argument(help="A folder that `sersearch prep` wrote.")]) -> None:
    """Verify hash and schema of every shard, and that no utterance is lost. Exit code 2 where something is wrong."""
    from data_prep.check import check as find
    from data_prep.check import feature_sets
    from sersearch.data.place import place

    folder = place(root)
    problems = list(find(folder))
    for problem in problems:
        print(printable(problem), file=sys.stderr)
    if problems:
        raise typer.Exit(2)
    print(f"{root}: {', '.join(feature_sets(folder))}: all shards are what their cards say, and nothing is missing")


@app.command()
def corpora() -> None:
    """List the corpus readers."""
    from data_prep.corpora import corpus_names, get_corpus
    from data_prep.options import reader_options

    for name in corpus_names():
        reader = get_corpus(name)
        print(f"{name:12} {reader.summary}")
        if options := reader_options(reader):
            print(f"{'':12} --set " + ", ".join(f"{option}={default}" for option, default in options.items()))


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
    data: Annotated[str | None, typer.Option(help="A prepared corpus; the synthetic demo corpus by default.")] = None,
    aux: Annotated[str | None, typer.Option(help="A prepared corpus for pre-training (speaker, gender).")] = None,
    missing: Annotated[
        Literal["skip", "zero"], typer.Option(help="What becomes of utterances without visual features.")
    ] = "skip",
    cross: Annotated[
        str | None, typer.Option(help="A prepared corpus that is tested in place of --data: protocol cross.")
    ] = None,
    protocol: Annotated[str | None, typer.Option(help="official, speaker, loso, kfold or cross.")] = None,
    test_speaker: Annotated[str | None, typer.Option(help="LOSO: who is left out.")] = None,
    dev_speaker: Annotated[str | None, typer.Option(help="LOSO: who develops; the next one by default.")] = None,
    fold: Annotated[int | None, typer.Option(help="k-fold: the fold that is tested, from 1.")] = None,
    folds: Annotated[int, typer.Option(help="k-fold: number of folds.")] = 10,
    dev_folds: Annotated[
        int | None, typer.Option(help="LOSO: folds of the other speakers, of which one develops (nested).")
    ] = None,
    dev_fold: Annotated[int | None, typer.Option(help="Of them, the one that develops, from 1.")] = None,
    develop_on: Annotated[
        Literal["target", "source"], typer.Option(help="cross: the corpus that develops.")
    ] = "target",
    target_audio: Annotated[
        Literal["unlabelled", "all"],
        typer.Option(help="cross: audio of the tested corpus to train on without labels; all: the tested one, too."),
    ] = "unlabelled",
    shared_speakers: Annotated[
        bool, typer.Option("--shared-speakers", help="Speakers may stand in several parts of the official split.")
    ] = False,
    drop_duplicates: Annotated[
        bool, typer.Option("--drop-duplicates", help="A recording in several parts stays in the one that is tested.")
    ] = False,
    unlabeled_condition: Annotated[
        str | None, typer.Option(help="Train on labels of clean speech and unlabelled speech in this noise, e.g. snr5.")
    ] = None,
    unlabeled_size: Annotated[
        int | None, typer.Option(help="Most unlabelled utterances to train on, of families that have such a setting.")
    ] = None,
    target: Annotated[str | None, typer.Option(help=f"{TARGETS}; the space's by default.")] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            metavar="METRIC",
            help="E.g. dev_ccc_valence; the space's or the family's by default. Again for several, such as seconds.",
        ),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="grid, random, tpe or, for several objectives, nsga2; the space's by default.")
    ] = None,
    trials: Annotated[int | None, typer.Option(help="Number of trials; the space's by default.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs of a trial; the space's by default.")] = None,
    repeats: Annotated[
        int | None, typer.Option(help="Seeds to train each configuration with; its figures are their means.", min=1)
    ] = None,
    warm_start: Annotated[
        list[str] | None, typer.Option(metavar="STUDY", help="Tell the search of this study; again for several.")
    ] = None,
    fixed: Annotated[list[str] | None, typer.Option("--set", help="NAME=VALUE of a fixed hyperparameter.")] = None,
    seed: Annotated[
        int, typer.Option(help="Of weights, batches, the search and random splits.", min=0, max=2**32 - 1)
    ] = 0,
    name: Annotated[str | None, typer.Option(help="Of the study; the space and the time by default.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Trials at a time; all cores by default.", min=1)] = None,
    lanes: Annotated[
        str,
        typer.Option(help="Trials trained as one model on each GPU, or core; auto: as many as fit and pay."),
    ] = "1",
    precision: Annotated[
        Literal["float32", "tf32", "bf16"], typer.Option(help="Of products; less than float32 is faster on GPUs.")
    ] = "float32",
    compile: Annotated[
        bool | None,
        typer.Option(help="Compile training steps; by default only on a GPU, where it is measured to be faster."),
    ] = None,
    tracking_uri: Annotated[str | None, typer.Option(help="MLflow; a local SQLite file by default.")] = None,
    address: Annotated[
        str | None, typer.Option(help="A Ray cluster, such as auto; a Ray of its own by default.")
    ] = None,
    gpu: Gpu = False,
    storage: Annotated[
        str | None,
        typer.Option(help="Folder or URL that all nodes of a cluster reach, for checkpoints and a copy of the study."),
    ] = None,
    epoch_limit: Annotated[
        float | None,
        typer.Option(help="Seconds after which an epoch hangs; 20 times the slowest, 600 at least, by default.", min=1),
    ] = None,
    grace: Annotated[
        float, typer.Option(help="Seconds to leave in after SIGTERM: epochs in training are waited for.", min=0)
    ] = 20.0,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Begin the study --name anew; the old one is kept aside.")
    ] = False,
    resume: Annotated[str | None, typer.Option(metavar="STUDY", help="Go on with a study.")] = None,
    retry_failed: Annotated[
        str | None, typer.Option(metavar="STUDY", help="Run a study's failed trials again, and no others.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would run, and for how long.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Print the log, too.")] = False,
    studies: Root = Path("studies"),
) -> None:
    """Search a family's hyperparameters on the development set of a corpus; a study that is there goes on."""
    from sersearch.data.place import place
    from sersearch.data.protocols import Protocol
    from sersearch.errors import ConfigError
    from sersearch.study import Study
    from sersearch.tuning import plan, progress, run

    how = run.How(concurrency=concurrency, address=address, gpu=gpu, tracking_uri=tracking_uri, grace=grace)
    if resume is not None or retry_failed is not None:
        return _resume(context, resume, retry_failed, studies, how, storage, verbose)
    if space is None:
        raise ConfigError("tune needs --space NAME (`sersearch spaces` lists them) or --resume STUDY")
    sizes = {} if unlabeled_size is None else {"unlabeled_size": unlabeled_size}
    changes = {"method": method, "trials": trials, "epochs": epochs, "repeats": repeats}
    chosen = _space(space, data is None, _assignments(fixed or []), sizes, objective or [], changes)
    rule = Protocol(
        protocol or _rule(data, cross),  # type: ignore[arg-type]  # checked by Protocol
        test_speaker=test_speaker,
        dev_speaker=dev_speaker,
        fold=fold,
        folds=folds,
        seed=seed,
        unlabeled_condition=unlabeled_condition,
        dev_folds=dev_folds,
        dev_fold=dev_fold,
        develop_on=develop_on,
        target_audio=target_audio,
        shared_speakers=shared_speakers,
        drop_duplicates=drop_duplicates,
    )
    fused = _lanes(lanes)
    corpus = _demo(chosen.features, chosen.family) if data is None else place(data)
    request = plan.TuneRequest(
        space=chosen,
        data=corpus,
        protocol=rule,
        target=target or _target(chosen.target, corpus, chosen.features, cross),
        aux=None if aux is None else place(aux),
        cross=None if cross is None else place(cross),
        missing=missing,
        warm_start=tuple(warm_start or ()),
        name=name,
        root=studies,
        seed=seed,
        lanes=fused,
        precision=precision,
        compile=compile,
        storage=storage,
        epoch_limit=epoch_limit,
    )
    progress.announce(chosen)
    if dry_run:
        return progress.show_dry_run(request, plan.dry_run(request, concurrency))
    there = name is not None and not fresh and (studies / name / "study.json").is_file()
    before = Study.open(str(name), studies) if there else None
    with _interruptible(), progress.Live(before, verbose) as live:
        run.tune(request, how, live, fresh)


def _space(
    name: str,
    demo: bool,
    fixed: dict[str, object],
    sizes: dict[str, int],
    objectives: list[str],
    changes: dict[str, str | int | None],
) -> SearchSpace:
    """A search space with what the options change of it; None changes nothing, and neither do no objectives."""
    from sersearch.errors import ConfigError
    from sersearch.families import get_family
    from sersearch.study import SECONDS
    from sersearch.tuning.space import load_space

    space = load_space(name).for_demo() if demo else load_space(name)
    if changes["trials"] is not None and (changes["method"] or space.method) == "grid":
        raise ConfigError("--trials: a grid runs all of its points; leave it out, or choose --method tpe or random")
    if searched := [parameter for parameter in (*sizes, *fixed) if parameter in space.search]:
        option = "--unlabeled-size" if searched[0] in sizes else f"--set {searched[0]}"
        raise ConfigError(
            f"{option}: the space {space.name} searches it; leave it out, or copy the space and take "
            f"{searched[0]} out of its search"
        )
    if sizes and not sizes.keys() <= set(get_family(space.family).config.names()):
        raise ConfigError(f"--unlabeled-size: {space.family} has no such setting, and takes all unlabelled utterances")
    named = [{"metric": metric, "mode": "min" if metric == SECONDS else "max"} for metric in objectives]
    objective = named[0] if len(named) == 1 else named or None
    return space.changed(fixed={**space.fixed, **fixed, **sizes}, objective=objective, **changes)


def _lanes(text: str) -> int | Literal["auto"]:
    """What `--lanes` says."""
    from sersearch.errors import ConfigError

    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise ConfigError(f"--lanes {text}: expected a whole number from 1, or auto")


def _rule(data: str | None, cross: str | None) -> str:
    """The protocol unless one is named."""
    if cross is not None:
        return "cross"
    return "official" if data is None else "speaker"


def _target(wanted: str | None, corpus: Path, features: str, cross: str | None) -> str:
    """The space's target; emotion where it names none, or where no utterance has such labels."""
    from sersearch.data.joined import open_table
    from sersearch.data.place import place
    from sersearch.data.targets import labelled

    table = open_table(corpus, features, None if cross is None else place(cross))
    if wanted is None or labelled(table, wanted).any():
        return wanted or "emotion"
    print(
        f"{corpus} has no labels for {wanted}, which the space is for: emotion is predicted, with a head for classes."
    )
    return "emotion"


def _demo(features: str, family: str) -> Path:
    """The demo corpus with `features` and what else a family takes, made when it isn't there."""
    from data_prep import DEMO_VISUAL, demo_data
    from sersearch.families import get_family

    print("No --data: using the demo corpus. It is synthetic: results on it say nothing about speech.")
    further = [DEMO_VISUAL] if "visual" in get_family(family).companions else []
    return demo_data(Path("data/demo"), [features, *further])


def _resume(
    context: typer.Context,
    resume: str | None,
    retry: str | None,
    studies: Path,
    how: How,
    storage: str | None,
    verbose: bool,
) -> None:
    """Go on with a study; options that would change what it is are refused."""
    from sersearch.errors import ConfigError
    from sersearch.study import Study
    from sersearch.tuning import progress, run
    from sersearch.tuning import storage as stored

    option, name = ("--resume", resume) if resume is not None else ("--retry-failed", retry)
    assert name is not None
    sources = {p.opts[0]: context.get_parameter_source(p.name or "") for p in context.command.params}
    given = {option for option, source in sources.items() if source is not None and source.name == "COMMANDLINE"}
    allowed = {
        "--studies",
        "--concurrency",
        "--tracking-uri",
        "--address",
        "--gpu",
        "--storage",
        "--grace",
        "--verbose",
    }
    if extra := sorted(given - allowed - {option}):
        raise ConfigError(f"{option} goes on with a study as it was begun; leave out {', '.join(extra)}")
    there = (Path(name) / "study.json").is_file()
    if storage is not None and not there and not stored.fetch(name, storage, studies):
        raise ConfigError(f"{option} {name}: isn't a study in {studies}, nor in {storage}")
    with _interruptible(), progress.Live(Study.open(name, studies), verbose) as live:
        run.resume(name, studies, how, live, retry=retry is not None)


@app.command()
def submit(
    command: Annotated[
        list[str], typer.Argument(metavar="-- COMMAND ...", help="A command of sersearch's with its options.")
    ],
    address: Annotated[str, typer.Option(help="Of the cluster's dashboard, such as http://head:8265.")],
) -> None:
    """Run a command as a job of a Ray cluster and follow it; its exit code. Typed again, follow the one that runs."""
    from sersearch.submission import submit as run

    with _interruptible():
        code = run(app, command, address)
    raise typer.Exit(code)


@app.command()
def status(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    studies: Root = Path("studies"),
) -> None:
    """What is going on in a study: who runs it, its trials, the best so far, failures and what MLflow hasn't got."""
    from sersearch.study import Study
    from sersearch.tuning.status import show

    show(Study.open(study, studies))


@contextmanager
def _interruptible() -> Iterator[None]:
    """Say after Ctrl-C, or SIGTERM, how to go on."""
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
def export(
    study: Annotated[str, typer.Argument(help="A study's name or folder.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    trial: Annotated[int | None, typer.Option(help="A trial; the best one by default.")] = None,
    metric: Metric = None,
    data_licence: Annotated[
        str | None, typer.Option(help="Licence of the data that it learnt from, for the model card.")
    ] = None,
    studies: Root = Path("studies"),
) -> None:
    """Write a trial's model as a bundle that predicts without Ray and MLflow, with a model card."""
    from sersearch.export import export_bundle
    from sersearch.study import Study

    made = export_bundle(Study.open(study, studies), out, trial, metric, data_licence)
    print(f"{made}: try `sersearch predict {out} some.wav`; its model card is {made / 'README.md'}")


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="A folder that `sersearch export` wrote.")],
    files: Annotated[list[Path], typer.Argument(help="Audio files.")],
    visual: Annotated[
        Path | None, typer.Option(help="File of visual features, or folder of files called as the audio files are.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list instead of a table.")] = False,
) -> None:
    """Class posteriors or attributes of audio files, averaged over segments.

    Files that can't be used are listed: exit code 2. Those without a file in the folder --visual are named.
    """
    import dataclasses

    from sersearch.audio.visual import beside
    from sersearch.export import Predictor

    predictor = Predictor.load(model)
    found = beside(files, visual)
    rows: list[dict[str, object]] = []
    failed = False
    for path in files:
        if visual is not None and path not in found:
            print(f"{path}: no file in {visual} is called as it is", file=sys.stderr)
        try:
            rows.append(dataclasses.asdict(predictor.predict(path, found.get(path))) | {"path": str(path)})
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
        print(printable(f"{row['path']}: {row['error']}"), file=sys.stderr)
        return
    values, posteriors = row["values"], row["posteriors"]
    assert isinstance(values, dict)
    assert isinstance(posteriors, dict)
    said = [f"{name} {value:.2f}" for name, value in values.items()]
    if posteriors:
        said = [str(row["label"]), *(f"{name} {p:.3f}" for name, p in posteriors.items())]
    without = row["without"]
    assert isinstance(without, tuple)
    said += [f"(without {name} features)" for name in without]
    print(printable(f"{row['path']}: {'  '.join(said)}"))


@app.command("import")
def import_(
    family: Annotated[Literal["deepemocluster"], typer.Argument(help="Whose weights.")],
    checkpoint: Annotated[Path, typer.Argument(help="The authors' weights, such as a .pth.tar file.")],
    moments: Annotated[Path, typer.Option(help="Folder of their .mat files: moments of features and labels.")],
    out: Annotated[Path, typer.Option(help="Folder to write the model to.")],
    attribute: Annotated[
        Literal["activation", "valence", "dominance"] | None, typer.Option(help="By the file's name by default.")
    ] = None,
) -> None:
    """Make a model that predicts of published weights."""
    from sersearch.importing import import_deepemocluster

    print(f"{import_deepemocluster(checkpoint, moments, out, attribute)}: try `sersearch predict {out} some.wav`")


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
    with _interruptible():
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

    named = {text: load_results(text, studies, only) for text in study}
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
        lanes=_lanes(lanes),
    )
    if dry_run:
        return command.show_cost(given, concurrency)
    how = How(concurrency=concurrency, address=address, gpu=gpu, tracking_uri=tracking_uri)
    with _interruptible():
        command.make_piece(given, out or Path("papers") / name, how)


def _spread(arguments: list[str]) -> list[str]:
    """`--snr 10 5 0` as `--snr 10 --snr 5 --snr 0`: an option here takes one value."""
    spread: list[str] = []
    for argument in arguments:
        again = spread[-2:-1] == ["--snr"] and re.fullmatch(r"-?\d+(\.\d+)?", argument)
        spread += ["--snr", argument] if again else [argument]
    return spread


def main() -> None:
    """Entry point: errors that a user can mend are printed without a traceback, exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file's name may be in another encoding
    try:
        app(_spread(sys.argv[1:]))
    except SersearchError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # what the system refuses: a folder that can't be read or written, a full disk
        if isinstance(error, BrokenPipeError):
            raise
        said = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
        print(f"Error: {printable(said)}", file=sys.stderr)
        raise SystemExit(2) from None


__all__ = ["app", "main"]
