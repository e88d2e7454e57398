"""`evaluate --seeds` and `compare` at the command line."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console

from sersearch.cli import main
from sersearch.data.atomic import write_json
from sersearch.data.protocols import Protocol
from sersearch.evaluation import repeated, retraining
from sersearch.evaluation.results import Results
from sersearch.evaluation.tables import to_rich
from sersearch.study import Study
from tests.evaluation.retrained import make, vectors
from tests.evaluation.written import FOLDS, by_fold, learnt, scored


@pytest.fixture
def run(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def command(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sersearch", *args])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
        out, err = capsys.readouterr()
        return code, " ".join(out.split()), " ".join(err.split())

    return command


def written(root: Path, results: Results) -> Study:
    """A study that has these results."""
    study = Study.create(results.study, {}, root)
    origin = {"trial": 0, "metric": "dev_ua", "runs": [], "tested_before": []}
    write_json(study.folder / "evaluation" / "results.json", {**results._to_dict(), "origin": origin})
    return study


@pytest.fixture
def studies(tmp_path) -> Path:
    """Two whole studies, and two folds that are the second's."""
    root = tmp_path / "studies"
    ours = {0: by_fold(0.5, 0.6, 0.7), 1: by_fold(0.6, 0.7, 0.8)}
    base = {0: by_fold(0.4, 0.6, 0.5), 1: by_fold(0.5, 0.6, 0.7)}
    written(root, scored("ours", ours))
    whole = scored("base", base)
    written(root, whole)
    for fold in FOLDS:
        own = {seed: {fold: scores[fold]} for seed, scores in base.items()}
        written(root, scored(f"base-{fold}", own, parts={fold: whole.parts[fold]}))
    return root


def test_compare_prints_the_test_and_writes_its_table(run, studies, tmp_path):
    code, out, err = run("compare", "base", "ours", "--metric", "ua", "--baseline", "base", "--out", "table")
    assert (code, err) == (0, "")
    # Of the test parts 0.1, 0.05, 0.15: mean 0.1, deviation 0.05, t = 0.1 / (0.05 / sqrt(3)).
    assert "0.650 ± 0.105 *" in out
    assert "t(2) = 3.46" in out
    assert "Matched-pair t-test, one-tailed. * better than base (p < 0.05)" in out
    written = {f"comparison.{suffix}" for suffix in ("csv", "md", "tex", "png", "pdf")}
    assert {path.name for path in (tmp_path / "table").iterdir()} == written
    assert all(f"table/{name}" in out for name in written)
    options = ("--test", "welch_t", "--tails", "1", "--correction", "holm", "--baseline", "base")
    code, out, _ = run("compare", "base", "ours", *options)
    assert "Welch's t-test, one-tailed" in out
    assert "by Holm" in out


def test_compare_in_subsets_as_deepemocluster_does(run, tmp_path, studies):
    for name, noise in (("regressor", 2.0), ("clusters", 1.0)):
        written(tmp_path / "studies", learnt(name, noise, seeds=5))
    command = ("compare", "regressor", "clusters", "--metric", "ccc_valence", "--test", "student_t")
    code, out, err = run(*command, "--subsets", "4")
    assert (code, err) == (0, "")
    assert "t(38) = " in out, "two samples of 4 subsets x 5 trials"
    assert "test part in 4 random subsets, seed 0" in out
    assert "t(8) = " in run(*command)[1]
    code, _, err = run("compare", "base", "ours", "--subsets", "4")
    assert code == 2
    assert "study base: subsets are drawn of one test part, and these are 3; compare them as they are" in err


