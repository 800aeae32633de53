"""The cluster's registry as a node has it: served here, or on the first node of the cluster."""

from __future__ import annotations

from pathlib import Path

from sampan.aio.clock import SystemClock
from sampan.client.api import Client
from sampan.node.config import NodeConfig
from sampan.node.registry.serve import RegistryServer, domains
from sampan.node.visitors import Visitors
from sampan.runtime.elsewhere import elsewhere
from sampan.runtime.images import ImageStore

from .config import ClusterConfig


def node_registry(
    cluster: ClusterConfig,
    settings: NodeConfig,
    images: object,
    client: Client,
    pair: tuple[Path, Path] | None,
) -> RegistryServer | None:
    """The first node's, to be run when the node is ready; None where there is none. A node that
    joined, with `pair` as its certificate and key, pulls from the first one instead."""
    if not cluster.registry or not isinstance(images, ImageStore):
        return None
    if pair is not None:
        where = f"{cluster.first_gateway}:{cluster.registry}"
        names = domains(cluster.first_gateway, cluster.registry)
        images.local = elsewhere(names, where, settings.ca_cert, pair)
        return None
    visitors = Visitors(client, SystemClock(), cluster.node_name)
    return RegistryServer(settings, visitors, images, cluster.registry)
