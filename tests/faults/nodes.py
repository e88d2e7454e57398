"""A Ray cluster of several machines on one: each node in a network namespace of its own, on a switch between them."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

PORT = 6399


def may_make_networks() -> bool:
    """Whether this process may make network namespaces."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    made = subprocess.run(["ip", "netns", "add", "sersearch-try"], capture_output=True)
    subprocess.run(["ip", "netns", "del", "sersearch-try"], capture_output=True)
    return made.returncode == 0


class Cluster:
    """A head without cores for trials, where the driver runs, and nodes of one core."""

    def __init__(self, folder: Path) -> None:
        self._tag = f"ss{os.getpid() % 10000}"
        self._folder, self._nodes = folder, dict[int, subprocess.Popen[bytes]]()
        self.env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        self._ip("netns", "add", f"{self._tag}-switch")
        self._on("switch", "link", "add", "switch", "type", "bridge")
        self._on("switch", "link", "set", "switch", "up")
        self.address = f"{self._address(0)}:{PORT}"

    def start(self, node: int, *args: str) -> None:
        """Start node `node`; 0 is the head. `args`: further ones of `ray start`."""
        if node not in self._nodes:
            self._connect(node)
        how = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
        if node:
            how = [f"--address={self.address}", "--num-cpus=1"]
        else:
            how.append(f"--temp-dir={self._folder}")  # short: it holds sockets
        command = [str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={self._address(node)}"]
        with (self._folder.parent / f"node{node}.out").open("ab") as output:
            self._nodes[node] = subprocess.Popen(
                self.inside(node, *command, *how, *args, "--block", "--disable-usage-stats"),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                start_new_session=True,
            )

    def inside(self, node: int, *command: str) -> list[str]:
        """`command` as it is run on a node, with a disk of its own for what Ray keeps there."""
        own = self._folder.parent / f"node{node}"
        own.mkdir(exist_ok=True)
        mounted = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(own), str(self._folder)]
        return ["ip", "netns", "exec", f"{self._tag}-{node}", *mounted, *command]

    def kill(self, node: int) -> None:
        """Kill -9 of all that runs on a node."""
        for pid in self.pids(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._nodes[node].wait()

    def pids(self, node: int, title: str = "") -> list[int]:
        """What runs on a node, of those with `title` in their names."""
        listed = subprocess.run(["ip", "netns", "pids", f"{self._tag}-{node}"], capture_output=True, text=True)
        found = []
        for pid in map(int, listed.stdout.split()):
            with suppress(OSError):
                if title in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                    found.append(pid)
        return found

    def cut(self, node: int, seconds: float) -> None:
        """No packet to or from a node for some seconds."""
        self._on("switch", "link", "set", f"node{node}", "down")
        time.sleep(seconds)
        self._on("switch", "link", "set", f"node{node}", "up")

    def close(self) -> None:
        """End all nodes, and the network."""
        for node in self._nodes:
            self.kill(node)
            self._ip("netns", "del", f"{self._tag}-{node}")
        self._ip("netns", "del", f"{self._tag}-switch")

    def _connect(self, node: int) -> None:
        self._ip("netns", "add", f"{self._tag}-{node}")
        ends = ["link", "add", f"node{node}", "netns", f"{self._tag}-switch", "type", "veth", "peer", "name", "eth0"]
        self._ip(*ends, "netns", f"{self._tag}-{node}")
        self._on("switch", "link", "set", f"node{node}", "master", "switch", "up")
        self._on(str(node), "addr", "add", f"{self._address(node)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._on(str(node), "link", "set", device, "up")
        self._on(str(node), "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address

    def _address(self, node: int) -> str:
        return f"10.77.0.{node + 1}"

    def _on(self, name: str, *args: str) -> None:
        self._ip("-n", f"{self._tag}-{name}", *args)

    @staticmethod
    def _ip(*args: str) -> None:
        subprocess.run(["ip", *args], check=True, capture_output=True)
