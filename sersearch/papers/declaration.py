"""What a paper's table or figure is made of: models to search, cells to fill, and the paper's own numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

from sersearch.data.protocols import Protocol
from sersearch.data.targets import ATTRIBUTES
from sersearch.tuning.space import SearchSpace, load_space

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

    from sersearch.papers.collecting import Collected

AROUSAL, VALENCE, DOMINANCE = ATTRIBUTES
"""The papers' arousal is `activation` here."""
OFFICIAL, LOSO = Protocol("official"), Protocol("loso")
PAPER_SPEAKERS = 10
"""Speakers of IEMOCAP: the folds of leave-one-speaker-out in the papers' own runs."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """A model that a piece needs: a search in a study, or in one for each fold or run."""

    name: str
    """Of its studies, behind the paper's. Pieces of one paper that name the same part share its studies."""
    space: str
    search: Mapping[str, Sequence[Any]] | None = None
    """What is searched in place of what the space does, all of it; one choice each is one configuration."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    target: str = "emotion"
    protocol: Protocol = OFFICIAL
    each: Literal["one", "fold", "run"] = "one"
    """A study in all, one for each fold of the protocol, or one for each seed, which then also draws the protocol."""
    seeds: int = 1
    """Of the trainings that are tested: 1 is the search's own."""
    aux: bool = False
    """Whether it is pre-trained on an auxiliary corpus."""
    cross: bool = False
    """Whether it is tested on another corpus."""
    within: bool = False
    """Whether it stays within that other corpus."""
    svr: bool = False
    """Whether the two-step baseline is made of it, too."""
    objective: str | None = None
    """The development metric that says which epoch is the best; None: the space's."""

    def made_space(self) -> SearchSpace:
        """The search space at the paper's size."""
        space = load_space(self.space)
        if self.objective is not None:
            space = space.changed(objective={"metric": self.objective})
        if self.search is None:
            return space.changed(fixed={**space.fixed, **self.fixed})
        search = {name: {"choices": tuple(values)} for name, values in self.search.items()}
        fixed = {name: value for name, value in {**space.fixed, **self.fixed}.items() if name not in search}
        kept = space.constraint if space.constraint and set(space.constraint.names) <= {*search, *fixed} else None
        changed = space.model_copy(update={"constraint": kept})
        pruning = {"kind": "none"}
        return changed.changed(search=search, fixed=fixed, method="grid", pruning=pruning)

    @property
    def unlabelled(self) -> bool:
        """Whether it learns from speech without labels, too."""
        space = self.made_space()
        return bool(getattr(space.config(space.paper_point() or space.middle()), "learns_unlabelled", False))


@dataclass(frozen=True)
class Cell:
    """One figure of a table."""

    part: Part
    figure: str
    """test_ccc_valence, dev_ua, svr_test_ccc_valence, ...; test_ccc_valence@snr5 in that condition."""

    @property
    def attribute(self) -> str | None:
        """The attribute that it is of."""
        return next((name for name in ATTRIBUTES if f"ccc_{name}" in self.figure), None)


@dataclass(frozen=True)
class Row:
    """A line of a table: a cell for each column, None where the paper has none."""

    label: str
    cells: tuple[Cell | None, ...]


@dataclass(frozen=True)
class Number:
    """A figure as a paper prints it."""

    mean: float
    deviation: float | None
    marks: str
    digits: int
    """Behind the point."""

    @classmethod
    def parse(cls, text: str) -> Number | None:
        """From text such as 0.590±0.074•; None from a dash."""
        if text.strip() in ("-", ""):
            return None
        match = re.fullmatch(r"\s*(\d+\.\d+)(?:\s*±\s*(\d+\.\d+))?\s*(\D*?)\s*", text)
        if match is None:
            raise ValueError(f"not a number of a paper: {text!r}")
        digits = len(match[1].partition(".")[2])
        return cls(float(match[1]), None if match[2] is None else float(match[2]), match[3], digits)


