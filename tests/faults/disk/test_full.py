"""`prep`, tables, reports, bundles and results on disks that are full or read-only: a sentence, and nothing half."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from data_prep import pipeline
from data_prep.pipeline import prepare
from sersearch.audio import extractor
from sersearch.data.protocols import Protocol
from sersearch.data.table import FeatureTable
from sersearch.errors import BundleError, DataError
from sersearch.export import export_bundle
from tests.faults.disk.disks import PAGE, Disk, files
from tests.report.studies import alpha_beta
from tests.synthetic import make_table, write_table
from tests.trained import make_ladder_study, make_study

Mount = Callable[[str], Disk]
Command = Callable[..., tuple[int, str]]
ROOM = 64 << 20


def refusal(corpus: Path, out: Path) -> str:
    """What `prepare` says; empty when it has done it."""
    try:
        prepare("csv", corpus, ["spectrogram", "mel"], out, shard_size=3)
    except DataError as error:
        return str(error)
    return ""


def is_one_sentence(answer: tuple[int, str], reason: str) -> bool:
    """Whether a command ended with exit code 2 and, below its progress, one line of error."""
    code, said = answer
    *progress, last = said.splitlines()
    return code == 2 and last.startswith("Error: ") and reason in last and "Error" not in "".join(progress)


# --- prep -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("resource", ["bytes", "names"])
def test_prep_fails_at_every_write_in_turn_and_goes_on_to_the_same_bytes(
    corpus: Path, tmp_path: Path, mount: Mount, monkeypatch: pytest.MonkeyPatch, resource: str
) -> None:
    """Each disk has a page, or a name, more than the one before, until all fits."""
    monkeypatch.setattr(pipeline, "run_tasks", lambda tasks, *cluster: (task.write() for task in tasks))
    assert not refusal(corpus, tmp_path / "whole")
    whole, failed_at = files(tmp_path / "whole"), []
    for size in range(1, 400):
        disk = mount(f"size={size * PAGE}" if resource == "bytes" else f"nr_inodes={size}")
        out = disk.folder / "out"
        said = refusal(corpus, out)
        there = files(disk.folder)
        if not said:
            break
        found = re.fullmatch(
            r"preparation stopped: \[Errno 28\] No space left on device: '(.*)'; once that is mended, the same command "
            "goes on",
            said,
        )
        assert found, said
        failed_at.append(Path(found[1]).name)
        assert all(there[name] == whole[name.removeprefix("out/")] for name in there), "whole, or not there"
        disk.change(f"size={ROOM}" if resource == "bytes" else "nr_inodes=1000")
        assert not refusal(corpus, out)
        assert files(out) == whole
    assert there == {f"out/{name}": content for name, content in whole.items()}
    assert set(failed_at) >= {Path(name).name for name in whole} - {"part-00000.json", "part-00001.json"}, failed_at


@pytest.mark.usefixtures("ray_running")
@pytest.mark.parametrize("pages", [3, 10, 40])
def test_the_command_in_ray_says_it_in_a_sentence_and_goes_on(
    corpus: Path, tmp_path: Path, mount: Mount, command: Command, pages: int
) -> None:
    arguments = ("prep", "csv", corpus, "--features", "spectrogram", "--features", "mel", "--out")
    assert command(*arguments, tmp_path / "whole")[0] == 0
    disk = mount(f"size={pages * PAGE}")
    answer = command(*arguments, disk.folder / "out")
    assert is_one_sentence(answer, "No space left on device"), answer
    disk.change(f"size={ROOM}")
    assert command(*arguments, disk.folder / "out")[0] == 0
    assert files(disk.folder / "out") == files(tmp_path / "whole")


def test_a_read_only_disk_is_not_prepared_on(corpus: Path, mount: Mount, command: Command) -> None:
    disk = mount("ro")
    for out in (disk.folder, disk.folder / "out"):
        answer = command("prep", "csv", corpus, "--out", out)
        assert is_one_sentence(answer, f"preparation stopped: [Errno 30] Read-only file system: '{out}"), answer


# --- the map ----------------------------------------------------------------------------------------------------------


def test_the_map_fails_at_every_page_in_turn_and_is_then_whole(tmp_path: Path, mount: Mount) -> None:
    whole = write_table(tmp_path / "data", make_table(dims=32))
    expected, failed = FeatureTable.open(whole, "spectrogram").frames, 0
    mapped = files(whole)
    for path in (whole / "spectrogram").glob("*-*.[na]*"):
        path.unlink()
    for pages in range(0, 200, 3):
        disk = mount(f"size={ROOM}")
        shutil.copytree(whole, disk.folder / "data")
        used = shutil.disk_usage(disk.folder).used
        disk.change(f"size={used + pages * PAGE}")
        said = map_refusal(disk.folder / "data")
        if not said:
            break
        failed += 1
        assert "the map of the features, which training reads, cannot be written (No space left on device)" in said
        assert files(disk.folder / "data").items() < mapped.items(), "whole, or not there"
        disk.change(f"size={ROOM}")
        table = FeatureTable.open(disk.folder / "data", "spectrogram")
        np.testing.assert_array_equal(table.frames, expected)
    assert files(disk.folder / "data") == mapped
    assert failed > 5


def map_refusal(folder: Path) -> str:
    """What opening a table says; empty when it opens."""
    try:
        FeatureTable.open(folder, "spectrogram")
    except DataError as error:
        return str(error)
    return ""


def test_a_table_on_a_read_only_disk_can_be_read_once_it_has_its_map(mount: Mount) -> None:
    disk = mount(f"size={ROOM}")
    write_table(disk.folder / "data", make_table())
    disk.change("ro")
    with pytest.raises(DataError, match=r"cannot be written \(Read-only file system\); make room, or, of a folder"):
        FeatureTable.open(disk.folder / "data", "spectrogram")
    disk.change("rw")
    frames = FeatureTable.open(disk.folder / "data", "spectrogram").frames
    disk.change("ro")
    table = FeatureTable.open(disk.folder / "data", "spectrogram")
    table.check_shards()
    np.testing.assert_array_equal(table.frames, frames)


# --- reports, bundles, results ----------------------------------------------------------------------------------------


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """A small trained study, its corpus beside it."""
    data = write_table(tmp_path / "data", make_table(vectors=True, attributes=True))
    table = FeatureTable.open(data, "spectrogram")
    return make_ladder_study(tmp_path / "studies", table, Protocol("loso", test_speaker="s0"), epochs=2).study.folder


def test_a_report_on_a_full_disk(tmp_path: Path, mount: Mount, command: Command) -> None:
    study = alpha_beta(tmp_path / "study", trials=8)
    assert command("report", study, "--out", tmp_path / "whole")[0] == 0
    whole = files(tmp_path / "whole")
    total = sum(-(-len(content) // PAGE) for content in whole.values())
    for pages in (1, 4, total // 3, total - 2):
        disk = mount(f"size={pages * PAGE}")
        answer = command("report", study, "--out", disk.folder)
        assert is_one_sentence(answer, "the report cannot be written (No space left on device)"), answer
        assert files(disk.folder).items() <= whole.items(), "whole, or not there"
        disk.change(f"size={ROOM}")
        assert command("report", study, "--out", disk.folder)[0] == 0
        assert files(disk.folder) == whole


def test_a_report_on_a_read_only_disk(tmp_path: Path, mount: Mount, command: Command) -> None:
    study = alpha_beta(tmp_path / "study", trials=4)
    answer = command("report", study, "--out", mount("ro").folder / "report")
    assert is_one_sentence(answer, "the report cannot be written (Read-only file system)"), answer


@pytest.mark.parametrize("earlier", [True, False])
def test_an_export_to_a_full_disk_leaves_what_was_there(
    study: Path, mount: Mount, command: Command, earlier: bool
) -> None:
    failed = 0
    for pages in range(20):
        disk = mount(f"size={ROOM}")
        if earlier:
            assert command("export", study, "--trial", 1, "--out", disk.folder / "model")[0] == 0
        before = files(disk.folder)
        disk.fill(pages)
        answer = command("export", study, "--trial", 0, "--out", disk.folder / "model")
        (disk.folder / "filler").unlink()
        if answer[0] == 0:
            break
        failed += 1
        assert is_one_sentence(answer, "the bundle cannot be written"), answer
        assert files(disk.folder) == before
        assert command("export", study, "--trial", 0, "--out", disk.folder / "model")[0] == 0
    assert 1 < failed < 20


def test_a_bundle_on_a_read_only_disk_predicts(tmp_path: Path, mount: Mount, command: Command) -> None:
    table = make_table(dims=128)
    table = replace(table, card={**extractor("spectrogram").card(), "hash": "0"})
    study, disk = make_study(tmp_path / "study", table, Protocol("loso", "s0"), epochs=1), mount(f"size={ROOM}")
    export_bundle(study, disk.folder / "model")
    disk.change("ro")
    wav = tmp_path / "a.wav"
    soundfile.write(wav, np.random.default_rng(0).normal(size=32_000) / 10, 16_000)
    assert command("predict", disk.folder / "model", wav) == (0, "")
    with pytest.raises(BundleError, match=r"other: the bundle cannot be written \(Read-only file system\)"):
        export_bundle(study, disk.folder / "other")
    with pytest.raises(BundleError, match=r"model: the bundle cannot be written \(Read-only file system\)"):
        export_bundle(study, disk.folder / "model")


def test_a_result_on_a_full_disk_is_written_once_there_is_room(study: Path, mount: Mount, command: Command) -> None:
    failed = 0
    for pages in range(20):
        disk = mount(f"size={ROOM}")
        shutil.copytree(study, disk.folder / "study")
        before = files(disk.folder)
        disk.fill(pages)
        answer = command("evaluate", disk.folder / "study")
        (disk.folder / "filler").unlink()
        if answer[0] == 0:
            break
        failed += 1
        assert is_one_sentence(answer, "No space left on device"), answer
        assert str(disk.folder / "study" / "evaluation") in answer[1]
        assert "study/evaluation/test.json" not in files(disk.folder)
        assert before.items() <= files(disk.folder).items()
        assert not [name for name in files(disk.folder) if name.endswith(".tmp")]
        assert command("evaluate", disk.folder / "study")[0] == 0
    assert 1 < failed < 20
    disk.change("ro")
    assert command("evaluate", disk.folder / "study")[0] == 0, "a result that is there is read back"
    answer = command("evaluate", disk.folder / "study", "--again")
    assert is_one_sentence(answer, "Read-only file system"), answer
