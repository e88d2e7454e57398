"""Reports of several studies, of damaged ones, and of large ones."""

from __future__ import annotations

import csv
import json
import math
import re
import time
from pathlib import Path
from typing import Any

import pytest

from sersearch.errors import StudyError
from sersearch.report import write_report
from sersearch.report.overview import Entry, comparisons, entry, grouped
from sersearch.report.picture import Picture, picture
from sersearch.report.summary import Summary
from sersearch.study import Study
from tests.report import studies
from tests.report.studies import cells, visible


def fold(folder: Path, speaker: str, top: float, test: float | None = None, **changes: Any) -> Path:
    """A study that leaves `speaker` out."""
    data = {"corpus": "mine", "target": "emotion", "protocol": {"name": "loso", "test_speaker": speaker}}
    writer = studies.Writer(folder, name=folder.name, **{"data": data, **changes})
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2, top=top)
    (folder / "split.json").write_text(json.dumps(studies.SPLIT | {"caption": f"LOSO, test speaker {speaker}"}))
    if test is not None:
        (folder / "evaluation").mkdir()
        result = {"trial": 0, "utterances": 40, "ua": test, "speakers": {speaker: {"utterances": 40, "ua": test}}}
        (folder / "evaluation" / "test.json").write_text(json.dumps(result))
    return folder


def entries(folders: list[Path]) -> list[Entry]:
    found = [entry(Summary(Study.open(folder))) for folder in folders]
    return [own for own in found if own is not None]


def test_several_studies_have_a_table_a_chart_and_a_section_each(tmp_path: Path) -> None:
    folders = [fold(tmp_path / "one", "s1", 0.5, 0.4), fold(tmp_path / "two", "s2", 0.7)]
    page = write_report(folders, tmp_path / "out").read_text()
    text = cells(page)
    assert "one aae aae_alpha_beta mine LOSO, test speaker s1 emotion UA 0.3161 0.4000 1 0.00167" in text
    assert "two aae aae_alpha_beta mine LOSO, test speaker s2 emotion UA 0.4425 not evaluated 1 0.00167" in text
    assert '<figure id="overview-comparison_1">' in page
    assert 'id="study1"' in page
    assert 'id="study2"' in page
    assert (tmp_path / "out" / "one" / "heatmap_alpha_beta.pdf").exists()
    assert (tmp_path / "out" / "two" / "trials.csv").exists()
    assert 'href="one/heatmap_alpha_beta.pdf"' in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    with (tmp_path / "out" / "studies.csv").open(newline="") as file:
        assert [row["study"] for row in csv.DictReader(file)] == ["one", "two"]


def test_a_test_figure_has_the_interval_that_evaluate_wrote(tmp_path: Path) -> None:
    folder = fold(tmp_path / "one", "s1", 0.5, 0.4)
    path = folder / "evaluation" / "test.json"
    result = json.loads(path.read_text())
    for low, high in ((0.31, 0.48), (None, None), ("much", [])):
        path.write_text(json.dumps({**result, "intervals": {"ua": {"low": low, "high": high, "note": ""}}}))
        (found,) = entries([folder])
        whole = (0.31, 0.48) if low == 0.31 else (math.nan, math.nan)
        assert (found.test_low, found.test_high) == pytest.approx(whole, nan_ok=True)


def test_folds_are_compared_with_a_word_on_their_splits(tmp_path: Path) -> None:
    folders = [fold(tmp_path / n, n, t, t / 2) for n, t in (("a", 0.5), ("b", 0.7))]
    (made,) = comparisons(grouped(entries(folders)))
    assert made.title == "UA of emotion, mine: 2 studies"
    assert "not one split" in made.caption
    assert "a: LOSO, test speaker a; b: LOSO, test speaker b; seed 7." in made.caption
    # 0.5 and 0.7 of 1 - exp(-1) = 0.632; test 0.25 and 0.35.
    assert "aae_alpha_beta, 2 studies: development 0.379 ± 0.089, test 0.300 ± 0.071 over 2" in made.caption
    assert [row[2] for row in made.rows[1:]] == pytest.approx([0.3161, 0.4425], abs=1e-4)


