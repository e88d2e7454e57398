"""Who trains and who develops: the rules by which an evaluation is speaker-independent, or says that it isn't.

A protocol gives each utterance a side. `split` hands out training and development rows; the test rows come from
`sersearch.data.heldout`, which tuning must not import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sersearch.data import conditions
from sersearch.data.targets import attributes_of, labelled, strata, target_codes, target_values
from sersearch.errors import ConfigError, DataError, one_of

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable

Name = Literal["official", "speaker", "loso", "kfold"]

SHARE = 0.15
"""Share of the speakers in the development part, and in the test part, of the protocol `speaker`."""

_UNUSED, _TRAIN, _DEV, _TEST = -1, 0, 1, 2


@dataclass(frozen=True)
class Protocol:
    """How a corpus is divided into training, development and test part.

    - `official`: the corpus's own split.
    - `speaker`: speakers drawn by `seed`, 15% for development, 15% for testing (at least one each), the rest train.
    - `loso`: leave one speaker out. `test_speaker` is tested, `dev_speaker` develops (by default the next speaker, in
      cyclic sorted order, who has every class), the others train.
    - `kfold`: `folds` folds with all speakers in each, so that speakers can be recognised; `fold` (from 1) is tested,
      the next one (cyclic) develops, the others train: the 10-fold scheme of Latif et al., TAFFC 2020, section 5.

    Unlabelled utterances train wherever their speaker may. Of a corpus with noisy copies, these train, develop and are
    tested beside the clean utterances, unless there is an `unlabeled_condition`: then labels come from clean speech and
    unlabelled utterances from that condition (Leem et al., Interspeech 2021), so clean rows train and develop, rows in
    that condition train without their labels, and the test part has its utterances in all conditions. Those rows are
    the official split's unlabelled part, where it has one in that condition, and else the training side's, so noisy
    copies of what is labelled.

    Raises :class:`ConfigError` for an unknown name, an option of another protocol, or a fold that isn't there.
    """

    name: Name
    test_speaker: str | None = None
    dev_speaker: str | None = None
    fold: int | None = None
    folds: int = 10
    seed: int = 0
    unlabeled_condition: str | None = None

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ConfigError(f"protocol {self.name!r} is unknown; {one_of(self.name, get_args(Name))}")
        for option, owner in (("test_speaker", "loso"), ("dev_speaker", "loso"), ("fold", "kfold")):
            if getattr(self, option) is not None and self.name != owner:
                flag = "--" + option.replace("_", "-")
                raise ConfigError(f"{flag} is an option of protocol {owner}, not of {self.name}; leave one of them out")
        if self.name == "kfold":
            if self.folds < 3:
                raise ConfigError(f"kfold needs at least 3 folds (training, development, test), not {self.folds}")
            if self.fold is None or not 1 <= self.fold <= self.folds:
                seen = "no --fold was given" if self.fold is None else f"fold {self.fold} does not exist"
                raise ConfigError(f"{seen}; protocol kfold tests one fold, --fold 1 to {self.folds}")

    def __str__(self) -> str:
        noisy = (
            f"; labels from clean speech, unlabelled: {self.unlabeled_condition}" if self.unlabeled_condition else ""
        )
        if self.name == "loso":
            dev = f", development speaker {self.dev_speaker}" if self.dev_speaker else ""
            return f"LOSO, test speaker {self.test_speaker}{dev}{noisy}"
        if self.name == "kfold":
            folds = f"{self.folds}-fold with all speakers in each fold, fold {self.fold} tested, seed {self.seed}"
            return folds + noisy
        return ("official split" if self.name == "official" else f"speaker-disjoint split, seed {self.seed}") + noisy

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The inverse of :meth:`to_dict`."""
        return cls(**values)

    def split(self, table: FeatureTable, target: str = "emotion") -> Split:
        """Training and development rows of `table` for `target`.

        Raises :class:`DataError` when the table cannot be divided so: an unknown speaker, no official split, too few
        speakers, no labels, a class that training or development lacks.
        """
        protocol, parts = _parts(self, table, target)
        by_condition = {name.removeprefix("dev "): rows for name, rows in parts.items() if name.startswith("dev ")}
        return Split(protocol, parts["train"], parts["unlabelled"], parts["dev"], by_condition)


