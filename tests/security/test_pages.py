"""What strangers call their speakers, classes and studies is text: in pages, in pictures, and in a terminal."""

from __future__ import annotations

import csv
import json
import re
import sys
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from data_prep.show import Contents, write_page
from sersearch.cli import main
from sersearch.data.schema import MANIFEST_SCHEMA, Rejected, Utterance, manifest_table, rejected_table
from sersearch.errors import DataError, printable
from sersearch.predictions import MOST, read_predictions
from sersearch.report import write_report
from tests.report.studies import Writer
from tests.security.memory import at_most

SCRIPT = "<script>alert(1)</script>"
IMAGE = "\"><img src=x onerror='alert(1)'>"
TERMINAL = "\x1b]0;owned\x07\x1b[2J\x9b31m\r\u202e"
MARKUP = "[red]a[/red][link=https://example.org]b[/]"
HOSTILE = SCRIPT + IMAGE + TERMINAL + MARKUP + "$\\frac$"


class Tags(HTMLParser):
    """The elements of a page, and what among them could act."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.names: Counter[str] = Counter()
        self.acting: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names[tag] += 1
        for name, value in attrs:
            link = re.sub(r"\s", "", value or "").lower() if name in ("src", "href") else ""
            if name.startswith("on") or link.startswith(("javascript:", "http", "//", "data:text")):
                self.acting.append(f"{tag} {name}={value}")


# --- prepared corpora -------------------------------------------------------------------------------------------------


def prepared(root: Path, name: str, **figures: float) -> Path:
    """A corpus without features whose every name is `name`."""
    root.mkdir()
    row = {"path": "a.wav", "speaker": name, "corpus": name, "gender": name, "emotion": name, "condition": name}
    rows = [Utterance(id=f"u{n}", **{**row, "valence": 1.0, "activation": 2.0, **figures}) for n in range(2)]
    pq.write_table(manifest_table(rows), root / "manifest.parquet")
    pq.write_table(rejected_table([Rejected("x", name, name, name)]), root / "rejected.parquet")
    corpus = {"corpus": name, "root": name, "synthetic": True, "options": {name: name}}
    (root / "corpus.json").write_text(json.dumps(corpus))
    return root


def test_the_page_of_a_corpus_holds_names_as_text(tmp_path: Path) -> None:
    plain = Tags(write_page(Contents.of(prepared(tmp_path / "plain", "plain"))).read_text())
    page = write_page(Contents.of(prepared(tmp_path / "<b>hostile", HOSTILE))).read_text()
    found = Tags(page)
    assert found.names == plain.names, "no element more than with plain names"
    assert found.acting == []
    assert "&lt;script&gt;" in page
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f]", page)


def test_what_is_shown_of_a_corpus_does_not_steer_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["sersearch", "data", "show", str(prepared(tmp_path / "hostile", HOSTILE))])
    monkeypatch.setenv("COLUMNS", "400")
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    shown = capsys.readouterr().out
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", shown)
    assert "\\x1b]0;owned\\x07\\x1b[2J\\x9b31m\\r\\u202e" in shown
    assert "[red]a[/red]" in shown, "markup is text, too"


def test_control_characters_are_written_out_and_others_left() -> None:
    assert printable("Łódź 日本 ü\n\x1b[31m\t\x00") == "Łódź 日本 ü\n\\x1b[31m\\t\\x00"
    assert printable("\udcff") == "\\udcff"


@pytest.mark.parametrize("figure", [np.nan, np.inf, -np.inf])
def test_figures_that_are_not_finite_are_not_drawn(tmp_path: Path, figure: float) -> None:
    assert write_page(Contents.of(prepared(tmp_path / "a", "a", valence=figure))).is_file()


def test_thousands_of_classes_are_cut_short(tmp_path: Path) -> None:
    root = prepared(tmp_path / "a", "a")
    rows = [Utterance(id=f"u{n}", path="a.wav", speaker="s", corpus="c", emotion=f"e{n:05d}") for n in range(20_000)]
    pq.write_table(manifest_table(rows), root / "manifest.parquet")
    contents = Contents.of(root)
    assert contents.facts()["emotions"].endswith(" 1, and 19960 more")
    assert write_page(contents).stat().st_size < 300_000


@pytest.mark.parametrize(
    "card",
    [
        {},
        [1],
        {"dims": "a", "frame_rate": 1, "shards": []},
        {"dims": 3, "frame_rate": [], "shards": [1]},
        {"dims": 3, "frame_rate": None, "shards": [{"rows": "a", "frames": {}}]},
        "[" * 100_000,
    ],
)
def test_a_card_that_is_none_is_a_sentence(tmp_path: Path, card: object) -> None:
    root = prepared(tmp_path / "a", "a")
    (root / "mel").mkdir()
    (root / "mel" / "card.json").write_text(card if isinstance(card, str) else json.dumps(card))
    if card == {}:
        assert "unfinished" in Contents.of(root).facts()["features: mel"]
    else:
        with pytest.raises(DataError, match="cannot be read"):
            Contents.of(root)


def test_columns_of_other_types_are_a_sentence(tmp_path: Path) -> None:
    root = prepared(tmp_path / "a", "a")
    table = pa.table({name: pa.array([{"a": 1}]) for name in MANIFEST_SCHEMA.names})
    pq.write_table(table, root / "manifest.parquet")
    with pytest.raises(DataError, match="cannot be read"):
        Contents.of(root)


# --- studies ----------------------------------------------------------------------------------------------------------


def study(folder: Path, name: str) -> Path:
    """A study of which every name and reason is `name`."""
    data = {"corpus": name, "synthetic": True, "features": name, "target": name, "aux": name, "path": name}
    writer = Writer(folder, data=data, name=name, git_commit=name, versions={name: name}, sersearch=name)
    split = json.loads((folder / "split.json").read_text())
    split |= {"caption": name, "target": name, "notes": [name]}
    split["parts"]["train"] |= {"speakers": [name], "labels": {name: 1}, "gender": {name: 1}}
    split["leaks"] = [{"kind": name, "between": [name, name], "values": [name], "count": 1, "allowed": False}]
    (folder / "split.json").write_text(json.dumps(split))
    writer.trial(0, {"alpha": 0.1, "setting": name}, 3, "complete", name)
    writer.trial(1, {"alpha": 0.4, "setting": name}, 3, "pruned", name)
    writer.trial(2, {"alpha": 0.5, "setting": name}, 0, "failed", name)
    table = folder / "ray" / "trial0" / "dev_predictions.csv"
    with table.open("w", newline="") as file:
        rows = [["id", "label", "predicted", name, "b"], [name, name, "b", 0.5, 0.5], [name, "b", "b", 0.5, 0.5]]
        csv.writer(file).writerows(rows)
    return folder


@pytest.mark.filterwarnings("ignore:Glyph", "ignore:constrained_layout not applied")  # names are as long as they are
def test_the_report_of_a_study_holds_names_as_text(tmp_path: Path) -> None:
    plain = Tags(write_report([study(tmp_path / "plain", "plain")]).read_text())
    page = write_report([study(tmp_path / "hostile", SCRIPT + IMAGE + MARKUP + "$\\frac$")]).read_text()
    found = Tags(page)
    assert {name: found.names[name] for name in ("script", "img", "iframe", "a", "b")} == {
        name: plain.names[name] for name in ("script", "img", "iframe", "a", "b")
    }
    assert found.acting == []
    assert "&lt;script&gt;" in page


# --- tables of predictions --------------------------------------------------------------------------------------------


def predictions(path: Path, *rows: list[object]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return path


@pytest.mark.parametrize("figure", ["nan", "inf", "-inf", "1e999", "1e308", "", "a", "__import__('os')"])
def test_predictions_that_are_no_figures(tmp_path: Path, figure: str) -> None:
    path = predictions(tmp_path / "p.csv", ["id", "valence", "valence_predicted"], ["a", 1, 2], ["b", figure, 1])
    with pytest.raises(DataError, match="expected a number for each attribute"):
        read_predictions(path)


def test_a_header_of_thousands_of_classes_makes_no_matrix_of_them(tmp_path: Path) -> None:
    names = [f"c{n}" for n in range(100_000)]
    path = predictions(tmp_path / "p.csv", ["id", "label", "predicted", *names])
    with at_most(100), pytest.raises(DataError, match=f"100003 columns; a picture has room for {MOST} classes"):
        read_predictions(path)


@pytest.mark.filterwarnings("ignore:Glyph")
def test_names_are_drawn_as_text(tmp_path: Path) -> None:
    name = SCRIPT + "$\\frac$" + "\x1b"
    classes = predictions(tmp_path / "c.csv", ["id", "label", "predicted", name, "b"], ["u", name, "b", 0, 1])
    values = predictions(tmp_path / "a.csv", ["id", name, f"{name}_predicted"], ["u", 1, 2], ["v", 2, 1])
    for path in (classes, values):
        with (tmp_path / "drawn.png").open("wb") as file:
            read_predictions(path).draw().savefig(file, format="png")
    assert pd.read_csv(values).columns[1] == name
