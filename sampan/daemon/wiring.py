"""The node's parts, made from a cluster's configuration: shared by the node process and cleanup."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.node.config import NodeConfig
from sampan.node.network import BridgeNetwork
from sampan.paths import ClusterPaths
from sampan.runtime.images import ImageStore
from sampan.runtime.oci import OciRuntime

from .config import CONTAINERD, ClusterConfig, has_ipv6

if TYPE_CHECKING:
    from sampan.client.api import Client
    from sampan.client.informer import Informers
    from sampan.node.overlay import Overlay
    from sampan.node.wireguard import Keys
    from sampan.runtime.cri.images import CriImages
    from sampan.runtime.cri.runtime import CriRuntime


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
        shared=paths.shared or paths.data,
        number=paths.number,
        cni=paths.cni,
        annotations=way_to(cluster),
        underlay=cluster.underlay,
    )


def way_to(cluster: ClusterConfig) -> dict[str, str]:
    """What the Node says of how other machines reach it; nothing where they never do."""
    if cluster.carrier:
        return {"network.sampan.io/via": cluster.carrier}
    return {"network.sampan.io/underlay": cluster.underlay} if cluster.underlay else {}


def node_overlay(
    paths: ClusterPaths, cluster: ClusterConfig, informers: Informers, client: Client
) -> Overlay | None:
    """The way to other machines; None where there is none. Imported only where it is used. Raises
    ValueError for settings that are no good."""
    if not cluster.underlay:
        return None
    from sampan.linux.rtnetlink import Vxlan
    from sampan.node import overlay
    from sampan.node.overlaysettings import FILE, read_overlay_settings
    from sampan.node.plumbing import pod_mac

    number = overlay.network_number((paths.pki / "ca.crt").read_bytes())
    device = Vxlan(
        name=overlay.device_name(cluster.name),
        mac=pod_mac(cluster.gateway),
        number=number,
        local=cluster.underlay,
        port=overlay.PORT,
        mtu=0,
    )
    gateways = cluster.gateway, cluster.gateway6 if has_ipv6() else ""
    chosen = read_overlay_settings(paths.settings / FILE)
    keys = read_keys(paths.pki) if chosen.wireguard else None
    place = overlay.Place(cluster.node_name, gateways, paths.run, keys, chosen.port)

    async def announce(annotations: Mapping[str, str | None]) -> Object:
        change = {"metadata": {"annotations": {**annotations}}}
        return await client.patch(api_resource("nodes"), cluster.node_name, change)

    return overlay.Overlay(informers, place, device, announce)


def read_keys(pki: Path) -> Keys | None:
    """The machine's keys of WireGuard (`wireguardkeys`), where it has any."""
    from sampan.node.wireguard import Keys

    try:
        private, public = ((pki / f"wireguard.{end}").read_text() for end in ("key", "pub"))
    except FileNotFoundError:
        return None
    return Keys(private.strip(), public.strip())


def node_network(
    paths: ClusterPaths, cluster: ClusterConfig, *, plugins: bool = True
) -> BridgeNetwork:
    """Raises ValueError for a CNI configuration that is no good, unless it is not to be used."""
    settings = node_config(paths, cluster)
    if not plugins:
        settings = replace(settings, cni=None)
    return BridgeNetwork(settings, cluster.name, cluster.pod_cidr, cluster.service_cidr,
                         ipv6=(cluster.pod_cidr6, cluster.service_cidr6))  # fmt: skip


def images_of(paths: ClusterPaths, runtime: OciRuntime | CriRuntime) -> ImageStore | CriImages:
    """What a runtime makes containers of."""
    return node_images(paths) if isinstance(runtime, OciRuntime) else runtime.images


def node_images(paths: ClusterPaths) -> ImageStore:
    return ImageStore(paths.images, settings=paths.registry_settings)


def node_runtime(paths: ClusterPaths, cluster: ClusterConfig) -> OciRuntime | CriRuntime:
    if cluster.runtime == CONTAINERD:
        from sampan.node.pause import pause_archive
        from sampan.runtime.cri.containerd import Containerd
        from sampan.runtime.cri.runtime import CriRuntime

        server = Containerd(paths.node, paths.run, paths.registry_settings)
        return CriRuntime(server, paths.run, f"sampan-{paths.run.name}", pause_archive())
    return OciRuntime(paths.node, paths.run, node_images(paths), f"sampan-{paths.run.name}")
