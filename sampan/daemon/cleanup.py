"""`sampan cleanup`: stop what a cluster still runs on this machine. Idempotent.

Run by the supervisor when it ends, and by `sampan down` when there is no supervisor any more; with
`--number` for one further node that is removed, data and all. Order: containers first (they hold
mounts and namespaces), then the network, then the node's mount namespace, then the run folder. The
nodes of a machine are cleaned side by side, each in a process, as each has a mount namespace.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import shutil
import sys
import traceback
from pathlib import Path

from sampan.node.network import BridgeNetwork
from sampan.node.volumes.devices import Devices
from sampan.node.volumes.kernel import LinuxKernel
from sampan.paths import ClusterPaths, cluster_paths

from . import config
from .wiring import node_network, node_runtime

STOP_SIGNAL_S = 2.0
"""How long containers may take to end by themselves."""


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="sampan cleanup")
    parser.add_argument("--name", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--number", type=int, default=1)
    options = parser.parse_args(arguments)
    paths = cluster_paths(options.name, options.data)
    if options.number > 1:
        paths = paths.member(options.number)
        finish(paths)
        shutil.rmtree(paths.run, ignore_errors=True)
        shutil.rmtree(paths.data)
        return 0
    numbers = {*paths.member_numbers(), *_running(paths)}
    nodes = [paths, *map(paths.member, sorted(numbers))]
    children = [_fork(node) for node in nodes]
    codes = [os.waitpid(pid, 0)[1] for pid in children]
    if any(codes):
        # What is left is found by the run folders: with them it is tried again.
        return 1
    for node in nodes:
        shutil.rmtree(node.run, ignore_errors=True)
    return 0


def _running(paths: ClusterPaths) -> list[int]:
    """Further nodes that left something in /run, also where their data is gone."""
    found = paths.run.parent.glob(f"{paths.run.name}.*")
    return [int(path.name.rpartition(".")[2]) for path in found if path.suffix[1:].isdecimal()]


def _fork(paths: ClusterPaths) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            finish(paths)
            code = 0
        except ValueError as error:
            print(f"sampan: {error}", file=sys.stderr)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    return pid


def finish(paths: ClusterPaths) -> None:
    """Stop what a node runs; its run folder stays."""
    if paths.run.exists():
        clean(paths, _settings(paths))


def _settings(paths: ClusterPaths) -> config.ClusterConfig | None:
    """By which it ran, also where the data are gone or damaged. Raises ValueError."""
    copy = config.read_file(paths.run / "cluster.json")
    return config.read(paths) if copy is None else copy


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
    Devices(paths.node, LinuxKernel()).release_all()
    if paths.number > 1:
        from .member import inside, leave

        # All else of its network goes with its namespace, but plugins may have taken addresses.
        if (paths.node / "cni").is_dir():
            with inside(paths):
                await _network(paths, cluster).purge()
        leave(paths, cluster)
    else:
        await _network(paths, cluster).purge()
        if (paths.run / "overlay").exists():
            from sampan.node import overlay

            overlay.remove(cluster.name)


def _network(paths: ClusterPaths, cluster: config.ClusterConfig) -> BridgeNetwork:
    """As it was made, as far as that is still known."""
    try:
        return node_network(paths, cluster)
    except ValueError as error:
        print(f"what plugins hold stays: {error}", file=sys.stderr)
        return node_network(paths, cluster, plugins=False)
