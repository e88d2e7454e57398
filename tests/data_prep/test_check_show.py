"""`sersearch data`: what is wrong with a prepared corpus is found, and what it holds is shown."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from data_prep import pipeline
from data_prep.check import check
from data_prep.pipeline import prepare
from data_prep.shards import Task
from data_prep.show import Contents, write_page
from sersearch.cli import main
from sersearch.data.table import FeatureTable
from sersearch.errors import DataError

MANIFEST = """path,speaker,gender,emotion,valence,activation,split
u0.wav,ann,female,$joy$,4.5,3,train
u1.wav,ann,female,,2,1,train
u2.wav,bob,male,anger,,,dev
u3.wav,bob,male,anger,1,5,test
u4.wav,bob,male,anger,1,5,test
"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five utterances, one of them silent, with two feature sets in shards of two."""
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(5):
        samples = np.random.default_rng(number).normal(size=8000 + 1000 * number) / 10
        soundfile.write(folder / f"u{number}.wav", samples * (number != 4), 16_000)
    (folder / "manifest.csv").write_text(MANIFEST)

    def here(tasks: list[Task], *cluster: object) -> Iterator[tuple[int, int, float]]:
        return (task.write() for task in tasks)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "run_tasks", here)
        prepare("csv", folder, ["spectrogram", "mel"], folder / "out", shard_size=2, max_rejected=0.3)
    return folder / "out"


@pytest.fixture
def out(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "out"))


# --- check ------------------------------------------------------------------------------------------------------------


def test_a_whole_corpus_has_no_problem(out: Path) -> None:
    assert list(check(out)) == []
    FeatureTable.open(out, "mel")
    assert list(check(out)) == [], "a map that is what its shards hold is no problem"


