"""The rules by which protocols divide a table: each gives every utterance a side.

All parts are made here, the test part too: `sersearch.data.protocols` hands out what may be seen, `heldout` the rest.
To add a protocol, write its rule.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from sersearch.data import conditions
from sersearch.data.joined import Joined
from sersearch.data.targets import attributes_of, columns_of, labelled, strata, target_codes
from sersearch.errors import ConfigError, DataError, one_of

if TYPE_CHECKING:
    from sersearch.data.protocols import Protocol
    from sersearch.data.table import FeatureTable

SHARE = 0.15
"""Share of the utterances in the development part, and in the test part, of the protocol `speaker`."""
CROSS_DEV = 0.3
"""Share of the tested corpus's utterances in the development part of the protocol `cross`."""

_UNUSED, _TRAIN, _DEV, _TEST = -1, 0, 1, 2

_WAY_OUT = {
    "official": "use another protocol, such as speaker",
    "speaker": "draw the speakers by another --seed",
    "loso": "choose another --dev-speaker or --test-speaker, or fewer --dev-folds",
    "kfold": "use fewer --folds",
    "cross": "draw the speakers by another --seed, choose corpora that have it",
}


def parts(protocol: Protocol, table: FeatureTable, target: str) -> tuple[Protocol, dict[str, np.ndarray]]:
    """The protocol as applied, and sorted rows by part: train, unlabelled, dev, test; `dev snr5`, ... by condition.

    `left out` are those of a protocol without duplicates that otherwise were in one of them. Raises
    :class:`ConfigError` and :class:`DataError` where the table cannot be divided so.
    """
    known = labelled(table, target)
    if not known.any():
        raise DataError(f"{table.root}: no utterance has a label for target {target}; choose another target or corpus")
    if isinstance(table, Joined) and protocol.name != "cross":
        raise ConfigError(f"protocol {protocol.name} divides one corpus; leave out --cross, or use --protocol cross")
    protocol, side = _RULES[protocol.name](protocol, table, target, known)
    left_out = np.zeros(len(table), bool)
    if protocol.drop_duplicates:
        left_out = _duplicates(table, known, side)
        side = np.where(left_out, _UNUSED, side)
    masks = {
        "train": known & (side == _TRAIN),
        "unlabelled": ~known & (side == _TRAIN),
        "dev": known & (side == _DEV),
        "test": known & (side == _TEST),
        "left out": left_out,
    }
    if isinstance(table, Joined) and protocol.target_audio == "all":
        masks["unlabelled"] = np.arange(len(table)) >= len(table.source)
    if protocol.unlabeled_condition is None:
        masks |= conditions.mixed(table, masks["dev"])
    else:
        masks |= conditions.apart(protocol.unlabeled_condition, table, masks, side == _TRAIN)
    found = {name: np.flatnonzero(chosen) for name, chosen in masks.items()}
    _check_parts(protocol, table, target, found)
    return protocol, found


def recordings(table: FeatureTable) -> np.ndarray:
    """What each utterance is a recording of, as numbers (N,).

    The same number have noisy copies (the same span of the same file), utterances with equal audio, and all that are
    linked so.
    """
    rows = table.utterances[["path", "start", "end"]]
    second = np.arange(len(rows)) >= (len(table.source) if isinstance(table, Joined) else 0)
    spans = rows.assign(table=second).groupby([*rows.columns, "table"], dropna=False, sort=False).ngroup().to_numpy()
    audio = table.utterances["audio_sha256"].to_numpy(object)
    number = pd.Series(spans)
    while True:
        lower = number.groupby(audio).transform("min").groupby(spans).transform("min")
        if lower.equals(number):
            return number.to_numpy(np.int64)
        number = lower


def _duplicates(table: FeatureTable, known: np.ndarray, side: np.ndarray) -> np.ndarray:
    """Utterances (N,) bool to leave out: the test part keeps a recording that stands in it, else development does."""
    recording, train, dev = recordings(table), side == _TRAIN, known & (side == _DEV)
    test = known & (side == _TEST)
    held, tested = (np.isin(recording, recording[rows]) for rows in (dev | test, test))
    left_out: np.ndarray = (train & held) | (dev & tested)
    return left_out


def _check_parts(protocol: Protocol, table: FeatureTable, target: str, found: dict[str, np.ndarray]) -> None:
    """Raise :class:`DataError` for an empty part, and for a class that isn't learnt or doesn't develop."""
    for part in ("train", "dev", "test"):
        if len(found[part]) == 0:
            raise DataError(f"{table.root}: {protocol} leaves no utterance labelled for {target} in the {part} part")
    for part, word in (("train", "training"), ("dev", "development")):
        absent = _absent(table, target, found["train"], found[part])
        if absent:
            raise DataError(
                f"{table.root}: the {word} set of {protocol} has no utterance of class {', '.join(absent)}; "
                f"{_WAY_OUT[protocol.name]}, choose another --target, or leave the class out of the corpus's manifest"
            )


