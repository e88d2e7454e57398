"""nEMO (Christop, LREC-COLING 2024): acted Polish, 9 speakers, 6 emotions, the same 90 sentences for all."""

from __future__ import annotations

import csv
from pathlib import Path

from data_prep.reading import Reading, audio_below, match_labels, required_file
from sersearch.data.schema import GENDERS, Rejected, Utterance, utterance_id
from sersearch.errors import DataError

SUMMARY = "nEMO: acted Polish speech, 9 speakers, 6 emotions (data.tsv and samples/*.flac)"
LAYOUT = "nEMO has data.tsv and samples/*.flac"
COLUMNS = ("file_id", "emotion", "raw_text", "speaker_id", "gender")


def read(root: Path) -> Reading:
    """Read `root`/data.tsv; the sentence is its text."""
    audio = audio_below(root, "samples/*.flac", LAYOUT)
    labels = required_file(root / "data.tsv", LAYOUT)
    labelled, unreadable = [], []
    try:
        with labels.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or [])]
            if missing:
                raise DataError(f"{labels}: no column {', '.join(missing)}; nEMO's are {', '.join(COLUMNS)}")
            for row in rows:
                if lacking := [column for column in COLUMNS if not row[column]]:
                    unreadable.append(Rejected("", f"data.tsv:{rows.line_num}", f"no {', '.join(lacking)}"))
                else:
                    labelled.append(_utterance(row))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{labels}: not a table in UTF-8 ({error})") from error
    utterances, unmatched = match_labels(labelled, audio, "data.tsv")
    return Reading(root=root, utterances=utterances, rejected=unreadable + unmatched)


def _utterance(row: dict[str, str]) -> Utterance:
    return Utterance(
        id=utterance_id(Path(row["file_id"]).stem),
        path=f"samples/{row['file_id']}",
        speaker=row["speaker_id"],
        corpus="nemo",
        gender=row["gender"] if row["gender"] in GENDERS else None,
        emotion=row["emotion"],
        sentence=row["raw_text"],
    )
