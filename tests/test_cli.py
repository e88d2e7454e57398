"""The command line as a user types it."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import soundfile

import data_prep
from data_prep.noise import NoiseCopies
from sersearch import evaluation, export
from sersearch.audio import Embeddings
from sersearch.cli import main, search
from sersearch.data.atomic import write_json
from sersearch.data.protocols import Protocol
from sersearch.data.targets import TARGETS
from sersearch.errors import DataError
from sersearch.export import Prediction, Predictor, export_bundle
from sersearch.study import Study
from sersearch.tuning import plan
from sersearch.tuning.plan import TuneRequest
from sersearch.tuning.space import load_space, space_names
from tests.synthetic import make_data, make_table, write_table
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


def test_help_takes_less_than_a_second_of_work() -> None:
    def worked() -> float:
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        return used.ru_utime + used.ru_stime

    def once() -> float:
        before = worked()
        done = subprocess.run([sys.executable, "-m", "sersearch", "--help"], capture_output=True, text=True, check=True)
        assert "tune" in done.stdout
        return worked() - before

    assert min(once() for _ in range(5)) < 1


def test_the_command_line_loads_nothing_heavy() -> None:
    heavy = ("torch", "ray", "mlflow", "optuna", "pandas", "numpy", "pyarrow")
    code = f"import sersearch.cli, sys; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


COMMANDS = (
    "prep",
    "corpora",
    "spaces",
    "tune",
    "submit",
    "status",
    "report",
    "export",
    "predict",
    "evaluate",
    "compare",
)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = run(capsys, command, "--help")
    assert code == 0
    assert f"sersearch {command}" in out
    assert command in run(capsys, "--help")[1]


def test_the_help_names_all_targets() -> None:
    assert search.TARGETS.replace(" or", ",").split(", ") == list(TARGETS)


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
        (("tune", "--resume", "x", "--lanes", "4", "--objective", "dev_ccc"), "leave out --lanes, --objective"),
        (("tune", "--resume", "x", "--unlabeled-condition", "snr5"), "leave out --unlabeled-condition"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--lanes", "0"), "--lanes 0: expected a whole number"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--lanes", "all"), "from 1, or auto"),
        (("tune", "--space", "aae_alpha_beta", "--data", "x", "--objective", "ua"), "expected a development metric"),
        (
            ("tune", "--space", "deepemocluster_unlabeled", "--data", "x", "--unlabeled-size", "9"),
            "--unlabeled-size: the space deepemocluster_unlabeled searches it",
        ),
        (
            ("tune", "--space", "ladder_lambda", "--data", "x", "--unlabeled-size", "9"),
            "--unlabeled-size: ladder has no such setting",
        ),
        (("tune", "--resume", "x"), "x: isn't a study"),
        (("tune", "--retry-failed", "x"), "x: isn't a study"),
        (
            ("tune", "--retry-failed", "x", "--trials", "9"),
            "--retry-failed goes on with a study as it was begun; leave",
        ),
        (("tune", "--resume", "x", "--retry-failed", "x"), "leave out --retry-failed"),
        (("tune", "--resume", "x", "--fresh"), "leave out --fresh"),
        (("tune", "--resume", "x", "--storage", "s"), "x: isn't a study in studies, nor in s"),
        (("status", "x"), "x: isn't a study"),
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


# --- tune, as far as it goes without a search -------------------------------------------------------------------------


TINY = ["--set", "channels=[2, 3, 4]", "--set", "hidden=5", "--set", "batch_size=8"]
TINY += ["--set", "segment_frames=32", "--set", "segment_hop=32"]
LOSO = ["--protocol", "loso", "--test-speaker", "s0"]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with a prepared corpus in `data`."""
    monkeypatch.chdir(tmp_path)
    return write_table(tmp_path / "data", make_table()).parent


