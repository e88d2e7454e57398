"""`sersearch data show`: what a prepared corpus holds, as tables and as a page of plots."""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2
import numpy as np
import pandas as pd
import pyarrow as pa

from data_prep.check import feature_sets
from sersearch.data.atomic import atomic
from sersearch.data.place import read_parquet
from sersearch.data.schema import MANIFEST_SCHEMA
from sersearch.errors import DataError, printable
from sersearch.figures import encoded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE = "data.html"
MALFORMED = (ValueError, LookupError, TypeError, AttributeError, RecursionError)
SHOWN, LONGEST = 40, 30  # names, of emotions say, and characters of one in a plot
ATTRIBUTES = ("valence", "activation", "dominance")


@dataclass(frozen=True)
class Contents:
    """What there is to say of a prepared corpus."""

    root: Path
    corpus: dict[str, Any]  # corpus.json
    rows: pd.DataFrame  # the manifest, with the duration (s) of what was extracted, NaN where nothing was
    cards: dict[str, dict[str, Any]]  # by feature set; {} for an unfinished one
    rejected: Counter[str]  # by reason, without what is a file's own in it

    @classmethod
    def of(cls, root: Path) -> Contents:
        """Read the prepared corpus in `root`. Raises :class:`DataError` for what is none, or damaged."""
        try:
            contents = cls._of(root)
            contents.facts()  # what is missing in its cards is said now
            return contents
        except (OSError, *MALFORMED, pa.ArrowException) as error:
            raise DataError(f"{root}: cannot be read ({error}); `sersearch data check {root}` tells more") from error

    @classmethod
    def _of(cls, root: Path) -> Contents:
        names = feature_sets(root)
        manifest = read_parquet(root / "manifest.parquet")
        if manifest.schema.names != MANIFEST_SCHEMA.names:
            raise DataError(f"{root}: prepared by another version of sersearch; run `sersearch prep` again")
        rows = manifest.cast(MANIFEST_SCHEMA).to_pandas()
        durations: dict[str, float] = {}
        for name in names:
            for path in sorted((root / name).glob("part-*.parquet")):
                found = read_parquet(path, columns=["id", "duration"])
                durations |= dict(zip(found["id"].to_pylist(), found["duration"].to_pylist(), strict=True))
        rows["duration"] = rows["id"].map(durations).astype(float)
        rows = rows.replace([np.inf, -np.inf], np.nan)  # of which no plot can be drawn
        reasons = read_parquet(root / "rejected.parquet")["reason"].to_pylist()
        cards = {name: _json(root / name / "card.json") for name in names}
        return cls(root, _json(root / "corpus.json"), rows, cards, Counter(map(_kind, reasons)))

    def facts(self) -> dict[str, str]:
        """Name and value, in the order of reading."""
        rows, corpus = self.rows, self.corpus
        noise, speakers = corpus.get("noise"), rows.drop_duplicates("speaker")
        facts = {
            "corpus": f"{corpus['corpus']}{' (synthetic)' if corpus.get('synthetic') else ''}, from {corpus['root']}",
            "options": ", ".join(f"{k}={v}" for k, v in (corpus.get("options") or {}).items() if v is not None),
            "noise": f"{noise['root']} at {', '.join(f'{s:g}' for s in noise['snr'])} dB, seed {noise['seed']}"
            if noise
            else "",
            "utterances": f"{len(rows)}, {rows['duration'].sum() / 3600:.2f} h",
            "speakers": f"{len(speakers)} ({_counts(speakers['gender'], 'unknown')})",
            "splits": _counts(rows["split"], "none") if rows["split"].notna().any() else "",
            "conditions": _counts(rows["condition"], "as recorded") if rows["condition"].notna().any() else "",
            "emotions": _counts(rows["emotion"], "without"),
        }
        for name in ATTRIBUTES:
            if (values := rows[name].dropna()).size:
                facts[name] = f"{values.size}, {values.min():g} to {values.max():g}, mean {values.mean():.2f}"
        for name, card in self.cards.items():
            facts[f"features: {name}"] = _card(card) if card else "unfinished: run `sersearch prep` again"
        for reason, count in self.rejected.most_common():
            facts[f"rejected: {reason}"] = str(count)
        return {printable(name): printable(value) for name, value in facts.items() if value}


