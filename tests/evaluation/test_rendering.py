"""How a comparison is shown."""

from __future__ import annotations

import csv
import dataclasses
import io
import re

import pytest
from rich.console import Console

from sersearch.errors import StudyError
from sersearch.evaluation.comparison import Comparison, compare
from sersearch.evaluation.rendering import chart, to_csv, to_latex, to_markdown, to_rich, write_comparison
from tests.evaluation.written import learnt


@pytest.fixture(scope="module")
def shown() -> Comparison:
    studies = [learnt("STL_1", 2.0), learnt("MTL", 1.5), learnt("ladder", 0.5)]
    return compare(studies, "ccc_valence", "paired_t", "holm", ["STL_1", "MTL"])


def test_the_caption_says_what_a_reader_must_know(shown):
    assert shown.caption == (
        "CCC valence on the test set: official split; target attributes. Mean and sample standard deviation over seeds "
        "x 1 test part; seeds: 3 (0 to 2). 95% CI: bootstrap over 12 speakers. Matched-pair "
        "t-test, one-tailed; 3 tests, corrected for their number. * better than STL_1, † better than MTL (p < 0.05 by "
        "Holm). All runs are on the same test utterances: p is of other seeds, not of other speakers."
    )
    single = compare(
        [learnt("a", 1.0, 1), dataclasses.replace(learnt("b", 0.9, 1), synthetic=True)], "ccc_valence", "fisher_z"
    )
    assert single.caption.startswith(
        "CCC valence on the test set: official split; target attributes; synthetic corpus. One"
    )
    assert "One run each, seed 0. " in single.caption


def test_csv_has_every_figure(shown):
    rows = list(csv.DictReader(io.StringIO(to_csv(shown))))
    assert [(row["study"], row["baseline"]) for row in rows] == [
        ("STL_1", ""),
        ("MTL", "STL_1"),
        ("ladder", "STL_1"),
        ("ladder", "MTL"),
    ]
    assert [rows[0][name] for name in ("p", "statistic", "effect", "better")] == [""] * 4
    for row, pair in zip(rows[1:], shown.pairs, strict=True):
        found, own = pair.outcome, next(r for r in shown.rows if r.study == pair.study)
        numbers = {"p": found.p, "p_corrected": pair.p_corrected, "statistic": found.statistic, "effect": found.effect}
        numbers |= {"difference": found.difference, "df": found.df, "n": 3, "mean": own.spread.mean}
        numbers |= {"deviation": own.spread.deviation, "ci_low": own.interval.low, "ci_high": own.interval.high}
        assert {name: float(row[name]) for name in numbers} == numbers
        assert (row["test"], row["tails"], row["correction"], row["effect_size"]) == ("paired_t", "1", "holm", "d_z")
        assert (row["ci_by"], row["better"]) == ("speaker", str(pair.better))


def test_markdown(shown):
    lines = to_markdown(shown).splitlines()
    assert lines[0] == "| study | family | CCC valence | 95% CI | against | difference | statistic | p (Holm) | d\\_z |"
    spread = shown.rows[2].spread
    assert lines[4].startswith(
        f"| ladder | ladder | {spread.mean:.3f} ± {spread.deviation:.3f} \\*† | [".replace("[", "\\[")
    )
    assert lines[5].startswith("|  |  |  |  | MTL | +"), "the study's figures stand once"
    assert {line.count(" |") for line in lines[:6]} == {9}
    assert lines[7].startswith("CCC valence on the test set")
    assert "STL\\_1" in lines[7]


def test_latex_is_escaped_and_balanced(shown):
    text = to_latex(shown)
    assert "\\textsuperscript{*\\textdagger{}}" in text
    assert "STL\\_1 & ladder & " in text
    assert "95\\% CI" in text
    assert "$\\pm$" in text
    assert text.isascii(), "nothing needs another engine than pdflatex"
    # What is left without its backslash would be an error, or something else.
    bare = re.sub(r"\\[\\&%$#_{}]|\\[a-zA-Z]+", "", text.replace("% \\usepackage{booktabs}", ""))
    assert not re.search(r"[#_^~%]", bare)
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert len(rows) == 5
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {8}
    assert "\\begin{tabular}{llrrlrrrr}" in text
    assert text.index("\\toprule") < text.index("\\midrule") < text.index("\\bottomrule")


