"""LibriSpeech (Panayotov et al., ICASSP 2015): read English with speakers and genders, without emotions.

The AAE paper's auxiliary data (section 4.1.3). Its subsets part speakers for speech recognition, which is no use
here, so no official split is taken from them.
"""

from __future__ import annotations

import random
from itertools import chain, zip_longest
from pathlib import Path, PurePosixPath

from data_prep.reading import Reading, audio_below, label_lines, required_file
from sersearch.data.schema import Utterance
from sersearch.errors import ConfigError, DataError, one_of

SUMMARY = "LibriSpeech: read English, many speakers with their genders, no emotions (SUBSET/SPEAKER/CHAPTER/*.flac)"
LAYOUT = "LibriSpeech has SPEAKERS.TXT and SUBSET/SPEAKER/CHAPTER/SPEAKER-CHAPTER-NNNN.flac"
GENDER = {"F": "female", "M": "male"}


def read(root: Path, *, subsets: tuple[str, ...] | None = None, speakers: int | None = None, seed: int = 0) -> Reading:
    """Read the `subsets` (None: all) below `root`, which holds SPEAKERS.TXT.

    `speakers`: so many of their speakers, as many women as men as far as there are; `seed` decides which. A smaller
    number of the same seed draws from the speakers of a larger one. ConfigError for subsets that are not there, and
    for more speakers than there are.
    """
    audio = [PurePosixPath(path) for path in audio_below(root, "*/*/*/*.flac", LAYOUT)]
    genders = _genders(required_file(root / "SPEAKERS.TXT", LAYOUT))
    if subsets is not None:
        there = {path.parts[0] for path in audio}
        for name in subsets or ("",):  # to name none is an error, too
            if name not in there:
                raise ConfigError(f"{root}: no subset {name!r}: {one_of(name, there)}")
        audio = [path for path in audio if path.parts[0] in subsets]
    if speakers is not None:
        drawn = _draw({path.parts[1] for path in audio}, genders, speakers, seed)
        audio = [path for path in audio if path.parts[1] in drawn]
    return Reading(root=root, utterances=[_utterance(path, genders) for path in audio], rejected=[])


def _draw(there: set[str], genders: dict[str, str], number: int, seed: int) -> set[str]:
    """`number` of the speakers that are `there`, women and men in turn while there are both."""
    if not 1 <= number <= len(there):
        raise ConfigError(f"speakers={number}: the subsets have {len(there)} speakers, of whom 1 to all can be drawn")
    generator = random.Random(seed)
    women, men, unknown = (
        generator.sample(group, len(group))
        for group in (
            sorted(speaker for speaker in there if genders.get(speaker) == gender)
            for gender in ("female", "male", None)
        )
    )
    in_turn = [speaker for speaker in chain(*zip_longest(women, men)) if speaker is not None]
    return set((in_turn + unknown)[:number])


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
