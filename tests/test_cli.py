"""The command line as a user types it."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sersearch import cli
from sersearch.cli import main
from sersearch.data.protocols import Protocol
from sersearch.data.targets import TARGETS
from sersearch.export import export_bundle
from tests.test_export import audible_table
from tests.trained import make_study


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    """Exit code, standard output and standard error of `sersearch ARGS`."""
    code = 0
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(sys, "argv", ["sersearch", *args])
        try:
            main()
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else 0
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    study = make_study(tmp_path_factory.mktemp("study"), audible_table(), Protocol("loso", "s0"))
    return export_bundle(study, tmp_path_factory.mktemp("bundle") / "model")  # type: ignore[arg-type]


def test_help_is_there_within_a_second() -> None:
    def once() -> float:
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-m", "sersearch", "--help"], capture_output=True, text=True, check=True)
        assert "tune" in done.stdout
        return time.perf_counter() - started

    assert min(once() for _ in range(5)) < 1


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pyarrow")
    code = f"import sersearch.cli, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMMANDS = ("prep", "corpora", "spaces", "tune", "report", "export", "predict", "evaluate")


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"sersearch {command}" in out
    assert command in run(capsys, "--help")[1]


def test_the_help_names_all_targets() -> None:
    assert cli.TARGETS.replace(" or", ",").split(", ") == list(TARGETS)


def test_spaces_say_what_they_search_and_how_long_they_take(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "spaces")
    assert code == 0
    assert "aae_alpha_beta" in out
    assert "alpha 0.1 to 1 by 0.1; beta 0.1 to 1 by 0.1" in out
    assert "minutes" in out


def test_corpora_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "corpora")
    for name in ("csv", "demo", "iemocap", "librispeech", "msp_improv", "nemo"):
        assert any(line.startswith(name) and len(line) > 40 for line in out.splitlines())


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tune",), "tune needs --space NAME"),
        (("tune", "--space", "aae_alpha"), "did you mean aae_alpha_beta"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--set", "alpha"), "expected NAME=VALUE"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--set", "gama=1"), "fixed.gama: unknown"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--set", "hidden=["), "not a YAML value"),
        (("tune", "--resume", "x", "--method", "grid", "--seed", "1"), "leave out --method, --seed"),
        (("tune", "--resume", "x"), "x: isn't a study"),
        (("prep", "nemmo", "x"), "did you mean nemo"),
        (("prep", "nemo", "x"), "x: no such folder; nEMO has"),
        (("prep", "csv"), "lies in a folder of yours"),
        (("predict", "x", "a.wav"), "x is not a bundle"),
        (("report", "x"), "x: isn't a study"),
        (("export", "x", "--out", "y"), "x: isn't a study"),
        (("evaluate", "x"), "x: isn't a study"),
    ],
)
def test_bad_input_is_a_sentence_and_nothing_is_written(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    args: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *args)
    assert code == 2
    assert message in " ".join(err.split())
    assert "Traceback" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, "tune", "--spaces", "x")
    assert code == 2
    assert "--spaces" in err


def speech(path: Path) -> Path:
    times = np.arange(40_000) / 16_000
    soundfile.write(path, 0.1 * sum(np.sin(2 * np.pi * 150 * k * times) / k for k in range(1, 15)), 16_000)
    return path


def test_predict_lists_every_file_and_fails_for_those_that_it_could_not_use(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    good, bad = speech(tmp_path / "good.wav"), tmp_path / "bad.wav"
    bad.write_text("no audio")
    code, out, _ = run(capsys, "predict", str(bundle), str(bad), str(good), "--json")
    first, second = json.loads(out)
    assert code == 2
    assert first["path"] == str(bad)
    assert "cannot be decoded" in first["error"]
    assert second["label"] == max(second["posteriors"], key=second["posteriors"].get)
    assert sum(second["posteriors"].values()) == pytest.approx(1)
    code, out, err = run(capsys, "predict", str(bundle), str(good))
    assert (code, err) == (0, "")
    assert out.startswith(f"{good}: {second['label']}  ")


LAYERS = (
    "audio",
    "data.table",
    "data.protocols",
    "metrics",
    "family",
    "families.aae.family",
    "training",
    "export",
    "study",
)


def test_the_engine_and_a_predictor_know_no_orchestrator() -> None:
    imports = "; ".join(f"import sersearch.{name}" for name in LAYERS)
    code = f"{imports}; import sys; print([m for m in ('ray', 'mlflow', 'optuna') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
