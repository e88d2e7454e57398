"""`sersearch paper` as a user types it."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from sersearch.papers import command, get_piece, piece_names
from tests.papers.test_planning import corpus
from tests.test_cli import run


def test_without_a_name_all_are_listed_with_needs_and_cost(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "paper")
    assert code == 0
    assert [line for line in out.splitlines() if not line.startswith(" ")] == piece_names()
    assert "needs features functionals; labels activation, valence, dominance" in out
    assert "in the paper about 207 trainings a corpus, 20700 epochs of them all" in out


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        ("ladder/table1", ["speech without labels"]),
        ("ladder/table2", ["a second corpus (--cross), or several"]),
        ("ladder/table3", ["features lld, mfb"]),
        ("decoupled_ladder/table", ["noisy copies", "speech without labels"]),
        ("mtl_aae/table5", ["an auxiliary corpus (--aux), as the paper has it"]),
        ("mtl_aae/fig4", ["auxiliary corpora of several numbers of speakers (--aux)"]),
        ("multimodal_ladder/table1", ["visual features"]),
    ],
)
def test_what_a_piece_needs_is_said(name: str, needed: list[str]) -> None:
    assert set(needed) <= set(command.needs(get_piece(name)))


def test_a_dry_run_says_the_cost_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", attributes=True, split=True)
    studies = tmp_path / "studies"
    code, out, _ = run(
        capsys, "paper", "ladder/table1", "--data", str(data), "--studies", str(studies), "--scale", "0.1", "--dry-run"
    )
    assert code == 0
    assert "12 studies, 0 of them finished" in out
    assert "ladder, functionals:" in out
    assert "Nothing was run." in out
    assert not studies.exists()


def test_an_unknown_piece_is_an_error_without_a_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "paper", "ladder/table9", "--data", "data/none")
    assert code == 2
    assert "no such table or figure; did you mean ladder/table" in err


@pytest.mark.slow
def test_a_table_of_the_demo_corpus_is_made_and_a_second_call_only_prints_it(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "sersearch", "paper", "ladder/table1", "--scale", "0.02"]
    first = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "12 studies, 0 of them finished before" in first.stdout
    with (tmp_path / "papers/ladder/table1/ladder_table1.csv").open(newline="") as file:
        head, *rows = csv.reader(file)
    assert len(rows) == 7
    assert all(row[0] == "demo (synthetic)" for row in rows)
    ours = [head.index(name) for name in ("Development Arousal", "Test Dominance")]
    assert all(-1 <= float(row[column].split()[0]) <= 1 for row in rows for column in ours)
    assert rows[1][head.index("Development Arousal, paper")] == "0.773"
    again = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "12 studies, 12 of them finished before" in again.stdout
    assert "[1/" not in again.stdout


@pytest.mark.slow
def test_the_partitions_of_the_multimodal_table_are_made(tmp_path: Path) -> None:
    arguments = [sys.executable, "-m", "sersearch", "paper", "multimodal_ladder/table1", "--scale", "0.02"]
    done = subprocess.run(arguments, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert "8 studies" in done.stdout
    text = (tmp_path / "papers/multimodal_ladder/table1/multimodal_ladder_table1.md").read_text("utf-8")
    assert "| Our Method |" in text
    assert "±" in text
    assert "Matched-pair t-test" in text
