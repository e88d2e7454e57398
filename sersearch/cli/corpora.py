"""Commands that read corpora: prep, data show, data check and corpora."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from sersearch.cli.application import app, assignments
from sersearch.errors import printable

data_app = typer.Typer(no_args_is_help=True, help="Look at prepared corpora.")
app.add_typer(data_app, name="data")


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
    options = assignments(option or []) | ({} if unlabeled is None else {"unlabeled": str(unlabeled)})
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
