"""What stands in for Slurm: `srun` and `scontrol`, on nodes that are network namespaces of this machine."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType
from typing import Any

from tests.faults.matrix import descendants

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "ray" / "slurm.sbatch"


def installed(folder: Path) -> Path:
    """A folder for PATH with both commands."""
    folder.mkdir()
    for name in ("srun", "scontrol"):
        path = folder / name
        path.write_text(
            f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
            f"from tests.deploy.slurm import {name}\n{name}(sys.argv[1:])\n"
        )
        path.chmod(0o755)
    return folder


class Job:
    """A job that Slurm has begun, with nodes of one core. `prefixes` by node: what runs a command there."""

    def __init__(self, number: int, prefixes: dict[str, list[str]], commands: Path, work: Path) -> None:
        self.number, self._prefixes, self._commands, self._work = number, prefixes, commands, work
        self._told = work.parent / f"slurm-{number}.told"
        self.output = work.parent / f"slurm-{number}.out"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *args: str) -> None:
        """Run the script, as after `sbatch slurm.sbatch ARGS` and after `scontrol requeue`."""
        binaries = [str(self._commands), str(Path(sys.executable).parent), os.environ["PATH"]]
        first = next(iter(self._prefixes.values()))
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [*first, "bash", str(SCRIPT), *args],
                cwd=self._work,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={
                    **os.environ,
                    "PATH": os.pathsep.join(binaries),
                    "SLURM_JOB_ID": str(self.number),
                    "SLURM_JOB_NODELIST": ",".join(self._prefixes),
                    "SLURM_CPUS_PER_TASK": "1",
                    "STANDS_FOR": json.dumps(self._prefixes),
                    "TELLS": str(self._told),
                },
            )

    @property
    def shell(self) -> int:
        """The process that Slurm signals with --signal=B."""
        assert self.process is not None
        every = {self.process.pid: "", **dict(descendants(self.process.pid))}
        return next(pid for pid, title in every.items() if _arguments(pid)[:2] == ["bash", str(SCRIPT)])

    def end(self, timeout: float = 300) -> int:
        """Wait for the script's end; its exit code."""
        assert self.process is not None
        return self.process.wait(timeout)

    def kill(self) -> None:
        """End all that is left of it."""
        if self.process is not None and self.process.poll() is None:
            _kill(self.process.pid)
            self.process.wait()

    @property
    def told(self) -> list[dict[str, Any]]:
        """What it asked of Slurm, in order."""
        return [json.loads(line) for line in self._told.read_text().splitlines()]


def srun(words: list[str]) -> None:
    """Run a command on nodes of the job; all that it started ends with it."""
    given: dict[str, str] = {}
    while words[0].startswith("--"):
        name, _, value = words.pop(0)[2:].partition("=")
        given[name] = value
    prefixes = json.loads(os.environ["STANDS_FOR"])
    names = given.get("nodelist", ",".join(prefixes)).split(",")
    assert [len(names)] * 2 == [int(given["nodes"]), int(given["ntasks"])], given
    _tell({"srun": given, "words": words, "token": os.environ.get("RAY_AUTH_TOKEN", "")})
    step = [
        subprocess.Popen(
            [*prefixes[name], *words],
            start_new_session=True,
            env={**os.environ, "SLURM_CPUS_ON_NODE": "1", "TMPDIR": _folder(name)},
        )
        for name in names
    ]

    def leave(number: int, frame: FrameType | None) -> None:
        for process in step:
            _kill(process.pid)

    signal.signal(signal.SIGTERM, leave)
    raise SystemExit(max(abs(process.wait()) for process in step))


def scontrol(words: list[str]) -> None:
    """`show hostnames LIST` and `requeue JOB`."""
    _tell({"scontrol": words})
    if words[:2] == ["show", "hostnames"]:
        print("\n".join(words[2].split(",")))
    else:
        assert words == ["requeue", os.environ["SLURM_JOB_ID"]], words


def _tell(what: dict[str, Any]) -> None:
    with Path(os.environ["TELLS"]).open("a") as file:
        file.write(json.dumps(what) + "\n")


def _folder(name: str) -> str:
    """A node's own folder for what is temporary: a short name, as it holds sockets."""
    folder = Path(f"{os.environ['TELLS']}.{name.rpartition('.')[2]}")
    folder.mkdir(exist_ok=True)
    return str(folder)


def _kill(root: int) -> None:
    for pid in [*(pid for pid, _ in descendants(root)), root]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _arguments(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    except OSError:
        return []
