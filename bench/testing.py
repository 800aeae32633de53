"""How long a test waits for its cluster: the first one of a process, and each later one.

python -m bench.testing
"""

from __future__ import annotations

import asyncio
import json
import statistics
import subprocess
import sys
import time

ROUNDS = 20
RUNS = 5


async def clusters() -> dict[str, float]:
    """Milliseconds until the first cluster is ready, and the median of the next ones (a fresh
    state each, closed before the next)."""
    from sampan.testing import Cluster

    began = time.perf_counter()
    first = await Cluster.start()
    ready = time.perf_counter() - began
    await first.close()
    later = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        cluster = await Cluster.start()
        later.append(time.perf_counter() - began)
        await cluster.close()
    return {"test first": ready * 1e3, "test fresh": statistics.median(later) * 1e3}


def run() -> dict[str, float]:
    """The medians over processes of their own."""
    results = []
    for _ in range(RUNS):
        command = [sys.executable, "-m", "bench.testing", "one"]
        done = subprocess.run(command, capture_output=True, check=True)
        results.append(json.loads(done.stdout))
    return {
        name: round(statistics.median(result[name] for result in results), 1) for name in results[0]
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["one"]:
        print(json.dumps(asyncio.run(clusters())))
    else:
        print(run())
