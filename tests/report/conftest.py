"""The page of the study that a module of tests is about; figures are only rendered where a test is about that."""

from __future__ import annotations

from pathlib import Path

import pytest

from sersearch.report import picture, write_report

PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364f80f0001050101"
    "27d6a8ab0000000049454e44ae426082"
)


FILES = {"svg": b"<svg/>", "pdf": b"%PDF", "png": PIXEL}


@pytest.fixture(scope="module")
def page(study: Path) -> str:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(picture, "_rendered", lambda figure: FILES)
        return write_report([study]).read_text()


@pytest.fixture
def rendered() -> None:
    """Asked for by tests that want figures rendered."""


@pytest.fixture(autouse=True)
def _unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rendering takes a second a figure in all formats; most tests read the page, or look at what was drawn."""
    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(picture, "_rendered", lambda figure: FILES)
