"""RAVDESS (Livingstone & Russo, 2018), the spoken part: acted English, 24 actors, 2 sentences, 8 emotions.

Files of the songs (channel 02) and of the videos (modalities 01 and 02) may lie beside the speech; they are left out.
"""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.reading import Reading, audio_below
from sersearch.data.schema import Rejected, Utterance

SUMMARY = "RAVDESS: acted English speech, 24 actors, 8 emotions, all in the file names (Actor_01 ... Actor_24)"
LAYOUT = "RAVDESS has the speech of an actor in Actor_01/03-01-05-01-02-01-01.wav"
# Modality, channel, emotion, intensity, statement, repetition, actor.
NAME = re.compile(r"03-01-(?P<emotion>0[1-8])-0[12]-(?P<statement>0[12])-0[12]-(?P<actor>0[1-9]|1\d|2[0-4])")
EMOTIONS = {
    "01": "neutral",
    "02": "calm",
    "03": "happiness",
    "04": "sadness",
    "05": "anger",
    "06": "fear",
    "07": "disgust",
    "08": "surprise",
}


def read(root: Path) -> Reading:
    """Read the actors' folders below `root`; the sentence is its number (`01`)."""
    utterances, rejected = [], []
    for path in audio_below(root, "Actor_*/03-01-*.wav", LAYOUT):
        stem = Path(path).stem
        if found := NAME.fullmatch(stem):
            utterances.append(_utterance(path, found))
        else:
            rejected.append(Rejected(stem, path, "not a name of RAVDESS, such as 03-01-05-01-02-01-01"))
    return Reading(root=root, utterances=utterances, rejected=rejected)


def _utterance(path: str, found: re.Match[str]) -> Utterance:
    return Utterance(
        id=found[0],
        path=path,
        speaker=found["actor"],
        corpus="ravdess",
        gender="male" if int(found["actor"]) % 2 else "female",
        emotion=EMOTIONS[found["emotion"]],
        sentence=found["statement"],
    )
