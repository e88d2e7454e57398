"""From a declaration and prepared corpora to the studies that must be run."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

from sersearch.data.conditions import CLEAN
from sersearch.data.joined import open_table
from sersearch.data.place import full_name, is_local
from sersearch.data.protocols import Protocol, folds
from sersearch.data.table import FeatureTable
from sersearch.data.targets import ATTRIBUTES, attributes_of, labelled
from sersearch.errors import ConfigError, DataError
from sersearch.papers.declaration import Part, Piece, Row, Table
from sersearch.papers.scaling import scaled_count, scaled_space
from sersearch.study import STUDIES
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.space import SearchSpace

Place = Any
"""A folder, local or not."""


@dataclass(frozen=True, kw_only=True)
class Given:
    """What the command line gives."""

    name: str
    """Of the piece, PAPER/NAME."""
    data: tuple[Place, ...]
    aux: tuple[Place, ...] = ()
    cross: tuple[Place, ...] = ()
    studies: Place = STUDIES
    scale: float = 1.0
    lanes: int | Literal["auto"] = 1
    """Of each study."""

    @property
    def paper(self) -> str:
        """The paper's name."""
        return self.name.partition("/")[0]


@dataclass(frozen=True)
class Job:
    """A study to run."""

    part: Part
    request: TuneRequest
    run: tuple[int, str]
    """Seed and fold that it stands for among the part's."""
    speakers: int | None = None
    """Of its auxiliary corpus."""

    @property
    def seeds(self) -> int:
        """Trainings that are tested beside the search."""
        return self.part.seeds if self.part.each != "run" and self.part.seeds > 1 else 0


@dataclass(frozen=True)
class Sheet:
    """A piece for one corpus: what of it can be made there, and the studies."""

    corpus: str
    """Its name: of the one that is tested."""
    trained: str
    piece: Piece
    jobs: tuple[Job, ...]
    synthetic: bool
    notes: tuple[str, ...]


def sheets(piece: Piece, given: Given) -> list[Sheet]:
    """The piece for each corpus that is given.

    Raises :class:`ConfigError` for an option that the piece lacks or has no use for, and :class:`DataError` for data
    that a corpus lacks, with the command that prepares them.
    """
    _check_options(piece, given)
    several = given.cross if piece.repeated == "cross" else given.data
    return [_sheet(piece, given, number) for number in range(len(several))]


def _check_options(piece: Piece, given: Given) -> None:
    uses_cross = any(part.cross or part.within for part in piece.parts)
    uses_aux = any(part.aux for part in piece.parts)
    if uses_cross and not given.cross:
        raise ConfigError(
            f"{given.name} is tested on another corpus (the paper's: {', '.join(piece.corpora)}): --cross FOLDER, made "
            f"by `sersearch prep {piece.corpora[0]} ROOT {_flags(piece)} --out data/{piece.corpora[0]}`"
        )
    if given.cross and not uses_cross:
        raise ConfigError(f"{given.name} has one corpus; leave out --cross")
    if given.aux and not uses_aux:
        raise ConfigError(f"{given.name} has no auxiliary corpus; leave out --aux")
    if piece.needs_aux == "several" and not given.aux:
        raise ConfigError(
            f"{given.name} is drawn over the number of auxiliary speakers: --aux FOLDER, once for each number, made by "
            f"`sersearch prep librispeech ROOT --set speakers=200 {_flags(piece)} --out data/librispeech-200`"
        )
    for option, places in (("data", given.data), ("cross", given.cross), ("aux", given.aux)):
        several = piece.repeated == option or (option == "aux" and piece.needs_aux == "several")
        if len(places) > 1 and not several:
            raise ConfigError(f"{given.name} takes one --{option}, there are {len(places)}")


def _flags(piece: Piece) -> str:
    return " ".join(f"--features {name}" for name in piece.features)