@dataclass(frozen=True, kw_only=True)
class Test:
    """The paper's own test of significance."""

    name: Literal["fisher_z", "paired_t", "student_t"]
    """In :data:`sersearch.evaluation.comparison.TESTS`."""
    marks: Mapping[str, str]
    """By baseline, a row's label, or a column's `within` rows, the mark of what is significantly better."""
    within: Literal["column", "row"] = "column"
    """Where a cell's baseline stands: in its column, or in its row."""
    untested: tuple[str, ...] = ()
    """Rows that stand beside the others without a test."""
    all: str = ""
    """The mark of what is better than every baseline, in place of marks of their own."""


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What tables and figures have in common."""

    title: str
    source: str
    """Where it stands in the paper."""
    corpora: tuple[str, ...]
    """The paper's that are tested, by their readers' names."""
    trained: tuple[str, ...] = ()
    """Those that it trains on, where they are others; needs `--cross`."""
    protocol: str
    """Beside what the protocol says itself: repetitions, partitions and what of it is settled here."""
    notes: tuple[str, ...] = ()
    repeated: Literal["data", "cross"] = "data"
    """The option that may be given several times: the piece is made for each corpus."""
    needs_aux: Literal["", "one", "several"] = ""
    """Whether there must be an auxiliary corpus; where the paper's has one and this is empty, it may be missing."""
    noisy: bool = False
    """Whether there must be noisy copies."""

    @property
    def parts(self) -> tuple[Part, ...]:
        """All models, each once."""
        raise NotImplementedError

    @property
    def features(self) -> tuple[str, ...]:
        """The feature sets that it takes."""
        return tuple(dict.fromkeys(load_space(part.space).features for part in self.parts))

    def trainings(self) -> tuple[int, int]:
        """Trainings, and epochs of all of them together, in the paper for one corpus."""
        count = epochs = 0
        for part in self.parts:
            space = part.made_space()
            folds = part.protocol.folds if part.protocol.name == "kfold" else PAPER_SPEAKERS
            studies = {"one": 1, "fold": folds, "run": part.seeds}[part.each]
            own = studies * (len(space.grid()) + (part.seeds if part.seeds > 1 and part.each != "run" else 0))
            count, epochs = count + own, epochs + own * space.epochs
        return count, epochs


@dataclass(frozen=True, kw_only=True)
class Table(Piece):
    """A table, or a figure that draws one as bars in groups."""

    columns: tuple[tuple[str, str], ...]
    """Group and label."""
    rows: tuple[Row, ...]
    numbers: Mapping[str, str] = field(default_factory=dict)
    """By corpus the paper's, a line each, `label | cell | ...`; lines without a row here are others' results."""
    test: Test | None = None
    over: Literal["runs", "repetitions", "speakers", "subsets"] = "runs"
    """What a cell is the mean over; a repetition is all folds with one seed."""
    drawn: Literal["", "bars"] = ""
    percent: bool = False
    measure: str = "CCC"

    @property
    def parts(self) -> tuple[Part, ...]:
        """All models, each once."""
        return tuple({cell.part.name: cell.part for _, _, cell in self.cells()}.values())

    def cells(self) -> Iterator[tuple[int, int, Cell]]:
        """All cells with their rows' and columns' numbers."""
        for row, line in enumerate(self.rows):
            yield from ((row, column, cell) for column, cell in enumerate(line.cells) if cell is not None)

    def paper(self, corpus: str) -> dict[str, tuple[Number | None, ...]]:
        """The paper's numbers for one of its corpora, by row."""
        lines = [line.split("|") for line in self.numbers.get(corpus, "").strip().splitlines()]
        return {label.strip(): tuple(Number.parse(cell) for cell in cells) for label, *cells in lines}

    def of_classes(self, target: str) -> Table:
        """The same of classes, for a corpus without attributes: one column in place of three, without MTL.

        With one attribute after another a paper has a cell each; emotions have the first one's.
        """

        def moved(cell: Cell | None) -> Cell | None:
            if cell is None or cell.part.target == "attributes" or cell.attribute not in (None, AROUSAL):
                return None
            if cell.figure.startswith("svr_"):  # a regressor
                return None
            part = replace(cell.part, name=cell.part.name.replace(AROUSAL, target), target=target, svr=False)
            return Cell(part, cell.figure.replace(f"ccc_{AROUSAL}", "ua"))

        rows = [Row(row.label, tuple(map(moved, row.cells))) for row in self.rows]
        rows = [row for row in rows if any(row.cells)]
        kept = [n for n in range(len(self.columns)) if any(row.cells[n] for row in rows)]
        test = self.test
        if test is not None and test.within == "column":
            there = {row.label for row in rows}
            test = replace(test, marks={name: mark for name, mark in test.marks.items() if name in there})
        return replace(
            self,
            columns=tuple(_without_attribute(self.columns[n]) for n in kept),
            rows=tuple(Row(_plain(row.label), tuple(row.cells[n] for n in kept)) for row in rows),
            numbers={},
            test=test,
            measure="UA",
        )


@dataclass(frozen=True, kw_only=True)
class Figure(Piece):
    """A figure that isn't a table: what it shows, as a table and a picture."""

    shown: tuple[Part, ...]
    content: Callable[[Collected], Content]

    @property
    def parts(self) -> tuple[Part, ...]:
        """All models."""
        return self.shown


@dataclass(frozen=True)
class Content:
    """What a figure shows of one corpus."""

    head: tuple[str, ...]
    lines: tuple[tuple[str, ...], ...]
    draw: Callable[[Canvas], None]


_NAMES = {"Arousal": "Emotion", "Aro.": "Emotion"}


def _plain(label: str) -> str:
    return _NAMES.get(label, label)


def _without_attribute(column: tuple[str, str]) -> tuple[str, str]:
    return column[0], _plain(column[1])


__all__ = ["AROUSAL", "DOMINANCE", "LOSO", "OFFICIAL", "VALENCE", "Cell", "Content", "Figure", "Number", "Part",
           "Piece", "Row", "Table", "Test"]  # fmt: skip
