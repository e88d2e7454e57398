"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora (`SERSEARCH_CORPORA`, default `../shared/corpora`); the test is skipped without it."""
    root = Path(os.environ.get("SERSEARCH_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
    if not root.is_dir():
        pytest.skip(f"no real corpora at {root}; SERSEARCH_CORPORA names their folder")
    return root
