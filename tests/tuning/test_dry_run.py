"""What a dry run promises, and what it says of the data."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from sersearch.data.protocols import Protocol
from sersearch.tuning import plan, progress
from sersearch.tuning.notes import unlearnt
from sersearch.tuning.space import load_space
from tests.synthetic import make_table, write_table
from tests.tuning.small import PARAMS


def test_a_dry_run_says_what_would_run_and_writes_nothing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    before = sorted(tmp_path.rglob("*"))
    request = plan.TuneRequest(
        space=load_space("aae_alpha_beta").changed(fixed=PARAMS, trials=6, epochs=7, method="random"),
        data=tmp_path / "data",
        protocol=Protocol("loso", "s0"),
        root=tmp_path / "studies",
        lanes=8,
    )
    progress.show_dry_run(request, plan.dry_run(request, concurrency=2))
    out = capsys.readouterr().out
    for piece in (
        "alpha: 0.1 to 1 by 0.1",
        "trials      6, up to 7 epochs of",
        "groups      1 static",
        "lanes       8 on each GPU or core",
        "Nothing was run.",
    ):
        assert piece in out
    assert "an epoch and core; at most" in out
    assert "MiB for checkpoints" in out
    new = set(tmp_path.rglob("*")) - set(before)
    assert {p.name for p in new} <= {".frames.lock"} | {p.name for p in new if p.name.startswith(("frames-", "rows-"))}
    assert not (tmp_path / "studies").exists()


def test_the_full_grid_is_counted(tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    space = load_space("aae_alpha_beta").changed(fixed=PARAMS, method="grid")
    would = plan.dry_run(plan.TuneRequest(space=space, data=tmp_path / "data", protocol=Protocol("loso", "s0")))
    assert (would.trials, would.groups) == (100, 1)
    assert would.longest_hours > 0


def test_a_dry_run_names_the_constraint(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    space = load_space("aae_alpha_beta").changed(fixed=PARAMS, method="grid", constraint="alpha + beta <= 1")
    request = plan.TuneRequest(space=space, data=tmp_path / "data", protocol=Protocol("loso", "s0"))
    progress.show_dry_run(request, plan.dry_run(request))
    out = capsys.readouterr().out
    assert "constraint  alpha + beta <= 1.0" in out
    assert "trials      45, " in out


def dry_ladders(folder: Path, condition: str | None, **fixed: Any) -> plan.TuneRequest:
    """A request for small ladders on a corpus with noisy copies."""
    table = make_table(dims=12, vectors=True, attributes=True, conditions=("snr5", "snr10"))
    corpus = write_table(folder / "data", dataclasses.replace(table, card={**table.card, "features": "functionals"}))
    space = load_space("ladder_lambda").changed(fixed={"hidden": [6, 5], "batch_size": 8, **fixed})
    protocol = Protocol("loso", "s0", unlabeled_condition=condition)
    return plan.TuneRequest(space=space, data=corpus, protocol=protocol, target="attributes", root=folder / "studies")


def test_a_dry_run_counts_noisy_copies_and_what_has_labels(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    request = dry_ladders(tmp_path, None)
    progress.show_dry_run(request, plan.dry_run(request))
    out = capsys.readouterr().out
    assert "  test       24 utterances (clean 8, snr10 8, snr5 8), speakers s0" in out
    assert "note        The conditions are mixed: labels are learnt in clean, snr10, snr5" in out
    assert "labels      48 labelled and 24 unlabelled utterances for training" in out


def test_a_search_that_ignores_the_unlabelled_condition_says_so(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    request = dry_ladders(tmp_path, "snr5", setting="L")
    progress.show_dry_run(request, plan.dry_run(request))
    out = capsys.readouterr().out
    assert "note        No trial learns from the unlabelled speech in snr5: the setting L" in out
    assert "labels      16 labelled and 24 unlabelled utterances for training" in out


@pytest.mark.parametrize(
    ("name", "fixed", "count"),
    [
        ("ladder_lambda", {"setting": "L"}, 1),
        ("ladder_lambda", {"model": "dense"}, 1),
        ("decoupled_ladder_noisy", {"setting": "L"}, 1),
        ("ladder_lambda", {}, 0),
        ("ladder_stl", {}, 0),  # the setting is searched
        ("aae_alpha_beta", {}, 0),
    ],
)
def test_what_is_learnt_without_labels_is_known_from_the_space(name: str, fixed: dict[str, Any], count: int) -> None:
    space = load_space(name).changed(fixed={**load_space(name).fixed, **fixed})
    assert len(unlearnt(space, Protocol("loso", "s0", unlabeled_condition="snr5"))) == count
    assert unlearnt(space, Protocol("loso", "s0")) == []


def test_a_dry_run_names_leaks_and_whether_they_are_meant(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    write_table(tmp_path / "data", make_table())
    request = plan.TuneRequest(
        space=load_space("aae_alpha_beta").changed(fixed=PARAMS),
        data=tmp_path / "data",
        protocol=Protocol("kfold", fold=1, folds=4),
    )
    progress.show_dry_run(request, plan.dry_run(request))
    out = capsys.readouterr().out
    assert "speakers stand in train and dev: meant by the protocol" in out
    assert "NOT meant" not in out
