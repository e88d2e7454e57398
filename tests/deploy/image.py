"""The Dockerfile as the tests read it, and its pip steps carried out in a folder in place of an image."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

import dockerfile
from docker.utils.build import exclude_paths

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
PINS = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text("utf-8").split())
INDEX = re.compile(r"--index-url \S+")


@dataclass
class Stage:
    """A stage of the Dockerfile: what it begins with, its name, and its instructions."""

    base: str
    name: str = ""
    steps: list[dockerfile.Command] = field(default_factory=list)

    def of(self, instruction: str) -> list[dockerfile.Command]:
        """The steps of an instruction, such as RUN."""
        return [step for step in self.steps if step.cmd == instruction]


def stages() -> list[Stage]:
    """The stages, in their order; the last one is the image."""
    found: list[Stage] = []
    for step in dockerfile.parse_file(str(DOCKERFILE)):
        if step.cmd == "FROM":
            found.append(Stage(step.value[0], step.value[2] if len(step.value) > 1 else ""))
        else:
            found[-1].steps.append(step)
    return found


def pairs(step: dockerfile.Command) -> dict[str, str]:
    """What an ENV or LABEL sets."""
    return {name: value.strip('"') for name, value in zip(step.value[::2], step.value[1::2], strict=True)}


def copied(stage: Stage) -> set[str]:
    """What a stage takes from the build's context."""
    own = [step for step in stage.of("COPY") if not step.flags]
    return {source for step in own for source in step.value[:-1]}


def context() -> list[str]:
    """Files and folders that the build is sent, by Docker's own reading of .dockerignore."""
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    return sorted(exclude_paths(str(ROOT), patterns) - {".dockerignore"})


class Image:
    """The image's Python, made by the Dockerfile's own steps below `root`: those that run pip, and what they copy.

    Paths of the image lie below `root`, the base image's Python is a venv of this one's, and PyTorch comes from where
    pip finds it by itself. The rest (users, Debian's packages) needs an image.
    """

    def __init__(self, root: Path) -> None:
        """Build all stages in `root`, an empty folder."""
        self.root = root
        subprocess.run([sys.executable, "-m", "venv", root / "usr/local"], check=True)
        self.said = ""
        """What pip printed."""
        for stage in stages():
            self._build(stage)

    def env(self) -> dict[str, str]:
        """The environment of a process in a container."""
        made = {**os.environ, "PATH": f"{self.root}/usr/local/bin:{os.environ['PATH']}"}
        for stage in (stages()[0], stages()[-1]):
            for step in stage.of("ENV"):
                made |= {
                    name: self._placed(value).replace("$PATH", made["PATH"]) for name, value in pairs(step).items()
                }
        return made

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a container does; it must succeed."""
        done = subprocess.run(command, env=self.env(), cwd=self.root, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def _build(self, stage: Stage) -> None:
        folder = self.root
        for step in stage.steps:
            if step.cmd == "WORKDIR":
                folder = Path(self._placed(step.value[0])) / stage.name
                folder.mkdir(parents=True, exist_ok=True)
            elif step.cmd == "COPY" and not step.flags:
                self._copy(step.value[:-1], folder / step.value[-1])
            elif step.cmd == "RUN" and re.search(r"\bpip\b|\bvenv\b", step.value[0]):
                command = self._placed(INDEX.sub("", step.value[0]))
                env = {**os.environ, "PATH": f"{self.root}/usr/local/bin:{os.environ['PATH']}"}
                done = subprocess.run(
                    ["/bin/sh", "-c", command], cwd=folder, env=env, capture_output=True, text=True, check=False
                )
                assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
                self.said += done.stdout

    def _placed(self, text: str) -> str:
        """`text` with the image's folders below the root."""
        return re.sub(r"(?<![\w.])/(opt|build|dist|home)\b", rf"{self.root}/\1", text)

    def _copy(self, sources: tuple[str, ...], target: Path) -> None:
        sent = [Path(path) for path in context()]
        for source in sources:
            for path in sent:
                if path.is_relative_to(source) and (ROOT / path).is_file():
                    to = target / path.relative_to(source) if (ROOT / source).is_dir() else target / path.name
                    to.parent.mkdir(parents=True, exist_ok=True)
                    shutil.copy(ROOT / path, to)
