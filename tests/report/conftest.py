"""The page of the study that a module of tests is about."""

from __future__ import annotations

from pathlib import Path

import pytest

from sersearch.report import write_report


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    return write_report(study).read_text()
