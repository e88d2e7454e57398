"""CREMA-D (Cao et al., 2014): acted English, 91 actors, 12 sentences, 6 emotions, rated by voice, by face and by both.

The tables are `VideoDemographics.csv` and, for the emotions that raters perceived, `summaryTable.csv`, the votes of
the majority. The counts of the multimodal ladder paper (section 4.1) are those of the multimodal votes, with the 420
ties between emotions decided in a way that it does not give; here a tie such as `A:H` has no emotion.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Literal

from data_prep.reading import Reading, audio_below, match_labels, required_file
from sersearch.data.schema import Utterance
from sersearch.errors import ConfigError, DataError

SUMMARY = "CREMA-D: acted English, 91 actors, 6 emotions (AudioWAV, VideoDemographics.csv, processedResults)"
LAYOUT = "CREMA-D has AudioWAV/1001_DFA_ANG_XX.wav, VideoDemographics.csv and processedResults/summaryTable.csv"
NAME = re.compile(r"(?P<actor>\d{4})_(?P<sentence>[A-Z]{3})_(?P<intended>ANG|DIS|FEA|HAP|NEU|SAD)_(?:LO|MD|HI|XX)")
EMOTIONS = {"A": "anger", "D": "disgust", "F": "fear", "H": "happiness", "N": "neutral", "S": "sadness"}
COLUMNS = {"voice": "VoiceVote", "face": "FaceVote", "multimodal": "MultiModalVote"}
GENDER = {"Female": "female", "Male": "male"}


def read(
    root: Path,
    *,
    labels: Literal["intended", "perceived"] = "perceived",
    modality: Literal["voice", "face", "multimodal"] = "multimodal",
) -> Reading:
    """Read `root`/AudioWAV; the sentence is its code (`IEO`).

    `labels`: the emotion that the actor was to show, from the file's name, or the one that most raters perceived;
    `modality`: what those raters were given. A clip on whose emotion the raters are tied has none.
    ConfigError for a modality of the intended emotion, which nobody rated.
    """
    if labels == "intended" and modality != "multimodal":
        raise ConfigError(f"modality={modality} is what raters of the perceived emotion were given; leave it out")
    audio = audio_below(root, "AudioWAV/*.wav", LAYOUT)
    genders = _column(required_file(root / "VideoDemographics.csv", LAYOUT), "ActorID", "Sex")
    if labels == "perceived":
        table = root / "processedResults/summaryTable.csv"
        if not table.is_file():
            table = required_file(root / "summaryTable.csv", LAYOUT)
        votes, source = _column(table, "FileName", COLUMNS[modality]), table.name
    else:
        # The initial of the code: ANG is A.
        names = [Path(path).stem for path in audio]
        votes, source = {name: name.split("_")[2][0] for name in names if NAME.fullmatch(name)}, "its name"
    labelled = [_utterance(found, vote, genders) for name, vote in votes.items() if (found := NAME.fullmatch(name))]
    utterances, rejected = match_labels(labelled, audio, source)
    return Reading(root=root, utterances=utterances, rejected=rejected)


def _utterance(found: re.Match[str], vote: str, genders: dict[str, str]) -> Utterance:
    return Utterance(
        id=found[0],
        path=f"AudioWAV/{found[0]}.wav",
        speaker=found["actor"],
        corpus="crema_d",
        gender=GENDER.get(genders.get(found["actor"], "")),
        emotion=EMOTIONS.get(vote),  # none for a tie, such as A:H
        sentence=found["sentence"],
    )


def _column(path: Path, key: str, value: str) -> dict[str, str]:
    """The fields of one column of a table, by those of another."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            missing = [column for column in (key, value) if column not in (rows.fieldnames or [])]
            if missing:
                raise DataError(f"{path}: no column {', '.join(missing)}; CREMA-D's has {key} and {value}")
            return {row[key]: row[value] or "" for row in rows}
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: not a CSV file in UTF-8 ({error})") from error
