"""One's own corpus: a CSV file with a header line and one line an utterance (UTF-8, comma-separated).

| column | |
|---|---|
| path | of the audio file, from the CSV file's folder; required |
| speaker | required |
| id | unique; default: the path, and the span where there is one |
| start, end | seconds, for an utterance that is a part of its file; default: the whole file |
| gender | female or male |
| emotion | any name; empty where unlabelled |
| activation, valence, dominance | numbers on the corpus's own scale |
| sentence | its text or number: what the leak check compares |
| split | train, dev, test or unlabelled, where there are official ones |

Any order; columns that are not needed are left out; an empty field is a missing value. The file's name, or its
folder's where the file is called manifest.csv, is the corpus's name: speakers of corpora of one name are the same.
"""

from __future__ import annotations

import csv
import hashlib
import math
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any, cast

from data_prep.reading import Reading, is_below
from sersearch.data.schema import GENDERS, SPLITS, Rejected, Utterance, utterance_id
from sersearch.errors import DataError, one_of

SUMMARY = "csv: your own corpus, listed in a CSV file with the columns path, speaker, emotion, ..."
NUMBERS = ("start", "end", "activation", "valence", "dominance")
COLUMNS = ("id", "path", "speaker", "start", "end", "gender", "emotion", *NUMBERS[2:], "sentence", "split")
LAYOUT = (
    f"a CSV manifest has a header with path, speaker and any of {', '.join(sorted(set(COLUMNS) - {'path', 'speaker'}))}"
)
SHOWN = 50  # bad lines in one message


def read(root: Path, *, attribute_scale: tuple[float, float] | None = None) -> Reading:
    """Read the manifest `root`, a CSV file or a folder with manifest.csv in it.

    `attribute_scale`, such as [1, 7], is what activation, valence and dominance were rated on; levels need it.
    Raises :class:`DataError` that lists every malformed line by its number. A file that is missing is a rejected
    utterance, as an undecodable one is.
    """
    path = root / "manifest.csv" if root.is_dir() else root
    if not path.is_file():
        raise DataError(f"{path}: no such file; {LAYOUT}")
    corpus = utterance_id(path.resolve().parent.name if path.name == "manifest.csv" else path.stem)
    parsed, problems = _parsed(_rows(path), corpus, attribute_scale)
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        listed = "\n  ".join([*problems[:SHOWN], *more])
        raise DataError(f"{path}: {len(problems)} problem{'s' if len(problems) > 1 else ''}:\n  {listed}")
    if not parsed:
        raise DataError(f"{path}: no utterances, only a header; {LAYOUT}")
    missing = [(number, row) for number, row in parsed if not (path.parent / row.path).is_file()]
    rejected = [Rejected(row.id, row.path, f"line {number}: no such file") for number, row in missing]
    absent = {row.id for _, row in missing}
    present = [row for _, row in parsed if row.id not in absent]
    return Reading(root=path.parent, utterances=present, rejected=rejected, attribute_scale=attribute_scale)


def _parsed(
    rows: list[tuple[int, dict[str, str]]], corpus: str, scale: tuple[float, float] | None
) -> tuple[list[tuple[int, Utterance]], list[str]]:
    """The good lines with their numbers, and what is wrong with the others."""
    problems = []
    if scale and scale[0] >= scale[1]:
        problems.append(f"attribute_scale {list(scale)}: the lowest value comes first")
    parsed: list[tuple[int, Utterance]] = []
    lines: dict[str, int] = {}
    genders: dict[str, tuple[str, int]] = {}
    for number, row in rows:
        utterance, wrong = _utterance(row, corpus)
        if utterance:
            if lines.setdefault(utterance.id, number) != number:
                made = "" if "id" in row else ", made from the path; a column id may tell them apart"
                wrong.append(f"the id {utterance.id} stands in line {lines[utterance.id]} too{made}")
            if utterance.gender:
                gender, line = genders.setdefault(utterance.speaker, (utterance.gender, number))
                if gender != utterance.gender:
                    wrong.append(f"speaker {utterance.speaker} is {utterance.gender}, in line {line} {gender}")
            wrong += _off_scale(utterance, scale) if scale else []
            if not wrong:
                parsed.append((number, utterance))
        problems += [f"line {number}: {reason}" for reason in wrong]
    return parsed, problems