@pytest.mark.parametrize("name", ["rows", "frames"])
def test_a_map_with_a_flipped_bit_is_named_since_training_reads_it(out: Path, name: str) -> None:
    FeatureTable.open(out, "mel")
    (path,) = (out / "mel").glob(f"{name}-*")
    content = bytearray(path.read_bytes())
    at = content.index(b"u1.wav") if name == "rows" else len(content) // 2
    content[at] ^= 2
    path.write_bytes(content)
    assert list(check(out)) == [f"{path}: not what the shards hold; delete it, it is made again from them"]
    path.write_bytes(content[: len(content) // 2])
    (problem,) = check(out)
    assert problem.startswith(f"{path}: damaged (")
    path.unlink()
    FeatureTable.open(out, "mel")
    assert list(check(out)) == []


@pytest.mark.parametrize("damage", ["cut", "altered", "deleted", "another's"])
def test_a_damaged_shard_is_named(out: Path, damage: str) -> None:
    path = out / "mel" / "part-00001.parquet"
    content = bytearray(path.read_bytes())
    if damage == "deleted":
        path.unlink()
    else:
        content[len(content) // 2] ^= 1
        other = (out / "mel" / "part-00000.parquet").read_bytes()
        path.write_bytes({"cut": content[:-7], "altered": content, "another's": other}[damage])
    problems = list(check(out))
    assert problems[0].startswith(
        f"{path}: cannot be read" if damage == "deleted" else f"{path}: damaged (another hash"
    )
    assert problems[1] == f"{out / 'mel'}: 2 utterances of the manifest are missing, such as u2; prepare it again"
    assert len(problems) == 2


def test_a_shard_that_is_whole_but_not_what_its_card_says(out: Path) -> None:
    card = json.loads((out / "mel" / "card.json").read_text())
    card["dims"], card["shards"][0]["rows"] = 64, 3
    (out / "mel" / "card.json").write_text(json.dumps(card))
    problems = list(check(out))
    assert any("its columns are not those of its card" in problem for problem in problems)
    assert any("part-00000.parquet: 2 rows, its card says 3" in problem for problem in problems)


def test_what_is_unfinished_left_over_or_unknown_is_said(out: Path) -> None:
    (out / "spectrogram" / "card.json").unlink()
    shutil.copy(out / "mel" / "part-00000.parquet", out / "mel" / "part-00009.parquet")
    problems = list(check(out))
    assert f"{out / 'spectrogram'}: unfinished (no card.json); run `sersearch prep` again" in problems[1]
    assert problems[0] == f"{out / 'mel' / 'part-00009.parquet'}: stands in no card"
    (out / "manifest.parquet").unlink()
    (problem,) = check(out)
    assert problem.startswith(f"{out / 'manifest.parquet'}: cannot be read (")


def test_what_is_no_prepared_corpus(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared corpus"):
        list(check(tmp_path))
    with pytest.raises(DataError, match="not a prepared corpus"):
        Contents.of(tmp_path)


# --- show -------------------------------------------------------------------------------------------------------------


def test_the_facts_are_those_of_the_corpus(out: Path) -> None:
    facts = Contents.of(out).facts()
    hours = sum(8000 + 1000 * n for n in range(4)) / 16_000 / 3600
    assert facts["utterances"] == f"5, {hours:.2f} h"
    assert facts["speakers"] == "2 (female 1, male 1)"
    assert facts["splits"] == "train 2, test 2, dev 1"
    assert facts["emotions"] == "anger 3, $joy$ 1, without 1"
    assert facts["valence"] == "4, 1 to 4.5, mean 2.12"
    assert "dominance" not in facts
    assert facts["features: mel"] == "128 dimensions, 62.5 frames/s, 4 utterances in 3 shards, 0 MiB"
    assert facts["rejected: silent (no sample above dBFS)"] == "2"


def test_the_page_needs_no_server(out: Path) -> None:
    page = write_page(Contents.of(out)).read_text()
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page
    for title in ("Durations", "Emotions", "Attributes", "Valence and activation"):
        assert f"<h2>{title}</h2>" in page


def test_a_corpus_without_labels_has_only_durations(out: Path) -> None:
    manifest = pq.read_table(out / "manifest.parquet")
    for name in ("emotion", "valence", "activation"):
        place = manifest.schema.get_field_index(name)
        field = manifest.schema.field(name)
        manifest = manifest.set_column(place, field, pa.nulls(len(manifest), field.type))
    pq.write_table(manifest, out / "manifest.parquet")
    assert write_page(Contents.of(out)).read_text().count("<h2>") == 1


def test_the_commands(out: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["sersearch", "data", *args])
        with pytest.raises(SystemExit) as stop:
            main()
        return (int(stop.value.code or 0), *capsys.readouterr())

    assert run("check", str(out)) == (
        0,
        f"{out}: mel, spectrogram: all shards are what their cards say, and nothing is missing\n",
        "",
    )
    code, shown, _ = run("show", str(out))
    assert (code, "$joy$" in shown, (out / "data.html").is_file()) == (0, True, True)
    (out / "mel" / "part-00000.parquet").unlink()
    code, _, said = run("check", str(out))
    assert (code, said.count("\n")) == (2, 2)
    assert run("check", str(out / "mel"))[0] == 2


def test_labels_of_an_earlier_state_are_found(out: Path) -> None:
    manifest = pq.read_table(out / "manifest.parquet")
    place = manifest.schema.get_field_index("speaker")
    others = pa.array(["eve"] * len(manifest), pa.string())
    pq.write_table(manifest.set_column(place, manifest.schema.field("speaker"), others), out / "manifest.parquet")
    assert list(check(out)) == [
        f"{out / name}: its labels or files are of an earlier state of the corpus; prepare it again"
        for name in ("mel", "spectrogram")
    ]


@pytest.mark.parametrize("name", ["manifest.parquet", "rejected.parquet", "mel/part-00000.parquet"])
def test_what_cannot_be_shown_is_a_sentence(out: Path, name: str) -> None:
    (out / name).write_bytes(b"PAR1 no more")
    with pytest.raises(DataError, match=r"out: cannot be read .*`sersearch data check"):
        Contents.of(out)
