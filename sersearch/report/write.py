"""The report of one study or several: figures, tables, and one page that holds them all."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sersearch.data.atomic import atomic
from sersearch.errors import StudyError
from sersearch.figures import styled
from sersearch.report import overview
from sersearch.report.picture import Picture, picture, save, write_rows
from sersearch.report.section import Place, section
from sersearch.report.summary import Summary
from sersearch.study import Study

_HERE = Path(__file__).parent


def write_report(studies: Sequence[Path], out: Path | None = None) -> Path:
    """Write the report of the studies in these folders into `out` (default, of one: its `report/`).

    Returns index.html, which holds everything; the figures lie beside it as PNG, SVG and PDF, the tables as CSV, those
    of several studies in a folder each. What is missing or damaged in a study is said on the page. Raises
    :class:`StudyError` when a folder is no study, when no study has a trial, when several have no `out`, or when `out`
    cannot be written.
    """
    summaries = [Summary(Study.open(folder)) for folder in dict.fromkeys(studies)]
    if not summaries:
        raise StudyError("a report needs a study")
    if out is None and len(summaries) > 1:
        raise StudyError(f"a report of {len(summaries)} studies lies in none of their folders; name one with --out")
    if not any(summary.trials for summary in summaries):
        _ = summaries[0].best  # which says why there is nothing to report
    out = summaries[0].study.folder / "report" if out is None else out
    try:
        out.mkdir(parents=True, exist_ok=True)
        with styled():
            index = out / "index.html"
            text = _page(summaries, out)
            with atomic(index) as temporary:
                temporary.write_text(text, "utf-8")
    except OSError as error:
        raise StudyError(f"{out}: the report cannot be written ({error.strerror or error})") from error
    return index


def _places(summaries: Sequence[Summary], out: Path) -> list[Place]:
    """A folder a study, unless there is one; of studies of one name, the second has a number."""
    if len(summaries) == 1:
        return [Place(out, "study", "")]
    places: list[Place] = []
    for number, summary in enumerate(summaries, 1):
        name = summary.study.folder.resolve().name
        taken = name in {place.folder for place in places}
        places.append(Place(out, f"study{number}", f"{name}-{number}" if taken else name))
    return places


def _page(summaries: Sequence[Summary], out: Path) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = (_HERE / "sort.js").read_text("utf-8")
    return environment.get_template("index.html.j2").render(
        style=(_HERE / "page.css").read_text("utf-8"),
        script=script,
        # The browser runs this script and no other, whatever names a study has in it.
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        sections=[section(summary, place) for summary, place in zip(summaries, _places(summaries, out), strict=True)],
        overview=_overview(summaries, out) if len(summaries) > 1 else None,
    )


def _overview(summaries: Sequence[Summary], out: Path) -> dict[str, Any]:
    """The table of studies and their charts."""
    rows = [overview.row(summary) for summary in summaries]
    write_rows(out / "studies.csv", [overview.HEAD, *rows])
    drawn: list[Picture] = []
    entries = [entry for summary in summaries if (entry := overview.entry(summary)) is not None]
    groups = overview.grouped(entries)
    failed = picture("comparison", "Comparison", lambda: drawn.extend(overview.comparisons(groups)))
    drawn += [] if failed is None else [failed]
    charted = {own.summary.study.folder for group in groups for own in group}
    return {
        "head": overview.HEAD,
        "rows": rows,
        "figures": [save(made, out, "") for made in drawn],
        "alone": [summary.study.name for summary in summaries if summary.study.folder not in charted],
    }
