"""IEMOCAP (Busso et al., 2008): acted and improvised English dialogues, 10 speakers in 5 sessions.

Emotions as in the AAE paper (section 4.1.1): angry, happy with excited merged into it, neutral, sad. A turn with
another code (fru, xxx, ...) keeps its attributes and has no emotion.
"""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.reading import Reading, audio_below, label_lines, match_labels
from sersearch.data.schema import Rejected, Utterance
from sersearch.errors import DataError

SUMMARY = "IEMOCAP: acted English dialogues, 10 speakers, 4 emotions and attributes (Session1 ... Session5)"
LAYOUT = "IEMOCAP has Session?/sentences/wav/DIALOGUE/TURN.wav and Session?/dialog/EmoEvaluation/*.txt"
EMOTIONS = {"ang": "anger", "hap": "happiness", "exc": "happiness", "neu": "neutral", "sad": "sadness"}
NUMBER = r"-?\d+(?:\.\d+)?"
TURN = re.compile(
    r"\[[\d.]+ - [\d.]+\]\t(?P<turn>(?P<dialogue>Ses(?P<session>\d\d)[FM]_\w+)_(?P<sex>[FM])\w+)\t(?P<code>\w+)\t"
    rf"\[(?P<valence>{NUMBER}), (?P<activation>{NUMBER}), (?P<dominance>{NUMBER})\]\s*"
)


def read(root: Path) -> Reading:
    """Read the sessions below `root`. The numbers in the label files are valence, activation, dominance."""
    audio = audio_below(root, "Session?/sentences/wav/*/*.wav", LAYOUT)
    files = sorted(root.glob("Session?/dialog/EmoEvaluation/[!.]*.txt"))
    if not files:
        raise DataError(f"{root}: no label files found; {LAYOUT}")
    labelled, unreadable = [], []
    for file in files:
        for number, line in enumerate(label_lines(file), start=1):
            if not line.startswith("["):
                continue
            found = TURN.fullmatch(line)
            where = f"{file.relative_to(root).as_posix()}:{number}"
            if found:
                labelled.append(_utterance(found))
            else:
                unreadable.append(Rejected("", where, f"not a label line of IEMOCAP: {line!r}"))
    utterances, unmatched = match_labels(labelled, audio, "EmoEvaluation")
    return Reading(root=root, utterances=utterances, rejected=unreadable + unmatched, attribute_scale=(1.0, 5.0))


def _utterance(found: re.Match[str]) -> Utterance:
    session, sex = found["session"], found["sex"]
    return Utterance(
        id=found["turn"],
        path=f"Session{int(session)}/sentences/wav/{found['dialogue']}/{found['turn']}.wav",
        speaker=session + sex,  # of the turn: the dialogue's own letter says who wears the motion-capture markers
        corpus="iemocap",
        gender="female" if sex == "F" else "male",
        emotion=EMOTIONS.get(found["code"]),
        activation=float(found["activation"]),
        valence=float(found["valence"]),
        dominance=float(found["dominance"]),
    )