def _sheet(piece: Piece, given: Given, number: int) -> Sheet:
    data = given.data[number if piece.repeated == "data" else 0]
    cross = given.cross[number if piece.repeated == "cross" else 0] if given.cross else None
    for place in (data, cross):
        if place is not None:
            _check_features(piece, given, place)
    source, tested = (open_table(place, piece.features[0]) for place in (data, cross or data))
    made, notes = _possible(piece, given, [source] if cross is None else [source, tested])
    if piece.noisy and not set(source.utterances["condition"].dropna()) - {CLEAN}:
        raise DataError(
            f"{data}: has no noisy copies, which {given.name} is of: `sersearch prep {source.corpus['corpus']} ROOT "
            f"{_flags(piece)} --noise NOISES --snr 10 5 0 --out {data}_noisy` makes them"
        )
    several = piece.needs_aux == "several"
    jobs = tuple(job for part in made.parts for job in _jobs(part, given, data, cross, several))
    if any(job.part.aux for job in jobs) and not given.aux:
        notes += ("No auxiliary corpus was given (--aux), on which the paper trains for speaker and gender first.",)
    if any(job.part.protocol.name == "official" and job.request.protocol.name != "official" for job in jobs):
        notes += ("The corpus has no official split with a development and a test part: speakers are drawn by seed 0.",)
    trained, named = str(source.corpus["corpus"]), str(tested.corpus["corpus"])
    synthetic = bool(source.corpus["synthetic"] or tested.corpus["synthetic"])
    return Sheet(named, trained, made, jobs, synthetic, notes)


def _check_features(piece: Piece, given: Given, place: Place) -> None:
    """Raise :class:`DataError`, with the command that prepares them, for feature sets that a folder lacks."""
    for features in piece.features:
        try:
            FeatureTable.open(place, features)
        except DataError as error:
            if is_local(place) and (place / "corpus.json").is_file() and (place / features / "card.json").is_file():
                raise
            reader = piece.corpora[0]
            raise DataError(
                f"{error}. {given.name} takes {', '.join(piece.features)}: `sersearch prep {reader} ROOT "
                f"{_flags(piece)} --out {place}` makes them (another reader's name for another corpus)"
            ) from None


def _possible(piece: Piece, given: Given, tables: list[FeatureTable]) -> tuple[Piece, tuple[str, ...]]:
    """What of the piece the corpora have labels for, and sentences on what is otherwise than in the paper."""

    def known(target: str) -> bool:
        return all(labelled(table, target).any() for table in tables)

    names, notes = ", ".join(str(table.corpus["corpus"]) for table in tables), ()
    wanted = {part.target for part in piece.parts}
    missing = sorted(target for target in wanted if not known(target))
    if not missing:
        return piece, notes
    if not isinstance(piece, Table):
        raise DataError(f"{names}: no labels for {', '.join(missing)}, of which {given.name} is; choose another corpus")
    if any(attributes_of(target) for target in wanted) and not any(map(known, ATTRIBUTES)):
        target = "emotion4" if known("emotion4") else "emotion"
        return piece.of_classes(target), (
            f"{names} has no attributes, which the paper predicts: {target} is told apart instead, with a head for "
            "classes that isn't in the paper, once in place of each attribute; multi-task rows are left out.",
        )
    rows = [
        Row(row.label, tuple(c if c is not None and c.part.target not in missing else None for c in row.cells))
        for row in piece.rows
    ]
    if not any(any(row.cells) for row in rows):
        raise DataError(f"{names}: no labels for {', '.join(missing)}, of which {given.name} is; choose another corpus")
    return replace(piece, rows=tuple(rows)), (f"{names} has no labels for {', '.join(missing)}: left out.",)


# --- studies ----------------------------------------------------------------------------------------------------------


