"""Each table and figure is whole: its models exist, its cells are the paper's, and so are its numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from sersearch.data.targets import TARGETS
from sersearch.errors import ConfigError
from sersearch.evaluation.comparison import TESTS
from sersearch.families import get_family
from sersearch.papers import Figure, Table, get_piece, piece_names
from sersearch.papers.collecting import Sample
from sersearch.papers.declaration import Number
from sersearch.papers.significance import marks
from sersearch.tuning.space import load_space, signatures

SHAPES = {
    "decoupled_ladder/table": (3, 12, 36),
    "deepemocluster/table2": (3, 4, 12),
    "deepemocluster/table3": (3, 3, 9),
    "deepemocluster/table4": (3, 3, 9),
    "ladder/fig6": (6, 6, 36),
    "ladder/table1": (7, 6, 42),
    "ladder/table2": (7, 3, 21),
    "ladder/table3": (6, 6, 36),
    "mtl_aae/fig3": (4, 4, 16),
    "mtl_aae/table3": (5, 1, 5),
    "mtl_aae/table4": (1, 1, 1),
    "mtl_aae/table5": (3, 2, 6),
    "mtl_aae/table6": (3, 4, 12),
    "multimodal_ladder/fig3": (3, 3, 9),
    "multimodal_ladder/table1": (4, 6, 24),
}
"""Our rows, columns and cells."""

OTHERS = {"mtl_aae/table3": 5, "mtl_aae/table4": 3}
"""Rows that are other studies' results."""


def table(name: str) -> Table:
    piece = get_piece(name)
    assert isinstance(piece, Table)
    return piece


def test_all_tables_and_figures_are_there() -> None:
    figures = {"deepemocluster/fig3", "ladder/fig4", "ladder/fig5", "mtl_aae/fig4", "mtl_aae/fig5"}
    assert set(piece_names()) == SHAPES.keys() | figures
    assert all(isinstance(get_piece(name), Figure) for name in figures)


def test_an_unknown_name_is_told_apart_from_known_ones() -> None:
    with pytest.raises(ConfigError, match="did you mean ladder/table1"):
        get_piece("ladder/tabel1")


@pytest.mark.parametrize("name", piece_names())
def test_every_model_of_a_piece_can_be_searched(name: str) -> None:
    piece = get_piece(name)
    for part in piece.parts:
        space = part.made_space()
        assert part.target in TARGETS
        assert space.features in get_family(space.family).features
        assert len(space.grid()) >= 1
        for point in signatures(space):
            space.config(point)
        idle = set(space.search) & {"alpha", "beta"}
        assert not idle or space.family != "ladder" or part.target == "attributes", "trials would be equal"


@pytest.mark.parametrize("name", piece_names())
def test_one_name_is_one_model(name: str) -> None:
    paper = name.partition("/")[0]
    for other in (n for n in piece_names() if n.startswith(paper)):
        by_name = {part.name: part for part in get_piece(other).parts}
        for part in get_piece(name).parts:
            same = by_name.get(part.name, part)
            assert (same.made_space(), same.target, same.protocol) == (part.made_space(), part.target, part.protocol)


@pytest.mark.parametrize(("name", "shape"), SHAPES.items())
def test_the_cells_are_the_papers(name: str, shape: tuple[int, int, int]) -> None:
    piece = table(name)
    assert (len(piece.rows), len(piece.columns), len(list(piece.cells()))) == shape
    labels = [row.label for row in piece.rows]
    assert len(set(labels)) == len(labels)
    for corpus in piece.numbers:
        printed = piece.paper(corpus)
        assert all(len(cells) == len(piece.columns) for cells in printed.values())
        others = set(printed) - set(labels)
        assert len(others) <= OTHERS.get(name, 0), f"rows of the paper that aren't made: {others}"
    if piece.numbers and name != "multimodal_ladder/fig3":  # of which the text has one row
        assert set(labels) <= set().union(*(piece.paper(corpus) for corpus in piece.numbers))
    if piece.test is not None:
        assert piece.test.name in TESTS
        assert set(piece.test.marks) <= set(labels) | {label for _, label in piece.columns}


def test_figures_of_cells_are_of_their_targets() -> None:
    for name in SHAPES:
        for _, _, cell in table(name).cells():
            if cell.attribute is not None:
                assert cell.part.target in (cell.attribute, "attributes"), (name, cell)


def test_the_mtl_models_are_searched_once_with_a_winner_for_each_attribute() -> None:
    parts = {part.name: part for part in table("ladder/table1").parts}
    assert Counter(len(part.made_space().grid()) for part in parts.values()) == {66: 3, 1: 9}
    assert {name for name, part in parts.items() if part.svr} == {
        f"table1-lad-l-stl-{attribute}" for attribute in ("activation", "valence", "dominance")
    }


def test_settings_are_the_papers_where_it_states_them() -> None:
    aae = {part.name: part.made_space() for part in table("mtl_aae/table3").parts}
    assert all(space.fixed["alpha"] == 0.3 and space.fixed["beta"] == 0.7 for n, space in aae.items() if "-ae-" in n)
    assert aae["loso-emotion4-aae-mtl"].fixed == {"alpha": 0.4, "beta": 0.6}
    clusters = [p.made_space().search["clusters"].choices for p in table("deepemocluster/table4").parts]
    assert set(clusters) == {(10,), (20,), (30,)}
    assert {part.seeds for part in table("multimodal_ladder/table1").parts} == {20}
    assert {part.seeds for part in table("deepemocluster/table2").parts} == {5}
    learnt = {part.name: part.unlabelled for part in table("decoupled_ladder/table").parts}
    assert all(learnt[name] is not name.startswith("dense") for name in learnt)


