"""Disks that are really full or read-only: file systems in memory, mounted for a test."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

PAGE = 4096  # bytes: what tmpfs counts in


@dataclass(frozen=True)
class Disk:
    """A file system of its own, mounted at `folder`."""

    folder: Path

    def change(self, options: str) -> None:
        """Mount it again with other `options`: size=BYTES, nr_inodes=COUNT, ro, rw."""
        command = ["mount", "-o", f"remount,{options}", str(self.folder)]
        for _ in range(600):  # it is busy until processes that were killed are gone
            if subprocess.run(command, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        subprocess.run(command, check=True)

    def fill(self, left: int) -> None:
        """Take all room but `left` pages."""
        filler = self.folder / "filler"
        with filler.open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(PAGE))
            except OSError:
                file.truncate(max(filler.stat().st_size // PAGE - left, 0) * PAGE)


def files(folder: Path) -> dict[str, bytes]:
    """All files of a folder but locks, by their names in it."""
    found = (path for path in sorted(folder.rglob("*")) if path.is_file() and not path.name.endswith(".lock"))
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}
