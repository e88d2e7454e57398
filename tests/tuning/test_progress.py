"""What a person sees of a search: lines by epoch, what is left, and the table at the end."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sersearch.data.atomic import write_json
from sersearch.errors import StudyError
from sersearch.study import Study
from sersearch.tuning import progress
from sersearch.tuning.space import load_space


def event(value: float, epoch: int) -> dict[str, Any]:
    return {"epoch": epoch, "value": value, "metrics": {"dev_ua": value, "dev_wa": value - 0.1}, "seconds": 1.0}


UA = {"objective": {"metric": "dev_ua", "mode": "max"}}


@pytest.fixture
def study(tmp_path: Path) -> Study:
    meta = {"data": {"synthetic": True}, "tracking": {"uri": "sqlite:///m.db"}, "warnings": ["MLflow was away"], **UA}
    made = Study.create("mine", meta, tmp_path / "studies")
    write_json(made.folder / "context.json", {"labels": {"emotion": ["a", "b", "c", "d"]}})
    for number, values in enumerate(([0.4, 0.6], [0.5], [])):
        made.append("start", number, params={}, searched={"alpha": 0.1 + number, "beta": 0.5})
        for epoch, value in enumerate(values, start=1):
            made.append("epoch", number, **event(value, epoch), best=True, checkpoint=None)
    made.append("end", 0, state="complete", reason="all epochs done")
    made.append("end", 1, state="pruned", reason="stopped by ASHA after epoch 1")
    made.append("end", 2, state="failed", reason="train_loss_emotion is nan in epoch 1")
    return made


def test_without_a_terminal_each_epoch_and_end_is_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Live() as live:
        live("begin", -1, {"trials": 2, "metric": "dev_ua", "notes": [], "page": lambda: None})
        for trial in (0, 1):
            live("start", trial, {"params": {}, "searched": {"alpha": 0.1, "beta": 0.5}})
        live("epoch", 0, event(0.625, 1))
        live("epoch", 1, event(0.5, 1))
        live("end", 1, {"state": "pruned", "reason": "stopped by ASHA after epoch 1"})
    first, second, third = capsys.readouterr().out.splitlines()
    assert first == "trial 0  alpha 0.1 beta 0.5  epoch 1  UA 0.625  best so far 0.625"
    assert second.endswith("UA 0.500  best so far 0.625")
    assert "pruned: stopped by ASHA after epoch 1  best UA 0.500; 1 of 2 trials done, about" in third


def test_the_end_shows_all_trials_the_best_and_what_to_type_next(
    capsys: pytest.CaptureFixture[str], study: Study
) -> None:
    progress.summary(study)
    out = capsys.readouterr().out
    assert "Best: trial 0, alpha = 0.1, beta = 0.5: development UA 0.600 (chance 0.250)" in out
    assert "synthetic" in out
    assert "Warning: MLflow was away" in out
    assert "the test set was not touched" in out
    assert "Trial 2 failed: train_loss_emotion is nan in epoch 1" in out
    for command in (
        "mlflow ui --backend-store-uri sqlite:///m.db",
        f"sersearch report {study.argument}",
        f"sersearch export {study.argument} --out model/",
        f"sersearch evaluate {study.argument}",
    ):
        assert command in out


# --- attributes, and noise --------------------------------------------------------------------------------------------


def attribute_study(
    root: Path,
    attributes: list[str],
    epochs: list[list[dict[str, float]]],
    metric: str,
    searched: dict[str, Any] | None = None,
) -> Study:
    """A study with a trial of alpha = 0, 1, ..., or of what is `searched`, for each list of epochs' metrics."""
    meta = {"data": {"synthetic": True}, "tracking": {"uri": "sqlite:///m.db"}, "objective": {"metric": metric}}
    made = Study.create("mine", meta, root)
    write_json(made.folder / "context.json", {"labels": {"emotion": [], "attributes": attributes}})
    for number, metrics in enumerate(epochs):
        made.append("start", number, params={}, searched=searched or {"alpha": number})
        for epoch, at in enumerate(metrics, start=1):
            made.append("epoch", number, epoch=epoch, value=at[metric], metrics=at, seconds=1.0, checkpoint=None)
        made.append("end", number, state="complete", reason="all epochs done")
    return made


