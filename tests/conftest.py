"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

# Before torch is imported, here and in children: models this small gain nothing from threads, and lose by waiting for
# them where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

settings.register_profile("sersearch", deadline=None)  # a busy machine is no failure
settings.load_profile("sersearch")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora (`SERSEARCH_CORPORA`, default `../shared/corpora`); the test is skipped without it."""
    root = Path(os.environ.get("SERSEARCH_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
    if not root.is_dir():
        pytest.skip(f"no real corpora at {root}; SERSEARCH_CORPORA names their folder")
    return root
