"""That figures show what a study written by hand says: fronts, scores and their intervals, time, coordinates."""

from __future__ import annotations

import csv
import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sersearch.data import joined
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError, StudyError
from sersearch.report import cost, groups, maps
from sersearch.report.parallel import parallel_picture
from sersearch.report.pareto import front, pareto_picture
from sersearch.report.picture import Picture
from sersearch.report.scores import Scored, interval, score
from sersearch.report.summary import Summary
from sersearch.study import Study
from tests.report import studies


def open_summary(folder: Path) -> Summary:
    return Summary(Study.open(folder))


def panels(picture: Picture | None) -> list[Axes]:
    assert picture is not None
    assert isinstance(picture.figure, Figure)
    return picture.figure.axes


# --- Pareto -----------------------------------------------------------------------------------------------------------


def test_a_front_holds_what_nothing_dominates() -> None:
    points = [(1.0, 5.0), (2.0, 5.0), (3.0, 1.0), (2.5, 3.0), (2.4, 2.9), (0.0, 0.0), (2.0, 5.0)]
    assert sorted(front(points)) == [1, 2, 3, 6], "of two that are alike, both"
    assert front([]) == []


def test_less_time_and_a_higher_value_are_better(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    for number, (epochs, top) in enumerate([(2, 0.5), (4, 0.5), (4, 0.9), (6, 0.1)]):
        writer.trial(number, {"alpha": 0.1 * number, "beta": 0.1}, epochs, top=top)
    made = pareto_picture(open_summary(tmp_path / "hand"))
    # Of 3 s an epoch: trial 1 is as slow as 2 and worse, 3 the slowest and worst.
    assert [line[2:] for line in made.rows[1:]] == [
        [0, 6.0, pytest.approx(0.5 * (1 - math.exp(-1)))],
        [2, 12.0, pytest.approx(0.9 * (1 - math.exp(-2)))],
    ]
    (axes,) = panels(made)
    assert axes.get_xlabel() == "training time (s)"
    assert axes.get_ylabel() == "development UA"


def test_attributes_are_set_against_each_other(tmp_path: Path) -> None:
    made = pareto_picture(open_summary(studies.ladder(tmp_path / "hand")))
    assert [(a.get_xlabel(), a.get_ylabel()) for a in panels(made) if a.get_xlabel()] == [
        ("training time (s)", "development CCC"),
        ("development CCC activation", "development CCC valence"),
        ("development CCC activation", "development CCC dominance"),
        ("development CCC valence", "development CCC dominance"),
    ]
    on = [line for line in made.rows[1:] if line[:2] == ["dev_ccc_activation", "dev_ccc_valence"]]
    assert all(a[3] < b[3] and a[4] > b[4] for a, b in pairwise(on)), "what one gains, the other loses"


def test_one_trial_has_no_front(tmp_path: Path) -> None:
    studies.Writer(tmp_path / "hand").trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    with pytest.raises(StudyError, match="one trial has a value"):
        pareto_picture(open_summary(tmp_path / "hand"))


# --- parallel coordinates, heat maps ----------------------------------------------------------------------------------


def test_lines_run_from_what_was_searched_to_the_value(tmp_path: Path) -> None:
    search = {"model": {"choices": ["a", "b", "c"]}, "rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    writer = studies.Writer(tmp_path / "hand", space={"search": search, "objective": {"metric": "dev_ua"}})
    for number, (model, rate, top) in enumerate([("a", 1e-4, 0.2), ("b", 1e-3, 0.4), ("c", 1e-2, 0.3)]):
        writer.trial(number, {"model": model, "rate": rate}, 2, "pruned" if number == 1 else "complete", top=top)
    axes = panels(parallel_picture(open_summary(tmp_path / "hand")))[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["model", "rate", "development UA"]
    lines = [segment[:, 1] for segment in axes.collections[0].get_segments()]
    assert np.array(lines) == pytest.approx(np.array([[0, 0, 0], [1, 1, 0.5], [0.5, 0.5, 1]])), "the best in front"
    assert axes.lines[1].get_ydata() == pytest.approx([0.5, 0.5, 1]), "the best trial's own line"


def test_one_hyperparameter_has_no_parallel_coordinates(tmp_path: Path) -> None:
    space = {"search": {"alpha": studies.STEP}, "objective": {"metric": "dev_ua"}}
    studies.Writer(tmp_path / "hand", space=space).trial(0, {"alpha": 0.4}, 2)
    assert parallel_picture(open_summary(tmp_path / "hand")) is None


@pytest.mark.parametrize("other", ["alpha", "rate"])
def test_names_and_numbers_make_a_map(tmp_path: Path, other: str) -> None:
    search = {"model": {"choices": ["a", "b"]}, "alpha": studies.STEP, "rate": {"low": 0.0, "high": 1.0}}
    space = {"search": {name: search[name] for name in ("model", other)}, "objective": {"metric": "dev_ua"}}
    writer = studies.Writer(tmp_path / "hand", space=space)
    for number, (model, value) in enumerate([("a", 0.1), ("b", 0.4), ("b", 0.7)]):
        writer.trial(number, {"model": model, other: value}, 2, top=0.2 + 0.1 * number)
    summary = open_summary(tmp_path / "hand")
    (pair,) = summary.pairs
    axes = maps.heat_map(summary, *pair).axes[0]
    assert [text.get_text() for text in axes.get_xticklabels()] == ["a", "b"]
    if other == "alpha":
        values = axes.images[0].get_array()
        assert values[6, 1] == pytest.approx(summary.best.value)
        assert values.count() == 3
    else:
        assert axes.collections[0].get_offsets().tolist() == [[0, 0.1], [1, 0.4], [1, 0.7]]


def test_the_papers_own_value_is_a_line_beside_a_single_hyperparameter(tmp_path: Path) -> None:
    space = {"search": {"alpha": studies.STEP}, "objective": {"metric": "dev_ua"}}
    writer = studies.Writer(tmp_path / "hand", space=space)
    writer.trial(0, {"alpha": 0.9}, 2)
    summary = open_summary(tmp_path / "hand")
    axes = maps.parameter_curve(summary, summary.axes[0])
    lines = {line.get_label(): line for line in axes.axes[0].lines}
    assert lines["paper's own"].get_xdata() == [0.4, 0.4]
    assert summary.paper_trial is None, "nobody ran it"


# --- scores -----------------------------------------------------------------------------------------------------------


def classes(truth: list[int], predicted: list[int], size: int = 3) -> Scored:
    ids = np.array([f"u{n}" for n in range(len(truth))], object)
    names = tuple("abcdefg"[:size])
    return Scored(ids, np.full(len(ids), "", object), np.array(truth), np.array(predicted), names)


def test_scores_of_classes_are_those_of_the_field() -> None:
    # Recalls 2/3, 1/2; class c does not occur. Precisions 2/3, 1/1, and c was said once: 0.
    scored = classes([0, 0, 0, 1, 1], [0, 0, 2, 1, 0])
    assert score(scored, "ua") == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert score(scored, "wa") == pytest.approx(3 / 5)
    assert score(scored, "f1") == pytest.approx((4 / 6 + 2 / 3 + 0) / 3)
    assert score(scored, "precision") == pytest.approx((2 / 3 + 1 + 0) / 3)
    with pytest.raises(DataError, match="ccc of classes: expected one of f1, precision, ua, wa"):
        score(scored, "ccc")


def test_scores_of_attributes_are_concordance() -> None:
    truth = np.array([[1.0, 2.0], [2.0, 4.0], [3.0, 6.0]])
    predicted = truth + np.array([1.0, 0.0])
    scored = Scored(np.array(["a", "b", "c"], object), np.array([""] * 3, object), truth, predicted, ("x", "y"))
    # x: 2 * 2/3 / (2/3 + 2/3 + 1) = 4/7.
    assert score(scored, "ccc_x") == pytest.approx(4 / 7)
    assert score(scored, "ccc_y") == pytest.approx(1)
    assert score(scored, "ccc") == pytest.approx((4 / 7 + 1) / 2)
    assert math.isnan(score(scored.of(np.zeros(3, bool)), "ccc"))


def test_an_interval_holds_the_score_and_narrows_with_more_utterances() -> None:
    def width(copies: int) -> float:
        scored = classes([0, 0, 1, 1] * copies, [0, 1, 1, 1] * copies, 2)
        low, high = interval(scored, "ua")
        assert low <= score(scored, "ua") <= high
        return high - low

    # A recall of 1/2 over n/2 utterances: its deviation is 0.5 / sqrt(n / 2), UA's half of it, the interval 3.92 of it.
    assert width(100) == pytest.approx(3.92 * 0.25 / math.sqrt(200), rel=0.15)
    assert width(25) > 1.5 * width(100)
    assert all(map(math.isnan, interval(classes([0], [0]), "ua")))


# --- groups -----------------------------------------------------------------------------------------------------------


def of_two_speakers(folder: Path) -> Path:
    """Trial 0, whose first 20 development utterances are s8's, 80% right, the others s7's, 30%."""
    writer = studies.Writer(folder, data={"corpus": "mine", "path": "mine", "features": "mel", "target": "emotion"})
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    split = studies.SPLIT | {"parts": {**studies.SPLIT["parts"], "dev": studies.part(["s7", "s8"])}}
    (folder / "split.json").write_text(json.dumps(split))
    rows = [["id", "label", "predicted", *studies.CLASSES]]
    for n in range(40):
        label, right = studies.CLASSES[n % 4], n % 20 < (16 if n < 20 else 6)
        rows.append([f"u{n}", label, label if right else studies.CLASSES[(n + 1) % 4], *["0.25"] * 4])
    with (folder / "ray" / "trial0" / "dev_predictions.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder


def prepared(ids: list[str], speakers: list[str]) -> Any:
    utterances = pd.DataFrame({"id": ids, "speaker": speakers})
    return FeatureTable(Path(), {}, {}, utterances, np.zeros((0, 1)), np.zeros(1, np.int64))


def test_speakers_are_told_apart_by_the_corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = prepared([f"u{n}" for n in range(60)], ["s8"] * 20 + ["s7"] * 20 + ["s9"] * 20)
    monkeypatch.setattr(joined, "open_table", lambda path, features, cross: table)
    bars, missing = groups.speaker_bars(open_summary(of_two_speakers(tmp_path / "hand")), {})
    assert missing == ""
    assert [(bar.part, bar.group, bar.utterances) for bar in bars] == [
        ("development", "s7", 20),
        ("development", "s8", 20),
    ]
    assert [bar.value for bar in bars] == pytest.approx([0.3, 0.8])
    assert all(bar.low < bar.value < bar.high for bar in bars)


def test_without_the_corpus_there_are_test_speakers_and_why(tmp_path: Path) -> None:
    summary = open_summary(of_two_speakers(tmp_path / "hand"))
    with pytest.raises(DataError, match="mine: no such folder"):
        groups.speaker_bars(summary, {})
    test = {"trial": 0, "utterances": 40, "speakers": {"s9": {"utterances": 40, "ua": 0.25}}}
    bars, missing = groups.speaker_bars(summary, test)
    assert "mine: no such folder" in missing
    assert [(bar.part, bar.group, bar.value) for bar in bars] == [("test", "s9", 0.25)]
    assert f"No development figures: {missing}." in groups.speaker_picture(summary, test).caption


def test_one_development_speaker_needs_no_corpus(tmp_path: Path) -> None:
    studies.Writer(tmp_path / "hand").trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    summary = open_summary(tmp_path / "hand")
    made = groups.speaker_picture(summary, {})
    assert [row[:3] for row in made.rows[1:]] == [["development", "s8", 40]]
    assert "One development speaker: how much speakers differ can't be told" in made.caption
    assert "No test figures: the study isn't evaluated." in made.caption
    (axes,) = panels(made)
    assert [line.get_ydata() for line in axes.lines if line.get_label() == "chance"] == [[0.25, 0.25]]


def test_conditions_are_bars_from_clean_to_noisy(tmp_path: Path) -> None:
    summary = open_summary(studies.ladder(tmp_path / "hand"))
    best = summary.score(summary.best)
    test = {"conditions": {"snr0": {"utterances": 5, "ccc": 0.1}, "clean": {"utterances": 5, "ccc": 0.4}}}
    bars = groups.condition_bars(summary, test)
    assert [(bar.part, bar.group, bar.value) for bar in bars] == [
        ("development", "clean", pytest.approx(best)),
        ("development", "snr10", pytest.approx(best - 0.1)),
        ("development", "snr0", pytest.approx(best - 0.3)),
        ("test", "clean", 0.4),
        ("test", "snr0", 0.1),
    ]


# --- cost -------------------------------------------------------------------------------------------------------------


def timed(folder: Path) -> Summary:
    """Trial 0 trains from 0 to 10 and 10 to 20 s, trial 1 from 5 to 15; then nothing until trial 2, 30 to 40."""
    writer = studies.Writer(folder)
    for number, ends in enumerate([(10.0, 20.0), (15.0,), (40.0,)]):
        writer.event("start", number, params={}, searched={"alpha": 0.1, "beta": 0.1})
        for epoch, end in enumerate(ends, 1):
            with (folder / "trials.jsonl").open("a") as file:
                event = {"event": "epoch", "trial": number, "epoch": epoch, "metrics": {}, "value": 0.5}
                file.write(json.dumps({**event, "best": True, "seconds": 10.0, "checkpoint": None, "time": end}) + "\n")
        writer.event("end", number, state="complete", reason="")
    return open_summary(folder)


def test_time_and_utilisation_are_those_of_the_journal(tmp_path: Path) -> None:
    summary = timed(tmp_path / "hand")
    found = cost.cost(summary)
    assert (found.trials, found.training, found.wall, found.most) == (3, 40.0, 40.0, 2)
    assert found.utilisation == pytest.approx(40 / 80)
    facts = dict(cost.facts(summary))
    assert facts["trials an hour"] == "270"
    assert facts["utilisation"] == "50% of that many all the time"
    assert facts["seconds a trial"] == "13.3 ± 5.8, 10 to 20"
    assert facts["core hours"].startswith("0.0111")


def test_the_mean_number_under_way_is_exact(tmp_path: Path) -> None:
    spans = cost.epochs_of(timed(tmp_path / "hand").trials)
    found = cost.under_way(spans, np.array([0.0, 5.0, 10.0, 20.0, 30.0, 40.0]))
    assert found == pytest.approx([1, 2, 1.5, 0, 1])


def test_lanes_share_a_device(tmp_path: Path) -> None:
    studies.Writer(tmp_path / "hand", lanes=4).trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    assert "trials share the device in lanes" in dict(cost.facts(open_summary(tmp_path / "hand")))["core hours"]
