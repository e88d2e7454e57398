"""The undisturbed search that others are compared with, and the table at the end."""

from __future__ import annotations

from pathlib import Path

import pytest

from sersearch.study import Study
from tests.faults.matrix import ROWS, SPACE, Search
from tests.synthetic import make_table, write_table


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.fault)


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("faults")
    write_table(folder / "data", make_table())
    (folder / "small.yaml").write_text(SPACE)
    return folder


@pytest.fixture(scope="package")
def whole(work: Path) -> Study:
    """A search that nothing disturbed."""
    undisturbed = Search.new(work, "undisturbed")
    undisturbed.end()
    states = [trial.state for trial in undisturbed.study.trials()]
    assert set(states) == {"complete", "pruned", "failed"}, "each kind of end is there to be lost"
    return undisturbed.study


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if not ROWS:
        return
    terminalreporter.section("faults")
    line = "{:44} {:>8} {:>12} {:>10} {:>11}".format
    terminalreporter.write_line(line("fault", "injected", "results lost", "difference", "recovery, s"))
    for row in ROWS:
        seconds = f"{row.seconds:.2f}"
        terminalreporter.write_line(line(row.fault, row.injected, row.lost, row.different, seconds))
