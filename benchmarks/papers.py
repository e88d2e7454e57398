"""Every table and figure of `sersearch paper` on the synthetic demo corpus: that each is made, and how long it takes.

    python -m benchmarks.papers [--scale 0.02] [--out FOLDER] [PIECE ...]

Two more demo corpora, of other seeds, are those that cross-corpus pieces test and the autoencoder is pre-trained on;
the noise of the noisy copies is white. Run again, it goes on where it ended; what is finished is read back.
"""

from __future__ import annotations

import argparse
import csv
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import soundfile

from data_prep.corpora.demo import write_demo
from sersearch.papers import get_piece, piece_names
from sersearch.papers.command import needs

OTHERS = ("other", "further")
SETS = ("spectrogram", "functionals", "mel", "mfb", "lld", "lld_32_16")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pieces", nargs="*", default=piece_names())
    parser.add_argument("--scale", default="0.02")
    parser.add_argument("--out", type=Path, default=Path("papers-demo"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    prepared(given.out)
    print("| piece | studies | of them made before | trials | rows | min |\n|---|---|---|---|---|---|")
    for name in given.pieces:
        print(made(name, given.scale, given.out), flush=True)


def prepared(out: Path) -> None:
    """The corpora, below `out`/data."""
    for seed, name in enumerate(OTHERS, start=1):
        write_demo(out / name, seed)
    noise = out / "noise" / "white.wav"
    noise.parent.mkdir(exist_ok=True)
    soundfile.write(noise, 0.1 * np.random.default_rng(0).standard_normal(60 * 16_000), 16_000)
    sets = [option for name in SETS for option in ("--features", name)]
    command(out, "prep", "demo", *sets, "--features", "openface", "--out", "data/demo")
    # As a corpus of one's own: speakers of corpora of one name would be the same.
    for name in OTHERS:
        command(out, "prep", "csv", name, *sets, "--set", "attribute_scale=[1, 5]", "--out", f"data/{name}")
    noisy = [option for snr in ("10", "5", "0") for option in ("--snr", snr)]
    command(out, "prep", "demo", "--features", "functionals", "--noise", "noise", *noisy, "--out", "data/noisy")


def made(name: str, scale: str, out: Path) -> str:
    """Make a piece; its line of the table."""
    piece, began = get_piece(name), time.monotonic()
    asked = " ".join(needs(piece))
    where = ["--data", "data/noisy" if piece.noisy else "data/demo"]
    where += ["--cross", "data/other"] if "second corpus" in asked else []
    where += ["--aux", "data/further"] if "auxiliary" in asked else []
    told = command(out, "paper", name, *where, "--scale", scale)
    minutes = (time.monotonic() - began) / 60
    studies, before = re.search(r"(\d+) studies, (\d+) of them finished before", told).groups()
    trials = sum(map(int, re.findall(r"trials: (\d+)", told)))
    with (out / "papers" / name / f"{name.replace('/', '_')}.csv").open(newline="") as file:
        rows = len(list(csv.reader(file))) - 1
    return f"| {name} | {studies} | {before} | {trials} | {rows} | {minutes:.1f} |"


def command(out: Path, *args: str) -> str:
    """What a sersearch command prints, run in `out`; ends with its error where it fails."""
    done = subprocess.run([sys.executable, "-m", "sersearch", *args], cwd=out, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"sersearch {' '.join(args)}: {done.stderr.strip()}")
    return done.stdout


if __name__ == "__main__":
    main()
