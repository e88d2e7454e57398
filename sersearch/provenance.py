"""What a result was made with: package versions and the git commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = (
    *("sersearch", "torch", "numpy", "scipy", "ray", "optuna", "mlflow", "pandas", "pyarrow", "scikit-learn"),
    *("soundfile", "soxr", "safetensors", "matplotlib"),
)


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on, read without importing any of them."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def git_commit(path: Path) -> str | None:
    """The commit checked out at `path`, with `-dirty` after it when tracked files differ; None outside a repository."""
    # Without the programs that a repository of a stranger, in which sersearch is run, may name to watch its files.
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(path)]
    command += ["describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