def write_page(contents: Contents) -> Path:
    """Write the page of plots, `data.html` in the corpus's folder, which needs no server; returns its path."""
    pictures = [("Durations", _durations(contents.rows))]
    if contents.rows["emotion"].notna().any():
        pictures.append(("Emotions", _emotions(contents.rows)))
    if any(contents.rows[name].notna().any() for name in ATTRIBUTES):
        pictures.append(("Attributes", _attributes(contents.rows)))
    if (contents.rows["valence"].notna() & contents.rows["activation"].notna()).any():
        pictures.append(("Valence and activation", _plane(contents.rows)))
    template = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(
        Path(__file__).with_name("show.html.j2").read_text("utf-8")
    )
    page = template.render(
        name=contents.root.resolve().name,
        facts=contents.facts(),
        pictures=[(title, _encoded(figure)) for title, figure in pictures],
    )
    with atomic(contents.root / PAGE) as temporary:
        temporary.write_text(page, "utf-8")
    return contents.root / PAGE


def _json(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(path.read_text("utf-8")) if path.is_file() else {}
    return content


def _kind(reason: str) -> str:
    """A reason without its numbers and names, so that reasons can be counted."""
    words = [word for word in reason.split() if not any(c.isdigit() for c in word) and "/" not in word]
    return " ".join(words[:12]).rstrip(";:,") or reason


def _counts(values: pd.Series, missing: str) -> str:
    counts = values.astype(object).where(values.notna(), missing).value_counts()
    shown = [f"{name} {count}" for name, count in counts.head(SHOWN).items()]
    return ", ".join([*shown, f"and {len(counts) - SHOWN} more"] if len(counts) > SHOWN else shown)


def _card(card: dict[str, Any]) -> str:
    rate = "one vector an utterance" if card["frame_rate"] is None else f"{card['frame_rate']:g} frames/s"
    rows, megabytes = sum(s["rows"] for s in card["shards"]), sum(s["frames"] for s in card["shards"]) * card["dims"]
    size = megabytes * (2 if card.get("dtype") == "float16" else 4) / 2**20
    return f"{card['dims']} dimensions, {rate}, {rows} utterances in {len(card['shards'])} shards, {size:.0f} MiB"


def _figure(panels: int = 1) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.6 * panels, 3.2), dpi=110, layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _durations(rows: pd.DataFrame) -> Figure:
    figure, (axes,) = _figure()
    axes.hist(rows["duration"].dropna(), bins=40, color="tab:blue")
    axes.set_xlabel("duration, s")
    axes.set_ylabel("utterances")
    return figure


def _emotions(rows: pd.DataFrame) -> Figure:
    figure, (axes,) = _figure()
    counts = rows["emotion"].value_counts().head(SHOWN).sort_index()
    axes.barh([printable(str(name))[:LONGEST] for name in counts.index], counts.to_numpy(), color="tab:blue")
    for label in axes.get_yticklabels():
        label.set_parse_math(False)
    axes.invert_yaxis()
    axes.set_xlabel("utterances")
    return figure


def _attributes(rows: pd.DataFrame) -> Figure:
    figure, panels = _figure(3)
    for axes, name in zip(panels, ATTRIBUTES, strict=True):
        axes.hist(rows[name].dropna(), bins=30, color="tab:blue")
        axes.set_xlabel(name)
    return figure


def _plane(rows: pd.DataFrame) -> Figure:
    figure, (axes,) = _figure()
    axes.scatter(rows["valence"], rows["activation"], s=6, alpha=min(1.0, 300 / len(rows)), color="tab:blue")
    axes.set_xlabel("valence")
    axes.set_ylabel("activation")
    return figure


def _encoded(figure: Figure) -> str:
    return base64.b64encode(encoded(figure, "png")).decode()
