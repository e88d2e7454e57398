"""Any database in audEERING's audformat: a header db.yaml, tables of labels beside it, and audio below it.

Fields are found by the names of schemes or columns:

| field | scheme |
|---|---|
| emotion, valence, dominance | the same; emotions keep the database's names for them |
| activation | activation or arousal |
| speaker | speaker; required |
| gender | gender or sex: in a table, in the speakers' labels, or in the table of speakers |
| sentence | transcription |
| split | the split of the table that an utterance is in |
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from fnmatch import filter as matching
from importlib import import_module
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from data_prep.reading import Reading, is_below, required_file
from sersearch.data.schema import GENDERS, Rejected, Utterance, utterance_id
from sersearch.errors import ConfigError, DataError

SUMMARY = "audformat: any database in audEERING's audformat (db.yaml), or audb:NAME, which audb fetches"
LAYOUT = "a database in audformat has db.yaml"
ATTRIBUTES = {"activation": ("activation", "arousal"), "valence": ("valence",), "dominance": ("dominance",)}
LABELS = {"emotion": ("emotion",), **ATTRIBUTES}
CHOOSE = "choose by table=NAME, with * for several"
MOST_VALUES = 1_000_000  # of a header, what its aliases stand for counted each time
SPLIT = {"train": "train", "dev": "dev", "test": "test"}  # an audformat split may be of another type, too

Values = dict[Hashable, Any]  # by file, or by file, start and end


def read(root: Path, *, table: str | None = None) -> Reading:
    """Read the database in the folder `root`, or the one that audb has by the name in `audb:NAME`.

    `table` names the table of labels whose rows are the utterances, or with `*` several (`emotion.*.gold_standard`).
    Left out, each label is read from the one table that holds it for all splits or, if there is none, from one table
    a split. Speakers, genders and sentences may stand in any table.

    Raises :class:`DataError` where the choice of a table or a column is not clear, with the list of all, for a header
    or a table that could run code, and :class:`ConfigError` where a package is missing.
    """
    fetched = str(root).startswith("audb:")
    if fetched:
        root = _fetch(str(root).removeprefix("audb:"))
    header = required_file(root / "db.yaml", LAYOUT)
    package = _package("audformat")
    try:
        _check_header(header)
        database = package.Database.load(str(root), load_data=False)
        if not fetched:  # audb keeps pickles that it has made itself
            _check_tables(root, [*database.tables, *database.misc_tables])
        database = package.Database.load(str(root), load_data=True)
    except DataError:
        raise
    except Exception as error:  # whatever the header and the tables make YAML, pandas and audformat raise
        raise DataError(f"{root}: not a database that audformat can load ({error})") from error
    chosen = _chosen(database, root, table)
    labels = {field: _values(database, root, names, chosen) for field, names in LABELS.items()}
    others = {
        "speaker": _values(database, root, ("speaker",)),
        "gender": _values(database, root, ("gender", "sex")),
        "sentence": _values(database, root, ("transcription",)),
    }
    if not others["speaker"]:
        raise DataError(f"{root}: no speakers, by whom data is split; {_listing(database)}")
    fields = labels | others | {"split": _splits(database, root, chosen)}
    utterances, rejected = [], []
    for row in package.utils.union([database[name].index for name in chosen]):
        utterance = _utterance(row, fields)
        path = utterance.path
        if not is_below(path):
            rejected.append(Rejected(utterance.id, path, "its file does not lie below the database's folder"))
        elif not utterance.speaker:
            rejected.append(Rejected(utterance.id, path, "no speaker"))
        elif (root / path).is_file():
            utterances.append(utterance)
        else:
            rejected.append(Rejected(utterance.id, path, "no such file"))
    return Reading(root=root, utterances=utterances, rejected=rejected, attribute_scale=_scale(database, chosen))


def _fetch(name: str) -> Path:
    """The folder to which audb has fetched the newest version of a database."""
    audb = _package("audb")
    try:
        return Path(audb.load(name, verbose=False).root)
    except Exception as error:  # whatever its backends raise
        raise DataError(
            f"audb:{name}: audb cannot fetch it ({error}); it needs the network, and a name that audb.available() lists"
        ) from error


def _check_header(path: Path) -> None:
    """Refuse a header that is more than plain values: audformat's own loader would run what a tag says.

    Also one whose aliases stand for far more than it holds. Raises what YAML raises, too.
    """
    values, count = [yaml.load(path.read_text("utf-8"), yaml.CSafeLoader)], 0
    while values:
        match values.pop():
            case dict() as held:
                values += held.values()
            case list() | tuple() | set() as held:
                values += held
        count += 1
        if count > MOST_VALUES:
            raise DataError(f"{path}: its aliases stand for more than {MOST_VALUES} values; write out what they mean")


def _check_tables(root: Path, tables: list[str]) -> None:
    """Refuse pickled tables, which audformat prefers to others: to read a pickle is to run what is in it."""
    for table in tables:
        if not is_below(table):
            raise DataError(f"{root / 'db.yaml'}: a table called {table!r}, which leads out of the folder")
        pickled = root / f"db.{table}.pkl"
        if pickled.exists():
            raise DataError(
                f"{pickled}: a pickle, which can run code as it is read; delete it, and where there is no {table} in "
                "CSV or Parquet, have the database saved so"
            )


def _package(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(f"this needs the package {name}: pip install 'sersearch[{name}]'") from error


def _chosen(database: Any, root: Path, table: str | None) -> list[str]:
    """The tables of labels to read, each with at most one column a label."""
    held = {name: [field for field in LABELS if _columns(database[name], LABELS[field])] for name in database.tables}
    if table is not None:
        chosen = matching(database.tables, table)
        if not chosen:
            raise DataError(f"{root}: no table {table!r}; {_listing(database)}")
    else:
        chosen = []
        for field in LABELS:
            holding = [name for name in held if field in held[name]]
            holding = [name for name in holding if not database[name].split_id] or holding
            if len({database[name].split_id for name in holding}) < len(holding):
                raise DataError(f"{root}: several tables hold {field}; {CHOOSE}; {_listing(database)}")
            chosen += [name for name in holding if name not in chosen]
        if not chosen:
            raise DataError(f"{root}: no table holds emotions or attributes; {CHOOSE}; {_listing(database)}")
    for name in chosen:
        for field in held[name]:
            columns = _columns(database[name], LABELS[field])
            named = [column for column in columns if column in LABELS[field]] or columns
            if len(named) > 1:
                raise DataError(
                    f"{root}: the table {name} has {field} in {', '.join(named)}, and it is not clear which to read; "
                    "list the utterances with one of them for the corpus csv"
                )
            database[name].drop_columns([column for column in columns if column not in named], inplace=True)
    return chosen


def _columns(table: Any, names: tuple[str, ...]) -> list[str]:
    """The columns of a table that are called, or whose scheme is called, one of `names`."""
    return [name for name, column in table.columns.items() if name in names or column.scheme_id in names]


def _listing(database: Any) -> str:
    """All tables with their columns, for an error."""
    lines = [
        f"{name}{f' (split {table.split_id})' if table.split_id else ''}: {', '.join(table.columns) or 'no columns'}"
        for name, table in database.tables.items()
    ]
    return "its tables and their columns:\n  " + "\n  ".join(lines)


def _values(database: Any, root: Path, names: tuple[str, ...], tables: list[str] | None = None) -> Values:
    """What the `tables` (None: all) say by the schemes `names`; DataError where they contradict each other."""
    values: Values = {}
    for name in names:
        try:
            found = database.get(name, tables=tables)[name].dropna()
        except (ValueError, TypeError) as error:
            reason = str(error).splitlines()[0]
            raise DataError(
                f"{root}: two values of {name} for one utterance ({reason}); {_listing(database)}"
            ) from error
        for row, value in zip(found.index, found, strict=True):
            values[row] = value
            # Among segments, a file stands as one from 0 to NaT: its value holds for all of it.
            if not isinstance(row, str) and row[1].total_seconds() == 0 and math.isnan(row[2].total_seconds()):
                values[row[0]] = value
    return values


def _splits(database: Any, root: Path, chosen: list[str]) -> Values:
    """The official split by file or segment: of the chosen tables if they part it, else of all that do."""
    parts = [name for name in chosen if database[name].split_id] or list(database.tables)
    splits: Values = {}
    for name in parts:
        split = database[name].split_id and SPLIT.get(database.splits[database[name].split_id].type)
        for row in database[name].index if split else ():
            if splits.setdefault(row, split) != split:
                raise DataError(
                    f"{root}: {row} is in the splits {splits[row]} and {split}; read one partition: "
                    f"{CHOOSE}; {_listing(database)}"
                )
    return splits


def _utterance(row: Any, fields: dict[str, Values]) -> Utterance:
    """The utterance of a row of the index: a file, or a file, start and end."""
    file, start, end = (row, None, None) if isinstance(row, str) else row
    found = {field: values.get(row, values.get(file)) for field, values in fields.items()}
    begin = None if start is None else start.total_seconds()
    # NaT, the end of a segment that lasts as long as its file, has NaN seconds.
    until = None if end is None or math.isnan(end.total_seconds()) else end.total_seconds()
    span = f"_{begin or 0:.12g}" + (f"-{until:.12g}" if until is not None else "") if begin or until else ""
    text = {field: None if value is None else str(value) for field, value in found.items()}
    number = {field: None if (value := found[field]) is None else float(value) for field in ATTRIBUTES}
    return Utterance(
        id=utterance_id(str(PurePosixPath(file).with_suffix(""))) + span,
        path=file,
        speaker=text["speaker"] or "",
        corpus="audformat",
        start=begin,
        end=until,
        gender=text["gender"] if text["gender"] in GENDERS else None,
        emotion=text["emotion"],
        activation=number["activation"],
        valence=number["valence"],
        dominance=number["dominance"],
        sentence=text["sentence"],
        split=text["split"],
    )


def _scale(database: Any, chosen: list[str]) -> tuple[float, float] | None:
    """The range that the schemes of the attributes share, if they give one."""
    schemes = {
        database[name].columns[column].scheme_id
        for name in chosen
        for names in ATTRIBUTES.values()
        for column in _columns(database[name], names)
    }
    ranges = {(database.schemes[name].minimum, database.schemes[name].maximum) for name in schemes if name is not None}
    lowest, highest = ranges.pop() if len(ranges) == 1 else (None, None)
    return None if lowest is None or highest is None else (float(lowest), float(highest))