@dataclass(frozen=True, eq=False)
class Split:
    """Row numbers of a feature table, each part sorted. The test part is not here, on purpose."""

    protocol: Protocol
    """The protocol as it was applied: with LOSO's development speaker filled in."""
    train: np.ndarray
    """Labelled training rows."""
    unlabelled: np.ndarray
    """Rows without a label that may be trained on."""
    dev: np.ndarray
    """Labelled development rows."""
    dev_by_condition: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    """By condition: with an `unlabeled_condition`, the same utterances in noise, never to select by; without one, what
    `dev` holds of each, where there are several."""


def split_card(
    protocol: Protocol, table: FeatureTable, target: str = "emotion", used: np.ndarray | None = None
) -> dict[str, Any]:
    """What a reader must know to trust a result, JSON-ready: who is where, how many of what, and what leaks.

    `leaks` names each speaker, each audio (by the hash of its samples) and each sentence that stands in two parts;
    `allowed` says whether the protocol means it to: speakers only in kfold, sentences always, audio never. `conditions`
    are a part's utterances by condition: noisy copies count as utterances. `notes` are sentences. `used` (N,) bool says
    which utterances aren't left out, None: all.
    """
    protocol, parts = _parts(protocol, table, target)
    parts = {name: chosen for name, chosen in parts.items() if name in ("train", "unlabelled", "dev", "test")}
    if used is not None:
        parts = {name: chosen[used[chosen]] for name, chosen in parts.items()}
    attributes = attributes_of(target)
    codes, classes = (None, ()) if attributes else target_codes(table, target, parts["train"])
    rows = table.utterances
    card: dict[str, Any] = {}
    for part, chosen in parts.items():
        card[part] = {
            "utterances": len(chosen),
            "conditions": conditions.counted(table, chosen),
            "hours": round(float(rows["duration"].iloc[chosen].sum()) / 3600, 3),
            "speakers": sorted(rows["speaker"].iloc[chosen].unique().tolist()),
            "labels": {},
            "gender": rows["gender"].iloc[chosen].value_counts().sort_index().to_dict(),
        }
        if part != "unlabelled" and codes is not None:
            labels = np.bincount(codes[chosen][codes[chosen] >= 0], minlength=len(classes))
            card[part]["labels"] = dict(zip(classes, labels.tolist(), strict=True))
        if part != "unlabelled" and attributes:
            values = target_values(table, target)[chosen]
            moments = zip(attributes, values.mean(axis=0), values.std(axis=0), strict=True)
            card[part]["attributes"] = {
                name: {"mean": round(float(mean), 3), "std": round(float(std), 3)} for name, mean, std in moments
            }
    learnt, selects = (card[part]["conditions"] for part in ("train", "dev"))
    notes = [] if protocol.unlabeled_condition else conditions.mixture(learnt, selects)
    return {
        "protocol": protocol.to_dict(),
        "caption": str(protocol),
        "target": target,
        "classes": list(classes),
        "attributes": list(attributes),
        "parts": card,
        "leaks": list(_leaks(protocol, table, parts)),
        "notes": notes,
    }


def _leaks(protocol: Protocol, table: FeatureTable, parts: Mapping[str, np.ndarray]) -> Iterator[dict[str, Any]]:
    # Labelled or not, an utterance that is trained on is on the training side.
    sides = {"train": np.concatenate([parts["train"], parts["unlabelled"]]), "dev": parts["dev"], "test": parts["test"]}
    kinds = {
        "speaker": ("speaker", protocol.name == "kfold"),
        "audio": ("audio_sha256", False),
        "sentence": ("sentence", True),
    }
    for kind, (column, allowed) in kinds.items():
        seen = {side: set(table.utterances[column].iloc[rows].dropna()) for side, rows in sides.items()}
        for first, second in (("train", "dev"), ("train", "test"), ("dev", "test")):
            values = sorted(seen[first] & seen[second])
            if values:
                yield {
                    "kind": kind,
                    "between": [first, second],
                    "values": values[:20],
                    "count": len(values),
                    "allowed": allowed,
                }


