"""A further node on this machine: as a node that joined from elsewhere, in namespaces of its own.

Order, all before the process has a second thread:
  go          the first node is ready, so the API server and the way to it are there
  join        once in a node's life: its share of the pod network and its certificates
  namespaces  of mounts, and of the network, whose uplink needs the share
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sampan.linux import mounts, netns
from sampan.linux.namespaces import enter_node_namespace
from sampan.node import uplink
from sampan.paths import ClusterPaths, cluster_paths

from . import config
from .child import Child, Refused
from .listening import is_loopback
from .membership import settle_apart

PIN = "net"
"""The network namespace's, in the node's run folder; it is seen in the node's mounts alone."""
RESOLV_CONF = Path("/etc/resolv.conf")


def enter(child: Child) -> None:
    """Become node `child.paths.number`. Raises Refused and OSError."""
    paths = child.paths
    child.wait_to_go()
    first = config.read(cluster_paths(paths.name, paths.shared))
    if first is None:
        raise Refused(f"there is no cluster in {paths.shared}; start it with 'sampan up'")
    options = child.options
    options.server = f"https://{first.gateway}:{first.listen_port}"
    options.token = (paths.shared or paths.data).joinpath("agent.token").read_text()
    options.carrier = first.node_name
    options.node_name = options.node_name or member_name(first.node_name, paths.number)
    cluster = settle_apart(child)
    # What runs here is found and stopped by it also when the data has been removed.
    config.write_private(paths.run / "cluster.json", paths.config.read_bytes())
    enter_node_namespace(paths.run)
    both = (cluster.node_pod_cidr6, first.gateway6) if config.has_ipv6() else ("", "")
    uplink.enter(paths.run / PIN, cluster.node_pod_cidr, first.gateway, both)
    _hide_loopback_resolver(paths, first.gateway)


@contextmanager
def inside(paths: ClusterPaths) -> Iterator[None]:
    """The calling thread, and those it starts, in the node's network; where there is none, here."""
    namespace = netns.open_pinned(paths.run / PIN)
    if namespace is None:
        yield
        return
    home = netns.open_own()
    try:
        with netns.inside(namespace, home):
            yield
    finally:
        os.close(namespace)
        os.close(home)


def leave(paths: ClusterPaths, cluster: config.ClusterConfig) -> None:
    """Take the node's network away; its mount namespace is entered already."""
    uplink.remove(paths.run / PIN, cluster.node_pod_cidr)


def member_name(first: str, number: int) -> str:
    """Nodes are named after the machine: host, host-2, host-3 (63 characters at most)."""
    tail = f"-{number}"
    return first[: 63 - len(tail)] + tail


def _hide_loopback_resolver(paths: ClusterPaths, first_gateway: str) -> None:
    """A name server on the machine's loopback (systemd-resolved) cannot be reached from here: then
    the first node's DNS is asked, which asks that one."""
    if mounts.is_mounted(RESOLV_CONF.resolve()):
        return
    try:
        words = [line.split() for line in RESOLV_CONF.read_text(errors="replace").splitlines()]
    except OSError:
        return
    servers = [item[1] for item in words if len(item) > 1 and item[0] == "nameserver"]
    if not any(map(is_loopback, servers)):
        return
    lines = [f"nameserver {first_gateway}"]
    lines += [" ".join(item) for item in words if item and item[0] in ("search", "options")]
    own = paths.run / "resolv.conf"
    own.write_text("\n".join(lines) + "\n")
    mounts.bind(own, RESOLV_CONF.resolve())