def tune(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    return run(capsys, "tune", "--space", "aae_alpha_beta", "--data", "data", *args)


def test_a_dry_run_from_the_command_line_takes_every_option_and_runs_nothing(
    capsys: pytest.CaptureFixture[str], place: Path
) -> None:
    options = ["--method", "grid", "--epochs", "3", "--set", "learning_rate=1e-3", "--dry-run", "--seed", "4"]
    code, out, err = tune(capsys, *TINY, *LOSO, *options)
    assert (code, err) == (0, "")
    assert "learning_rate 0.001 (default 0.0001)" in out, "--set, with a number as researchers write it"
    assert "trials      100, up to 3 epochs" in out
    assert "s0" in next(line for line in out.splitlines() if line.startswith("data"))
    assert sorted(path.name for path in place.iterdir()) == ["data"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ((*TINY, "--protocol", "loso", "--test-speaker", "s9"), "expected one of s0, s1, s2, s3"),
        ((*TINY, "--protocol", "los"), "did you mean loso"),
        ((*TINY, "--protocol", "kfold", "--fold", "11"), "11"),
        ((*TINY, *LOSO, "--target", "emotoin"), "did you mean emotion"),
        ((*TINY, *LOSO, "--target", "valence_levels"), "valence"),
        ((*TINY, *LOSO, "--method", "gird"), "'grid', 'random', 'tpe' or 'nsga2' (it is 'gird')"),
        ((*TINY, *LOSO, "--trials", "0"), "trials: input should be greater than or equal to 1"),
        ((*TINY, *LOSO, "--set", "alpha=0.3"), "--set alpha: the space aae_alpha_beta searches it; leave it out"),
        ((*TINY, *LOSO, "--set", "segment_frames=40"), "multiple of 32"),
        ((*TINY, *LOSO, "--name", "../x"), "letters, digits"),
        ((*TINY, *LOSO, "--tracking-uri", "ftp://x"), "ftp://x"),
        ((*TINY, *LOSO, "--aux", "nowhere"), "nowhere: no such folder"),
        ((*TINY, *LOSO, "--aux", "."), "not a prepared corpus"),
    ],
)
def test_what_tune_cannot_do_with_these_data_is_said_before_a_study_is_made(
    capsys: pytest.CaptureFixture[str], place: Path, args: tuple[str, ...], message: str
) -> None:
    code, _, err = tune(capsys, *args)
    said = " ".join(err.split())
    assert code == 2
    assert message in said
    assert "Traceback" not in err
    assert [path.name for path in place.iterdir()] == ["data"], "nothing half-written"


def asked(monkeypatch: pytest.MonkeyPatch, *args: str) -> TuneRequest:
    """What `sersearch tune ARGS` asks for."""
    seen: list[TuneRequest] = []

    def dry_run(request: TuneRequest, concurrency: int | None) -> None:
        seen.append(request)
        raise DataError("enough")

    monkeypatch.setattr(plan, "dry_run", dry_run)
    monkeypatch.setattr(sys, "argv", ["sersearch", "tune", "--dry-run", *args])
    with pytest.raises(SystemExit):
        main()
    return seen[0]