# --- the paper's numbers, by what the papers say of them ------------------------------------------------------------


def of(name: str, corpus: str, row: str, column: int) -> float:
    number = table(name).paper(corpus)[row][column]
    assert number is not None
    return number.mean


@pytest.mark.parametrize(
    ("better", "worse", "gain"),
    [
        (("ladder/table2", "iemocap", "Lad + UL + MTL", 0), ("ladder/table2", "iemocap", "STL", 0), 0.113),
        (("ladder/table2", "iemocap", "Lad + UL + MTL", 1), ("ladder/table2", "iemocap", "STL", 1), 0.741),
        (("ladder/table2", "iemocap", "Lad + UL + STL", 2), ("ladder/table2", "iemocap", "STL", 2), 0.259),
        (("ladder/table2", "msp_improv", "Lad + UL + MTL", 0), ("ladder/table2", "msp_improv", "STL", 0), 0.161),
        (("ladder/table2", "msp_improv", "Lad + UL + MTL", 1), ("ladder/table2", "msp_improv", "STL", 1), 0.40),
        (("ladder/table3", "msp_podcast", "Lad+STL+UL", 1), ("ladder/table3", "msp_podcast", "STL", 1), 0.143),
    ],
)
def test_gains_that_the_ladder_paper_states(better: Any, worse: Any, gain: float) -> None:
    assert of(*better) / of(*worse) - 1 == pytest.approx(gain, abs=0.005)


@pytest.mark.parametrize(("column", "gain"), [(1, 0.114), (2, 0.084), (3, 0.102), (10, 0.132)])
def test_gains_that_the_decoupled_ladders_slides_state(column: int, gain: float) -> None:
    ours, ladder = (of("decoupled_ladder/table", "msp_podcast", f"{kind} network", column)
                    for kind in ("Decoupled ladder", "Ladder"))  # fmt: skip
    assert ours / ladder - 1 == pytest.approx(gain, abs=0.003)


def test_tables_that_share_a_model_agree_on_it() -> None:
    assert [of("deepemocluster/table2", "msp_podcast", row, 3) for row in ("Aro.", "Dom.", "Val.")] == [
        of("deepemocluster/table3", "msp_podcast", row, 0) for row in ("Aro.", "Dom.", "Val.")
    ]
    assert [of("deepemocluster/table3", "msp_podcast", row, 2) for row in ("Aro.", "Dom.", "Val.")] == [
        of("deepemocluster/table4", "msp_podcast", row, 0) for row in ("Aro.", "Dom.", "Val.")
    ]
    for corpus in ("iemocap", "msp_improv"):
        proposed = of("mtl_aae/table3", corpus, "LOSO: semi-supervised AAE (proposed)", 0)
        # Of MSP-IMPROV the paper prints 60.3 in table 3 and 60.2 in table 5.
        assert of("mtl_aae/table5", corpus, "Both", 1) == pytest.approx(proposed, abs=0.11)
    assert table("ladder/fig6").paper("msp_podcast") == {
        row: cells for row, cells in table("ladder/table1").paper("msp_podcast").items() if not row.startswith("[43]")
    }


@pytest.mark.parametrize(
    ("name", "columns", "utterances", "differing"),
    [
        # With 3753 utterances the marks over MTL (0.782) need 0.797; the paper gives them to 0.792 to 0.795.
        (
            "ladder/table1",
            range(3),
            3753,
            {("Lad + L + STL", 0), ("Lad + L + MTL", 0), ("Lad + UL + STL", 0), ("Lad + UL + MTL", 0)},
        ),
        ("ladder/table1", range(3, 6), 7341, set()),
        ("ladder/table3", range(6), 7341, set()),
    ],
)
def test_our_test_of_the_ladder_papers_numbers_gives_its_marks(
    name: str, columns: range, utterances: int, differing: set[tuple[str, int]]
) -> None:
    piece = table(name)
    printed = piece.paper("msp_podcast")
    samples = {
        (row, column): Sample({(0, ""): of(name, "msp_podcast", line.label, column)}, utterances)
        for row, line in enumerate(piece.rows)
        for column in columns
    }
    found, problems = marks(piece, samples)
    assert problems == []
    odd = {
        (piece.rows[row].label, column)
        for (row, column), mark in found.items()
        if mark != (number.marks if (number := printed[piece.rows[row].label][column]) else "")
    }
    assert odd == differing


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.770•*", Number(0.770, None, "•*", 3)),
        (" 65.7±1.8 ", Number(65.7, 1.8, "", 1)),
        ("0.590±0.074•", Number(0.590, 0.074, "•", 3)),
        ("-", None),
    ],
)
def test_numbers_are_read_as_a_paper_prints_them(text: str, expected: Number | None) -> None:
    assert Number.parse(text) == expected


def test_spaces_keep_what_the_declarations_take_for_granted() -> None:
    assert load_space("deepemocluster_clusters").method == "grid"
    assert get_piece("ladder/fig4").parts[0].name in {part.name for part in get_piece("ladder/table1").parts}
