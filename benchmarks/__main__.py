"""All benchmarks as one table: `python -m benchmarks [SUBJECT ...] [--markdown] [--quick]`."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from benchmarks import command, digits, families, ladder, lanes, memory, overhead, prep, step
from benchmarks.rows import Row
from sersearch.training import CPU_ENVIRONMENT

SUBJECTS = {
    "command": command.rows,
    "overhead": overhead.rows,
    "memory": memory.rows,
    "prep": prep.rows,
    "step": step.rows,
    "ladder": ladder.rows,
    "lanes": lanes.rows,
    "digits": digits.rows,
    "families": families.rows,
}


def main(
    subjects: Annotated[
        list[str] | None, typer.Argument(help=f"Some of {', '.join(SUBJECTS)}; all by default.")
    ] = None,
    markdown: Annotated[bool, typer.Option("--markdown", help="For docs/numbers.md.")] = False,
    quick: Annotated[bool, typer.Option("--quick", help="Only show that it runs: the figures mean nothing.")] = False,
) -> None:
    """Run the benchmarks."""
    names = subjects or list(SUBJECTS)
    if unknown := set(names) - SUBJECTS.keys():
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: expected some of {', '.join(SUBJECTS)}")
    title = f"{processor()}, {os.cpu_count()} cores, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}"
    title += " - QUICK: the figures mean nothing" * quick
    show(title, (row for name in names for row in SUBJECTS[name](quick)), markdown)


def processor() -> str:
    """The processor's name."""
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def show(title: str, rows: Iterable[Row], markdown: bool) -> None:
    """Print the table; as Markdown a line as soon as it is known."""
    if markdown:
        print(f"{title}\n\n| what | figure | bound | note |\n|---|---|---|---|")
        for row in rows:
            print(f"| {row.what} | {row.figure} | {row.bound} | {row.note} |", flush=True)
        return
    table = Table("what", "figure", "bound", "note", title=title)
    for row in rows:
        table.add_row(row.what, row.figure, row.bound, row.note)
    Console().print(table)


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in CPU_ENVIRONMENT.items()):
        # Once more, with what a trial's process has in its environment.
        os.execve(
            sys.executable, [sys.executable, "-m", "benchmarks", *sys.argv[1:]], {**os.environ, **CPU_ENVIRONMENT}
        )
    typer.run(main)
