"""Reports of studies written by hand: what stands in them, and what they refuse."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import StudyError
from sersearch.report import maps, write_report
from sersearch.report.importance import importance, told_apart
from sersearch.report.summary import Summary, pretty
from sersearch.study import Study
from tests.report import studies
from tests.report.studies import cells, visible

CONTINUOUS = {
    "search": {"learning_rate": {"low": 1e-4, "high": 0.1, "log": True}, "alpha": {"low": 0.0, "high": 1.0}},
    "objective": {"metric": "dev_ua"},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return studies.alpha_beta(tmp_path_factory.mktemp("report") / "hand")


PICTURES = (
    "heatmap_alpha_beta",
    "parallel",
    "importance",
    "pareto",
    "learning_curves",
    "losses",
    "best_trial",
    "confusion",
    "speakers",
    "cost",
)
TABLES = ("trials", "importance", "pareto", "confusion", "speakers", "cost")


def test_a_report_holds_its_figures_and_tables(study: Path, page: str) -> None:
    files = {path.name for path in (study / "report").iterdir()}
    drawn = {f"{name}.{kind}" for name in PICTURES for kind in ("png", "svg", "pdf")}
    assert files == {"index.html", "trials.md", *drawn, *(f"{name}.csv" for name in TABLES)}
    for name in PICTURES:
        assert f'<figure id="study-{name}">' in page
    assert page.count('src="data:image/svg+xml;base64,') == len(PICTURES)
    assert "Could not be drawn" not in page


def test_the_page_needs_no_network_and_runs_its_own_script_only(page: str) -> None:
    assert not re.search(r"<(link|iframe|object)", page)
    assert not re.findall(r"src=\"(?!data:image/)", page)
    assert not re.findall(r"href=\"(?!#|[\w.-]+\.(?:png|svg|pdf|csv)\")", page), "to its parts and the files beside it"
    assert "http:" not in re.sub(r"base64,[^\"]+", "", page)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'" in page


def test_the_page_can_be_read_without_seeing_it(page: str) -> None:
    parser = Outline()
    parser.feed(page)
    assert all(len(alt) > 10 for alt in parser.alts)
    assert len(parser.alts) == len(PICTURES)
    assert any("the best is 0.736 at alpha 0.4, beta 0.6" in alt for alt in parser.alts)
    assert parser.language == "en"
    assert len(parser.ids) == len(set(parser.ids))
    assert parser.links <= set(parser.ids), "each link of the contents leads somewhere"
    assert parser.levels[0] == 1
    assert all(after - before <= 1 for before, after in pairwise(parser.levels))
    assert parser.headings_without_scope == 0


class Outline(HTMLParser):
    """What a screen reader goes by."""

    def __init__(self) -> None:
        super().__init__()
        self.alts: list[str] = []
        self.ids: list[str] = []
        self.links: set[str] = set()
        self.levels: list[int] = []
        self.language: str | None = None
        self.headings_without_scope = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "img":
            self.alts.append(found.get("alt") or "")
        if tag == "html":
            self.language = found.get("lang")
        if tag == "th":
            self.headings_without_scope += "scope" not in found
        if re.fullmatch(r"h[1-6]", tag):
            self.levels.append(int(tag[1]))
        if (name := found.get("id")) is not None:
            self.ids.append(name)
        if (target := found.get("href")) is not None and target.startswith("#"):
            self.links.add(target[1:])


def test_the_page_tells_what_a_reader_must_know(page: str) -> None:
    text = visible(page)
    assert "Synthetic demo corpus." in text
    assert "development set; the test set was not used" in text
    assert "<p>None: the test set was not used; <code>sersearch evaluate hand</code> does that, once.</p>" in page
    assert "24 trials (16 complete, 1 failed, 7 pruned)" in text
    assert "Trial 0: development UA 0.7363 in epoch 8 of 8" in text
    assert "LOSO, test speaker s9, development speaker s8" in text
    assert "1 sentence in both train and dev, as the protocol means it" in text
    assert "1 audio in both train and test: a leak" in text
    assert "loss is NaN in epoch 1 7 alpha = 1, beta = 0.1" in text
    assert (
        "The paper's own point (the family's defaults: alpha = 0.4, beta = 0.6), trial 0: development UA 0.7363" in text
    )
    assert (
        "Data: demo, LOSO, test speaker s9, development speaker s8; development figures, by which trials and their"
        in text
    )
    assert "seed 7; n = 24 trials" in text
    assert "asha, grace_epochs 2, reduction_factor 3" in text
    assert "nothing is interpolated" in text
    assert "c0ffee" in text


def test_a_study_of_one_condition_shows_none(study: Path, page: str) -> None:
    assert Summary(Study.open(study)).conditions == {}
    assert '<figure id="conditions">' not in page


def test_a_real_corpus_has_no_banner(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand", data={"corpus": "nemo", "synthetic": False})
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    assert "Synthetic" not in write_report([tmp_path / "hand"]).read_text()


def test_the_tables_list_every_trial(study: Path, page: str) -> None:
    with (study / "report" / "trials.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["trial"]) for row in rows] == list(range(24))
    assert rows[0]["channels"] == "[8, 16, 32]"
    assert float(rows[0]["dev_wa"]) == pytest.approx(0.95 * float(rows[0]["value"]))
    assert (rows[0]["learning_rate"], rows[0]["learning_rate_at_best"]) == ("0.02", "0.02")
    assert (rows[7]["state"], rows[7]["value"], rows[7]["reason"]) == ("failed", "", "loss is NaN in epoch 1")
    lines = (study / "report" / "trials.md").read_text().splitlines()
    assert len(lines) == 26
    assert lines[0] == "| trial | alpha | beta | development UA | best epoch | epochs | time | ended |"
    assert lines[2] == "| 0 | 0.4 | 0.6 | 0.7363 | 8 | 8 | 24 s | complete: epochs |"
    assert lines[-1].startswith("| 7 |")


@pytest.mark.usefixtures("rendered")
def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    for number in range(2):
        writer.trial(number, {"alpha": 0.4, "beta": 0.1 + 0.1 * number}, 2)
    out = write_report([tmp_path / "hand"]).parent
    heads = {"png": b"\x89PNG", "pdf": b"%PDF", "svg": b"<?xml"}
    for kind, head in heads.items():
        assert (out / f"heatmap_alpha_beta.{kind}").read_bytes().startswith(head)
    # Type 3 fonts are refused by publishers.
    assert b"/Subtype /Type3" not in (out / "heatmap_alpha_beta.pdf").read_bytes()
    for path in write_report([tmp_path / "hand"], tmp_path / "again").parent.iterdir():
        assert path.name == "index.html" or path.read_bytes() == (out / path.name).read_bytes(), path.name


def test_heat_map_cells_are_the_tried_points(study: Path) -> None:
    summary = Summary(Study.open(study))
    (pair,) = summary.pairs
    axes = maps.heat_map(summary, *pair).axes[0]
    values = axes.images[0].get_array()
    assert values.shape == (10, 10)
    tried = {(t.searched["beta"], t.searched["alpha"]) for t in summary.scored}
    assert values.count() == len(tried)
    assert values[5, 3] == pytest.approx(summary.best.value)  # beta 0.6, alpha 0.4
    assert "0.736\nn = 2" in [text.get_text() for text in axes.texts]
    hatched = [patch for patch in axes.patches if patch.get_hatch()]
    whole = {(t.searched["beta"], t.searched["alpha"]) for t in summary.complete}
    assert len(hatched) == len(tried - whole) == 5
    markers = [line.get_marker() for line in axes.lines]
    assert markers == ["x", "*"], "the failed trial's, and the paper's own point"
    (column,), (row,) = axes.lines[1].get_data()
    assert (round(column), round(row)) == (3, 5), "alpha 0.4, beta 0.6"


def test_a_trial_that_has_only_begun_is_no_failure_on_the_heat_map(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    writer.event("start", 1, params={}, searched={"alpha": 0.1, "beta": 0.9})
    summary = Summary(Study.open(tmp_path / "hand"))
    (pair,) = summary.pairs
    assert [line.get_marker() for line in maps.heat_map(summary, *pair).axes[0].lines] == ["*"]


def test_a_continuum_is_drawn_as_points(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand", space=CONTINUOUS)
    for number in range(9):
        state = "pruned" if number == 3 else "complete"
        searched = {"learning_rate": 10 ** (-4 + number / 3), "alpha": number * 0.37 % 1}
        writer.trial(number, searched, 3, state, "", 0.3 + number / 30)
    page = write_report([tmp_path / "hand"]).read_text()
    assert "heatmap_learning_rate_alpha" in page
    assert "Each point is a trial" in page


def test_one_searched_parameter_gives_a_curve(tmp_path: Path) -> None:
    axis = {"alpha": studies.STEP}
    writer = studies.Writer(tmp_path / "hand", space={"search": axis, "objective": {"metric": "dev_ua"}})
    for number in range(4):
        writer.trial(number, {"alpha": round(0.1 + 0.2 * number, 1)}, 2, "complete", "", 0.4 + number / 30)
    page = write_report([tmp_path / "hand"]).read_text()
    assert (tmp_path / "hand" / "report" / "curve_alpha.png").exists()
    assert "Not shown: 4 completed trials; importance needs 8 or more." in visible(page)


@pytest.mark.parametrize(
    ("tops", "alphas", "reason"),
    [
        ([0.5] * 9, range(9), "all completed trials have the same value"),
        (range(9), [0] * 9, "fewer than two hyperparameters differ"),
    ],
)
def test_importance_says_why_it_is_not_shown(tmp_path: Path, tops: Any, alphas: Any, reason: str) -> None:
    writer = studies.Writer(tmp_path / "hand")
    for number, (top, alpha) in enumerate(zip(tops, alphas, strict=True)):
        searched = {"alpha": 0.1 + 0.1 * alpha, "beta": round(0.1 + 0.1 * number, 1)}
        writer.trial(number, searched, 1, "complete", "", 0.1 + top / 10)
    with pytest.raises(StudyError, match=reason):
        importance(Summary(Study.open(tmp_path / "hand")))


def test_importance_finds_what_matters(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    for number in range(25):
        alpha, beta = 0.1 + 0.2 * (number % 5), 0.1 + 0.2 * (number // 5)
        writer.trial(number, {"alpha": round(alpha, 1), "beta": round(beta, 1)}, 1, "complete", "", 0.8 * alpha)
    shares = importance(Summary(Study.open(tmp_path / "hand")))
    assert list(shares) == ["alpha", "beta"]
    assert shares["alpha"][0] > 0.9
    assert told_apart(shares)
    assert not told_apart({"alpha": (0.6, 0.2), "beta": (0.4, 0.2)})


def test_a_running_study_with_one_epoch_has_a_report(tmp_path: Path) -> None:
    studies.Writer(tmp_path / "hand", state="running").trial(0, {"alpha": 0.4, "beta": 0.6}, 1, "running")
    assert "1 trial (1 running)" in visible(write_report([tmp_path / "hand"]).read_text())


def test_names_and_reasons_cannot_break_the_page(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|`x`\nnext"
    writer = studies.Writer(tmp_path / "hand", git_commit=evil, data={"corpus": evil, "synthetic": False})
    writer.trial(0, {"alpha": 0.4, "model": evil}, 1)
    writer.trial(1, {"alpha": 0.5, "model": "aae"}, 0, "failed", evil)
    page = write_report([tmp_path / "hand"]).read_text()
    assert page.count("<script") == 1, "its own"
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    lines = (tmp_path / "hand" / "report" / "trials.md").read_text().splitlines()
    assert len(lines) == 4
    assert r"&lt;script&gt;alert(1)&lt;/script&gt;\|\`x\` next" in lines[-1]


def test_the_test_result_is_shown_once_there_is_one(tmp_path: Path) -> None:
    study = studies.alpha_beta(tmp_path / "hand", trials=3)
    result = {
        "trial": 2,
        "utterances": 40,
        **{"ua": 0.5, "wa": 0.51, "f1": 0.49},
        "classes": list(studies.CLASSES),
        "confusion": [[5, 3, 1, 1], [0, 9, 1, 0], [2, 2, 6, 0], [1, 1, 1, 7]],
        "speakers": {"s9": {"utterances": 40, "ua": 0.5, "wa": 0.51, "f1": 0.49}},
        "speaker_verification": {"eer": None, "reason": "the model has no speaker task"},
        **{"condition": None, "conditions": {}, "winners": {}, "svr": None},
        "tested_before": [1],
    }
    (study / "evaluation").mkdir()
    (study / "evaluation" / "test.json").write_text(json.dumps(result))
    (study / "evaluation" / "predictions.csv").write_text("id,label,predicted,anger,joy\na,joy,joy,0,1\n")
    page = write_report([study]).read_text()
    text = visible(page)
    assert 'alt="Predictions for the test set: UA 0.5000' in page
    assert "test speaker utterances UA WA F1 s9 40 0.5000 0.5100 0.4900" in cells(page)
    assert "Trial 2 on 40 test utterances: UA 0.5000, WA 0.5100, F1 0.4900" in text
    assert "This is not the trial that the development set chose (0)." in text
    assert "The test set was used before, for trial 1" in text
    assert "Test: trial 2, and not the first one tested." in text
    assert "the test set was not used" not in text
    assert "No EER: the model has no speaker task." in text


def test_a_lost_checkpoint_costs_only_the_confusion_matrix(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    (tmp_path / "hand" / "ray" / "trial0" / "dev_predictions.csv").unlink()
    text = visible(write_report([tmp_path / "hand"]).read_text())
    assert "Not shown: " in text
    assert "dev_predictions.csv: cannot be read" in text


def test_what_cannot_be_reported(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="isn't a study"):
        write_report([tmp_path / "none"])
    with pytest.raises(StudyError, match="a report needs a study"):
        write_report([])
    writer = studies.Writer(tmp_path / "hand")
    with pytest.raises(StudyError, match="all trials of study hand failed"):
        write_report([tmp_path / "hand"])
    assert not (tmp_path / "hand" / "report").exists()
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 1)
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match=r"file: the report cannot be written \(File exists\)"):
        write_report([tmp_path / "hand"], tmp_path / "file")


def test_metrics_have_names_for_people() -> None:
    assert [pretty(name) for name in ("dev_ua", "train_loss_emotion", "learning_rate", "dev_speaker_wa")] == [
        "development UA",
        "training loss, emotion",
        "learning rate",
        "development speaker WA",
    ]
    assert pretty("dev_ccc_valence") == "development CCC valence"
    assert pretty("dev_ccc_valence_snr5") == "development CCC valence at 5 dB SNR"
    assert pretty("dev_ua_clean") == "development UA on clean speech"


def test_importing_the_report_is_cheap() -> None:
    heavy = "{'matplotlib', 'optuna', 'mlflow', 'torch', 'ray', 'pandas', 'jinja2'}"
    code = f"import sys, sersearch.report; print({heavy} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
