"""What is decided once, when a cluster is created, and kept in DATA/cluster.json.

A second cluster on the same machine takes the next free slot: its pod and service networks and its
default port follow from the slot's number, so that clusters never share an address.
"""

from __future__ import annotations

import fcntl
import json
import os
import platform
import re
import secrets
import sys
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

from msgspec import Struct
from msgspec.structs import asdict, replace

from sampan.linux.primary import primary_address
from sampan.paths import ClusterPaths, cluster_paths, registry_port
from sampan.wire.address import join_host_port

from .listening import address_of, is_loopback

SLOTS = 16
"""Clusters side by side on one machine: as many /16 as lie in upstream's 10.96.0.0/12."""
DEFAULT_PORT = 6443
CRUN, CONTAINERD = RUNTIMES = ("crun", "containerd")


class ClusterConfig(Struct, frozen=True):
    """Fixed for the life of a cluster's data."""

    name: str
    slot: int
    node_name: str
    pod_cidr: str
    service_cidr: str
    listen_host: str
    listen_port: int
    identity: str
    """Random; tells a folder's cluster from another one of the same name."""
    pod_cidr6: str = ""
    service_cidr6: str = ""
    """The other halves of these networks, of IPv6; "" where the kernel had none."""
    node_cidr: str = ""
    """The node's share of the pod network where it is not the first: of an agent that joined."""
    address: str = ""
    """The machine's own, of a node that joined from elsewhere."""
    shares_address: bool = False
    """Another node's machine has the same address: both are behind NAT, at places of their own."""
    carrier: str = ""
    """The first node of its machine, by which others reach this one, if it is not that itself."""
    streaming_idle_s: float = 4 * 3600.0
    """kubelet's streamingConnectionIdleTimeout, to be set in the file; 0 is for ever."""

    shutdown_grace_s: float = 0.0
    """kubelet's shutdownGracePeriod: how long pods may take to end when the machine goes down;
    with 0 they are not asked to."""
    shutdown_grace_critical_s: float = 0.0
    """Of it, what is left to critical pods (shutdownGracePeriodCriticalPods)."""

    registry_port: int = 0
    """Of the cluster's own registry (docs/images.md), to be set in the file: 0 takes 5000 and the
    slot, -1 is no registry."""

    runtime: str = CRUN
    """What runs containers, one of `RUNTIMES` (docs/designs/020-images.md)."""

    @property
    def registry(self) -> int:
        """The port the registry listens on; 0 for none. Its store is that of crun's images."""
        own = registry_port(self.slot, self.registry_port)
        return own if self.runtime == CRUN else 0

    @property
    def node_pod_cidr(self) -> str:
        """The node's share: the first /24 unless another was given."""
        return self.node_cidr or str(next(ip_network(self.pod_cidr).subnets(new_prefix=24)))

    @property
    def first_gateway(self) -> str:
        """The first node's bridge address."""
        share = next(ip_network(self.pod_cidr).subnets(new_prefix=24))
        return str(ip_network(str(share))[1])

    @property
    def node_pod_cidr6(self) -> str:
        """The node's share of IPv6: the /64 at the place that its other share has."""
        if not self.pod_cidr6:
            return ""
        return share6(self.pod_cidr, self.pod_cidr6, self.node_pod_cidr)

    @property
    def gateway6(self) -> str:
        """The node's address of the other family; "" where it has none."""
        return str(ip_network(self.node_pod_cidr6)[1]) if self.node_pod_cidr6 else ""

    @property
    def service_cidrs(self) -> str:
        """As --service-cluster-ip-range has them."""
        return ",".join(filter(None, (self.service_cidr, self.service_cidr6)))

    @property
    def gateway(self) -> str:
        """The node's bridge address: where pods reach DNS, and on the first node the API server."""
        return str(ip_network(self.node_pod_cidr)[1])

    @property
    def address_of_node(self) -> str:
        """The node's InternalIP."""
        return self.gateway if self.shares_address else self.address or self.gateway

    @property
    def underlay(self) -> str:
        """The address by which other machines reach this one, of either family; "" when none is
        to."""
        if self.address or self.carrier:
            return self.address
        host = self.listen_host
        found = primary_address() if host in ("0.0.0.0", "::", "") else host
        return "" if is_loopback(found) else found

    @property
    def dns_ip(self) -> str:
        return str(ip_network(self.service_cidr)[10])

    @property
    def url(self) -> str:
        host = "127.0.0.1" if self.listen_host in ("0.0.0.0", "::", "") else self.listen_host
        return f"https://{join_host_port(host, self.listen_port)}"


