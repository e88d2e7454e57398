"""What `sersearch paper` does: list the pieces, estimate one, make one."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console

from data_prep import DEMO_VISUAL, demo_data
from sersearch.errors import printable
from sersearch.families import get_family
from sersearch.papers import get_piece, piece_names
from sersearch.papers.declaration import Piece
from sersearch.papers.making import cost, make, run
from sersearch.papers.planning import Given, sheets
from sersearch.papers.rendering import to_rich, write
from sersearch.papers.scaling import check_scale
from sersearch.tuning.run import How
from sersearch.tuning.space import load_space


def show_list() -> None:
    """Print each piece with what it needs and what it cost in the paper."""
    for name in piece_names():
        piece = get_piece(name)
        count, epochs = piece.trainings()
        print(f"{name}\n    {piece.title}\n    {piece.source}; on {', '.join(piece.corpora)}")
        print(f"    needs {'; '.join(needs(piece))}")
        print(f"    in the paper about {count} trainings a corpus, {epochs} epochs of them all")


def needs(piece: Piece) -> list[str]:
    """The data that a piece takes, for people."""
    parts = piece.parts
    found = [f"features {', '.join(piece.features)}", f"labels {', '.join(dict.fromkeys(p.target for p in parts))}"]
    if any(part.unlabelled and not part.cross for part in parts):
        found.append("speech without labels")
    if piece.noisy:
        found.append("noisy copies")
    if any("visual" in get_family(load_space(part.space).family).companions for part in parts):
        found.append("visual features")
    if any(part.cross for part in parts):
        found.append("a second corpus (--cross)" + (", or several" if piece.repeated == "cross" else ""))
    if piece.needs_aux:
        found.append("auxiliary corpora of several numbers of speakers (--aux)")
    elif any(part.aux for part in parts):
        found.append("an auxiliary corpus (--aux), as the paper has it")
    return found


def demo(piece: Piece) -> Path:
    """The demo corpus with what a piece takes, made when it isn't there."""
    families = [get_family(load_space(part.space).family) for part in piece.parts]
    further = [DEMO_VISUAL] if any("visual" in family.companions for family in families) else []
    print("No --data: using the demo corpus. It is synthetic: results on it say nothing about speech.")
    return demo_data(Path("data/demo"), [*piece.features, *further])


def show_cost(given: Given, concurrency: int | None) -> None:
    """Print what would run, and for how long; write nothing."""
    check_scale(given.scale)
    would = cost(sheets(get_piece(given.name), given), concurrency or os.cpu_count() or 1)
    print(f"{given.name} at {given.scale:g} of the paper's budget:")
    print(f"    {would.studies} studies, {would.finished} of them finished")
    print(f"    {would.trials} trials to run, {would.epochs} epochs with all further trainings, if none stops early")
    for kind, seconds in would.by_family:
        print(f"    {kind}: {seconds:.3g} s an epoch and core")
    print(f"    about {would.hours:.3g} hours, {would.disk_bytes / 2**20:.0f} MiB for checkpoints")
    print("Nothing was run.")


def make_piece(given: Given, out: Path, how: How) -> None:
    """Run what is to be run, evaluate it, print and write the piece."""
    check_scale(given.scale)
    piece = get_piece(given.name)
    planned = sheets(piece, given)
    run(planned, how, lambda line: print(printable(line), flush=True))
    made = [make(sheet, given, how.concurrency) for sheet in planned]
    for own in made:
        Console().print(to_rich(own))
    for path in write(given.name, planned[0].piece, made, out):
        print(path)


__all__ = ["demo", "make_piece", "needs", "show_cost", "show_list"]
