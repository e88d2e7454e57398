"""LibriSpeech (Panayotov et al., ICASSP 2015): read English with speakers and genders, without emotions.

The AAE paper's auxiliary data (section 4.1.3). Its subsets part speakers for speech recognition, which is no use
here, so no official split is taken from them.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from data_prep.reading import Reading, audio_below, label_lines, required_file
from sersearch.data.schema import Utterance
from sersearch.errors import DataError

SUMMARY = "LibriSpeech: read English, many speakers with their genders, no emotions (SUBSET/SPEAKER/CHAPTER/*.flac)"
LAYOUT = "LibriSpeech has SPEAKERS.TXT and SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac"
GENDER = {"F": "female", "M": "male"}


def read(root: Path) -> Reading:
    """Read all subsets below `root`, which holds SPEAKERS.TXT."""
    audio = audio_below(root, "*/*/*/*.flac", LAYOUT)
    genders = _genders(required_file(root / "SPEAKERS.TXT", LAYOUT))
    utterances = [_utterance(PurePosixPath(path), genders) for path in audio]
    return Reading(root=root, utterances=utterances, rejected=[])


def _utterance(path: PurePosixPath, genders: dict[str, str]) -> Utterance:
    speaker = path.parts[1]
    return Utterance(id=path.stem, path=str(path), speaker=speaker, corpus="librispeech", gender=genders.get(speaker))


def _genders(path: Path) -> dict[str, str]:
    """Gender by speaker, from lines `id | sex | subset | minutes | name`."""
    genders = {}
    for number, line in enumerate(label_lines(path), start=1):
        if not line.strip() or line.startswith(";"):
            continue
        fields = [field.strip() for field in line.split("|")]
        if len(fields) < 2 or fields[1] not in GENDER:
            raise DataError(f"{path}:{number}: expected `id | F or M | subset | minutes | name`, found {line!r}")
        genders[fields[0]] = GENDER[fields[1]]
    return genders