_FIELDS = frozenset(ClusterConfig.__struct_fields__)


def read(paths: ClusterPaths) -> ClusterConfig | None:
    """The cluster's configuration, None when there is no cluster. Raises ValueError if damaged."""
    return read_file(paths.config)


def read_file(path: Path) -> ClusterConfig | None:
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}") from error
    try:
        said = json.loads(text)
        # What a newer version has written besides is not ours to know: it may live beside us.
        return ClusterConfig(**{key: said[key] for key in said if key in _FIELDS})
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error


def write(paths: ClusterPaths, config: ClusterConfig) -> None:
    write_private(paths.config, json.dumps(asdict(config), indent=2).encode())


def write_private(path: Path, data: bytes) -> None:
    """Write whole and durably or not at all, readable by the owner alone."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def create(paths: ClusterPaths, listen: str, others: list[ClusterConfig]) -> ClusterConfig:
    """Decide on a new cluster beside `others`. `listen` is HOST:PORT, or "" for the default.

    Raises ValueError when `listen` is malformed or no slot is free.
    """
    taken = {other.slot for other in others}
    free = [number for number in range(SLOTS) if number not in taken]
    if not free:
        raise ValueError(f"{SLOTS} clusters exist on this machine; remove one first")
    # Networks that something else already routes (another cluster's, a VPN's) are passed over.
    routes = routed_networks()
    slot = next((number for number in free if not overlaps(number, routes)), None)
    if slot is None:
        raise ValueError("every network a cluster could use is routed already; see 'ip route'")
    host, port = address_of(listen) if listen else ("127.0.0.1", DEFAULT_PORT + slot)
    both = takes_ipv6()
    return ClusterConfig(
        name=paths.name,
        slot=slot,
        node_name=node_name(),
        pod_cidr=pod_cidr(slot),
        service_cidr=service_cidr(slot),
        pod_cidr6=f"fd00:10:{244 - slot}::/56" if both else "",
        service_cidr6=f"fd00:10:{96 + slot}::/112" if both else "",
        listen_host=host,
        listen_port=port,
        identity=secrets.token_hex(16),
    )


def pod_cidr(slot: int) -> str:
    return f"10.{244 - slot}.0.0/16"


def service_cidr(slot: int) -> str:
    return f"10.{96 + slot}.0.0/16"


def share6(pods: str, pods6: str, share: str) -> str:
    """A node's share of IPv6, which follows from its share of IPv4."""
    first = int(IPv4Network(share).network_address) - int(IPv4Network(pods).network_address)
    place = first // IPv4Network(share).num_addresses
    return str(IPv6Network((int(IPv6Network(pods6).network_address) + (place << 64), 64)))


def has_ipv6(conf: Path = Path("/proc/sys/net/ipv6/conf")) -> bool:
    """Has this machine's kernel IPv6, may devices use it, and can it be forwarded?"""
    forwarding = conf / "all" / "forwarding"
    try:
        found = [(conf / name / "disable_ipv6").read_text() for name in ("all", "default")]
        forwards = forwarding.read_text().strip() == "1" or os.access(forwarding, os.W_OK)
    except OSError:
        return False
    return forwards and not any(text.strip() == "1" for text in found)


def takes_ipv6() -> bool:
    """Is a new cluster of both families? Asks the kernel whether it translates IPv6 addresses."""
    from sampan.linux.nftwire import has_nat

    return has_ipv6() and has_nat("ip6")


