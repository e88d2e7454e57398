"""Fixtures shared by all tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# Before torch is imported, here and in children: models this small gain nothing from threads, and lose by waiting for
# them where the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# What a shell runs in the background ignores Ctrl-C, and so would searches that are to be interrupted by it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine is no failure.
settings.register_profile("sersearch", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sersearch")


@pytest.fixture(scope="session")
def corpora() -> Path:
    """Folder of real corpora (`SERSEARCH_CORPORA`, default `../shared/corpora`); the test is skipped without it."""
    root = Path(os.environ.get("SERSEARCH_CORPORA", Path(__file__).parents[2] / "shared" / "corpora"))
    if not root.is_dir():
        pytest.skip(f"no real corpora at {root}; SERSEARCH_CORPORA names their folder")
    return root
