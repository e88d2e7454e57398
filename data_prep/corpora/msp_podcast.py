"""MSP-Podcast (Lotfian & Busso, 2019): spontaneous English from podcasts, many speakers, and a pool without labels.

The labels are the raters' consensus. A segment of category O (another emotion) or X (no agreement) keeps its
attributes and has no emotion. Versions differ in how they spell the label file, the folder of audio and the splits.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections import Counter
from pathlib import Path

from data_prep.reading import Reading, match_labels, wavs_below
from sersearch.data.schema import Rejected, Utterance, utterance_id
from sersearch.errors import DataError, one_of

SUMMARY = "MSP-Podcast: spontaneous English, 8 emotions and attributes, official splits (Audios and Labels)"
LAYOUT = "MSP-Podcast has Audios/MSP-PODCAST_0001_0008.wav and Labels/labels_consensus.csv"
AUDIO = ("Audios", "Audio")
LABELS = ("labels_consensus.csv", "labels_concensus.csv")
COLUMNS = ("FileName", "EmoClass", "EmoAct", "EmoVal", "EmoDom", "SpkrID", "Gender", "Split_Set")
EMOTIONS = {
    "A": "anger",
    "S": "sadness",
    "H": "happiness",
    "U": "surprise",
    "F": "fear",
    "D": "disgust",
    "C": "contempt",
    "N": "neutral",
    "O": None,
    "X": None,
}
SPLIT = {
    "Train": "train",
    "Development": "dev",
    "Validation": "dev",
    **dict.fromkeys(("Test", "Test1", "Test2", "Test3"), "test"),
}
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
GENDER = {"Female": "female", "Male": "male"}


def read(root: Path, *, unlabeled: Path | None = None) -> Reading:
    """Read the labelled segments below `root` and, of the split `unlabelled`, the wav files below `unlabeled`.

    Where the folder `unlabeled` lies outside `root`, the paths of its utterances are absolute: `root` joined with an
    absolute path is that path.

    A segment whose speaker is not known is given a speaker of its own, named after the file: as one speaker all of
    them would have to be in one part of a split, and would count as one in whatever is balanced by speaker. The
    number of the podcast in a file's name is no speaker either, since a podcast has several.
    """
    folder = next((name for name in AUDIO if (root / name).is_dir()), AUDIO[0])
    audio = [f"{folder}/{name}" for name in wavs_below(root / folder, LAYOUT)]
    table = next((root / "Labels" / name for name in LABELS if (root / "Labels" / name).is_file()), None)
    if table is None:
        raise DataError(f"{root}: no Labels/{LABELS[0]} found; {LAYOUT}")
    labelled, unreadable = [], []
    for number, row in _rows(table):
        utterance = _utterance(row, folder)
        if isinstance(utterance, Utterance):
            labelled.append(utterance)
        else:
            unreadable.append(Rejected("", f"{table.name}:{number}", utterance))
    utterances, unmatched = match_labels(labelled, audio, table.name)
    rejected = unreadable + unmatched
    if unlabeled is not None:
        pool, twice = _pool(unlabeled, root, {_stem(path) for path in audio} | {row.id for row in labelled})
        utterances += pool
        rejected += twice
    return Reading(root=root, utterances=utterances, rejected=rejected, attribute_scale=(1.0, 7.0))


def _rows(table: Path) -> list[tuple[int, dict[str, str]]]:
    """The rows of the label file with the numbers of their lines."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            missing = [column for column in COLUMNS if column not in (reader.fieldnames or [])]
            if missing:
                raise DataError(f"{table}: no column {', '.join(missing)}; MSP-Podcast's are {', '.join(COLUMNS)}")
            return [(reader.line_num, {name: row[name].strip() for name in COLUMNS}) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{table}: not a CSV file in UTF-8 ({error})") from error


def _utterance(row: dict[str, str], folder: str) -> Utterance | str:
    """The utterance of a row, or what is wrong with the row."""
    for column, valid in (("EmoClass", EMOTIONS), ("Split_Set", SPLIT)):
        if row[column] not in valid:
            return f"{column} {row[column]!r}: {one_of(row[column], valid)}"
    for column in ("EmoAct", "EmoVal", "EmoDom"):
        if not NUMBER.fullmatch(row[column]):
            return f"{column} {row[column]!r} is not a number"
    name = _stem(row["FileName"])
    return Utterance(
        id=name,
        path=f"{folder}/{row['FileName']}",
        speaker=name if row["SpkrID"] in ("Unknown", "") else row["SpkrID"],
        corpus="msp_podcast",
        gender=GENDER.get(row["Gender"]),
        emotion=EMOTIONS[row["EmoClass"]],
        activation=float(row["EmoAct"]),
        valence=float(row["EmoVal"]),
        dominance=float(row["EmoDom"]),
        split=SPLIT[row["Split_Set"]],
    )


def _pool(folder: Path, root: Path, labelled: set[str]) -> tuple[list[Utterance], list[Rejected]]:
    """The wav files at any depth below `folder`, and those among them that are labelled segments too.

    A test segment in the pool would be trained on.
    """
    names = wavs_below(folder, "the unlabelled pool is a folder of wav files")
    absolute = folder.resolve()
    inside = absolute.is_relative_to(root.resolve())
    base = (absolute.relative_to(root.resolve()) if inside else absolute).as_posix()
    ids = [f"unlabelled_{utterance_id(name[:-4])}" for name in names]
    counts = Counter(ids)
    utterances, twice = [], []
    for name, plain in zip(names, ids, strict=True):
        # Different paths may have one id, as a/b.wav and a_b.wav have.
        unique = plain if counts[plain] == 1 else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"
        path = f"{base}/{name}"
        if _stem(name) in labelled:
            twice.append(Rejected(unique, path, "a labelled segment, in the unlabelled pool"))
        else:
            utterances.append(Utterance(id=unique, path=path, speaker=unique, corpus="msp_podcast", split="unlabelled"))
    return utterances, twice


def _stem(path: str) -> str:
    """The name of a wav file without .wav; `pathlib`'s takes ten times as long, which counts for so many files."""
    return path.rpartition("/")[2][:-4]