@pytest.mark.parametrize(
    "changes",
    [
        {"data": {"corpus": "other", "target": "emotion", "protocol": {"name": "loso"}}},
        {"data": {"corpus": "mine", "target": "emotion4", "protocol": {"name": "loso"}}},
        {"data": {"corpus": "mine", "target": "emotion", "protocol": {"name": "speaker"}}},
        {"objective": {"metric": "dev_wa"}},
    ],
)
def test_what_was_scored_otherwise_stands_in_no_chart(tmp_path: Path, changes: dict[str, Any]) -> None:
    folders = [fold(tmp_path / "one", "s1", 0.5), fold(tmp_path / "two", "s1", 0.7, **changes)]
    text = visible(write_report(folders, tmp_path / "out").read_text())
    assert "the same corpus, kind of protocol, target and metric, or for want of a result: one, two." in text
    assert grouped(entries(folders)) == []


def test_other_searches_have_no_common_mean(tmp_path: Path) -> None:
    one = fold(tmp_path / "one", "s1", 0.5)
    two = fold(tmp_path / "two", "s1", 0.7, family="ladder")
    (made,) = comparisons(grouped(entries([one, two])))
    assert "All by LOSO, test speaker s1; seed 7." in made.caption
    assert "±" not in made.caption


def test_several_studies_need_a_place(tmp_path: Path) -> None:
    folders = [fold(tmp_path / "one", "s1", 0.5), fold(tmp_path / "two", "s2", 0.7)]
    with pytest.raises(StudyError, match="a report of 2 studies lies in none of their folders; name one with --out"):
        write_report(folders)
    assert write_report([folders[0], folders[0]]) == folders[0] / "report" / "index.html", "twice the same is once"


def test_studies_of_one_name_have_folders_of_their_own(tmp_path: Path) -> None:
    folders = [fold(tmp_path / place / "same", "s1", 0.5) for place in ("here", "there")]
    page = write_report(folders, tmp_path / "out").read_text()
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_dir()} == {"same", "same-2"}
    assert 'href="same-2/trials.csv"' in page


# --- what is missing --------------------------------------------------------------------------------------------------


