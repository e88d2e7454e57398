"""Checksums: what was altered is named, and sha256sum reads them, too."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from sersearch.data.place import place
from sersearch.data.sums import SUMS, check_sums, with_sums
from sersearch.errors import DataError

FILES = {"model.safetensors": bytes(range(256)), "state.json": b"{}", "empty.csv": b""}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in with_sums(files).items():
        (folder / name).write_bytes(content)
    return folder


def refusal(folder: Path) -> str:
    with pytest.raises(DataError) as error:
        check_sums(folder)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_sums_stand_last_with_a_line_a_file() -> None:
    files = with_sums({"a": b"abc", "b": b""})
    assert list(files) == ["a", "b", SUMS]
    assert files[SUMS].decode() == (  # FIPS 180-4's examples
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  a\n"
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  b\n"
    )


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="sha256sum isn't installed")
def test_sha256sum_reads_them(tmp_path: Path) -> None:
    write(tmp_path)
    check = ["sha256sum", "--check", "--strict", SUMS]
    assert subprocess.run(check, cwd=tmp_path, capture_output=True, text=True).stdout.count(": OK") == 3
    (tmp_path / "empty.csv").write_bytes(b"x")
    assert "empty.csv: FAILED" in subprocess.run(check, cwd=tmp_path, capture_output=True, text=True).stdout


@pytest.mark.parametrize("where", ["disk", "store"])
def test_files_come_back_as_they_were_written(tmp_path: Path, where: str) -> None:
    folder = write(tmp_path if where == "disk" else place(f"memory://sums/{tmp_path.name}"))
    (folder / "later.csv").write_text("not listed")
    assert check_sums(folder) == FILES
    (folder / "state.json").write_text("{ }")
    assert f"{folder / 'state.json'}: cut off or altered" in refusal(folder)


@pytest.mark.parametrize("name", ["model.safetensors", "state.json", SUMS])
def test_every_bit_that_is_flipped_is_seen(tmp_path: Path, name: str) -> None:
    path = write(tmp_path) / name
    whole = path.read_bytes()
    ending = name == SUMS  # without its last end of line it says the same
    for bit in range(8 * (len(whole) - ending)):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        path.write_bytes(content)
        assert str(path.parent) in refusal(tmp_path)
        assert name == SUMS or refusal(tmp_path) == (
            f"{path}: cut off or altered since it was written (another hash than in SHA256SUMS); restore the folder "
            "from a copy"
        )


@pytest.mark.parametrize("size", [0, 255])
def test_a_file_that_was_cut_off_is_named(tmp_path: Path, size: int) -> None:
    path = write(tmp_path) / "model.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    assert refusal(tmp_path).startswith(f"{path}: cut off or altered")


@pytest.mark.parametrize("name", ["model.safetensors", SUMS])
def test_a_missing_file_is_named(tmp_path: Path, name: str) -> None:
    (write(tmp_path) / name).unlink()
    assert refusal(tmp_path) == f"{tmp_path / name}: missing; restore the folder from a copy"


def test_a_list_that_was_cut_within_a_line_is_named_and_lost_lines_are_lost_files(tmp_path: Path) -> None:
    content = (write(tmp_path) / SUMS).read_bytes()
    (tmp_path / SUMS).write_bytes(content[:70])
    assert refusal(tmp_path) == f"{tmp_path / 'mode'}: missing; restore the folder from a copy"
    (tmp_path / SUMS).write_bytes(b"")
    assert refusal(tmp_path).startswith(f"{tmp_path / SUMS}: cut off or altered")
    (tmp_path / SUMS).write_bytes(b"".join(content.splitlines(keepends=True)[:1]))
    assert list(check_sums(tmp_path)) == ["model.safetensors"]


def test_files_of_other_folders_are_not_read(tmp_path: Path) -> None:
    write(tmp_path / "inner")
    (tmp_path / "secret").write_bytes(b"")
    lines = with_sums({"../secret": b""})[SUMS]
    (tmp_path / "inner" / SUMS).write_bytes(lines)
    assert refusal(tmp_path / "inner").startswith(f"{tmp_path / 'inner' / SUMS}: cut off or altered")


@pytest.mark.parametrize("name", ["model.safetensors", SUMS])
def test_what_the_system_refuses_is_named(tmp_path: Path, name: str) -> None:
    path = write(tmp_path) / name
    path.unlink()
    path.mkdir()
    assert refusal(tmp_path) == f"{path}: cannot be read (Is a directory); restore the folder from a copy"
