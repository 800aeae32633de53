"""Machines on one wire, as network namespaces of this one: what `sampan join` needs two of."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kit.cli import Result, User

BRIDGE = "test-wire"
NETWORK = "10.9.0"
NAMESPACES = Path("/run/netns")


@dataclass(slots=True)
class Machine(User):
    """A user at a machine: commands run in its network."""

    number: int = 0

    @property
    def address(self) -> str:
        return f"{NETWORK}.{self.number}"

    @property
    def namespace(self) -> str:
        return f"test-machine-{self.number}"

    def run(self, *command: str, text: str = "", env: dict[str, str] | None = None) -> Result:
        # Not `ip netns exec`: that hides the machine's cgroups behind a /sys of its own.
        enter = ("nsenter", f"--net={NAMESPACES / self.namespace}")
        # Not super(): the class was made anew for its slots.
        return User.run(self, *enter, *command, text=text, env=env)


@contextmanager
def machines(folder: Path, count: int) -> Iterator[list[Machine]]:
    """Each with an address and a default route to nowhere; the wire is there for as long."""
    made = []
    ip(f"link add {BRIDGE} type bridge")
    try:
        ip(f"link set {BRIDGE} up")
        for number in range(1, count + 1):
            (folder / f"home{number}").mkdir()
            data, home = folder / f"data{number}", folder / f"home{number}"
            machine = Machine(f"wire-{number}", data, home, number=number)
            made.append(machine)
            name, port = machine.namespace, f"test-wire-{number}"
            ip(f"netns add {name}")
            ip(f"link add {port} type veth peer name eth0 netns {name}")
            ip(f"link set {port} master {BRIDGE} up")
            ip(f"-n {name} addr add {machine.address}/24 dev eth0")
            ip(f"-n {name} link set eth0 up")
            ip(f"-n {name} link set lo up")
            ip(f"-n {name} route add default via {NETWORK}.254")
        yield made
    finally:
        for machine in made:
            if os.path.exists(NAMESPACES / machine.namespace):
                ip(f"netns delete {machine.namespace}")
        ip(f"link delete {BRIDGE}")


def ip(command: str) -> None:
    subprocess.run(["ip", *command.split()], check=True)
