"""MSP-IMPROV (Busso et al., 2017): improvised English dyads, 12 speakers in 6 sessions.

Emotions as in the AAE paper (section 4.1.2): anger, happiness, neutral, sadness. A turn of category O or X keeps its
attributes and has no emotion.
"""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.reading import Reading, audio_below, label_lines, match_labels
from sersearch.data.schema import Rejected, Utterance
from sersearch.errors import DataError

SUMMARY = "MSP-IMPROV: improvised English dyads, 12 speakers, 4 emotions and attributes (Audio and Evalution.txt)"
LAYOUT = "MSP-IMPROV has Audio/sessionN/S01A/S/MSP-IMPROV-S01A-F01-S-FM01.wav and Evalution.txt"
EMOTIONS = {"A": "anger", "H": "happiness", "N": "neutral", "S": "sadness"}
SCRIPTED = ("R", "T")  # conditions in which the sentence is spoken as given: read, and the target of an improvisation
TURN = re.compile(
    r"UTD-(?P<name>IMPROV-(?P<scene>(?P<sentence>S\d\d)[A-Z])-(?P<speaker>(?P<sex>[FM])(?P<session>\d\d))"
    r"-(?P<condition>[RSPT])-\w+)\.avi;\s*(?P<category>[ASHNOX])\s*"
    r"(?P<numbers>(?:;\s*(?:[AVD]:\s*\d+(?:\.\d+)?\s*|N:[^;]*)?)*)"  # N is naturalness
)


def read(root: Path) -> Reading:
    """Read the sessions below `root`; of each block in Evalution.txt the first line, the raters' consensus."""
    audio = audio_below(root, "Audio/session*/*/*/*.wav", LAYOUT)
    labels = next((root / name for name in ("Evalution.txt", "Evaluation.txt") if (root / name).is_file()), None)
    if labels is None:
        raise DataError(f"{root}: no Evalution.txt found; {LAYOUT}")
    labelled, unreadable = [], []
    for number, line in enumerate(label_lines(labels), start=1):
        if not line.startswith("UTD-"):
            continue
        found = TURN.fullmatch(line.strip())
        if found:
            labelled.append(_utterance(found))
        else:
            unreadable.append(Rejected("", f"{labels.name}:{number}", f"not a label line of MSP-IMPROV: {line!r}"))
    utterances, unmatched = match_labels(labelled, audio, labels.name)
    return Reading(root=root, utterances=utterances, rejected=unreadable + unmatched, attribute_scale=(1.0, 5.0))


def _utterance(found: re.Match[str]) -> Utterance:
    name = f"MSP-{found['name']}"
    numbers = dict(re.findall(r"([AVD]):\s*([\d.]+)", found["numbers"]))
    attribute = {key: float(value) for key, value in numbers.items()}
    return Utterance(
        id=name,
        path=f"Audio/session{int(found['session'])}/{found['scene']}/{found['condition']}/{name}.wav",
        speaker=found["speaker"],
        corpus="msp_improv",
        gender="female" if found["sex"] == "F" else "male",
        emotion=EMOTIONS.get(found["category"]),
        activation=attribute.get("A"),
        valence=attribute.get("V"),
        dominance=attribute.get("D"),
        sentence=found["sentence"] if found["condition"] in SCRIPTED else None,
    )
