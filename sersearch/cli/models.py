"""Commands that make and use models: export, predict and import."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from sersearch.cli.application import Metric, Root, app
from sersearch.errors import SersearchError, printable


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
