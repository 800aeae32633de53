"""Names: answers per second on one core, and how long an answer takes at half the goal.

python -m bench.dns

The server is a cluster's own, with `SERVICES` services; the questions are those of pods (A and
AAAA of services, SRV, headless services, names that are not there), put by a process of its own
over UDP from the host. Answers per second are told both by the clock and by the processor time of
the node's process, which a busy machine does not change.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import struct
import subprocess
import sys
import time
from ipaddress import IPv4Network
from pathlib import Path

from .cluster import TICKS, Cluster, boot

SERVICES = 500
MOST_S = 5.0
"""How long as many questions as get answers are asked."""
RATE, RATE_S = 10_000, 5.0
"""Half the goal, for the times."""
WINDOW = 64
TICK_S = 0.001
_HEADER = struct.Struct(">HHHHHH")
_KINDS = {"A": 1, "AAAA": 28, "SRV": 33}


def message(name: str, kind: str, number: int) -> bytes:
    """A question as the C libraries put it."""
    labels = b"".join(bytes([len(part)]) + part.encode() for part in name.split("."))
    return _HEADER.pack(number, 0x0100, 1, 0, 0, 0) + labels + b"\0" + struct.pack(
        ">HH", _KINDS[kind], 1
    )  # fmt: skip


def questions() -> list[bytes]:
    """What is asked, in a random order that is the same each time; without the number."""
    found = []
    for number in range(SERVICES):
        name = f"web-{number}.default.svc.cluster.local"
        found += [message(name, "A", 0)[2:]] * 6
        found += [message(name, "AAAA", 0)[2:]] * 2
        found.append(message(f"_http._tcp.{name}", "SRV", 0)[2:])
        found.append(message(f"missing-{number}.other.svc.cluster.local", "A", 0)[2:])
    random.Random(1).shuffle(found)
    return found


def services() -> str:
    """The manifest of as many services, one in ten without an address of its own."""
    items = [
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": f"web-{number}", "namespace": "default"},
            "spec": {
                "selector": {"app": "none"},
                "ports": [{"name": "http", "port": 80}],
                **({"clusterIP": "None"} if number % 10 == 0 else {}),
            },
        }
        for number in range(SERVICES)
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Load:
    """One socket; question n has the number n modulo 65,536."""

    def __init__(self, host: str) -> None:
        self._asked = questions()
        self._sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self._sock.connect((host, 53))
        self._wait = selectors.DefaultSelector()
        self._wait.register(self._sock, selectors.EVENT_READ)
        self._sent_at = [0.0] * 65536
        self._count = 0
        self.taken: list[float] = []

    def send(self) -> None:
        asked = self._asked[self._count % len(self._asked)]
        number = self._count & 0xFFFF
        self._count += 1
        self._sent_at[number] = time.perf_counter()
        self._sock.send(number.to_bytes(2, "big") + asked)

    def receive(self, wait_s: float) -> int:
        """Take what is there; how many answers."""
        if not self._wait.select(wait_s):
            return 0
        count = 0
        while True:
            try:
                data = self._sock.recv(4096)
            except BlockingIOError:
                return count
            now = time.perf_counter()
            self.taken.append(now - self._sent_at[int.from_bytes(data[:2], "big")])
            count += 1

    def most(self, seconds: float) -> dict[str, float]:
        """`WINDOW` questions are always under way; one that is lost is made up for."""
        began = time.perf_counter()
        open_questions = 0
        while time.perf_counter() - began < seconds:
            while open_questions < WINDOW:
                self.send()
                open_questions += 1
            got = self.receive(0.2)
            open_questions = 0 if not got else open_questions - got
        return {"answers": len(self.taken), "seconds": time.perf_counter() - began}

    def steady(self, rate: float, seconds: float) -> dict[str, float]:
        """So many a second, whether answers come or not."""
        began = time.perf_counter()
        sent = 0
        while (now := time.perf_counter() - began) < seconds:
            while sent < now * rate:
                self.send()
                sent += 1
            self.receive(TICK_S)
        while self.receive(0.2):
            pass
        taken = sorted(self.taken)
        return {
            "lost": sent - len(taken),
            "p50_ms": 1e3 * taken[len(taken) // 2],
            "p99_ms": 1e3 * taken[len(taken) * 99 // 100],
        }


def processor_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def tool(*arguments: str) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.dns", *arguments]
    return dict(json.loads(subprocess.run(command, capture_output=True, check=True).stdout))


def measure(cluster: Cluster) -> dict[str, float]:
    manifest = cluster.data.parent / "services.json"
    manifest.write_text(services())
    environment = {**os.environ, "KUBECONFIG": str(cluster.facts["kubeconfig"])}
    command = ["kubectl", "create", "-f", str(manifest)]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    # The server listens at the first address of the first node's share.
    network = json.loads((cluster.data / "cluster.json").read_text())["pod_cidr"]
    host = str(IPv4Network(network)[1])
    node = cluster.status()["parts"]["node"]["pid"]
    tool(host, "most", "1")
    before = processor_s(node)
    most = tool(host, "most", str(MOST_S))
    used = processor_s(node) - before
    half = tool(host, "steady", str(RATE_S))
    return {
        "dns answers": round(most["answers"] / most["seconds"]),
        "dns answers per core": round(most["answers"] / used),
        "dns p50": round(half["p50_ms"], 2),
        "dns p99": round(half["p99_ms"], 2),
        "dns lost": half["lost"],
    }


def run() -> dict[str, float]:
    cluster = boot()
    try:
        return measure(cluster)
    finally:
        cluster.down()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        load = Load(sys.argv[1])
        what, seconds = sys.argv[2], float(sys.argv[3])
        print(json.dumps(load.most(seconds) if what == "most" else load.steady(RATE, seconds)))
    else:
        print(run())
