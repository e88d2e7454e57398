"""Files on disks that are full or read-only: the old one stays as it was, and nothing half-written beside it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sersearch.data.atomic import atomic, write_json
from tests.faults.disk.disks import PAGE, Disk

Write = Callable[[Path], None]


def by_bytes(path: Path) -> None:
    path.write_bytes(bytes(20 * PAGE))


def by_buffer(path: Path) -> None:
    with path.open("w") as file:
        for _ in range(20 * PAGE // 8):
            file.write("8 bytes\n")


def by_parquet(path: Path) -> None:
    pq.write_table(pa.table({"x": np.random.default_rng(0).random(20 * PAGE)}), path)


def by_arrow(path: Path) -> None:
    table = pa.table({"x": np.random.default_rng(0).random(20 * PAGE)})
    with pa.ipc.new_file(path, table.schema) as file:
        file.write_table(table)


@pytest.mark.parametrize("write", [by_bytes, by_buffer, by_parquet, by_arrow])
@pytest.mark.parametrize("pages", range(2, 12, 3))
def test_a_full_disk_leaves_the_old_file_and_is_named_with_it(
    mount: Callable[[str], Disk], write: Write, pages: int
) -> None:
    path = mount(f"size={pages * PAGE}").folder / "a.json"
    write_json(path, "old")
    with pytest.raises(OSError, match="No space left on device") as error, atomic(path) as temporary:
        write(temporary)
    assert (error.value.errno, error.value.filename) == (errno.ENOSPC, str(path))
    assert [(p.name, p.read_text()) for p in path.parent.iterdir()] == [("a.json", '"old"\n')]


def test_a_disk_without_room_for_another_name(mount: Callable[[str], Disk]) -> None:
    path = mount("nr_inodes=2").folder / "a.json"
    write_json(path, "old")
    with pytest.raises(OSError, match="No space left on device") as error:
        write_json(path, "new")
    assert error.value.filename == str(path)
    assert path.read_text() == '"old"\n'


def test_a_read_only_disk(mount: Callable[[str], Disk]) -> None:
    disk = mount(f"size={4 * PAGE}")
    write_json(disk.folder / "a.json", "old")
    disk.change("ro")
    for path in (disk.folder / "a.json", disk.folder / "new" / "b.json"):
        with pytest.raises(OSError, match="Read-only file system") as error:
            write_json(path, "new")
        assert Path(error.value.filename) in (path, path.parent)
    assert (disk.folder / "a.json").read_text() == '"old"\n'


def test_an_error_that_names_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as error, atomic(tmp_path / "copy") as temporary:
        temporary.write_bytes((tmp_path / "gone").read_bytes())
    assert Path(error.value.filename) == tmp_path / "gone"
    assert list(tmp_path.iterdir()) == []
