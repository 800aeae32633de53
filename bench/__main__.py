"""`make bench`: boot, load, measure, write docs/benchmarks.md.

The load tools are those of the shared bench folder beside the checkout (or SAMPAN_BENCH_TOOLS), so
that upstream and Sampan are measured the same way; without them only boot, memory and CPU are.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from . import (
    ceiling,
    dns,
    figures,
    growth,
    memory,
    network,
    node,
    reads,
    scheduling,
    silence,
    simulated,
    testing,
    tracking,
    watches,
)
from .cluster import Cluster, boot, load_web

ROOT = Path(__file__).resolve().parents[1]
BOOTS = 5
RUNS = 3
SETTLE_S = 60
IDLE_S = 30
SEQUENCE, BURST = 10, 30
IMAGE = "bench-web:1.0"


def tools() -> Path | None:
    path = Path(os.environ.get("SAMPAN_BENCH_TOOLS", ROOT.parent / "shared" / "bench"))
    return path if (path / "apiload.py").exists() else None


def load(script: Path, cluster: Cluster, *arguments: str) -> list[dict[str, Any]]:
    command = [sys.executable, str(script), cluster.url, cluster.token, *arguments]
    lines = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            print(line, end="", flush=True)
            lines.append(json.loads(line))
    errors = [line for line in lines if line.get("errors") or line.get("failed")]
    if process.returncode or errors:
        raise SystemExit(f"{script.name} reported errors: {errors}")
    return lines


def idle(cluster: Cluster) -> dict[str, float]:
    time.sleep(SETTLE_S)
    memory = cluster.resident_bytes() / 1e6
    before = cluster.cpu_s()
    time.sleep(IDLE_S)
    cpu = 100 * (cluster.cpu_s() - before) / IDLE_S
    return {"memory": round(memory, 1), "cpu": round(cpu, 2)}


def boots() -> dict[str, float]:
    seconds = []
    for _ in range(BOOTS):
        cluster = boot()
        seconds.append(cluster.boot_s)
        cluster.down()
    print(f"boots: {[round(item, 2) for item in seconds]}", flush=True)
    return {"boot": round(statistics.median(seconds), 2)}


def pods(folder: Path, cluster: Cluster) -> dict[str, float]:
    load_web(cluster, IMAGE)
    extra = ["--image", IMAGE, "--seq", str(SEQUENCE), "--burst", str(BURST)]
    return figures.collect(load(folder / "podstart.py", cluster, *extra))


def api() -> dict[str, float]:
    """The median of each figure in `RUNS` runs, each on a cluster of its own: a shared machine is
    half as fast in one minute as in another."""
    folder = tools()
    assert folder is not None
    runs = []
    for _ in range(RUNS):
        cluster = boot()
        try:
            runs.append(figures.collect(load(folder / "apiload.py", cluster)))
        finally:
            cluster.down()
    return {key: statistics.median(run[key] for run in runs) for key in runs[0]}


ON_A_CLUSTER: dict[str, Callable[[Path, Cluster], dict[str, float]]] = {
    "idle": lambda _, cluster: idle(cluster),
    "pods": pods,
}
"""Each on a cluster of its own: what one leaves behind, the other would measure."""
ALONE: dict[str, Callable[[], dict[str, float]]] = {
    "boot": boots,
    "api": api,
    "reads": reads.run,
    "watches": watches.run,
    "memory": memory.run,
    "tracking": tracking.run,
    "growth": growth.run,
    "testing": testing.run,
    "scheduling": scheduling.run,
    "simulated": simulated.run,
    "dns": dns.run,
    "network": network.run,
    "silence": silence.run,
    "node": node.run,
}
PARTS = [*ON_A_CLUSTER, *ALONE, "ceiling"]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", default=",".join(PARTS), help="which parts to run")
    parser.add_argument("--write", action="store_true", help="write the page even if partial")
    options = parser.parse_args()
    parts = options.only.split(",")
    values: dict[str, float] = {}
    ceilings: dict[str, float] = {}
    folder = tools()
    if folder is None:
        print("the load tools are not beside this checkout: what needs them is left out")
        parts = [part for part in parts if part not in ("pods", "api", "ceiling")]
    for part in parts:
        if part in ALONE:
            values |= ALONE[part]()
        elif part in ON_A_CLUSTER:
            cluster = boot()
            try:
                values |= ON_A_CLUSTER[part](folder or ROOT, cluster)
            finally:
                cluster.down()
        elif folder is not None:
            ceilings = ceiling.run(folder / "apiload.py")
    page = figures.page(values, ceilings)
    print(page)
    if parts == PARTS or options.write:
        (ROOT / "docs/benchmarks.md").write_text(page)


if __name__ == "__main__":
    main()
