"""From finished studies to the printed table; and what a killed run leaves for the next."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sersearch.data.place import full_name
from sersearch.errors import DataError, StudyError
from sersearch.evaluation.results import HeldOut, Results
from sersearch.papers import collecting, making
from sersearch.papers.collecting import Collected, Sample, _in_condition
from sersearch.papers.declaration import Cell, Content, Figure
from sersearch.papers.making import Made, make, run
from sersearch.papers.planning import Given, Sheet
from sersearch.papers.rendering import to_latex, to_markdown, to_rich, write
from sersearch.study import Study
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.run import How
from tests.papers.test_planning import corpus, plan

FIGURES = {"stl": 0.5, "mtl": 0.55, "lad": 0.6}
"""What the faked models reach, by the first word of their parts."""


def faked(self: Collected, cell: Cell, over: str = "runs") -> Sample:
    model = cell.part.name.removeprefix("table1-").split("-")[0]
    return Sample({(0, ""): FIGURES[model]}, 1000)


@pytest.fixture
def sheet(tmp_path: Path) -> Sheet:
    return plan("ladder/table1", corpus(tmp_path / "data", attributes=True, split=True), studies=tmp_path / "studies")[
        0
    ]


@pytest.fixture
def made(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(Collected, "sample", faked)
    return make(sheet, Given(name="ladder/table1", data=()))


# --- running ----------------------------------------------------------------------------------------------------------


class FakeSearch:
    """Leaves a finished study, and may be killed."""

    def __init__(self, killed_at: int | None = None) -> None:
        self.ran: list[str] = []
        self.killed_at = killed_at

    def __call__(self, request: TuneRequest, how: How, on_event: Any) -> None:
        assert request.name is not None
        if len(self.ran) == self.killed_at:
            raise KeyboardInterrupt("`sersearch tune --resume` goes on")
        self.ran.append(request.name)
        data = {"path": full_name(request.data), "aux": None, "cross": None}
        space = request.space.model_dump(mode="json")
        meta = {"state": "finished", "space": space, "seed": request.seed, "data": data}
        if not (request.root / request.name).is_dir():
            Study.create(request.name, meta, request.root)


@contextmanager
def no_ray(how: How) -> Iterator[None]:
    yield


def test_a_killed_run_goes_on_and_finished_studies_are_not_run_again(
    sheet: Sheet, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(making, "session", no_ray)
    killed, lines = FakeSearch(killed_at=4), []  # type: ignore[var-annotated]
    monkeypatch.setattr(making, "tune", killed)
    with pytest.raises(KeyboardInterrupt):
        run([sheet], How(), lines.append)
    assert len(killed.ran) == 4
    second = FakeSearch()
    monkeypatch.setattr(making, "tune", second)
    run([sheet], How(), lines.append)
    assert len(second.ran) == 8
    assert not set(killed.ran) & set(second.ran)
    assert "12 studies, 4 of them finished before" in lines
    run([sheet], How(), lines.append)
    assert len(second.ran) == 8
    assert lines[-1] == "12 studies, 12 of them finished before"


def test_a_study_of_another_search_is_left_to_tune_to_refuse(sheet: Sheet, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(making, "session", no_ray)
    first, again = FakeSearch(), FakeSearch()
    monkeypatch.setattr(making, "tune", first)
    run([sheet], How(), lambda line: None)
    jobs = tuple(replace(job, request=replace(job.request, seed=1)) for job in sheet.jobs)
    monkeypatch.setattr(making, "tune", again)
    run([replace(sheet, jobs=jobs)], How(), lambda line: None)
    assert len(again.ran) == 12


# --- the table --------------------------------------------------------------------------------------------------------


def test_our_figures_stand_beside_the_papers_with_marks_by_its_test(made: Made) -> None:
    lines = {line[0]: line[1:] for line in made.lines}
    assert lines["STL"][:2] == ("0.500", "0.773")
    assert lines["Lad + L + STL"][:2] == ("0.600 •*", "0.793 •*"), "z of 0.6 against 0.55 with 1000 utterances: 1.67"
    assert lines["MTL"][0] == "0.550", "z against 0.5: 1.54, not significant"
    assert [line[0] for line in made.lines] == [
        "[43] Lad + L + STL + SVR",
        "STL",
        "MTL",
        "Lad + L + STL",
        "Lad + L + MTL",
        "Lad + UL + STL",
        "Lad + UL + MTL",
    ]


def test_the_caption_says_what_a_reader_must_know(made: Made) -> None:
    for piece in (
        "table I, section V-A",
        "Here: official split",
        "Seeds: 0.",
        "Ours is another corpus, made (synthetic); the paper's: msp_podcast.",
        "It is synthetic",
        "the paper's own numbers, on msp_podcast",
        "• better than STL, * better than MTL: Fisher Z-transformation test, one-tailed, p < 0.05",
    ):
        assert piece in made.caption
    assert "Scaled" not in made.caption


def test_corpora_are_another_ones_where_only_the_trained_one_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collected, "sample", lambda self, cell, over="runs": Sample({(0, "a"): 0.5, (1, "b"): 0.6}, 50))
    mine, podcast, iemocap = (
        corpus(tmp_path / name, name=name, attributes=True, seed=seed)
        for seed, name in enumerate(("mine", "msp_podcast", "iemocap"))
    )
    captions = [
        make(*plan("ladder/table2", data, cross=(iemocap,)), Given(name="ladder/table2", data=())).caption
        for data in (mine, podcast)
    ]
    assert (
        "Ours are other corpora, trained on mine, tested on iemocap (synthetic); "
        "the paper's: trained on msp_podcast, tested on iemocap, msp_improv." in captions[0]
    )
    assert "Ours are" not in captions[1]


@pytest.mark.parametrize("name", ["ladder/table1", "ladder/fig6"])
def test_of_classes_the_papers_test_of_correlations_is_said_not_to_apply(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Collected, "sample", lambda self, cell, over="runs": Sample({(0, ""): 0.5}, 1000))
    (sheet,) = plan(name, corpus(tmp_path / "data", split=True))
    caption = make(sheet, Given(name=name, data=())).caption
    assert "The paper's test, Fisher Z-transformation test, is of correlations: there is none of classes." in caption
    assert "has no test" not in caption


def test_a_scaled_runs_caption_says_that_it_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collected, "sample", faked)
    data = corpus(tmp_path / "data", attributes=True, split=True)
    (sheet,) = plan("ladder/table1", data, scale=0.05)
    caption = make(sheet, Given(name="ladder/table1", data=(data,), scale=0.05)).caption
    assert "Scaled by 0.05: at most 5 epochs" in caption
    assert "say nothing about the paper" in caption


def test_runs_have_deviations_and_paired_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = {"multimodal_ladder": 0.8, "auxformer": 0.75, "mult": 0.7, "parthasarathy": 0.6}
    noise = np.random.default_rng(0).normal(size=20) / 100

    def sample(self: Collected, cell: Cell, over: str = "runs") -> Sample:
        own = values[cell.part.name] + noise + np.random.default_rng(len(cell.part.name)).normal(size=20) / 500
        return Sample({(n, f"run{n}"): float(v) for n, v in enumerate(own)}, 100)

    monkeypatch.setattr(Collected, "sample", sample)
    (sheet,) = plan("multimodal_ladder/table1", corpus(tmp_path / "data", "lld_32_16"))
    made = make(sheet, Given(name="multimodal_ladder/table1", data=()))
    ours, *others = made.lines
    assert ours[1] == "79.8 ± 0.9 ★"
    assert ours[2] == "80.3 ★"
    assert not any("★" in cell for line in others for cell in line)
    assert "★ better than all of Baseline 1 [4], Baseline 2 [10], Baseline 3 [3]" in made.caption


def test_the_deviation_of_repetitions_is_over_seeds_and_not_over_speakers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = {(seed, fold): 0.3 + 0.1 * fold + (0.02 if seed == 2 else 0.0) for seed in (1, 2) for fold in range(5)}

    def tested(studies: list[str], name: str, *, seeds: int, workers: int | None) -> Results:
        parts = {who: HeldOut(("u",), (who,), np.zeros(1, int)) for who in studies}
        scores = {seed: {who: right[seed, n] for n, who in enumerate(studies)} for seed in (1, 2)}
        return Results(study=name, family="aae", protocol="LOSO", target="emotion4", classes=("a", "b"),
                       scores={"wa": scores, "ua": scores}, parts=parts)  # fmt: skip

    monkeypatch.setattr(collecting, "_study", lambda job: job.run[1])
    monkeypatch.setattr(collecting, "evaluate_folds", tested)
    (sheet,) = plan("mtl_aae/table5", corpus(tmp_path / "data", "spectrogram"), scale=0.2)
    speakers = len({job.run for job in sheet.jobs})
    made = make(sheet, Given(name="mtl_aae/table5", data=()))
    # Of seed 1 the speakers have 30, 40, ..., of seed 2 two more each.
    mean = 30 + 10 * (speakers - 1) / 2 + 1
    assert made.lines[0][1] == f"{mean:.1f} ± 1.4", "2 / sqrt(2)"
    assert "deviation over the repetitions" in made.caption


def test_others_results_stand_in_the_papers_order_without_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collected, "sample", lambda self, cell, over="runs": Sample({(0, "s0"): 0.5}, 10))
    data = corpus(tmp_path / "data", "spectrogram", name="msp_improv", repetitions=10)
    (sheet,) = plan("mtl_aae/table3", data)
    made = make(sheet, Given(name="mtl_aae/table3", data=()))
    assert made.lines[0] == ("10-fold: ProgNet (transfer learning) [88]", "-", "60.5 ± 2.1")
    assert made.lines[1] == ("10-fold: CNN (multi-task)", "50.0", "59.5 ± 2.4")
    assert len(made.lines) == 6, "the paper has fewer rows for MSP-IMPROV"
    assert "Ours is another corpus" not in made.caption


# --- files ------------------------------------------------------------------------------------------------------------


def test_files_hold_the_whole_table(sheet: Sheet, made: Made, tmp_path: Path) -> None:
    written = write("ladder/table1", sheet.piece, [made], tmp_path / "out")
    assert [path.name for path in written] == [f"ladder_table1.{suffix}" for suffix in ("csv", "md", "tex")]
    with written[0].open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0][:4] == ["corpus", "CCC", "Development Arousal", "Development Arousal, paper"]
    assert rows[2][:4] == ["made (synthetic)", "STL", "0.500", "0.773"]
    assert len(rows) == 8
    markdown = to_markdown("ladder/table1", [made])
    assert "| STL | 0.500 | 0.773 |" in markdown
    assert r"0.600 •\*" in markdown
    latex = to_latex([made])
    assert r"\multicolumn{6}{c}{Development}" in latex
    assert r"0.600 $^{\bullet}$$^{*}$" in latex
    assert latex.count(r"\\") == 2 + 7


def test_a_terminal_gets_a_table_for_each_group(made: Made, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    Console(width=100).print(to_rich(made))
    out = capsys.readouterr().out
    assert "made (synthetic) - Development" in out
    assert "made (synthetic) - Test" in out
    assert "0.600 •*" in out


def test_a_narrow_terminal_breaks_lines_and_cuts_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    heads = ("CCC", *(name for snr in ("Clean", "10dB", "5dB", "0dB") for name in (snr, "paper")))
    made = Made("demo", (), heads, (("Decoupled ladder network", *["0.849 ± 0.037", "0.631"] * 4),), "")
    Console(width=80).print(to_rich(made))
    words = capsys.readouterr().out.split()
    assert [words.count(word) for word in ("0.849", "0.037", "0.631", "paper", "Decoupled")] == [4, 4, 4, 4, 1]


@pytest.mark.parametrize("name", ["ladder/fig6", "multimodal_ladder/fig3"])
def test_a_figure_of_bars_is_drawn(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Collected, "sample", lambda self, cell, over="runs": Sample({(0, "a"): 0.5, (1, "b"): 0.6}, 50))
    features = "functionals" if name.startswith("ladder") else "lld_32_16"
    (sheet,) = plan(name, corpus(tmp_path / "data", features, attributes=True, split=True))
    written = write(name, sheet.piece, [make(sheet, Given(name=name, data=()))], tmp_path / "out")
    assert [path.suffix for path in written] == [".csv", ".md", ".tex", ".png", ".svg", ".pdf"]
    assert all(path.stat().st_size > 100 for path in written)


def test_a_figure_of_its_own_is_drawn_by_its_content(sheet: Sheet, tmp_path: Path) -> None:
    drawn = []

    def content(collected: Collected) -> Content:
        return Content(("epoch", "mean"), (("1", "0.5"),), lambda canvas: drawn.append(canvas.add_subplot()))

    piece = Figure(
        title="T", source="S", corpora=("made",), protocol="P", shown=tuple(sheet.piece.parts), content=content
    )
    own = make(replace(sheet, piece=piece), Given(name="ladder/fig5", data=()))
    written = write("ladder/fig5", piece, [own], tmp_path / "out")
    assert len(drawn) == 1
    assert {path.suffix for path in written} == {".csv", ".md", ".tex", ".png", ".svg", ".pdf"}


def test_a_folder_that_cannot_be_written_is_said(sheet: Sheet, made: Made, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StudyError, match="--out names another"):
        write("ladder/table1", sheet.piece, [made], tmp_path / "file" / "out")


def test_a_condition_that_was_not_tested_is_never_taken_for_clean_speech() -> None:
    noisy = {"snr10": 0.4}
    assert [_in_condition(0.6, noisy, name) for name in ("", "clean", "snr10")] == [0.6, 0.6, 0.4]
    with pytest.raises(DataError, match=r"no utterances in condition snr5.*--snr 10 5 0"):
        _in_condition(0.6, noisy, "snr5")
