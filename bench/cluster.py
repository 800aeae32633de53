"""A cluster of its own for measuring: booted from empty data, removed afterwards."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from examples.busybox import busybox_files
from sampan.runtime.build import File, ImageConfig, build_archive

NAME = "bench"
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(slots=True)
class Cluster:
    """A running cluster."""

    data: Path
    boot_s: float
    """From the start of `sampan up` to its end: API, Ready node and DNS."""
    facts: dict[str, Any]

    @property
    def url(self) -> str:
        return str(self.facts["url"])

    @property
    def token(self) -> str:
        return (self.data / "admin.token").read_text().strip()

    def status(self) -> dict[str, Any]:
        return json.loads(sampan("status", "--data", str(self.data), "--json"))

    def processes(self) -> list[int]:
        """Every process of the cluster itself (no containers)."""
        facts = self.status()
        return [facts["pid"], *(part["pid"] for part in facts["parts"].values())]

    def resident_bytes(self) -> int:
        return int(self.status()["memory_bytes"])

    def cpu_s(self) -> float:
        total = 0.0
        for pid in self.processes():
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
            total += (int(fields[11]) + int(fields[12])) / TICKS
        return total

    def down(self) -> None:
        sampan("down", "--data", str(self.data), "--purge")


def sampan(*arguments: str) -> str:
    command = [sys.executable, "-m", "sampan", arguments[0], "--name", NAME, *arguments[1:]]
    if arguments[0] == "image":
        command = [sys.executable, "-m", "sampan", *arguments[:2], "--name", NAME, *arguments[2:]]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {run.stderr.strip()}")
    return run.stdout


def boot(settings: Mapping[str, str] | None = None, nodes: int = 1) -> Cluster:
    """`settings` are files of the administrator's, by name; the nodes are on this machine."""
    data = Path(tempfile.mkdtemp(prefix="sampan-bench-")) / "data"
    for name, text in (settings or {}).items():
        (data / "config").mkdir(parents=True, exist_ok=True)
        (data / "config" / name).write_text(text)
    where = ("--data", str(data), "--listen", free_address(), "--nodes", str(nodes))
    began = time.perf_counter()
    facts = json.loads(sampan("up", *where, "--no-merge", "--json"))
    return Cluster(data, time.perf_counter() - began, facts)


def load_web(cluster: Cluster, image: str) -> None:
    """An image with a web server on port 80, made from busybox."""
    archive = cluster.data.parent / "web.tar"
    page = {"www/index.html": File(b"ready\n", 0o644)}
    server = ImageConfig(entrypoint=["httpd", "-f", "-p", "80", "-h", "/www"])
    archive.write_bytes(build_archive({**busybox_files(), **page}, server, image))
    sampan("image", "load", "--data", str(cluster.data), str(archive))


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"
