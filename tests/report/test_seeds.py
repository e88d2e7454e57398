"""Models trained with further seeds, on the page of a study."""

from __future__ import annotations

import json

from sersearch.report import write_report
from tests.evaluation.written import learnt, scored
from tests.report.studies import alpha_beta, cells

ORIGIN = {"trial": 3, "metric": "dev_ccc", "runs": [{"seed": n, "epoch": 2} for n in (1, 2, 4)], "tested_before": []}


def test_mean_deviation_interval_and_seeds_are_shown(tmp_path):
    results = learnt("hand", 1.0)
    folder = alpha_beta(tmp_path / "hand", trials=4)
    further = {"dev_ccc_valence": learnt("hand", 0.5)._to_dict() | {"origin": ORIGIN}}
    content = results._to_dict() | {"origin": ORIGIN, "further": further}
    (folder / "evaluation").mkdir()
    (folder / "evaluation" / "results.json").write_text(json.dumps(content))
    text = cells(write_report([folder]).read_text())
    assert "Trial 3, trained anew with 3 seeds (1, 2, 4): mean ± sample standard deviation over 3 runs" in text
    assert "95% bootstrap interval by speaker, of 12" in text
    found = results.summary["ccc"]
    assert f"{found['mean']:.4f} ± {found['deviation']:.4f} [{found['low']:.4f}, {found['high']:.4f}]" in text
    best = learnt("hand", 0.5).summary["ccc_valence"]
    assert f"development CCC valence {learnt('hand', 0.5).summary['ccc']['mean']:.4f}" in text
    assert f"{best['mean']:.4f} ± {best['deviation']:.4f}" in text
    assert "the test set was not used" not in text


def test_several_studies_have_the_mean_in_their_table(tmp_path):
    folders = [alpha_beta(tmp_path / name, trials=2) for name in ("one", "two")]
    results = scored("one", {1: {"test part": 0.5}, 2: {"test part": 0.6}})
    (folders[0] / "evaluation").mkdir()
    content = json.dumps(results._to_dict() | {"origin": ORIGIN})
    (folders[0] / "evaluation" / "results.json").write_text(content)
    text = cells(write_report(folders, tmp_path / "both").read_text())
    assert "0.5500 ± 0.0707" in text
    assert "not evaluated" in text
    assert "cannot be read" not in text


def test_results_that_are_damaged_are_said(tmp_path):
    folder = alpha_beta(tmp_path / "hand", trials=4)
    (folder / "evaluation").mkdir()
    for content in ("{", "{}", '{"summary": 1, "origin": 2, "protocol": 3, "further": 4}'):
        (folder / "evaluation" / "results.json").write_text(content)
        assert "evaluation/results.json: cannot be read" in cells(write_report([folder]).read_text())
