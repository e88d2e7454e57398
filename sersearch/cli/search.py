"""Commands that search: spaces, tune, submit and status."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sersearch.cli.application import Gpu, Root, app, assignments, interruptible, number_of_lanes

if TYPE_CHECKING:
    from sersearch.tuning.run import How
    from sersearch.tuning.space import SearchSpace

TARGETS = (
    "emotion, emotion4, activation, valence, dominance, attributes, activation_levels, valence_levels, clusters3 "
    "or clusters5"
)
_HOW = {"--studies", "--concurrency", "--tracking-uri", "--address", "--gpu", "--storage", "--grace", "--verbose"}
"""Options of how a study is run, not of what it is."""


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
    chosen = _space(space, data is None, assignments(fixed or []), sizes, objective or [], changes)
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
    fused = number_of_lanes(lanes)
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
    with interruptible(), progress.Live(before, verbose) as live:
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
    if extra := sorted(given - _HOW - {option}):
        raise ConfigError(f"{option} goes on with a study as it was begun; leave out {', '.join(extra)}")
    there = (Path(name) / "study.json").is_file()
    if storage is not None and not there and not stored.fetch(name, storage, studies):
        raise ConfigError(f"{option} {name}: isn't a study in {studies}, nor in {storage}")
    study = Study.open(name, studies)
    if storage is not None:
        stored.check_storage(study.name, study.meta, storage)
    with interruptible(), progress.Live(study, verbose) as live:
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

    with interruptible():
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
