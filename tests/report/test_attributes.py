"""Reports of studies of attributes, and of speech in noise."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import pytest

from sersearch.report import curves, maps, write_report
from sersearch.report.summary import Summary, condition_name
from sersearch.report.tables import best_metrics
from sersearch.study import Study
from tests.report import studies
from tests.report.studies import cells, visible


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.ladder(tmp_path_factory.mktemp("report") / "hand")


def test_each_attribute_has_a_heat_map_with_its_own_best_point_framed(study: Path, page: str) -> None:
    summary = Summary(Study.open(study))
    for winner, (name, (alpha, beta)) in zip(summary.winners, studies.PEAKS.items(), strict=True):
        assert winner.label == f"development CCC {name}"
        assert f'<figure id="study-heatmap_alpha_beta_dev_ccc_{name}">' in page
        assert (winner.best.searched["alpha"], winner.best.searched["beta"]) == (alpha, beta)
        (pair,) = winner.pairs
        axes = maps.heat_map(winner, *pair).axes[0]
        (frame,) = [patch for patch in axes.patches if not patch.get_hatch()]
        assert frame.get_xy() == pytest.approx((10 * alpha - 0.46, 10 * beta - 0.46))
        values = axes.images[0].get_array()
        assert values.count() == 66, "beyond alpha + beta = 1 nothing was tried"
        assert values[round(10 * beta), round(10 * alpha)] == values.max() == pytest.approx(winner.value(winner.best))
    assert '<figure id="study-heatmap_alpha_beta">' in page


def test_the_winners_stand_in_one_table(page: str) -> None:
    text = cells(page)
    assert "Best for each attribute" in text
    assert "best by value trial alpha beta epoch development CCC " in text
    assert re.search(r"development CCC activation 0\.6000 \d+ 0\.7 0\.3 3 ", text)
    assert re.search(r"development CCC valence 0\.4000 \d+ 0\.2 0\.6 2 ", text), "of its own best epoch"
    assert re.search(r"development CCC dominance 0\.6000 \d+ 0\.1 0\.1 3 ", text)


def test_a_study_of_one_attribute_or_of_classes_has_no_winners(study: Path, tmp_path: Path) -> None:
    classes = studies.alpha_beta(tmp_path / "classes", trials=2)
    assert Summary(Study.open(classes)).winners == []
    split = json.loads((study / "split.json").read_text())
    lone = studies.Writer(tmp_path / "hand", objective={"metric": "dev_ccc"})
    lone.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    (tmp_path / "hand" / "split.json").write_text(json.dumps(split | {"attributes": ["valence"]}))
    assert Summary(Study.open(tmp_path / "hand")).winners == []
    assert "Best for each attribute" not in visible(write_report([tmp_path / "hand"]).read_text())


def test_attributes_have_a_scatter_and_no_confusion_matrix(study: Path, page: str) -> None:
    assert '<figure id="study-scatter">' in page
    assert "Confusion" not in page
    assert "Predicted and true values of the best trial" in page
    assert "n = 20 utterances" in visible(page)
    assert "activation 4.0 &plusmn; 0.9" in page


def test_conditions_are_lines_of_the_best_trial(study: Path, page: str) -> None:
    summary = Summary(Study.open(study))
    assert summary.conditions == {"snr10": "dev_ccc_snr10", "snr0": "dev_ccc_snr0"}
    assert summary.winners[1].conditions == {"snr10": "dev_ccc_valence_snr10", "snr0": "dev_ccc_valence_snr0"}
    lines = {line.get_label(): line for line in curves.condition_curves(summary).axes[0].lines}
    assert list(lines) == ["clean", "10 dB SNR", "0 dB SNR", "best epoch, on clean speech"]
    told = [event["value"] for event in summary.best.epochs]
    for name, cost in {"clean": 0, **studies.CONDITIONS}.items():
        assert lines[condition_name(name)].get_ydata() == pytest.approx([value - cost for value in told])
    assert '<figure id="study-conditions">' in page
    assert "on noisy copies of the same utterances, by which nothing was." in visible(page)


def test_figures_of_conditions_stand_last_from_clean_to_noisy(study: Path, page: str) -> None:
    summary = Summary(Study.open(study))
    noisy = [name for name in best_metrics(summary, summary.best) if "snr" in name]
    assert list(best_metrics(summary, summary.best))[-len(noisy) :] == noisy
    assert [name.rpartition("_")[2] for name in noisy] == ["snr10"] * (len(noisy) // 2) + ["snr0"] * (len(noisy) // 2)
    with (study / "report" / "trials.csv").open(newline="") as file:
        head = next(csv.reader(file))
    assert head.index("dev_ccc_valence") < head.index("dev_ccc_snr10") < head.index("dev_ccc_snr0")


def test_a_study_of_mixed_conditions_says_so_and_counts_noisy_copies(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    writer.event("start", 0, params={"alpha": 0.4}, searched={"alpha": 0.4})
    metrics = {"dev_ua": 0.5, "dev_wa": 0.5, "dev_ua_snr5": 0.4, "dev_ua_snr10": 0.5, "dev_ua_clean": 0.6}
    writer.event("epoch", 0, epoch=1, metrics=metrics, value=0.5, best=True, seconds=1.0, checkpoint=None)
    part = studies.part(["s9"]) | {"conditions": {"clean": 20, "snr5": 20}}
    split = studies.SPLIT | {"notes": ["The conditions are mixed."]}
    split["parts"] = {**studies.SPLIT["parts"], "test": part}
    (tmp_path / "hand" / "split.json").write_text(json.dumps(split))
    page = write_report([tmp_path / "hand"]).read_text()
    assert '<p class="note">The conditions are mixed.</p>' in page
    assert "test 40: clean 20, snr5 20 0.02" in cells(page)
    assert "over all conditions together, by which the trial and its epoch were chosen, and in each" in visible(page)
    summary = Summary(Study.open(tmp_path / "hand"))
    assert list(summary.conditions) == ["clean", "snr10", "snr5"]
    lines = [line.get_label() for line in curves.condition_curves(summary).axes[0].lines]
    assert lines == ["all", "clean", "10 dB SNR", "5 dB SNR", "best epoch, on all conditions"]


def test_the_test_result_of_attributes_by_condition(tmp_path: Path) -> None:
    study = tmp_path / "hand"
    studies.Writer(study, objective={"metric": "dev_ccc"}).trial(2, {"alpha": 0.4, "beta": 0.6}, 2)
    figures = {"ccc": 0.41, "ccc_activation": 0.5, "ccc_valence": 0.23, "ccc_dominance": None}
    result = {
        "trial": 2,
        "utterances": 8,
        **figures,
        "condition": "clean",
        "conditions": {"clean": {"utterances": 8, **figures}, "snr0": {"utterances": 12, **figures, "ccc": 0.2}},
        "winners": {
            "dev_ccc_valence": {
                **{"trial": 7, "epoch": 3, "utterances": 8, **figures, "ccc_valence": 0.31},
                "conditions": {
                    "clean": {"utterances": 8, **figures},
                    "snr0": {"utterances": 12, **figures, "ccc": 0.1},
                },
            }
        },
        "svr": {"dev": {"utterances": 40, **figures}, "test": {"utterances": 8, **figures, "ccc": 0.33}},
        "speakers": {"s9": {"utterances": 8, **figures}},
        "speaker_verification": {"eer": None, "reason": "the model has no speaker task"},
        "tested_before": [],
    }
    (study / "evaluation").mkdir()
    (study / "evaluation" / "test.json").write_text(json.dumps(result))
    page = write_report([study]).read_text()
    assert "predictions.csv: cannot be read" in visible(page)
    assert "Predictions for the test set: CCC" not in page, "their table is lost"
    (study / "evaluation" / "predictions.csv").write_text(studies.attribute_predictions("clean"))
    page = write_report([study]).read_text()
    assert 'alt="Predictions for the test set: CCC 0.4100' in page
    text = visible(page)
    assert "Trial 2 on 8 clean test utterances: CCC 0.4100, CCC activation 0.5000, CCC valence 0.2300" in text
    text = cells(page)
    assert "condition utterances CCC CCC activation CCC valence CCC dominance clean 8 0.4100" in text
    assert "snr0 12 0.2000 0.5000 0.2300" in text
    assert "best by trial epoch utterances CCC" in text
    assert "development CCC valence 7 3 8 0.4100 0.5000 0.3100" in text
    assert "best by development CCC valence, in condition utterances CCC" in text
    assert "snr0 12 0.1000 0.5000 0.2300" in text
    assert "two-step baseline on utterances CCC" in text
    assert "test 8 0.3300" in text