def cccs(activation: float, valence: float, dominance: float, suffix: str = "") -> dict[str, float]:
    values = {"activation": activation, "valence": valence, "dominance": dominance}
    return {f"dev_ccc{suffix}": sum(values.values()) / 3} | {f"dev_ccc_{n}{suffix}": v for n, v in values.items()}


MTL = ["activation", "valence", "dominance"]


def test_one_search_of_several_attributes_has_a_winner_for_each(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "Console", functools.partial(Console, width=80))
    first = [cccs(0.5, 0.1, 0.5), cccs(0.6, 0.3, 0.6)]
    second = [cccs(0.2, 0.4, 0.2), cccs(0.7, 0.0, 0.4)]
    study = attribute_study(tmp_path / "studies", MTL, [first, second], "dev_ccc")
    progress.summary(study)
    out = capsys.readouterr().out
    assert "Best: trial 0, alpha = 0: development CCC 0.500\n" in out, "there is no chance to compare a CCC with"
    assert "  activation: trial 1, alpha = 1, epoch 2: CCC 0.700" in out
    assert "  valence: trial 1, alpha = 1, epoch 1: CCC 0.400" in out
    assert "  dominance: trial 0, alpha = 0, epoch 2: CCC 0.600" in out
    for name in MTL:
        assert f"sersearch export {study.argument} --metric dev_ccc_{name} --out model/" in out
    lines = [line.split() for line in out.splitlines()]
    heading = next(line for line in lines if line[:2] == ["trial", "alpha"])
    assert [word for word in heading if word != "CCC"][2:] == ["epoch", "epochs", *MTL, "state"]
    row = ["0", "0", "2", "2", "0.500", "0.600", "0.300", "0.600", "complete"]
    assert row in lines, "whole, in 80 columns"


