"""A reader goes through the pages, page by page, each in a fresh folder, and types what is marked as to be run.

The demo corpus is made once, but for the pages that have their reader make it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sersearch.tuning.space import load_space, space_names
from tests.docs.pages import ROOT, Block, blocks, pages

WALKED = [page for page in pages() if any(block.mark == "run" for block in blocks(page))]
MAKE_IT = {"first-search.md", "corpora.md"}
"""Pages that begin without a demo corpus."""
EPOCHS, TRIALS = 2, 2
"""In place of the budgets of the demo corpus, where a command names none itself."""
SECONDS = 1200.0
"""For one block."""


def small(text: str) -> str:
    """A block's searches with small budgets."""

    def shortened(found: re.Match[str]) -> str:
        command, name = found[0], found[1]
        given = [] if "--epochs" in command else [f"--epochs {EPOCHS}"]
        if name in space_names() and load_space(name).method != "grid" and "--trials" not in command:
            given.append(f"--trials {TRIALS}")
        return " ".join([f"sersearch tune --space {name}", *given]) + found[2]

    return re.sub(r"sersearch tune --space (\S+)(.*)", shortened, text)


def typed(text: str, folder: Path, where: Block | str) -> None:
    """Run commands in a shell, and end all that they have begun."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "COLUMNS": "200"}
    shell = subprocess.Popen(
        ["bash", "-euo", "pipefail", "-c", small(text)],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = shell.communicate(timeout=SECONDS)
    finally:
        if shell.poll() is None:
            os.killpg(shell.pid, signal.SIGKILL)
            shell.communicate()
    assert shell.returncode == 0, f"{where}:\n{said[-3000:]}"
    assert "Traceback" not in said, f"{where}:\n{said[-3000:]}"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo corpus with functionals, as `data/demo` has it in a page's folder."""
    folder = tmp_path_factory.mktemp("demo")
    typed("sersearch prep demo --features functionals --out data/demo", folder, "demo")
    return folder / "data" / "demo"


@pytest.mark.slow
@pytest.mark.parametrize("page", WALKED, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_can_be_walked(page: Path, tmp_path: Path, demo: Path) -> None:
    if page.name not in MAKE_IT:
        (tmp_path / "data").mkdir()
        (tmp_path / "data" / "demo").symlink_to(demo)
    for block in blocks(page):
        if block.file:
            (tmp_path / block.file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.file).write_text(block.text, "utf-8")
        elif block.mark == "run":
            typed(block.text, tmp_path, block)


def test_budgets_are_small() -> None:
    assert small("sersearch tune --space aae_alpha_beta --name x  # why") == (
        f"sersearch tune --space aae_alpha_beta --epochs {EPOCHS} --trials {TRIALS} --name x  # why"
    )
    assert small("sersearch tune --space ladder_lambda --epochs 7") == "sersearch tune --space ladder_lambda --epochs 7"
    assert f"--epochs {EPOCHS}" in small("sersearch tune --space mine.yaml --dry-run")
