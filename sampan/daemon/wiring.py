"""The node's parts, made from a cluster's configuration: shared by the node process and cleanup."""

from __future__ import annotations

from sampan.node.config import NodeConfig
from sampan.node.network import BridgeNetwork
from sampan.paths import ClusterPaths
from sampan.runtime.images import ImageStore
from sampan.runtime.oci import OciRuntime

from .config import ClusterConfig, has_ipv6


def node_config(paths: ClusterPaths, cluster: ClusterConfig) -> NodeConfig:
    return NodeConfig(
        name=cluster.node_name,
        data=paths.node,
        run=paths.run,
        address=cluster.address_of_node,
        pod_cidr=cluster.node_pod_cidr,
        pod_cidr6=cluster.node_pod_cidr6 if has_ipv6() else "",
        dns_ip=cluster.dns_ip,
        ca_cert=paths.pki / "ca.crt",
        cert=paths.pki / "node.crt",
        key=paths.pki / "node.key",
        listen_host=cluster.address_of_node,
        streaming_idle_s=cluster.streaming_idle_s,
    )


def node_network(paths: ClusterPaths, cluster: ClusterConfig) -> BridgeNetwork:
    settings = node_config(paths, cluster)
    return BridgeNetwork(settings, cluster.name, cluster.pod_cidr, cluster.service_cidr,
                         ipv6=(cluster.pod_cidr6, cluster.service_cidr6))  # fmt: skip


def node_images(paths: ClusterPaths) -> ImageStore:
    return ImageStore(paths.images, settings=paths.registry_settings)


def node_runtime(paths: ClusterPaths, cluster: ClusterConfig) -> OciRuntime:
    return OciRuntime(paths.node, paths.run, node_images(paths), f"sampan-{paths.run.name}")