def overlaps(slot: int, routes: list[IPv4Network]) -> bool:
    ours = (IPv4Network(pod_cidr(slot)), IPv4Network(service_cidr(slot)))
    return any(route.overlaps(network) for route in routes for network in ours)


def routed_networks(table: Path = Path("/proc/net/route")) -> list[IPv4Network]:
    """The IPv4 networks this machine has routes to, but the default route."""
    try:
        rows = [line.split() for line in table.read_text().splitlines()[1:]]
    except OSError:
        return []
    found = []
    for row in rows:
        # Destination and mask are in the machine's byte order.
        address, mask = (int(row[at], 16).to_bytes(4, sys.byteorder) for at in (1, 7))
        if any(mask):
            found.append(IPv4Network((address, int.from_bytes(mask).bit_count())))
    return found


def ensure(paths: ClusterPaths, listen: str, runtime: str = "") -> ClusterConfig:
    """Decide on the cluster if it is new; `listen` may change at any start, and `runtime` never.
    Raises ValueError."""
    now = read(paths)
    if now is None:
        if paths.database.exists() or paths.pki.exists():
            raise ValueError(
                f"{paths.config} is missing but {paths.data} holds a cluster; restore it from a"
                " backup, or remove the cluster with 'sampan down --purge'"
            )
        if runtime not in ("", *RUNTIMES):
            raise ValueError(f"runtime {runtime!r}: use {' or '.join(RUNTIMES)}")
        now = replace(create(paths, listen, neighbours(paths)), runtime=runtime or CRUN)
        write(paths, now)
    elif now.name != paths.name:
        # Rules, mounts and addresses go by the name: two would fight for them.
        raise ValueError(f"{paths.data} is of cluster {now.name}; use --name {now.name}")
    elif runtime not in ("", now.runtime):
        text = f"the cluster's containers are run by {now.runtime}"
        raise ValueError(f"{text}; a new one can have {runtime}")
    elif listen:
        host, port = address_of(listen)
        if (host, port) != (now.listen_host, now.listen_port):
            now = replace(now, listen_host=host, listen_port=port)
            write(paths, now)
    return now


def begin(paths: ClusterPaths, listen: str, runtime: str = "") -> ClusterConfig:
    """As `ensure`, and shown to the clusters that are made beside this one (`neighbours`): those
    made at the same moment choose one after the other. Raises OSError too."""
    paths.run.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(paths.run.parent / ".choosing", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        cluster = ensure(paths, listen, runtime)
        _check_networks(paths, cluster)
        write_private(paths.run / "cluster.json", paths.config.read_bytes())
    return cluster


def _check_networks(paths: ClusterPaths, cluster: ClusterConfig) -> None:
    """A cluster whose data is in an unusual place and that was stopped is seen by nobody: another
    may have been made in its networks meanwhile, and may run. Raises ValueError."""
    for path in paths.run.parent.glob("*/cluster.json"):
        other = read_file(path)
        if other is None or other.name == cluster.name or other.pod_cidr != cluster.pod_cidr:
            continue
        if _is_held(path.with_name("lock")):
            raise ValueError(
                f"cluster {other.name} runs in the networks of this one ({cluster.pod_cidr},"
                f" {cluster.service_cidr}); stop it first: sampan down --name {other.name}"
            )


def _is_held(lock: Path) -> bool:
    """Does a supervisor hold its cluster's lock?"""
    try:
        with open(lock) as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def neighbours(paths: ClusterPaths) -> list[ClusterConfig]:
    """The other clusters of this machine: those with data in the usual place, and those that run
    (each leaves a copy of its configuration in its run folder)."""
    found = {}
    usual = cluster_paths(paths.name).data.parent
    for path in (*usual.glob("*/cluster.json"), *paths.run.parent.glob("*/cluster.json")):
        other = read_file(path)
        if other is not None and path != paths.config:
            found[other.identity] = other
    return list(found.values())


def node_name() -> str:
    """The machine's name as a node name (RFC 1123 subdomain)."""
    name = re.sub(r"[^a-z0-9.-]+", "-", platform.node().lower()).strip("-.")
    return name[:63] or "node"
