"""`sampan cleanup`: stop what a cluster still runs on this machine. Idempotent.

Run by the supervisor when it ends, and by `sampan down` when there is no supervisor any more.
Order: containers first (they hold mounts and namespaces), then the network, then the node's mount
namespace, then the run folder.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
from pathlib import Path

from sampan.paths import ClusterPaths, cluster_paths

from . import config
from .wiring import node_network, node_runtime

STOP_SIGNAL_S = 2.0
"""How long containers may take to end by themselves."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="sampan cleanup")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", required=True, type=Path)
    options = parser.parse_args(arguments)
    paths = cluster_paths(options.name, options.data)
    cluster = config.read(paths)
    if cluster is None:
        cluster = config.read_file(paths.run / "cluster.json")
    if paths.run.exists():
        clean(paths, cluster)
    shutil.rmtree(paths.run, ignore_errors=True)
    return 0


def clean(paths: ClusterPaths, cluster: config.ClusterConfig | None) -> None:
    """Without a configuration no container was ever started: only the namespace can be there."""
    from sampan.linux.namespaces import enter_node_namespace, remove_node_namespace

    if cluster is not None:
        enter_node_namespace(paths.run)
        asyncio.run(_stop(paths, cluster))
    remove_node_namespace(paths.run)


async def _stop(paths: ClusterPaths, cluster: config.ClusterConfig) -> None:
    runtime = node_runtime(paths, cluster)
    await runtime.open()
    await runtime.purge(STOP_SIGNAL_S)
    await runtime.close()
    network = node_network(paths, cluster)
    await network.purge()