def _jobs(part: Part, given: Given, data: Place, cross: Place | None, several: bool) -> Iterator[Job]:
    space = scaled_space(part.made_space(), given.scale)
    own: Place = cross if part.within else data
    other = cross if part.cross else None
    table = open_table(own, space.features, other)
    part = replace(part, seeds=scaled_count(part.seeds, given.scale))
    rule = _applied(part.protocol, table)
    if part.unlabelled and not part.within and not part.cross:
        _check_pool(part, given, rule, table, own)
    for aux, speakers in _auxiliary(part, given, space.features, several):
        for seed, protocol, fold in _runs(part, rule, table, given.scale):
            request = TuneRequest(
                space=space,
                data=own,
                protocol=protocol,
                target=part.target,
                aux=aux,
                cross=other,
                name=_name(part, given, table, fold, speakers),
                root=given.studies,
                seed=seed,
                lanes=given.lanes,
            )
            yield Job(part, request, (seed, fold), speakers)


def _applied(protocol: Protocol, table: FeatureTable) -> Protocol:
    """The protocol, with drawn speakers in place of an official split that isn't there."""
    there = {"train", "dev", "test"} <= set(table.utterances["split"].dropna())
    return protocol if protocol.name != "official" or there else replace(protocol, name="speaker")


def _runs(part: Part, rule: Protocol, table: FeatureTable, scale: float) -> Iterator[tuple[int, Protocol, str]]:
    """Seed, protocol and name of each study of a part."""
    if part.each == "run":
        for seed in range(part.seeds):
            drawn = part.protocol.name == "speaker"
            yield seed, replace(rule, seed=seed) if drawn else rule, f"run{seed}"
    elif part.each == "fold":
        every = folds(rule, table, part.target)
        for protocol in every[: scaled_count(len(every), scale)]:
            yield 0, protocol, protocol.test_speaker or f"fold{protocol.fold}"
    else:
        yield 0, rule, ""


def _auxiliary(part: Part, given: Given, features: str, several: bool) -> Iterator[tuple[Place | None, int | None]]:
    """The auxiliary corpora of a part with their speakers; of several, none is the first."""
    if not part.aux or not given.aux:
        yield None, None
    elif not several:
        yield given.aux[0], None
    else:
        yield None, 0
        counts = {FeatureTable.open(aux, features).utterances["speaker"].nunique(): aux for aux in given.aux}
        for count in sorted(counts):
            yield counts[count], count


def _check_pool(part: Part, given: Given, rule: Protocol, table: FeatureTable, place: Place) -> None:
    """Raise :class:`DataError` where there is no speech without labels to learn from."""
    if part.each == "one" and not len(rule.split(table, part.target).unlabelled):
        reader = table.corpus["corpus"]
        raise DataError(
            f"{place}: {rule} leaves no speech without labels, which {given.name} learns from: `sersearch prep "
            f"{reader} ROOT --unlabeled POOL --features {table.card['features']} --out {place}` adds a pool"
        )


def _name(part: Part, given: Given, table: FeatureTable, fold: str, speakers: int | None) -> str:
    """Of a study: the same whenever the same is asked for."""
    corpus = str(table.corpus["corpus"]).replace(", ", "-to-")
    pieces = [f"paper-{given.paper}-{part.name}-{corpus}", fold]
    pieces += [] if speakers is None else [f"aux{speakers}"]
    pieces += [] if given.scale == 1 else [f"x{given.scale:g}"]
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", "-".join(filter(None, pieces)))


def size(space: SearchSpace) -> int:
    """Trials of a search."""
    return len(space.grid()) if space.method == "grid" else space.trials


def same_request(meta: dict[str, Any], request: TuneRequest) -> bool:
    """Whether a study is of what is asked for, as far as can be told without its data."""
    held, data = meta["space"], meta["data"]
    where = [(data["path"], request.data), (data.get("aux"), request.aux), (data.get("cross"), request.cross)]
    alike = all(old == (None if new is None else full_name(new)) for old, new in where)
    return bool(alike and meta["seed"] == request.seed and held == request.space.model_dump(mode="json"))


__all__ = ["Given", "Job", "Sheet", "same_request", "sheets", "size"]
