"""Who trains and who develops: the rules by which an evaluation is speaker-independent, or says that it isn't.

A protocol gives each utterance a side. `split` hands out training and development rows; the test rows come from
`sersearch.data.heldout`, which tuning must not import.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from sersearch.data import conditions
from sersearch.data.joined import Joined
from sersearch.data.leaks import leaks
from sersearch.data.rules import parts, speakers
from sersearch.data.targets import attributes_of, columns_of, labelled, target_codes, target_values
from sersearch.errors import ConfigError, one_of

if TYPE_CHECKING:
    from sersearch.data.table import FeatureTable

Name = Literal["official", "speaker", "loso", "kfold", "cross"]
DevelopOn = Literal["target", "source"]
TargetAudio = Literal["unlabelled", "all"]

_OWNERS = {
    "shared_speakers": "official",
    **dict.fromkeys(("test_speaker", "dev_speaker", "dev_folds", "dev_fold"), "loso"),
    **dict.fromkeys(("fold", "folds"), "kfold"),
    **dict.fromkeys(("develop_on", "target_audio", "trained_on", "tested_on"), "cross"),
}


@dataclass(frozen=True)
class Protocol:
    """How a corpus is divided into training, development and test part.

    - `official`: the corpus's own split. With `shared_speakers` also one whose parts share speakers, which
      :func:`~sersearch.data.leaks.check_leaks` refuses otherwise.
    - `speaker`: speakers drawn by `seed` until 15% of the labelled utterances develop, then until 15% are tested, as
      near as whole speakers come (at least one each); the rest train. So Goncalves & Busso, ICASSP 2023, section 5,
      parts CREMA-D anew for each of 20 runs: 70/15/15 "of the data", speaker-independent. How it rounds the paper
      doesn't say, and nothing is balanced by gender or class.
    - `loso`: leave one speaker out. `test_speaker` is tested, `dev_speaker` develops (by default the next speaker, in
      cyclic sorted order, who has every class), the others train. With `dev_folds` it is nested: the speakers who are
      not tested are dealt to so many folds, of which each (`dev_fold`, from 1) develops in turn while the others train
      (:func:`rotations`), and what is best for the tested speaker is best in the mean over the folds: the
      "leave-one-speaker-out training with five-fold cross-validation" of Latif et al., TAFFC 2020, section 5.2, which
      doesn't say of what the folds are, nor how their figures are put together.
    - `kfold`: `folds` folds with all speakers in each, so that speakers can be recognised; `fold` (from 1) is tested,
      the next one (cyclic) develops, the others train: the 10-fold scheme of Latif et al., section 5.
    - `cross`: cross-corpus, of two tables that are joined (:mod:`sersearch.data.joined`). All labelled utterances of
      the source train, and of the target corpus speakers drawn by `seed` with 30% of its labelled utterances develop,
      and the others are tested (Latif et al., section 5.3, who don't say whether the 30% share speakers with the
      rest; here they never do). With `develop_on` source, training and development are the source's own (its official
      split, or 15% by speakers drawn by `seed`), and all of the target is tested (Parthasarathy & Busso, TASLP 2020,
      section V-B). Unlabelled utterances are the target's alone: by `target_audio`, those without a label, of speakers
      who neither develop nor are tested, or `all` of its audio without any label, what is tested included, as
      section V-B has it. `trained_on` and `tested_on` are the corpora's names, filled in as it is applied.

    Unlabelled utterances train wherever their speaker may. Of a corpus with noisy copies, these train, develop and are
    tested beside the clean utterances, unless there is an `unlabeled_condition`: then labels come from clean speech and
    unlabelled utterances from that condition (Leem et al., Interspeech 2021), so clean rows train and develop, rows in
    that condition train without their labels, and the test part has its utterances in all conditions. Those rows are
    the official split's unlabelled part, where it has one in that condition, and else the training side's, so noisy
    copies of what is labelled. With `drop_duplicates`, recordings that stand in several parts stay in the test part, or
    else the development part, and are left out of the others.

    Raises :class:`ConfigError` for an unknown name, an option of another protocol, or a fold that isn't there.
    """

    name: Name
    test_speaker: str | None = None
    dev_speaker: str | None = None
    fold: int | None = None
    folds: int = 10
    seed: int = 0
    unlabeled_condition: str | None = None
    dev_folds: int | None = None
    dev_fold: int | None = None
    develop_on: DevelopOn = "target"
    target_audio: TargetAudio = "unlabelled"
    trained_on: str | None = None
    tested_on: str | None = None
    shared_speakers: bool = False
    drop_duplicates: bool = False

    def __post_init__(self) -> None:
        if self.name not in get_args(Name):
            raise ConfigError(f"protocol {self.name!r} is unknown; {one_of(self.name, get_args(Name))}")
        for option, owner in _OWNERS.items():
            if getattr(self, option) != type(self).__dataclass_fields__[option].default and self.name != owner:
                flag = "--" + option.replace("_", "-")
                raise ConfigError(f"{flag} is an option of protocol {owner}, not of {self.name}; leave one of them out")
        for option, valid in (("develop_on", get_args(DevelopOn)), ("target_audio", get_args(TargetAudio))):
            if (value := getattr(self, option)) not in valid:
                raise ConfigError(f"--{option.replace('_', '-')} {value}: {one_of(value, valid)}")
        self._check_folds()
        if self.name == "cross" and self.unlabeled_condition is not None:
            raise ConfigError(
                "--unlabeled-condition is of one corpus with noisy copies, and protocol cross is of two corpora; leave "
                "one of them out"
            )

    def _check_folds(self) -> None:
        if self.name == "kfold" and self.folds < 3:
            raise ConfigError(f"kfold needs at least 3 folds (training, development, test), not {self.folds}")
        if self.fold is not None and not 1 <= self.fold <= self.folds:
            raise ConfigError(
                f"fold {self.fold} does not exist; protocol kfold tests one fold, --fold 1 to {self.folds}"
            )
        if self.dev_folds is None and self.dev_fold is not None:
            raise ConfigError(f"--dev-fold {self.dev_fold} is one of several; say of how many, --dev-folds")
        if self.dev_folds is None:
            return
        if self.dev_speaker is not None:
            raise ConfigError(
                "--dev-speaker and --dev-folds: one speaker develops, or all in turn; leave one of them out"
            )
        if self.dev_folds < 2:
            raise ConfigError(
                f"--dev-folds {self.dev_folds}: while one fold develops another trains; expected 2 or more"
            )
        if self.dev_fold is not None and not 1 <= self.dev_fold <= self.dev_folds:
            raise ConfigError(f"--dev-fold {self.dev_fold} does not exist; expected 1 to {self.dev_folds}")

    def __str__(self) -> str:
        return "; ".join([_CAPTIONS[self.name](self), *self._remarks()])

    def _remarks(self) -> list[str]:
        """What a reader must know beside how the parts are made."""
        remarks = []
        if self.unlabeled_condition:
            remarks.append(f"labels from clean speech, unlabelled: {self.unlabeled_condition}")
        if self.target_audio == "all":
            whose = self.tested_on or "the tested corpus"
            remarks.append(f"all audio of {whose} trains without labels, what is tested included")
        if self.shared_speakers:
            remarks.append("its parts share speakers")
        if self.drop_duplicates:
            remarks.append("without duplicates of what is held out")
        return remarks

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Protocol:
        """The inverse of :meth:`to_dict`."""
        return cls(**values)

    @property
    def whole(self) -> Protocol:
        """The protocol with all its folds, none of them named: the caption of a figure over them."""
        return dataclasses.replace(self, test_speaker=None, dev_speaker=None, fold=None, dev_fold=None)

    @property
    def in_common(self) -> str:
        """What the folds of a figure have in common, in words: of `speaker`, they are the splits of several seeds."""
        if self.name != "speaker":
            return str(self.whole)
        return "; ".join(["speaker-disjoint splits, drawn by seed", *self._remarks()])

    def split(self, table: FeatureTable, target: str = "emotion") -> Split:
        """Training and development rows of `table` for `target`.

        Raises :class:`DataError` when the table cannot be divided so: an unknown speaker, no official split, too few
        speakers, no labels, a class that training or development lacks; :class:`ConfigError` where no fold is named.
        """
        protocol, found = parts(self, table, target)
        by_condition = {name.removeprefix("dev "): rows for name, rows in found.items() if name.startswith("dev ")}
        return Split(protocol, found["train"], found["unlabelled"], found["dev"], by_condition)


def _loso_caption(protocol: Protocol) -> str:
    test = f"test speaker {protocol.test_speaker}" if protocol.test_speaker else "each speaker tested in turn"
    if protocol.dev_folds:
        fold = f", fold {protocol.dev_fold} develops" if protocol.dev_fold else ""
        return f"LOSO, {test}, the other speakers develop in {protocol.dev_folds} folds{fold}"
    return f"LOSO, {test}" + (f", development speaker {protocol.dev_speaker}" if protocol.dev_speaker else "")


def _kfold_caption(protocol: Protocol) -> str:
    fold = f"fold {protocol.fold} tested" if protocol.fold else "each tested in turn"
    return f"{protocol.folds}-fold with all speakers in each fold, {fold}, seed {protocol.seed}"


def _cross_caption(protocol: Protocol) -> str:
    source, tested = protocol.trained_on or "one corpus", protocol.tested_on or "another"
    if protocol.develop_on == "source":
        return f"cross-corpus, trained and developed on {source}, tested on {tested}, seed {protocol.seed}"
    parts_of = "speakers with 30% of it develop, the others are tested"
    return f"cross-corpus, trained on {source}, tested on {tested}: {parts_of}, seed {protocol.seed}"


_CAPTIONS: dict[str, Callable[[Protocol], str]] = {
    "official": lambda _: "official split",
    "speaker": lambda protocol: f"speaker-disjoint split, seed {protocol.seed}",
    "loso": _loso_caption,
    "kfold": _kfold_caption,
    "cross": _cross_caption,
}


def folds(protocol: Protocol, table: FeatureTable, target: str = "emotion") -> list[Protocol]:
    """The protocols of a full cross-validation, one for each test part: the speakers of LOSO, the folds of kfold.

    Each labelled utterance is tested in exactly one of them. Whatever fold `protocol` names, all are given, each with
    the development part that it has by default. A protocol with one test part stands alone.
    """
    if protocol.name == "loso":
        names = speakers(protocol, table, labelled(table, target))[1]
        return [dataclasses.replace(protocol.whole, test_speaker=name) for name in names]
    if protocol.name == "kfold":
        return [dataclasses.replace(protocol, fold=fold) for fold in range(1, protocol.folds + 1)]
    return [protocol]


def rotations(protocol: Protocol) -> list[Protocol]:
    """The protocols of a nested one, for each of its development folds; any other, or one fold, stands alone.

    A configuration's objective is the mean over them, and all have the same test part.
    """
    if protocol.dev_folds is None or protocol.dev_fold is not None:
        return [protocol]
    return [dataclasses.replace(protocol, dev_fold=fold) for fold in range(1, protocol.dev_folds + 1)]


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

    `leaks` are what :func:`~sersearch.data.leaks.leaks` finds. `conditions` are a part's utterances by condition: noisy
    copies count as utterances. `notes` are sentences. `used` (N,) bool says which aren't left out, None: all.
    """
    protocol, found = parts(protocol, table, target)
    held = {name: found[name] for name in ("train", "unlabelled", "dev", "test")}
    if used is not None:
        held = {name: chosen[used[chosen]] for name, chosen in held.items()}
    attributes = attributes_of(target)
    codes, classes = (None, ()) if attributes else target_codes(table, target, held["train"])
    rows = table.utterances
    card: dict[str, Any] = {}
    for part, chosen in held.items():
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
    return {
        "protocol": protocol.to_dict(),
        "caption": str(protocol),
        "target": target,
        "classes": list(classes),
        "attributes": list(attributes),
        "parts": card,
        "leaks": list(leaks(protocol, table, held)),
        "notes": _notes(protocol, table, target, card, len(found["left out"])),
    }


def _notes(
    protocol: Protocol, table: FeatureTable, target: str, card: Mapping[str, Mapping[str, Any]], left_out: int
) -> list[str]:
    """What else to know of a split, in sentences, from its card by part."""
    notes = []
    if not protocol.unlabeled_condition:
        notes += conditions.mixture(card["train"]["conditions"], card["dev"]["conditions"])
    if left_out:
        notes.append(
            f"{left_out} utterances are left out: their recordings stand in the development or test part, too."
        )
    if isinstance(table, Joined) and "emotion" in columns_of(target) and (unshared := table.unshared):
        held = ", ".join(f"{name} {count}" for name, count in unshared.items())
        notes.append(f"Emotions that only one of the corpora has are no labels; utterances of them: {held}.")
    return notes
