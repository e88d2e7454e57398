"""The application, what its commands share, and its entry point."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Literal

import typer

from sersearch.errors import SersearchError, printable

app = typer.Typer(
    name="sersearch",
    help="Hyperparameter search for semi-supervised speech emotion recognition.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Gpu = Annotated[
    bool, typer.Option("--gpu", help="Train on GPUs only: wait for a node with one where the cluster has none yet.")
]
Root = Annotated[Path, typer.Option("--studies", help="Folder of studies.")]
Metric = Annotated[
    str | None, typer.Option(help="What is best: the study's objective by default, or e.g. dev_ccc_valence.")
]


@contextmanager
def interruptible() -> Iterator[None]:
    """Say after Ctrl-C, or SIGTERM, how to go on."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(f"Interrupted. {interrupt}", file=sys.stderr)
        raise typer.Exit(130) from None


def assignments(texts: list[str]) -> dict[str, object]:
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


def number_of_lanes(text: str) -> int | Literal["auto"]:
    """What `--lanes` says."""
    from sersearch.errors import ConfigError

    if text == "auto":
        return "auto"
    if text.isdecimal() and int(text) >= 1:
        return int(text)
    raise ConfigError(f"--lanes {text}: expected a whole number from 1, or auto")


def spread(arguments: list[str]) -> list[str]:
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
        app(spread(sys.argv[1:]))
    except SersearchError as error:
        print(f"Error: {printable(str(error))}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:  # what the system refuses: a folder that can't be read or written, a full disk
        if isinstance(error, BrokenPipeError):
            raise
        said = f"{f'{error.filename}: ' if error.filename else ''}{error.strerror or error}"
        print(f"Error: {printable(said)}", file=sys.stderr)
        raise SystemExit(2) from None


__all__ = ["Gpu", "Metric", "Root", "app", "assignments", "interruptible", "main", "number_of_lanes", "spread"]