# --- the rules --------------------------------------------------------------------------------------------------------
# A rule maps a protocol and a table to (the protocol as applied, each row's side). To add a protocol, write its rule.


def _parts(protocol: Protocol, table: FeatureTable, target: str) -> tuple[Protocol, dict[str, np.ndarray]]:
    """Rows by part, test included: for this module and `heldout` alone."""
    known = labelled(table, target)
    if not known.any():
        raise DataError(f"{table.root}: no utterance has a label for target {target}; choose another target or corpus")
    protocol, side = _RULES[protocol.name](protocol, table, target, known)
    parts = {
        "train": known & (side == _TRAIN),
        "unlabelled": ~known & (side == _TRAIN),
        "dev": known & (side == _DEV),
        "test": known & (side == _TEST),
    }
    if protocol.unlabeled_condition is None:
        parts |= conditions.mixed(table, parts["dev"])
    else:
        parts |= conditions.apart(protocol.unlabeled_condition, table, parts, side == _TRAIN)
    parts = {name: np.flatnonzero(chosen) for name, chosen in parts.items()}
    for part in ("train", "dev", "test"):
        if len(parts[part]) == 0:
            raise DataError(f"{table.root}: {protocol} leaves no utterance labelled for {target} in the {part} part")
    for part, word in (("train", "training"), ("dev", "development")):
        absent = _absent(table, target, parts["train"], parts[part])
        if absent:
            raise DataError(
                f"{table.root}: the {word} set of {protocol} has no utterance of class {', '.join(absent)}; "
                f"{_WAY_OUT[protocol.name]}, choose another --target, or leave the class out of the corpus's manifest"
            )
    return protocol, parts


_WAY_OUT = {
    "official": "use another protocol, such as speaker",
    "speaker": "draw the speakers by another --seed",
    "loso": "choose another --dev-speaker or --test-speaker",
    "kfold": "use fewer --folds",
}


def _absent(table: FeatureTable, target: str, train: np.ndarray, part: np.ndarray) -> list[str]:
    """Classes that no row of `part` has."""
    if attributes_of(target):
        return []
    codes, classes = target_codes(table, target, train)
    present = set(codes[part].tolist())
    return [name for code, name in enumerate(classes) if code not in present]


def _speakers(table: FeatureTable, known: np.ndarray, protocol: Protocol) -> tuple[np.ndarray, list[str]]:
    """Each row's speaker, and the speakers who have a label, sorted."""
    speaker = table.utterances["speaker"].to_numpy(object)
    names = sorted(set(speaker[known]))
    if len(names) < 3:
        raise DataError(
            f"{table.root}: protocol {protocol.name} needs at least 3 speakers with labels (training, development, "
            f"test), the corpus has {len(names)}: {', '.join(names)}; use protocol kfold"
        )
    return speaker, names


def _sides(speaker: np.ndarray, dev: set[str], test: set[str]) -> np.ndarray:
    """Each row's side; whoever neither develops nor is tested trains."""
    sides = {name: _TEST if name in test else _DEV if name in dev else _TRAIN for name in set(speaker)}
    return np.array([sides[name] for name in speaker])


