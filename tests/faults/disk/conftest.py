"""Disks of a few pages, a command line to fail on them, and a Ray for `prep`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import soundfile

from sersearch.cli import main
from tests.faults.disk.disks import Disk

CAP_SYS_ADMIN = 21


def _may_mount() -> bool:
    status = Path("/proc/self/status")
    if shutil.which("mount") is None or not status.is_file():
        return False
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("CapEff:"))
    return os.geteuid() == 0 and bool(int(line.split()[1], 16) >> CAP_SYS_ADMIN & 1)


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Callable[[str], Disk]]:
    """Mounts a new disk, with options such as size=65536; all are gone after the test."""
    if not _may_mount():
        pytest.skip("a disk of a few pages takes root with CAP_SYS_ADMIN: it is mounted")
    made: list[Path] = []
    numbers = count()

    def new(options: str) -> Disk:
        folder = tmp_path / f"disk{next(numbers)}"
        folder.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"this system mounts no tmpfs: {done.stderr.strip()}")
        made.append(folder)
        return Disk(folder)

    yield new
    for folder in made:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str]]:
    """Runs sersearch: its exit code, and what it said on stderr; any error but an exit is a failed test."""

    def run(*arguments: object) -> tuple[int, str]:
        monkeypatch.setattr(sys, "argv", ["sersearch", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            main()
        return int(stop.value.code or 0), capsys.readouterr().err

    return run


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Eight short utterances in a CSV manifest, two of them without a label."""
    folder = tmp_path / "corpus"
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = ["path,speaker,gender,emotion"]
    for number in range(8):
        soundfile.write(folder / f"u{number}.wav", rng.normal(size=4000 + 500 * number) / 10, 16_000)
        lines.append(f"u{number}.wav,s{number % 2},female,{'' if number > 5 else 'joy'}")
    (folder / "manifest.csv").write_text("\n".join(lines))
    return folder


@pytest.fixture(scope="package")
def ray_running() -> Iterator[None]:
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()
