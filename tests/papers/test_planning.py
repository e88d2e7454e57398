"""From a declaration and corpora to studies: what is run, on what, at what scale, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from sersearch.data.protocols import Protocol
from sersearch.errors import ConfigError, DataError
from sersearch.papers import Table, get_piece
from sersearch.papers.making import cost
from sersearch.papers.planning import Given, Sheet, sheets, size
from sersearch.papers.scaling import check_scale, scaled_count, scaled_space
from sersearch.tuning.plan import DryRun
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table


def corpus(
    folder: Path,
    features: str = "functionals",
    name: str = "made",
    split: bool = False,
    speakers: int = 5,
    **more: Any,
) -> Path:
    """A prepared corpus of synthetic tables; `split`: with an official split."""
    table = make_table(vectors=features == "functionals", speakers=speakers, corpus=name, **more)
    rows = table.utterances
    if split:
        part = {"s0": "test", "s1": "dev"}
        known = rows["emotion"].notna().map({True: "train", False: "unlabelled"})
        own = [part.get(speaker, other) for speaker, other in zip(rows["speaker"], known, strict=True)]
        rows = rows.assign(split=own)
    return write_table(folder, replace(table, card={**table.card, "features": features}, utterances=rows))


def plan(name: str, *data: Path, **more: Any) -> list[Sheet]:
    return sheets(get_piece(name), Given(name=name, data=data, **more))


def names(sheet: Sheet) -> list[str]:
    return [str(job.request.name) for job in sheet.jobs]


# --- studies ----------------------------------------------------------------------------------------------------------


def test_table_1_is_twelve_studies_with_fixed_names(tmp_path: Path) -> None:
    (sheet,) = plan("ladder/table1", corpus(tmp_path / "data", attributes=True, split=True))
    assert len(sheet.jobs) == 12
    assert "paper-ladder-table1-stl-valence-made" in names(sheet)
    assert sum(size(job.request.space) for job in sheet.jobs) == 3 * 66 + 9
    assert {job.request.protocol for job in sheet.jobs} == {Protocol("official")}
    assert {job.request.space.epochs for job in sheet.jobs} == {100}
    assert names(plan("ladder/table1", tmp_path / "data")[0]) == names(sheet)


def test_a_figure_shares_the_studies_of_its_table(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", attributes=True, split=True)
    (figure,), (table,) = plan("ladder/fig4", data), plan("ladder/table1", data)
    assert set(names(figure)) < set(names(table))


def test_without_an_official_split_speakers_are_drawn(tmp_path: Path) -> None:
    (sheet,) = plan("ladder/table1", corpus(tmp_path / "data", attributes=True))
    assert {job.request.protocol for job in sheet.jobs} == {Protocol("speaker")}
    assert any("no official split" in note for note in sheet.notes)


def test_a_corpus_without_attributes_tells_emotions_apart(tmp_path: Path) -> None:
    (sheet,) = plan("ladder/table1", corpus(tmp_path / "data", split=True))
    assert isinstance(sheet.piece, Table)
    assert [row.label for row in sheet.piece.rows] == ["STL", "Lad + L + STL", "Lad + UL + STL"]
    assert sheet.piece.columns == (("Development", "Emotion"), ("Test", "Emotion"))
    assert {job.request.target for job in sheet.jobs} == {"emotion4"}
    assert "paper-ladder-table1-stl-emotion4-made" in names(sheet)
    assert not any(job.part.svr for job in sheet.jobs)
    assert "no attributes" in sheet.notes[0]


def test_cross_corpus_studies_learn_from_what_the_paper_says(tmp_path: Path) -> None:
    data = corpus(tmp_path / "a", name="a", attributes=True)
    other = [corpus(tmp_path / name, name=name, attributes=True, seed=1, speakers=4) for name in ("b", "c")]
    first, second = plan("ladder/table2", data, cross=tuple(other))
    assert (first.trained, first.corpus, second.corpus) == ("a", "b", "c")
    by_name = {job.request.name: job.request for job in first.jobs}
    labelled, unlabelled = (by_name[f"paper-ladder-table2-lad-{s}-stl-valence-a-to-b"] for s in ("l", "ul"))
    assert labelled.protocol == Protocol("cross", develop_on="source")
    assert unlabelled.protocol == Protocol("cross", develop_on="source", target_audio="all")
    within = [job for job in first.jobs if job.part.within]
    assert len(within) == 3 * 4, "an STL model for each attribute and speaker of the tested corpus"
    assert {job.request.data for job in within} == {other[0]}
    assert {job.request.cross for job in within} == {None}


def test_each_partition_is_the_same_for_all_models(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", "lld_32_16")
    (sheet,) = plan("multimodal_ladder/table1", data)
    assert len(sheet.jobs) == 4 * 20
    for run in range(20):
        own = [job for job in sheet.jobs if job.run == (run, f"run{run}")]
        assert {job.request.protocol for job in own} == {Protocol("speaker", seed=run)}
        assert {job.request.seed for job in own} == {run}


def test_leaving_speakers_out_is_a_study_a_speaker_and_ten_seeds(tmp_path: Path) -> None:
    (sheet,) = plan("mtl_aae/table5", corpus(tmp_path / "data", "spectrogram"))
    assert len(sheet.jobs) == 3 * 5
    assert {job.request.protocol.test_speaker for job in sheet.jobs} == {f"s{n}" for n in range(5)}
    assert {job.seeds for job in sheet.jobs} == {10}
    assert any("--aux" in note for note in sheet.notes), "the paper has an auxiliary corpus"


def test_figure_4_has_a_study_for_each_number_of_auxiliary_speakers(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", "spectrogram", repetitions=10)
    aux = [corpus(tmp_path / f"aux{n}", "spectrogram", name=f"aux{n}", speakers=n) for n in (4, 2)]
    (sheet,) = plan("mtl_aae/fig4", data, aux=tuple(aux))
    emotion = [job for job in sheet.jobs if job.part.name == "fig4-emotion" and job.run[1] == "s0"]
    assert [(job.speakers, job.request.aux) for job in emotion] == [(0, None), (2, aux[1]), (4, aux[0])]
    assert len({job.request.name for job in sheet.jobs}) == len(sheet.jobs)


# --- what is refused --------------------------------------------------------------------------------------------------


def test_features_that_are_missing_are_named_with_their_command(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", "mel")
    with pytest.raises(DataError, match=r"sersearch prep msp_podcast ROOT --features functionals --out .*data"):
        plan("ladder/table1", data)


def test_an_unlabelled_pool_that_is_missing_is_named_with_its_command(tmp_path: Path) -> None:
    data = corpus(tmp_path / "data", attributes=True, split=True, unlabelled=0)
    with pytest.raises(DataError, match=r"no speech without labels.*--unlabeled POOL"):
        plan("ladder/table1", data)


def test_noisy_copies_that_are_missing_are_named_with_their_command(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--noise NOISES --snr 10 5 0"):
        plan("decoupled_ladder/table", corpus(tmp_path / "data", attributes=True, split=True))


def test_labels_that_a_figure_is_of_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no labels for attributes, of which ladder/fig4 is"):
        plan("ladder/fig4", corpus(tmp_path / "data", split=True))


@pytest.mark.parametrize(
    ("name", "more", "said"),
    [
        ("ladder/table2", {}, r"is tested on another corpus .*--cross FOLDER, made by `sersearch prep iemocap"),
        ("ladder/table1", {"cross": 1}, "has one corpus; leave out --cross"),
        ("ladder/table1", {"aux": 1}, "has no auxiliary corpus; leave out --aux"),
        ("mtl_aae/fig4", {}, r"--set speakers=200"),
        ("mtl_aae/table5", {"aux": 2}, "takes one --aux, there are 2"),
    ],
)
def test_options_that_do_not_fit_are_refused(tmp_path: Path, name: str, more: dict[str, int], said: str) -> None:
    options = {option: (tmp_path,) * count for option, count in more.items()}
    with pytest.raises(ConfigError, match=said):
        plan(name, tmp_path, **options)


@pytest.mark.parametrize("scale", [0.0, -1.0, 1.5])
def test_a_scale_is_a_share(scale: float) -> None:
    with pytest.raises(ConfigError, match="expected more than 0 and at most 1"):
        check_scale(scale)


# --- scale and cost ---------------------------------------------------------------------------------------------------


def test_the_paper_s_budget_is_left_alone() -> None:
    space = load_space("ladder_alpha_beta")
    assert scaled_space(space, 1) is space
    assert scaled_count(20, 1) == 20


def test_a_scaled_budget_is_smaller_in_all_its_parts() -> None:
    space = scaled_space(load_space("ladder_alpha_beta"), 0.3)
    assert space.epochs == 30
    assert space.values("alpha") == (0.0, 0.3, 0.7, 1.0) or len(space.values("alpha") or ()) == 4
    assert all(space.allows(point) for point in space.grid())
    assert space.fixed["hidden"] == [32, 32], "the demo's network"
    assert [scaled_count(n, 0.02) for n in (1, 5, 100)] == [1, 2, 2]
    assert scaled_space(load_space("aae_baselines"), 0.3).fixed["pretrain_epochs"] == 3


def test_a_scaled_study_has_a_name_of_its_own(tmp_path: Path) -> None:
    (sheet,) = plan("ladder/table1", corpus(tmp_path / "data", attributes=True, split=True), scale=0.02)
    assert all(name.endswith("-x0.02") for name in names(sheet))


def test_the_cost_counts_every_training(tmp_path: Path) -> None:
    planned = plan("deepemocluster/table2", corpus(tmp_path / "data", "mel", attributes=True, split=True))
    measured: list[str] = []

    def measure(request: Any) -> DryRun:
        measured.append(request.space.family)
        return DryRun(1, 50, 4, 1, 1, 1, 10, 10, {}, epoch_seconds=36.0, longest_hours=0.5, disk_bytes=1000)

    would = cost(planned, cores=2, measure=measure)
    assert measured == ["deepemocluster"], "one model of each family and feature set"
    assert (would.studies, would.trials, would.finished) == (12, 12, 0)
    assert would.epochs == 12 * (1 + 5) * 50
    # 12 searches one by one, 5 further trainings two by two in 3 rounds, of 50 epochs of 0.01 hours; 12 s a study.
    assert would.hours == pytest.approx(12 * (1 + 3) * 50 * 0.01 + 12 * 12 / 3600)
    assert would.disk_bytes == 12_000