def _official(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    split = table.utterances["split"]
    if split.isna().all():
        raise DataError(f"{table.root}: the corpus has no official split; use protocol speaker, loso or kfold")
    code = {"train": _TRAIN, "unlabelled": _TRAIN, "dev": _DEV, "test": _TEST}
    return protocol, np.array([code.get(name, _UNUSED) for name in split.to_numpy(object)])


def _speaker(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    speaker, names = _speakers(table, known, protocol)
    drawn = [names[i] for i in np.random.default_rng(protocol.seed).permutation(len(names))]
    count = max(1, round(SHARE * len(names)))
    return protocol, _sides(speaker, dev=set(drawn[:count]), test=set(drawn[count : 2 * count]))


def _loso(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    speaker, names = _speakers(table, known, protocol)
    test = protocol.test_speaker
    if test is None:
        raise DataError(f"protocol loso needs --test-speaker; expected one of {', '.join(names)}")
    for flag, name in (("--test-speaker", test), ("--dev-speaker", protocol.dev_speaker)):
        if name is not None and name not in names:
            raise DataError(f"{table.root}: {flag} {name}: no speaker with labels has this name; {one_of(name, names)}")
    if protocol.dev_speaker == test:
        raise DataError(f"--dev-speaker and --test-speaker are both {test}; they must differ")
    after = names.index(test) + 1
    candidates = [protocol.dev_speaker] if protocol.dev_speaker else (names[after:] + names[: after - 1])
    for dev in candidates:
        side = _sides(speaker, dev={dev}, test={test})
        train = np.flatnonzero(known & (side == _TRAIN))
        if protocol.dev_speaker or not _absent(table, target, train, np.flatnonzero(known & (side == _DEV))):
            return dataclasses.replace(protocol, dev_speaker=dev), side
    # Nobody has every class: the caller says which class the next speaker lacks.
    return dataclasses.replace(protocol, dev_speaker=candidates[0]), _sides(speaker, {candidates[0]}, {test})


def _kfold(protocol: Protocol, table: FeatureTable, target: str, known: np.ndarray) -> tuple[Protocol, np.ndarray]:
    speaker = table.utterances["speaker"].to_numpy(object)
    group, rng = strata(table, target), np.random.default_rng(protocol.seed)
    fold = np.zeros(len(speaker), np.int64)
    original = _originals(table)
    copies, known = original != np.arange(len(original)), known & (original == np.arange(len(original)))
    by_group, by_fold = np.zeros((group.max() + 1, protocol.folds), np.int64), np.zeros(protocol.folds, np.int64)
    for name in sorted(set(speaker[known])):
        rows = rng.permutation(np.flatnonzero(known & (speaker == name)))
        if len(rows) < protocol.folds:
            raise DataError(
                f"{table.root}: speaker {name} has {len(rows)} labelled utterances, fewer than the {protocol.folds} "
                "folds that each hold all speakers; use fewer --folds"
            )
        by_speaker = np.zeros(protocol.folds, np.int64)
        # Class by class, to the fold with the fewest of this speaker, then of this class, then of all.
        for row in rows[np.argsort(group[rows], kind="stable")]:
            chosen = np.lexsort((by_fold, by_group[group[row]], by_speaker))[0]
            fold[row] = chosen
            for count in (by_speaker, by_group[group[row]], by_fold):
                count[chosen] += 1
    fold[copies], known = fold[original[copies]], known | (copies & known[original])
    assert protocol.fold is not None
    tested = protocol.fold - 1
    side = np.where(fold == tested, _TEST, np.where(fold == (tested + 1) % protocol.folds, _DEV, _TRAIN))
    return protocol, np.where(known, side, _TRAIN)


def _originals(table: FeatureTable) -> np.ndarray:
    """For each row, the first row of the same utterance: noisy copies go into the fold of what they are copies of."""
    rows = table.utterances
    same = list(zip(rows["path"], rows["start"].fillna(-1), rows["end"].fillna(-1), strict=True))
    first: dict[Any, int] = {}
    return np.array([first.setdefault(key, row) for row, key in enumerate(same)])


_Rule = Callable[[Protocol, "FeatureTable", str, np.ndarray], tuple[Protocol, np.ndarray]]
_RULES: dict[str, _Rule] = {"official": _official, "speaker": _speaker, "loso": _loso, "kfold": _kfold}