def _absent(table: FeatureTable, target: str, train: np.ndarray, part: np.ndarray) -> list[str]:
    """Classes that no row of `part` has."""
    if attributes_of(target):
        return []
    codes, classes = target_codes(table, target, train)
    present = set(codes[part].tolist())
    return [name for code, name in enumerate(classes) if code not in present]


# --- speakers ---------------------------------------------------------------------------------------------------------


def speakers(
    protocol: Protocol, table: FeatureTable, known: np.ndarray, least: int = 3
) -> tuple[np.ndarray, list[str]]:
    """Each row's speaker, and the speakers who have a label, sorted. Raises :class:`DataError` for too few."""
    speaker = table.utterances["speaker"].to_numpy(object)
    names = sorted(set(speaker[known]))
    if len(names) < least:
        raise DataError(
            f"{table.root}: protocol {protocol.name} needs at least {least} speakers with labels, as its parts differ "
            f"in them, but the corpus has {len(names)}: {', '.join(names)}; use protocol kfold"
        )
    return speaker, names


def _sides(speaker: np.ndarray, dev: set[str], test: set[str]) -> np.ndarray:
    """Each row's side; whoever neither develops nor is tested trains."""
    sides = {name: _TEST if name in test else _DEV if name in dev else _TRAIN for name in set(speaker)}
    return np.array([sides[name] for name in speaker])


def _drawn(protocol: Protocol, table: FeatureTable, known: np.ndarray, *shares: float) -> list[set[str]]:
    """Speakers drawn by the seed, for each share those whose labelled utterances come nearest to it; at least one.

    Somebody is left over. Of two numbers of speakers that are as near, the smaller is taken.
    """
    speaker, names = speakers(protocol, table, known, len(shares) + 1)
    order = [names[i] for i in np.random.default_rng(protocol.seed).permutation(len(names))]
    counts = Counter(speaker[known])
    utterances = np.array([counts[name] for name in order])
    drawn, first = [], 0
    for later, share in zip(range(len(shares), 0, -1), shares, strict=True):
        sums = np.cumsum(utterances[first : len(order) - later])
        end = first + 1 + int(np.argmin(np.abs(sums - share * utterances.sum()).round(6)))
        drawn.append(set(order[first:end]))
        first = end
    return drawn


# --- the rules: each maps a protocol and a table to (the protocol as applied, each row's side) ------------------------