def test_compare_puts_folds_together(run, studies):
    _, whole, _ = run("compare", "base", "ours")
    code, out, err = run("compare", f"base={','.join(f'base-{fold}' for fold in FOLDS)}", "ours", "--baseline", "base")
    assert (code, err) == (0, "")
    assert out == whole


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("base", "none"), "none: isn't a study"),
        (("base",), "needs two studies of different names or more, these are: base"),
        (("base", "base-s1"), "one was tested on 3 test parts, the other on 1"),
        (("base", "ours", "--metric", "wa"), "study base has no figures of 'wa'; expected one of ua"),
        (("base", "ours", "--test", "fisher_z"), "fisher_z compares the CCC of one attribute on one test part, not ua"),
        (("base", "ours", "--baseline", "their"), "baseline 'their' is not among the studies"),
        (("base", "ours", "--only", "snr5"), "study base has no results of 'snr5'"),
        (("a=base-s1,base-s1", "ours"), "name each study once"),
        (("base", "fresh"), "study fresh has no results of seeds; `sersearch evaluate fresh --seeds N` makes them"),
        (("base", "ours", "--tails", "3"), "--tails"),
    ],
)
def test_what_cannot_be_compared_is_a_sentence(run, studies, args, message):
    Study.create("fresh", {}, studies)
    code, _, err = run("compare", *args)
    assert code == 2
    assert message in err
    assert "Traceback" not in err


def test_studies_of_other_utterances_are_not_compared(run, tmp_path):
    root = tmp_path / "studies"
    written(root, learnt("a", 1.0))
    written(root, scored("b", {0: {"test": 0.5}}, protocol="official split"))
    code, _, err = run("compare", "a", "b", "--metric", "ccc")
    assert code == 2
    assert "study b has no figures of 'ccc'" in err


def test_evaluate_prints_the_table_and_names_its_files(run, tmp_path, monkeypatch):
    monkeypatch.setattr(repeated, "retrain", here)
    data, root = vectors(tmp_path / "data"), tmp_path / "studies"
    for name in ("s0", "s1"):
        make(root, data, Protocol("loso", name), name=name, searched=({},))
    code, out, err = run("evaluate", "s0", "s1", "--seeds", "2", "--out", "both")
    assert (code, err) == (0, "s0 trains testing 2 models s1 trains testing 2 models")
    assert "s0+s1: test set, LOSO, each speaker tested in turn; 2 of 5 test parts" in out
    results = Results.load(tmp_path / "both" / "results.json")
    spread = results.spread("ua")
    assert f"{spread.mean:.3f} ± {spread.deviation:.3f}" in out
    assert "trained anew with 2 seeds (1, 2)" in out
    assert out.endswith("both/results.json, both/results.csv")
    code, alone, err = run("evaluate", "s0", "--seeds", "1,2")
    assert (code, err) == (0, "")
    assert alone.endswith("studies/s0/evaluation/results.json, studies/s0/evaluation/results.csv")
    code, _, err = run("evaluate", "s0", "--seeds", "3")
    assert code == 2
    assert "already tested with seeds 1, 2; testing 1 to 3 too" in err
    for seeds, message in (("9999999999", "at most 1000; to name one seed, add a comma"), ("0,5", "search had seed 0")):
        code, _, err = run("evaluate", "s0", "--seeds", seeds)
        assert code == 2
        assert message in err
    code, out, _ = run("evaluate", "s0")
    assert json.loads(out)["trial"] == 0, "the search's own model, as before"


def here(study, jobs, workers=None, on_event=None):
    on_event(-1, f"{study.name} trains")
    for trial, seed in jobs:
        retraining._train(str(study.folder), trial, seed)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a", "b"), "several studies, --out and --workers go with --seeds N"),
        (("a", "--workers", "2"), "go with --seeds N"),
        (("a", "--seeds", "many"), "--seeds many: expected how many, such as 10, or a list, such as 3,5,8"),
        (("a", "--seeds", "2", "--svr"), "--svr and --impostors are of the search's own model"),
        (("a", "b", "--seeds", "2", "--trial", "1"), "each study has trials of its own"),
        (("a", "--seeds", "2", "--out", "x"), "of one study, results lie in its own folder"),
    ],
)
def test_options_that_do_not_go_together(run, tmp_path, args, message):
    for name in ("a", "b"):
        Study.create(name, {}, tmp_path / "studies")
    code, _, err = run("evaluate", *args)
    assert code == 2
    assert message in err


def test_a_narrow_terminal_cuts_no_figure_off():
    results = learnt("mtl", 1.0)
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_rich(results))
    text = console.export_text()
    assert "…" not in text
    for found in results.summary.values():
        assert f"{found['mean']:.3f} ± {found['deviation']:.3f}" in text
        assert f"[{found['low']:.3f}, {found['high']:.3f}]" in text