def test_the_space_says_what_is_predicted_unless_the_command_does(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(search, "_target", lambda wanted, *data: wanted or "emotion")
    args = ("--data", "data", "--space")
    assert asked(monkeypatch, *args, "aae_alpha_beta").target == "emotion"
    assert asked(monkeypatch, *args, "ladder_alpha_beta").target == "attributes"
    assert asked(monkeypatch, *args, "ladder_stl").target == "valence"
    assert asked(monkeypatch, *args, "ladder_stl", "--target", "dominance").target == "dominance"


def test_lanes_objective_and_condition_reach_the_search(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    args = ("--data", "data", "--target", "attributes", "--space", "ladder_alpha_beta")
    plain = asked(monkeypatch, *args)
    assert (plain.lanes, plain.space.objective, plain.protocol.unlabeled_condition) == (1, None, None)
    options = ("--lanes", "32", "--objective", "dev_ccc_valence", "--unlabeled-condition", "snr5")
    request = asked(monkeypatch, *args, *options)
    assert request.lanes == 32
    assert request.space.objective is not None
    assert request.space.objective.metric == "dev_ccc_valence"
    assert request.protocol.unlabeled_condition == "snr5"
    assert asked(monkeypatch, *args, "--lanes", "auto").lanes == "auto"


def test_the_demo_corpus_is_prepared_with_the_features_of_the_space(
    monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    made: list[tuple[Path, list[str]]] = []

    def demo_data(out: Path, features: list[str]) -> Path:
        made.append((out, features))
        return out

    monkeypatch.setattr(data_prep, "demo_data", demo_data)
    request = asked(monkeypatch, "--space", "ladder_cnn_mfb", "--target", "attributes")
    assert made == [(Path("data/demo"), ["mfb"])]
    assert (request.data, request.space.epochs) == (Path("data/demo"), 3)


def test_a_development_set_without_a_class_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    table = make_table()
    angry = (table.utterances["speaker"] == "s1") & (table.utterances["emotion"] == "anger")
    table.utterances.loc[angry, "emotion"] = "sadness"
    write_table(tmp_path / "data", table)
    code, _, err = tune(capsys, *TINY, *LOSO, "--dev-speaker", "s1")
    assert code == 2
    assert "anger" in err
    assert not (tmp_path / "studies").exists()


def test_a_folder_with_other_features_says_which(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    (place / "data" / "spectrogram").rename(place / "data" / "compare")
    code, _, err = tune(capsys, *TINY, *LOSO)
    assert code == 2
    assert "expected one of compare" in err
    assert "spectrogram" in err


def begun(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, **state: Any) -> Study:
    """The study `name` that `sersearch tune` would have made of TINY and LOSO, with a trial that is done."""
    with monkeypatch.context() as patched:
        request = asked(patched, "--space", "aae_alpha_beta", "--data", "data", *TINY, *LOSO, "--name", name)
    capsys.readouterr()
    study = plan.create(request, "sqlite:///mlflow.db")
    study.append("start", 0, params={}, searched={"alpha": 0.4, "beta": 0.6})
    fields = {"metrics": {"dev_ua": 0.5, "dev_wa": 0.6}, "best": True, "seconds": 1.0, "checkpoint": None}
    study.append("epoch", 0, epoch=1, value=0.5, **fields)
    study.append("end", 0, state="complete", reason="all epochs done")
    study.write_meta(**state)
    return study


def content(study: Study) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in study.folder.iterdir() if path.name != ".lock"}


def test_a_study_that_exists_and_is_another_search_is_neither_run_nor_changed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    study = begun(capsys, monkeypatch, "mine", state="finished")
    before = content(study)
    code, _, err = tune(capsys, *TINY, *LOSO, "--name", "mine", "--seed", "4")
    said = " ".join(err.split())
    assert code == 2
    assert "study mine exists and is another search: seed was 0, now 4" in said
    assert "`--resume mine` goes on with it as it was begun, --fresh begins anew, --name names another" in said
    assert content(study) == before


@pytest.mark.parametrize("again", [("--name", "mine"), ("--resume", "mine")])
def test_a_finished_study_is_summed_up_once_more(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, again: tuple[str, str]
) -> None:
    study = begun(capsys, monkeypatch, "mine", state="finished")
    before = content(study)
    options = [*TINY, *LOSO, "--space", "aae_alpha_beta", "--data", "data"] if again[0] == "--name" else []
    code, out, err = run(capsys, "tune", *options, *again)
    assert (code, err) == (0, "")
    assert "Study mine: development UA (the test set was not touched)" in out
    assert "Best: trial 0, alpha = 0.4, beta = 0.6: development UA 0.500" in out
    assert content(study) == before


def test_a_finished_study_is_told_of_where_its_data_are_gone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    begun(capsys, monkeypatch, "mine", state="finished")
    (place / "data").rename(place / "elsewhere")
    code, out, _ = run(capsys, "tune", "--resume", "mine")
    assert (code, "Best: trial 0" in out) == (0, True)


def test_without_a_failed_trial_there_is_nothing_to_retry(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    begun(capsys, monkeypatch, "mine", state="finished")
    code, _, err = run(capsys, "tune", "--retry-failed", "mine")
    assert (code, "study mine has no trial that failed" in err) == (2, True)


@pytest.mark.parametrize(
    ("begun_with", "said"),
    [(None, "study mine was begun without one, and goes on so; leave it out"), ("shared", "study mine was begun with")],
)
def test_another_storage_than_a_study_has_is_refused(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    place: Path,
    begun_with: str | None,
    said: str,
) -> None:
    """It was ignored once, and checkpoints went where the study had them before."""
    storage = None if begun_with is None else str(place / begun_with)
    begun(capsys, monkeypatch, "mine", state="finished", storage=storage)
    for option in ("--resume", "--retry-failed"):
        code, _, err = run(capsys, "tune", option, "mine", "--storage", "elsewhere")
        assert (code, f"--storage elsewhere: {said}" in err) == (2, True)
    if storage is not None:
        assert run(capsys, "tune", "--resume", "mine", "--storage", "shared")[0] == 0, "by another name of the same"
    assert not (place / "elsewhere").exists()


def test_status_tells_of_a_study(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    begun(capsys, monkeypatch, "mine", state="interrupted")
    code, out, err = run(capsys, "status", "mine")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "Study mine: interrupted; `sersearch tune --resume mine` goes on"
    assert "1 complete; best: trial 0, development UA 0.500" in out


def test_a_resume_that_cannot_be_says_why(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    data = {"path": str(place / "data"), "features": "spectrogram", "hash": "another"}
    meta = {"state": "interrupted", "trials": 1, "data": data, "objective": {"metric": "dev_ua"}}
    Study.create("mine", meta, place / "studies")
    code, _, err = run(capsys, "tune", "--resume", "mine")
    assert code == 2
    assert "its features were changed since study mine began; start a new study" in err
    code, _, err = run(capsys, "tune", "--resume", "mien")
    assert code == 2
    assert "did you mean mine" in err


@pytest.mark.parametrize("args", [("report",), ("export", "--out", "model"), ("evaluate",)])
def test_a_study_without_a_result_has_nothing_to_show(
    capsys: pytest.CaptureFixture[str], place: Path, args: tuple[str, ...]
) -> None:
    meta = {"family": "aae", "data": {"synthetic": True}, "objective": {"metric": "dev_ua"}}
    study = Study.create("mine", meta, place / "studies")
    write_json(study.folder / "context.json", make_data().context())
    code, _, err = run(capsys, args[0], "mine", *args[1:])
    assert code == 2
    assert "--resume mine" in err
    assert "Traceback" not in err
    assert not (place / "model").exists()


@pytest.mark.parametrize(
    "args",
    [
        ("tun",),
        ("tune", "--concurrency", "0"),
        ("tune", "--trials", "many"),
        ("predict", "model"),
        ("export", "mine"),
        (),
    ],
)
def test_the_wrong_command_is_exit_code_2(capsys: pytest.CaptureFixture[str], args: tuple[str, ...]) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2
    assert "Traceback" not in err
    assert "sage" in out + err


def test_every_space_and_what_it_searches_is_listed(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "spaces")
    for name in space_names():
        space, text = load_space(name), " ".join(out.split())
        assert f"{name} {space.doc}" in text
        assert f"{space.method}, {space.trials} trials of up to {space.epochs} epochs: {space.time}" in text
        for parameter, dimension in space.search.items():
            assert f"{parameter} {dimension}" in text


def test_predict_names_a_file_that_is_not_there_and_goes_on(
    capsys: pytest.CaptureFixture[str], bundle: Path, tmp_path: Path
) -> None:
    good = speech(tmp_path / "good.wav")
    code, out, err = run(capsys, "predict", str(bundle), str(tmp_path / "gone.wav"), str(good))
    assert code == 2
    assert "gone.wav" in err
    assert "Traceback" not in err
    assert out.startswith(f"{good}: ")


def test_attributes_are_printed_in_place_of_classes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    values = {"activation": 3.214, "valence": 2.9}
    said = Prediction(path="a.wav", label=None, posteriors={}, values=values, segments=1, seconds=1.0)
    predictor = SimpleNamespace(predict=lambda path, visual: said)
    monkeypatch.setattr(Predictor, "load", lambda folder: predictor)
    assert run(capsys, "predict", "model", "a.wav") == (0, "a.wav: activation 3.21  valence 2.90\n", "")
    (row,) = json.loads(run(capsys, "predict", "model", "a.wav", "--json")[1])
    assert (row["label"], row["values"]) == (None, values)


@pytest.fixture
def seeing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A model that predicts an array's first value, in a working directory of its own."""

    def predict(path: Path, visual: Path | None) -> Prediction:
        value = -1.0 if visual is None else float(Embeddings(dims=1).read(visual)[0, 0])
        without = ("visual",) if visual is None else ()
        return Prediction(str(path), None, {}, {"activation": value}, segments=1, seconds=1.0, without=without)

    monkeypatch.setattr(Predictor, "load", lambda folder: SimpleNamespace(predict=predict))
    monkeypatch.chdir(tmp_path)
    for number, name in enumerate(("s0/u0", "s1/u0", "s1/u1")):
        (tmp_path / "faces" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "faces" / f"{name}.npy", np.full((2, 1), number))


@pytest.mark.usefixtures("seeing")
def test_predict_finds_visual_features_as_prep_does(capsys: pytest.CaptureFixture[str]) -> None:
    audio = ["wav/s1/u0.wav", "wav/s0/u0.wav", "wav/s5/u0.wav", "u1.wav"]
    code, out, err = run(capsys, "predict", "model", *audio, "--visual", "faces")
    assert (code, err) == (0, "wav/s5/u0.wav: no file in faces is called as it is\n")
    assert out.splitlines() == [
        "wav/s1/u0.wav: activation 1.00",
        "wav/s0/u0.wav: activation 0.00",
        "wav/s5/u0.wav: activation -1.00  (without visual features)",
        "u1.wav: activation 2.00",
    ]
    assert run(capsys, "predict", "model", "a.wav", "--visual", "faces/s1/u1.npy")[1] == "a.wav: activation 2.00\n"


@pytest.mark.usefixtures("seeing")
@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("a.wav", "b.wav", "--visual", "faces"), "no file in faces is called as an audio file; a folder of visual"),
        (("a.wav", "b.wav", "--visual", "faces/s0/u0.npy"), "faces/s0/u0.npy is one file, for 2 audio files; name a"),
        (("a.wav", "--visual", "nowhere"), "nowhere: no such file or folder of visual features"),
        (("u0.wav", "--visual", "faces"), "faces/s0/u0.npy and faces/s1/u0.npy may both be of u0.wav"),
        ((".", "/", "--visual", "faces"), "no file in faces is called as an audio file"),
    ],
)
def test_predict_refuses_visual_features_that_cannot_be_meant(
    capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    code, out, err = run(capsys, "predict", "model", *args)
    assert (code, out) == (2, "")
    assert err.startswith(f"Error: {message}")


@pytest.mark.usefixtures("seeing")
def test_predict_lists_a_damaged_visual_file_and_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    Path("faces/s0/u0.npy").write_text("no array")
    code, out, err = run(capsys, "predict", "model", "s0/u0.wav", "s1/u0.wav", "--visual", "faces")
    assert (code, out) == (2, "s1/u0.wav: activation 1.00\n")
    assert err.startswith("s0/u0.wav: ")
    assert err.endswith("u0.npy: not a NumPy array, or a damaged one\n")


def test_what_a_search_is_asked_for_reaches_it(monkeypatch: pytest.MonkeyPatch, place: Path) -> None:
    monkeypatch.setattr(data_prep, "demo_data", lambda out, features: out)
    options = ("--unlabeled-size", "9", "--missing", "zero", "--precision", "bf16", "--compile")
    request = asked(monkeypatch, "--space", "deepemocluster_clusters", "--target", "emotion", *options)
    assert request.space.fixed["unlabeled_size"] == 9
    assert (request.missing, request.precision, request.compile) == ("zero", "bf16", True)
    assert asked(monkeypatch, "--space", "deepemocluster_clusters", "--target", "emotion").compile is None


def test_the_metric_and_the_baseline_are_passed_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path
) -> None:
    Study.create("mine", {"family": "ladder"}, place / "studies")
    calls: list[tuple[Any, ...]] = []
    monkeypatch.setattr(export, "export_bundle", lambda study, out, *rest: calls.append((out, *rest)) or out)
    monkeypatch.setattr(evaluation, "evaluate", lambda study, trial, **rest: calls.append((trial, rest)) or {"ccc": 1})
    options = ("--metric", "dev_ccc_valence", "--data-licence", "CC0")
    assert run(capsys, "export", "mine", "--out", "model", *options)[0] == 0
    code, out, _ = run(capsys, "evaluate", "mine", "--trial", "2", "--metric", "dev_ccc_valence", "--svr")
    assert (code, json.loads(out)) == (0, {"ccc": 1})
    rest = {"metric": "dev_ccc_valence", "again": False, "impostors": None, "svr": True}
    assert calls == [(Path("model"), None, "dev_ccc_valence", "CC0"), (2, rest)]


def test_a_bundle_that_is_damaged_is_a_sentence(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "bundle.json").write_text("{")
    code, out, err = run(capsys, "predict", str(tmp_path), "a.wav", "--json")
    assert (code, out) == (2, "")
    assert "bundle.json: cannot be read" in err


def test_what_the_system_refuses_is_a_sentence(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    code, _, err = run(capsys, "report", "x" * 300)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("Error: ")
    assert "File name too long" in err


def test_prep_takes_several_snrs_and_says_what_its_reader_cannot_take(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from data_prep import pipeline

    asked: dict[str, object] = {}

    def prepare(*args: object, **options: object) -> None:
        asked.update(options, features=args[2], out=args[3])
        raise DataError("enough")

    monkeypatch.setattr(pipeline, "prepare", prepare)
    options = ["--noise", str(tmp_path), "--snr", "10", "5", "-2.5", "--features", "mel", "--features", "lld"]
    code, _, err = run(capsys, "prep", "nemo", "root", *options, "--out", f"file://{tmp_path}/b", "--unlabeled", "pool")
    assert (code, err.splitlines()[-1]) == (2, "Error: enough")
    assert asked["noise"] == NoiseCopies(tmp_path, (10.0, 5.0, -2.5), 0)
    assert asked["features"] == ["mel", "lld"]
    assert asked["out"] == tmp_path / "b"
    assert asked["options"] == {"unlabeled": "pool"}
    monkeypatch.undo()
    code, _, err = run(capsys, "prep", "nemo", "root", "--unlabeled", "pool")
    assert (code, "nemo: unknown option 'unlabeled'; it has none" in err) == (2, True)
    code, _, err = run(capsys, "prep", "nemo", "root", "--snr", "5")
    assert (code, "--snr needs --noise" in err) == (2, True)
    code, _, err = run(capsys, "prep", "nemo", "root", "--out", "foo://bar")
    assert (code, "foo://bar: " in err) == (2, True)
    code, _, err = run(capsys, "prep", "nemo", "root", "--out", "memory://bar")
    assert (code, "gone when the command ends" in err) == (2, True)


def test_a_space_for_attributes_predicts_classes_where_there_are_no_attributes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for attributes, found in ((False, "emotion"), (True, "attributes")):
        table = make_table(attributes=attributes)
        corpus = write_table(tmp_path / found, table)
        assert search._target("attributes", corpus, "spectrogram", None) == found
    said = capsys.readouterr().out
    assert said.count("has no labels for attributes, which the space is for: emotion is predicted") == 1
    assert search._target(None, corpus, "spectrogram", None) == "emotion"


def test_a_family_for_classes_refuses_attributes_in_its_own_words(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_table(tmp_path / "data", make_table(attributes=True))
    code, _, err = tune(capsys, *TINY, *LOSO, "--target", "attributes")
    assert code == 2
    assert "family aae tells classes apart, it doesn't predict activation, valence, dominance" in " ".join(err.split())