def _off_scale(row: Utterance, scale: tuple[float, float]) -> list[str]:
    """The attributes that lie outside the scale."""
    found = [(name, getattr(row, name)) for name in NUMBERS[2:]]
    low, high = scale
    return [f"{n} {v:g} is outside {low:g} to {high:g}" for n, v in found if v is not None and not low <= v <= high]


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line numbers and non-empty fields; DataError for a header or an encoding that cannot be used."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restkey="")
            header = [name.strip() for name in reader.fieldnames or []]
            reader.fieldnames = header
            unknown = [name for name in header if name not in COLUMNS]
            if unknown:
                raise DataError(f"{path}: no column is called {unknown[0]!r}: {one_of(unknown[0], COLUMNS)}")
            repeated = sorted(name for name in set(header) if header.count(name) > 1)
            if repeated:
                raise DataError(f"{path}: several columns are called {repeated[0]!r}; keep one")
            missing = [name for name in ("path", "speaker") if name not in header]
            if missing:
                raise DataError(f"{path}: no column {' and no column '.join(missing)}; {LAYOUT}")
            rows = []
            for row in reader:
                extra = {"": "too many fields"} if row.pop("", None) else {}
                fields = {name: value.strip() for name, value in row.items() if value and value.strip()}
                rows.append((reader.line_num, fields | extra))
            return rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error


def _utterance(row: dict[str, str], corpus: str) -> tuple[Utterance | None, list[str]]:
    """The utterance of a line, if its id is clear, and all that is wrong with it."""
    wrong = ["more fields than the header has columns"] if "" in row else []
    wrong += [f"no {name}" for name in ("path", "speaker") if name not in row]
    numbers: dict[str, float | None] = {}
    for name in NUMBERS:
        numbers[name], reason = _number(name, row.get(name))
        wrong += reason
    start, end = numbers["start"], numbers["end"]
    if start is not None and start < 0:
        wrong.append(f"start {start:g} is before the file's start")
    if end is not None and end <= (start or 0):
        wrong.append(f"end {end:g} is not after start {start or 0:g}")
    for name, valid in (("gender", GENDERS), ("split", SPLITS)):
        if name in row and row[name] not in valid:
            wrong.append(f"{name} {row[name]!r}: {one_of(row[name], valid)}")
    path = PurePosixPath(row.get("path", ""))
    if not path.name:
        return None, [*wrong, f"path {row['path']!r} is no file"] if "path" in row else wrong
    if not is_below(path):
        wrong.append(f"path {row['path']!r} does not lie below the CSV file's folder")
    span = f"_{start or 0:.12g}-{end:.12g}" if end is not None else f"_{start:.12g}" if start is not None else ""
    utterance = Utterance(
        id=row.get("id", _id(path) + span),
        path=str(path),
        speaker=row.get("speaker", ""),
        corpus=corpus,
        gender=row.get("gender"),
        emotion=row.get("emotion"),
        sentence=row.get("sentence"),
        split=row.get("split"),
    )
    if utterance_id(utterance.id) != utterance.id:
        wrong.append(f"id {utterance.id!r} may hold letters, digits and _ . - only")
    return replace(utterance, **cast("dict[str, Any]", numbers)), wrong


def _id(path: PurePosixPath) -> str:
    """An id of a path. Where it has what an id can't hold, a hash of the path keeps it apart from others."""
    plain, made = str(path.with_suffix("")).replace("/", "_"), utterance_id(str(path.with_suffix("")))
    return made if made == plain else f"{made}-{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _number(name: str, text: str | None) -> tuple[float | None, list[str]]:
    """The number in a field, or what is wrong with it."""
    if text is None:
        return None, []
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    return (value, []) if math.isfinite(value) else (None, [f"{name} {text!r} is not a number"])
