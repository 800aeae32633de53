"""What the daemon tells a node agent at start."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from pathlib import Path

from msgspec import Struct, field

from .settings import Settings


class NodeConfig(Struct, frozen=True):
    """One node. Paths below `data` survive a reboot, those below `run` do not."""

    name: str
    data: Path
    run: Path
    address: str
    """The node's InternalIP."""
    pod_cidr: str
    """This node's share of the cluster's pod network, e.g. "10.244.0.0/24"."""
    dns_ip: str
    """Cluster DNS, for pods' resolv.conf."""
    ca_cert: Path
    cert: Path
    """The node's certificate, both client (system:node:NAME) and serving."""
    key: Path
    cni: Path | None = None
    """The folder of CNI configurations; where there is one, plugins make the pods' network."""
    shared: Path | None = None
    """The cluster's data on this machine, whose images all its nodes here use."""
    number: int = 1
    """Of the node on this machine."""
    annotations: Mapping[str, str] = field(default_factory=dict)
    """What the Node says of the way to it (`overlay`)."""
    underlay: str = ""
    """The address from which pods' packets are carried to other machines, and must leave room."""
    cluster_domain: str = "cluster.local"
    listen_host: str = "127.0.0.1"
    """Where the agent's own HTTPS server (logs, exec) listens; the API server connects here."""
    runtime_version: str = "crun://1.8.1"
    """As the Node's status has it."""
    listen_port: int = 0
    """0 picks a free port; the node object says which."""
    streaming_idle_s: float = 4 * 3600.0
    """How long nothing may move on an exec, attach or port-forward; 0 is for ever."""
    static_pods: Path | None = None
    """The folder of static pods' manifests; by default `manifests` below `data`."""
    pod_cidr6: str = ""
    """This node's share of the pod network's other half; "" where pods have IPv4 alone."""
    settings: Settings = field(default_factory=Settings)
    """What an administrator chose (KubeletConfiguration)."""

    @property
    def pod_cidrs(self) -> list[str]:
        return [self.pod_cidr, self.pod_cidr6] if self.pod_cidr6 else [self.pod_cidr]

    def beside(self) -> Iterator[Path]:
        """`data` of this machine's other nodes."""
        if self.shared is not None:
            for folder in (self.shared / "node", *self.shared.glob("nodes/*/node")):
                if folder != self.data:
                    yield folder

    @property
    def addresses(self) -> list[str]:
        """The node's InternalIPs."""
        return self.addresses_of(self.address)

    def addresses_of(self, ip: str) -> list[str]:
        """All addresses of the pod whose first one this is."""
        if not self.pod_cidr6 or not ip or ip_address(ip) not in IPv4Network(self.pod_cidr):
            return [ip]
        return [ip, twin(ip, IPv4Network(self.pod_cidr), IPv6Network(self.pod_cidr6))]


def twin(ip: str, counted: IPv4Network, share: IPv6Network) -> str:
    """The address at the same place of the other network."""
    offset = int(IPv4Address(ip)) - int(counted.network_address)
    return str(IPv6Address(int(share.network_address) + offset))
