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
        self._connected: list[int] = []
        self.env = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "RAY_USAGE_STATS_ENABLED": "0"}
        self._ip("netns", "add", f"{self._tag}-switch")
        self._on("switch", "link", "add", "switch", "type", "bridge")
        self._on("switch", "link", "set", "switch", "up")
        self.address = f"{self.host(0)}:{PORT}"

    def start(self, node: int, *args: str) -> None:
        """Start node `node`; 0 is the head. `args`: further ones of `ray start`."""
        self.connect(node)
        how = ["--head", f"--port={PORT}", "--num-cpus=0", "--include-dashboard=false"]
        if node:
            self._wait_for_head()
            how = [f"--address={self.address}", "--num-cpus=1"]
        else:
            how.append(f"--temp-dir={self._folder}")  # short: it holds sockets
        command = [str(Path(sys.executable).with_name("ray")), "start", f"--node-ip-address={self.host(node)}"]
        with (self._folder.parent / f"node{node}.out").open("ab") as output:
            self._nodes[node] = subprocess.Popen(
                self.inside(node, *command, *how, *args, "--block", "--disable-usage-stats"),
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**os.environ, **self.env},
                cwd=self._own(node),
                start_new_session=True,
            )

    def _wait_for_head(self) -> None:
        """Until the head listens: a node that is started before gives up."""
        deadline = time.monotonic() + 300
        listens = ["bash", "-c", f": < /dev/tcp/{self.host(0)}/{PORT}"]
        while subprocess.run(self.inside(0, *listens), capture_output=True).returncode != 0:
            assert time.monotonic() < deadline, (self._folder.parent / "node0.out").read_text()
            time.sleep(0.2)

    def host(self, node: int) -> str:
        """A node's address."""
        return f"10.77.0.{node + 1}"

    def _own(self, node: int) -> Path:
        """A node's disk."""
        own = self._folder.parent / f"node{node}"
        own.mkdir(exist_ok=True)
        return own

    def inside(self, node: int, *command: str) -> list[str]:
        """`command` as it is run on a node, with a disk of its own for what Ray keeps there."""
        mounted = ["sh", "-c", 'mount --bind "$0" "$1" && shift && exec "$@"', str(self._own(node)), str(self._folder)]
        return ["ip", "netns", "exec", f"{self._tag}-{node}", *mounted, *command]

    def kill(self, node: int) -> None:
        """Kill -9 of all that runs on a node."""
        for pid in self.pids(node):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if node in self._nodes:
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
        for node in self._connected:
            self.kill(node)
            self._ip("netns", "del", f"{self._tag}-{node}")
        self._ip("netns", "del", f"{self._tag}-switch")

    def connect(self, node: int) -> None:
        """Have the machine `node` on the network, whether Ray is to run there or not."""
        if node in self._connected:
            return
        self._ip("netns", "add", f"{self._tag}-{node}")
        self._connected.append(node)
        self._plug(f"node{node}", "eth0", "netns", f"{self._tag}-{node}")
        self._on(str(node), "addr", "add", f"{self.host(node)}/24", "dev", "eth0")
        for device in ("lo", "eth0"):
            self._on(str(node), "link", "set", device, "up")
        self._on(str(node), "route", "add", "default", "dev", "eth0")  # by which Ray finds its own address

    def join(self) -> str:
        """Have this process on the network, too, as a machine that isn't the cluster's; its address there."""
        own = self.host(253)
        self._plug("outside", self._tag)
        self._ip("addr", "add", f"{own}/24", "dev", self._tag)
        self._ip("link", "set", self._tag, "up")
        return own

    def _plug(self, port: str, device: str, *where: str) -> None:
        """A cable from the switch's `port` to a `device`, here or in another network."""
        ends = ["link", "add", port, "netns", f"{self._tag}-switch", "type", "veth", "peer", "name", device]
        self._ip(*ends, *where)
        self._on("switch", "link", "set", port, "master", "switch", "up")

    def _on(self, name: str, *args: str) -> None:
        self._ip("-n", f"{self._tag}-{name}", *args)

    @staticmethod
    def _ip(*args: str) -> None:
        subprocess.run(["ip", *args], check=True, capture_output=True)