def test_the_search_of_one_attribute_has_one_column_and_one_winner(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    at = {"dev_ccc": 0.4, "dev_ccc_valence": 0.4}
    progress.summary(attribute_study(tmp_path / "studies", ["valence"], [[at]], "dev_ccc"))
    out = capsys.readouterr().out
    assert "development CCC 0.400\n" in out
    assert "valence" not in out
    assert "--metric" not in out


def test_an_objective_of_one_attribute_comes_first(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    study = attribute_study(
        tmp_path / "studies", MTL, [[cccs(0.6, 0.1, 0.6)], [cccs(0.1, 0.3, 0.1)]], "dev_ccc_valence"
    )
    progress.summary(study)
    assert "Best: trial 1, alpha = 1: development CCC valence 0.300" in capsys.readouterr().out


def test_figures_in_noise_are_shown_for_the_best_trial(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = cccs(0.6, 0.3, 0.6) | cccs(0.4, 0.1, 0.4, "_snr5") | cccs(0.2, 0.0, 0.1, "_snr0") | {"dev_loss_ccc": 1.0}
    progress.summary(attribute_study(tmp_path / "mtl", MTL, [[at]], "dev_ccc"))
    out = capsys.readouterr().out
    shown = "CCC 0.300, CCC activation 0.400, CCC valence 0.100, CCC dominance 0.400"
    assert f"  in snr5, which was not selected by: {shown}" in out
    assert out.count("not selected by") == 2
    assert out.index("in snr5") < out.index("in snr0"), "from clean to the loudest noise"
    single = dict.fromkeys(("dev_ccc", "dev_ccc_valence", "dev_ccc_snr5", "dev_ccc_valence_snr5"), 0.25)
    progress.summary(attribute_study(tmp_path / "stl", ["valence"], [[single]], "dev_ccc"))
    assert "  in snr5, which was not selected by: CCC 0.250\n" in capsys.readouterr().out


def test_conditions_that_select_together_are_told_apart(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    at = {"dev_ccc": 0.3, "dev_ccc_valence": 0.3, "dev_ccc_snr5": 0.2, "dev_ccc_clean": 0.4}
    progress.summary(attribute_study(tmp_path, ["valence"], [[at]], "dev_ccc"))
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  in ")]
    said = "a part of what was selected by"
    assert lines == [f"  in clean, {said}: CCC 0.400", f"  in snr5, {said}: CCC 0.200"]


@pytest.mark.parametrize(
    "names", [["lambda_l", "noise_variance"], ["lambda_l", "noise_variance", "learning_rate", "input_dropout"]]
)
def test_no_heading_is_cut_at_80_columns(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    monkeypatch.setattr(progress, "Console", functools.partial(Console, width=80))
    searched = dict.fromkeys(names, 0.1234)
    progress.summary(attribute_study(tmp_path, MTL, [[cccs(0.5, 0.1, 0.5)]], "dev_ccc", searched))
    first, *table = capsys.readouterr().out.split("Best:")[0].splitlines()
    assert first.startswith("Study mine")
    assert all("…" not in line and len(line) <= 80 for line in table)
    headings, row = "".join("".join(table).split("─")[0].split()), table[-1].split()
    assert sorted(headings) == sorted("".join(["trial", *names, "bestepochepochs", "CCC" * 4, *MTL, "state"]))
    assert row == ["0", *["0.1234"] * len(names), "1", "1", "0.367", "0.500", "0.100", "0.500", "complete"]
    if len(names) == 2:
        assert {"lambda_l", "noise_", "variance", *MTL} <= set(" ".join(table).split()), "as words"


def test_attributes_are_not_called_emotions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    progress.summary(attribute_study(tmp_path, ["valence"], [[{"dev_ccc": 0.4, "dev_ccc_valence": 0.4}]], "dev_ccc"))
    out = capsys.readouterr().out
    assert "this shows that everything runs, not how well attributes are predicted." in out


@pytest.mark.parametrize(
    ("metric", "text"), [("dev_ua", "UA"), ("dev_ccc", "CCC"), ("dev_ccc_valence", "CCC valence"), ("dev_wa", "WA")]
)
def test_metrics_are_called_as_readers_call_them(metric: str, text: str) -> None:
    assert progress.label(metric) == text


# --- in a terminal, and what is left ---------------------------------------------------------------------------------


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What a terminal of 120 columns gets."""
    text = io.StringIO()
    made = functools.partial(Console, file=text, force_terminal=True, width=120, color_system=None)
    monkeypatch.setattr(progress, "Console", made)
    return text


def begin(live: progress.Live, trial: int, alpha: float = 0.1) -> None:
    live("start", trial, {"params": {}, "searched": {"alpha": alpha, "beta": 0.5}})


def test_a_terminal_gets_a_table_that_is_kept_up_to_date(screen: io.StringIO) -> None:
    with progress.Live() as live:
        live("begin", -1, {"trials": 4, "metric": "dev_ua", "notes": [], "page": lambda: None})
        begin(live, 0, alpha=0.3)
        live("epoch", 0, event(0.625, 1))
        live("epoch", 0, event(0.5, 2))
        begin(live, 1)
        live("end", 0, {"state": "complete", "reason": "all epochs done"})
    last = screen.getvalue().rpartition("best so far")[2]
    for heading in ("trial", "alpha", "beta", "epoch", "UA", "best UA", "state"):
        assert heading in last
    row = next(line for line in last.splitlines() if "complete" in line)
    assert [cell.strip() for cell in row.split("│")[1:-1]] == ["0", "0.3", "0.5", "2", "0.500", "0.625", "complete"]
    assert "UA 0.625" in last.splitlines()[0]
    assert "1 of 4 trials done" in last
    assert "left" in last


def test_a_long_search_shows_who_runs_and_who_is_best(screen: io.StringIO) -> None:
    with progress.Live() as live:
        live("begin", -1, {"trials": 40, "metric": "dev_ccc_valence", "notes": [], "page": lambda: None})
        for number in range(30):
            begin(live, number)
            live("epoch", number, event(number / 100, 1))
            if number != 3:
                live("end", number, {"state": "pruned", "reason": ""})
    table = screen.getvalue().rpartition("best so far")[2]
    shown = [line.split("│")[1].strip() for line in table.splitlines() if "│" in line]
    assert "best CCC valence" in table, "the objective in a reader's words"
    assert shown == ["3", *map(str, range(19, 30))], "the running one and the eleven best, by number"


def test_a_resumed_search_counts_what_was_done_before(study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    study.write_meta(trials=5)
    with progress.Live(Study.open(study.folder)) as live:
        begin(live, 3)
        live("epoch", 3, event(0.1, 1))
        live("end", 3, {"state": "complete", "reason": "all epochs done"})
    first, second = capsys.readouterr().out.splitlines()
    assert first.endswith("best so far 0.600"), "the best of the earlier run"
    assert "4 of 5 trials done" in second


def test_the_run_s_page_is_shown_once_the_server_has_answered(capsys: pytest.CaptureFixture[str]) -> None:
    pages = iter([None, "http://mlflow:5000/#/experiments/1/runs/0a", "never"])
    with progress.Live() as live:
        live("begin", -1, {"trials": 4, "metric": "dev_ua", "notes": [], "page": lambda: next(pages)})
        for trial in range(3):
            begin(live, trial)
    assert capsys.readouterr().out == "MLflow: http://mlflow:5000/#/experiments/1/runs/0a\n"


def test_what_to_know_of_a_search_is_said_as_it_begins(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Live() as live:
        live(
            "begin",
            -1,
            {
                "trials": 4,
                "metric": "dev_ua",
                "notes": ["The conditions are mixed.", "And more."],
                "page": lambda: None,
            },
        )
    assert capsys.readouterr().out == "Note: The conditions are mixed.\nNote: And more.\n"


def test_a_failed_trial_is_never_the_best(capsys: pytest.CaptureFixture[str]) -> None:
    with progress.Live() as live:
        for trial, value in enumerate((0.9, 0.4)):
            begin(live, trial)
            live("epoch", trial, event(value, 1))
            if trial == 0:
                live("end", 0, {"state": "failed", "reason": "loss is nan in epoch 2"})
    out = capsys.readouterr().out.splitlines()
    assert "failed: loss is nan in epoch 2" in out[1]
    assert "1 of ? trials done" in out[1], "how many there will be is not known yet"
    assert out[2].endswith("best so far 0.400")


def test_differences_from_the_paper_are_announced_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    progress.announce(load_space("aae_alpha_beta"))
    assert capsys.readouterr().out == ""
    progress.announce(load_space("aae_alpha_beta").for_demo())
    out = capsys.readouterr().out
    assert out.startswith("Unlike the family's defaults, the paper's values where it states them: ")
    assert "learning_rate 0.002 (default 0.0001)" in out
    assert "batch_size 16 (default 32)" in out


def test_the_next_commands_fit_where_the_study_lies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    meta = {"data": {"synthetic": False}, "tracking": {"uri": "http://mlflow.example:5000"}, **UA}
    made = Study.create("mine", meta, tmp_path / "an other")
    write_json(made.folder / "context.json", {"labels": {"emotion": ["a", "b"]}})
    made.append("start", 0, params={}, searched={"alpha": 0.1})
    made.append("epoch", 0, **event(0.75, 1), best=True, checkpoint=None)
    progress.summary(made)
    out = capsys.readouterr().out
    assert f"  sersearch report '{tmp_path}/an other/mine'\n" in out
    assert f"  sersearch export '{tmp_path}/an other/mine' --out model/\n" in out
    assert "http://mlflow.example:5000 in a browser" in out
    made.write_meta(tracking={**meta["tracking"], "experiment_id": "3", "run_id": "0a"})
    progress.summary(made)
    assert "http://mlflow.example:5000/#/experiments/3/runs/0a in a browser" in capsys.readouterr().out
    assert "chance 0.500" in out
    assert "synthetic" not in out


def test_a_search_without_a_result_says_how_to_go_on(tmp_path: Path) -> None:
    meta = {"data": {"synthetic": False}, "tracking": {"uri": "x"}, **UA}
    made = Study.create("mine", meta, tmp_path)
    write_json(made.folder / "context.json", {"labels": {"emotion": ["a", "b"]}})
    with pytest.raises(StudyError, match=r"no trial that finished an epoch; .*--resume .*/mine`"):
        progress.summary(made)


def test_a_search_of_which_every_trial_failed_still_shows_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meta = {"data": {"synthetic": False}, "tracking": {"uri": "x"}, "state": "finished", **UA}
    made = Study.create("mine", meta, tmp_path)
    write_json(made.folder / "context.json", {"labels": {"emotion": ["a", "b"]}})
    made.append("start", 0, params={}, searched={"alpha": 0.1})
    made.append("end", 0, state="failed", reason="loss is nan in epoch 1")
    with pytest.raises(StudyError, match="all trials of study mine failed"):
        progress.summary(made)
    assert "Trial 0 failed: loss is nan in epoch 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("seconds", "text"), [(4, "4 s"), (89, "89 s"), (120, "2 min"), (5399, "90 min"), (7200, "2.0 h"), (1e6, "277.8 h")]
)
def test_durations_are_in_units_that_people_use(seconds: float, text: str) -> None:
    assert progress.duration(seconds) == text