def _official(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    split = table.utterances["split"]
    if split.isna().all():
        raise DataError(f"{table.root}: the corpus has no official split; use protocol speaker, loso or kfold")
    code = {"train": _TRAIN, "unlabelled": _TRAIN, "dev": _DEV, "test": _TEST}
    return protocol, np.array([code.get(name, _UNUSED) for name in split.to_numpy(object)])


def _speaker(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    dev, test = _drawn(protocol, table, known, SHARE, SHARE)
    return protocol, _sides(table.utterances["speaker"].to_numpy(object), dev, test)


def _loso(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    speaker, names = speakers(protocol, table, known)
    test = protocol.test_speaker
    if test is None:
        raise DataError(f"protocol loso needs --test-speaker; expected one of {', '.join(names)}")
    for flag, name in (("--test-speaker", test), ("--dev-speaker", protocol.dev_speaker)):
        if name is not None and name not in names:
            raise DataError(f"{table.root}: {flag} {name}: no speaker with labels has this name; {one_of(name, names)}")
    if protocol.dev_speaker == test:
        raise DataError(f"--dev-speaker and --test-speaker are both {test}; they must differ")
    if protocol.dev_folds is not None:
        return protocol, _sides(speaker, _dealt(protocol, table, target, known, speaker), {test})
    after = names.index(test) + 1
    candidates = [protocol.dev_speaker] if protocol.dev_speaker else (names[after:] + names[: after - 1])
    for dev in candidates:
        side = _sides(speaker, dev={dev}, test={test})
        train = np.flatnonzero(known & (side == _TRAIN))
        if protocol.dev_speaker or not _absent(table, target, train, np.flatnonzero(known & (side == _DEV))):
            return dataclasses.replace(protocol, dev_speaker=dev), side
    # Nobody has every class: the caller says which class the next speaker lacks.
    return dataclasses.replace(protocol, dev_speaker=candidates[0]), _sides(speaker, {candidates[0]}, {test})


def _dealt(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray, speaker: np.ndarray) -> set[str]:
    """Who develops in one of the development folds: all but the tested speaker are dealt to them in turn.

    Those with the most classes come first, so that each fold has all classes if it can, and then by name.
    """
    rows = np.flatnonzero(known & (speaker != protocol.test_speaker))
    names, folds = sorted(set(speaker[rows])), protocol.dev_folds
    assert folds is not None
    if protocol.dev_fold is None:
        raise ConfigError(f"{protocol}: one fold develops at a time; name it, --dev-fold 1 to {folds}")
    if folds > len(names):
        raise DataError(
            f"{table.root}: --dev-folds {folds}: {len(names)} speakers with labels are left beside "
            f"{protocol.test_speaker}, of whom each fold needs one; use {len(names)} or fewer"
        )
    if not attributes_of(target):
        said = pd.Series(target_codes(table, target, rows)[0][rows]).groupby(speaker[rows]).nunique()
        names.sort(key=lambda name: -said[name])
    return set(names[protocol.dev_fold - 1 :: folds])


def _kfold(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    if protocol.fold is None:
        raise ConfigError(f"no --fold was given; protocol kfold tests one fold, --fold 1 to {protocol.folds}")
    group, rng = strata(table, target), np.random.default_rng(protocol.seed)
    # Of the labelled utterances of one recording the first is dealt, and the others go with it.
    recording, rows = recordings(table), np.flatnonzero(known)
    first = np.sort(rows[np.unique(recording[rows], return_index=True)[1]])
    speaker = table.utterances["speaker"].to_numpy(object)
    fold = np.full(len(recording), -1)
    by_group, by_fold = np.zeros((group.max() + 1, protocol.folds), np.int64), np.zeros(protocol.folds, np.int64)
    for name in sorted(set(speaker[first])):
        rows = rng.permutation(first[speaker[first] == name])
        if len(rows) < protocol.folds:
            raise DataError(
                f"{table.root}: speaker {name} has {len(rows)} labelled utterances, fewer than the {protocol.folds} "
                "folds that each hold all speakers; use fewer --folds"
            )
        by_speaker = np.zeros(protocol.folds, np.int64)
        # Class by class, to the fold with the fewest of this speaker, then of this class, then of all.
        for row in rows[np.argsort(group[rows], kind="stable")]:
            chosen = np.lexsort((by_fold, by_group[group[row]], by_speaker))[0]
            fold[recording[row]] = chosen
            for count in (by_speaker, by_group[group[row]], by_fold):
                count[chosen] += 1
    own, tested = fold[recording], protocol.fold - 1
    return protocol, np.where(own == tested, _TEST, np.where(own == (tested + 1) % protocol.folds, _DEV, _TRAIN))


def _cross(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    if not isinstance(table, Joined):
        raise ConfigError("protocol cross needs a second prepared corpus, on which models are tested: --cross FOLDER")
    source, tested = table.source, table.tested
    if columns_of(target) != ("emotion",) and table.corpus["attribute_scale"] is None:
        unknown = next(t for t in (source, tested) if t.corpus.get("attribute_scale") is None)
        raise DataError(
            f"{unknown.root}: the scale of its attributes isn't known, and one corpus's can't be mapped onto the "
            "other's; prepare it with its scale (csv: --set attribute_scale=[1,7]), or predict emotions"
        )
    edge = len(source)
    applied = dataclasses.replace(protocol, trained_on=source.corpus["corpus"], tested_on=tested.corpus["corpus"])
    sides = [_learnt(protocol, source, known[:edge]), _tested(protocol, tested, known[edge:])]
    return applied, np.concatenate(sides)


def _learnt(protocol: Protocol, table: FeatureTable, known: np.ndarray) -> np.ndarray:
    """Sides of the corpus that is learnt from, of whose utterances those without a label aren't used."""
    side = np.full(len(table), _TRAIN)
    if protocol.develop_on == "source":
        if {"train", "dev"} <= set(table.utterances["split"].dropna()):
            side = _official(protocol, table, "", known)[1]
            side[side == _TEST] = _UNUSED
        else:
            (dev,) = _drawn(protocol, table, known, SHARE)
            side = _sides(table.utterances["speaker"].to_numpy(object), dev, set())
    return np.where(known, side, _UNUSED)


def _tested(protocol: Protocol, table: FeatureTable, known: np.ndarray) -> np.ndarray:
    """Sides of the corpus that is tested on; of those who neither develop nor are tested, nothing has a label."""
    speaker, names = speakers(protocol, table, known, 1)
    dev = set() if protocol.develop_on == "source" else _drawn(protocol, table, known, CROSS_DEV)[0]
    return _sides(speaker, dev, set(names) - dev)


_Rule = Callable[["Protocol", "FeatureTable", str, np.ndarray], tuple["Protocol", np.ndarray]]
_RULES: dict[str, _Rule] = {
    "official": _official, "speaker": _speaker, "loso": _loso, "kfold": _kfold, "cross": _cross
}  # fmt: skip
