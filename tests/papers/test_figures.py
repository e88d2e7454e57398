"""What figures make of their studies."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sersearch.families.deepemocluster.analysis import AttributeClusters
from sersearch.figures import new_figure
from sersearch.papers import Figure, get_piece
from sersearch.papers.declaration import Content
from sersearch.study import TrialRecord


def shown(name: str, **collected: Any) -> Content:
    piece = get_piece(name)
    assert isinstance(piece, Figure)
    content = piece.content(SimpleNamespace(**collected))  # type: ignore[arg-type]
    canvas = new_figure(9, 5)
    content.draw(canvas)
    assert canvas.axes
    assert all(len(line) == len(content.head) for line in content.lines)
    return content


def trial(number: int, searched: dict[str, float], *epochs: dict[str, float]) -> TrialRecord:
    events = [{"epoch": n, "value": sum(m.values()), "metrics": m} for n, m in enumerate(epochs, start=1)]
    return TrialRecord(number, {}, searched, "complete", epochs=events)


def grid() -> list[SimpleNamespace]:
    points = {(0.0, 0.0): (0.1, 0.2, 0.6), (1.0, 0.0): (0.5, 0.1, 0.2), (0.0, 1.0): (0.2, 0.4, 0.1)}
    names = ("activation", "valence", "dominance")
    trials = []
    for number, ((alpha, beta), values) in enumerate(points.items()):
        best = {f"dev_ccc_{name}": value for name, value in zip(names, values, strict=True)}
        worse = {name: value - 0.1 for name, value in best.items()}
        trials.append(trial(number, {"alpha": alpha, "beta": beta}, worse, best))
    return [SimpleNamespace(trials=lambda: trials)]


def test_figure_4_of_the_ladder_has_each_points_best_epoch() -> None:
    content = shown("ladder/fig4", studies=lambda part: grid())
    assert content.head == ("alpha", "beta", "Arousal", "Valence", "Dominance")
    assert content.lines[1] == ("1", "0", "0.500", "0.100", "0.200")


def test_figure_5_of_the_ladder_is_the_mean_over_all_points_by_epoch() -> None:
    content = shown("ladder/fig5", studies=lambda part: grid())
    # Arousal in epoch 2: 0.1, 0.5, 0.2, of mean 0.2667 and, by n - 1, deviation 0.2082; in epoch 1 0.1 lower.
    assert content.lines == (("1", "0.167", "0.208", "3"), ("2", "0.267", "0.208", "3"))


def test_of_one_model_figure_5_of_the_ladder_has_no_deviation() -> None:
    one = [SimpleNamespace(trials=lambda: grid()[0].trials()[:1])]
    assert shown("ladder/fig5", studies=lambda part: one).lines[1] == ("2", "0.100", "-", "1")


def test_figure_5_of_the_aae_is_the_mean_over_speakers() -> None:
    def studies(part: Any) -> list[SimpleNamespace]:
        weight = next(iter(part.search))
        speakers = [[trial(0, {weight: 0.1}, {"dev_ua": ua}), trial(1, {weight: 0.9}, {"dev_ua": 0.5})]
                    for ua in (0.2, 0.4)]  # fmt: skip
        return [SimpleNamespace(trials=lambda own=own: own) for own in speakers]

    content = shown("mtl_aae/fig5", studies=studies)
    assert ("Categorical", "alpha", "0.1", "30.0", "14.1", "2") in content.lines
    assert len(content.lines) == 3 * 2 * 2


def test_figure_4_of_the_aae_is_by_the_number_of_speakers() -> None:
    def by_aux(part: Any, figure: str) -> dict[int, list[float]]:
        return {0: [0.5, 0.7], 200: [0.8]} if figure != "test_eer" else {200: [0.1]}

    content = shown("mtl_aae/fig4", by_aux=by_aux)
    assert content.lines[0] == ("0", "60.0 ± 14.1", "60.0 ± 14.1", "60.0 ± 14.1", "-")
    assert content.lines[1][-1] == "10.0", "of one fold there is no deviation"


def test_figure_4_of_the_aae_never_selects_by_a_head_that_is_not_trained() -> None:
    piece = get_piece("mtl_aae/fig4")
    chosen_by = {part.name: part.made_space().objectives[0].metric for part in piece.parts}
    assert chosen_by == {
        "fig4-emotion": "dev_ua",
        "fig4-gender": "dev_epoch",
        "fig4-speaker": "dev_epoch",
        "fig4-verification": "dev_epoch",
    }
    said = " ".join(piece.notes)
    assert "the last epoch is tested" in said
    assert "The EER is of two speakers" in said


def test_figure_3_of_deepemocluster_has_the_clusters_with_the_lowest_and_the_highest_mean() -> None:
    values, codes = np.array([1.0, 2.0, 4.0, 4.0, 6.0, 7.0]), np.array([2, 2, 0, 0, 1, 1])
    content = shown("deepemocluster/fig3", clusters=lambda part, attribute: AttributeClusters(attribute, values, codes))
    assert content.lines[0] == ("(a) unsupervised", "lowest", "2", "2", "1.500", "0.500")
    assert content.lines[3] == ("(b) supervised", "highest", "1", "2", "6.500", "0.500")


def test_figure_3_of_deepemocluster_passes_over_a_tiny_cluster() -> None:
    values, codes = np.repeat([1.0, 2.0, 5.0, 9.0], [1, 10, 10, 2]), np.repeat([3, 0, 1, 2], [1, 10, 10, 2])
    content = shown("deepemocluster/fig3", clusters=lambda part, attribute: AttributeClusters(attribute, values, codes))
    # Of 23 chunks an even share of four clusters is 5.75; the lowest and the highest mean are of 1 and 2 chunks.
    assert [line[2:4] for line in content.lines[:2]] == [("0", "10"), ("1", "10")]
    assert "at least half of an even share" in get_piece("deepemocluster/fig3").notes[0]


@pytest.mark.parametrize("name", ["ladder/fig4", "ladder/fig5", "mtl_aae/fig4", "mtl_aae/fig5", "deepemocluster/fig3"])
def test_figures_say_that_the_text_has_no_numbers(name: str) -> None:
    assert any("The text has no" in note or "the text has no" in note for note in get_piece(name).notes)
