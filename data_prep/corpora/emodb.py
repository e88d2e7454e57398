"""EmoDB (Burkhardt et al., Interspeech 2005): acted German, 10 speakers, 10 sentences, 7 emotions."""

from __future__ import annotations

import re
from pathlib import Path

from data_prep.reading import Reading, audio_below
from sersearch.data.schema import Rejected, Utterance

SUMMARY = "EmoDB: acted German, 10 speakers, 7 emotions, all in the file names (wav/*.wav)"
LAYOUT = "EmoDB has wav/03a01Fa.wav"
# Speaker, sentence, emotion by the initial of its German name, and which take it is.
NAME = re.compile(r"(?P<speaker>\d\d)(?P<sentence>[ab]\d\d)(?P<emotion>[WLEAFTN])[a-z]?")
EMOTIONS = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
GENDER = {
    **dict.fromkeys(("03", "10", "11", "12", "15"), "male"),
    **dict.fromkeys(("08", "09", "13", "14", "16"), "female"),
}


def read(root: Path) -> Reading:
    """Read `root`/wav; the sentence is its code (`a01`)."""
    utterances, rejected = [], []
    for path in audio_below(root, "wav/*.wav", LAYOUT):
        stem = Path(path).stem
        found = NAME.fullmatch(stem)
        if found and found["speaker"] in GENDER:
            utterances.append(_utterance(path, found))
        else:
            rejected.append(Rejected(stem, path, "not a name of EmoDB, such as 03a01Fa"))
    return Reading(root=root, utterances=utterances, rejected=rejected)


def _utterance(path: str, found: re.Match[str]) -> Utterance:
    return Utterance(
        id=found[0],
        path=path,
        speaker=found["speaker"],
        corpus="emodb",
        gender=GENDER[found["speaker"]],
        emotion=EMOTIONS[found["emotion"]],
        sentence=found["sentence"],
    )
