"""The cluster's registry as a node has it: served here, or on the first node of the cluster."""

from __future__ import annotations

from pathlib import Path

from sampan.node.config import NodeConfig
from sampan.node.registry.serve import RegistryServer, domains
from sampan.node.visitors import Visitors
from sampan.runtime.elsewhere import elsewhere
from sampan.runtime.images import ImageStore

from .config import ClusterConfig


def reach(
    cluster: ClusterConfig, settings: NodeConfig, images: object, pair: tuple[Path, Path]
) -> None:
    """Have a node that joined pull from the first one, with its certificate and key."""
    if cluster.registry and isinstance(images, ImageStore):
        where = f"{cluster.first_gateway}:{cluster.registry}"
        names = domains(cluster.first_gateway, cluster.registry)
        images.local = elsewhere(names, where, settings.ca_cert, pair)


def serve(
    cluster: ClusterConfig, settings: NodeConfig, images: object, visitors: Visitors
) -> RegistryServer | None:
    """The first node's, to be opened when the node is ready; None where there is none."""
    if cluster.registry and isinstance(images, ImageStore):
        return RegistryServer(settings, visitors, images, cluster.registry)
    return None