def test_a_study_whose_trials_all_failed_says_why(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    for number in range(30):
        reason = "no memory" if number != 4 else "loss is NaN"
        writer.trial(number, {"alpha": 0.4, "beta": 0.6}, 0, "failed", reason)
    (tmp_path / "hand" / "logs").mkdir()
    (tmp_path / "hand" / "logs" / "trial-0001.jsonl").write_text("{}\n")
    page = write_report([tmp_path / "hand"]).read_text()
    text = visible(page)
    assert "There is no result. all trials of study hand failed" in text
    assert "no memory 0, 1, 2, 3, 5," in cells(page)
    assert "and 5 more" in text
    assert '<a href="../logs/trial-0001.jsonl">1</a>' in page
    assert "Not shown: no trial finished an epoch." in text
    assert "None: there is no trial to test." in text
    assert "LOSO, test speaker s9, development speaker s8; target emotion" in text, "who is where is known"
    beside = write_report([tmp_path / "hand", fold(tmp_path / "fine", "s1", 0.5)], tmp_path / "out").read_text()
    assert "hand aae aae_alpha_beta demo LOSO, test speaker s9, development speaker s8 emotion UA none" in cells(beside)


NO_HOURS = json.dumps(studies.SPLIT | {"parts": {"dev": {"utterances": 1}}})


@pytest.mark.parametrize("content", ["{", "[]", '{"caption": 1}', NO_HOURS, None])
def test_a_damaged_split_card_costs_the_split_card(tmp_path: Path, content: str | None) -> None:
    studies.Writer(tmp_path / "hand").trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    path = tmp_path / "hand" / "split.json"
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    page = write_report([tmp_path / "hand"]).read_text()
    assert f"Not shown: {path}: {'there is no such file' if content is None else 'cannot be read'}" in visible(page)
    assert '<figure id="study-confusion">' in page


@pytest.mark.parametrize("content", ["{", '{"trial": 0, "utterances": 1, "ua": 1, "speakers": ["s9"]}'])
def test_a_damaged_test_result_is_said_to_be(tmp_path: Path, content: str) -> None:
    studies.Writer(tmp_path / "hand").trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    (tmp_path / "hand" / "evaluation").mkdir()
    (tmp_path / "hand" / "evaluation" / "test.json").write_text(content)
    text = visible(write_report([tmp_path / "hand"]).read_text())
    assert "evaluation/test.json: cannot be read" in text
    assert "the test set was not used" not in text
    two = [tmp_path / "hand", fold(tmp_path / "fine", "s1", 0.5)]
    assert "UA 0.3161 cannot be read 1" in cells(write_report(two, tmp_path / "out").read_text())


def test_a_figure_that_raises_is_a_sentence() -> None:
    def draw(error: Exception) -> Picture:
        raise error

    said = {str(error): picture("x", "X", lambda e=error: draw(e)) for error in (StudyError("no"), KeyError("metrics"))}
    assert [(made.caption, made.figure) for made in said.values() if made is not None] == [
        ("Not shown: no.", None),
        ("Could not be drawn: KeyError: 'metrics'.", None),
    ]


def test_figures_of_an_earlier_report_do_not_outlive_their_reason(tmp_path: Path) -> None:
    writer = studies.Writer(tmp_path / "hand")
    writer.trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    out = write_report([tmp_path / "hand"]).parent
    assert (out / "confusion.pdf").exists()
    assert (out / "confusion.csv").exists()
    (tmp_path / "hand" / "ray" / "trial0" / "dev_predictions.csv").unlink()
    write_report([tmp_path / "hand"])
    assert not list(out.glob("confusion.*"))


def test_a_metric_that_nobody_heard_of_breaks_nothing(tmp_path: Path) -> None:
    objective = {"metric": "dev_kappa"}
    studies.Writer(tmp_path / "hand", objective=objective, family="mine").trial(0, {"alpha": 0.4, "beta": 0.6}, 2)
    text = visible(write_report([tmp_path / "hand"]).read_text())
    assert "Not shown: kappa of classes: expected one of f1, precision, ua, wa." in text
    assert "No trial has the paper's own values" in text, "the family isn't known"


# --- what is hostile, or large ----------------------------------------------------------------------------------------


@pytest.mark.usefixtures("rendered")
def test_names_are_only_text_in_figures(tmp_path: Path) -> None:
    evil = "$\\frac{</svg><script>alert(1)</script>"
    search = {evil: {"choices": [evil, "x" * 300]}, "语音": {"low": 0.0, "high": 1.0}}
    writer = studies.Writer(tmp_path / "hand", space={"search": search, "objective": {"metric": f"dev_{evil}"}})
    for number, value in enumerate([evil, "x" * 300]):
        writer.trial(number, {evil: value, "语音": 0.1 + 0.5 * number}, 2, top=0.3 + 0.1 * number)
    out = write_report([tmp_path / "hand"]).parent
    page = (out / "index.html").read_text()
    assert page.count("<script") == 1
    assert "Could not be drawn" not in page
    for path in out.glob("*.svg"):
        assert "<script" not in path.read_text()


@pytest.mark.usefixtures("rendered")
def test_a_thousand_trials_take_seconds(tmp_path: Path) -> None:
    space = {
        "name": "wide",
        "search": {"rate": {"low": 1e-4, "high": 1e-1, "log": True}, "alpha": studies.STEP, "beta": studies.STEP},
        "objective": {"metric": "dev_ua"},
    }
    folder = tmp_path / "hand"
    writer = studies.Writer(folder, space=space)
    lines = []
    for n in range(1000):
        alpha, beta = round(0.1 + 0.1 * (n % 10), 1), round(0.1 + 0.1 * (n // 10 % 10), 1)
        searched = {"rate": 10 ** (-4 + 3 * (n * 0.618 % 1)), "alpha": alpha, "beta": beta}
        lines.append({"event": "start", "trial": n, "params": searched, "searched": searched, "time": n})
        for epoch in range(1, 11):
            value = studies.surface(alpha, beta) * epoch / 10
            metrics = {"dev_ua": value, "train_loss_emotion": 1 / epoch, "dev_loss_emotion": 1.1 / epoch}
            event = {"event": "epoch", "trial": n, "epoch": epoch, "metrics": metrics, "value": value, "best": True}
            lines.append({**event, "seconds": 1.0, "checkpoint": None, "time": n + epoch})
        lines.append({"event": "end", "trial": n, "state": "complete", "reason": "", "time": n + 10})
    (folder / "trials.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    begun = time.process_time()
    page = write_report([writer.folder]).read_text()
    assert time.process_time() - begun < 30
    assert len(page) < 8_000_000
    assert "All 1000 trials" in page
    assert page.count("<tr") > 1000
    assert "Could not be drawn" not in page