def test_terminal(shown):
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(to_rich(shown))
    text = console.export_text()
    assert re.search(
        r"ladder +ladder +0\.\d{3} ± 0\.\d{3} \*† +STL_1 +\+0\.\d{3} +t\(2\) = .*\n +\[0\.\d{3}, 0\.\d{3}\]", text
    )
    assert "* better than STL_1, † better than MTL" in " ".join(text.split())


def test_a_narrow_terminal_cuts_no_figure_and_no_name():
    names = ["paper-multimodal_ladder-x0.02", "multimodal_ladder_baseline", "ladder_alpha_beta"]
    studies = [learnt(name, noise) for name, noise in zip(names, (2.0, 1.5, 0.05), strict=True)]
    found = compare(studies, "ccc_dominance", "welch_t", "holm", names[:2])
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(to_rich(found))
    text = console.export_text()
    assert "…" not in text
    for row in found.rows:
        assert f"{row.spread.mean:.3f} ± {row.spread.deviation:.3f}{' ' if row.marks else ''}{row.marks}" in text
        assert f"[{row.interval.low:.3f}, {row.interval.high:.3f}]" in text
    for pair in found.pairs:
        assert f"t({pair.outcome.df:.4g}) = {pair.outcome.statistic:.2f}" in text
    assert "".join(names) in "".join(line[:8].strip() for line in text.splitlines()), "broken, but whole"


def test_the_chart_has_bars_errors_and_marks(shown):
    axes = chart(shown).axes[0]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx([row.spread.mean for row in shown.rows])
    marks = {text.get_text(): text.xy for text in axes.texts if text.get_text()}
    top = shown.rows[2].spread.mean + shown.rows[2].spread.deviation
    assert marks["*†"] == pytest.approx((2, top)), "above the error bar"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["STL_1", "MTL", "ladder"]
    caption = " ".join(chart(shown).get_supxlabel().split())
    assert caption == f"{shown.caption} Error bars: standard deviation."


def test_one_run_has_the_interval_for_an_error_bar():
    single = compare([learnt("a", 1.0, 1), learnt("b", 0.5, 1)], "ccc_valence", "fisher_z")
    figure = chart(single)
    assert figure.get_supxlabel().replace("\n", " ").endswith("Error bars: 95% bootstrap interval by speaker.")
    (segments,) = [c.get_segments() for c in figure.axes[0].collections]
    for segment, row in zip(segments, single.rows, strict=True):
        assert segment[:, 1] == pytest.approx([row.interval.low, row.interval.high])
    bare = [dataclasses.replace(learnt(name, 1.0, 1), outputs={}) for name in "ab"]
    without = compare(bare, "ccc_valence", "fisher_z")
    assert [row.interval for row in without.rows] == [None, None]
    assert "No 95% CI: study a: its outputs were not kept" in without.caption
    assert (
        chart(without).get_supxlabel().replace("\n", " ").endswith("Without error bars, as studies have one run each.")
    )
    assert " | – | " in to_markdown(without)  # noqa: RUF001


def test_files(shown, tmp_path):
    paths = write_comparison(shown, tmp_path / "new", "valence")
    assert [path.name for path in paths] == [f"valence.{suffix}" for suffix in ("csv", "md", "tex", "png", "pdf")]
    first = [path.read_bytes() for path in paths]
    assert first[3].startswith(b"\x89PNG")
    assert first[4].startswith(b"%PDF")
    assert first[0].decode() == to_csv(shown)
    assert [path.read_bytes() for path in write_comparison(shown, tmp_path / "new", "valence")] == first
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="the comparison cannot be written"):
        write_comparison(shown, tmp_path / "file" / "folder")
