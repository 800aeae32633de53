"""What a pod network is made of in the kernel: the blocking half of `network`.

Every method of `Plumbing` runs on one thread, which changes its own network namespace and comes
back; the process around it never notices.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import os
import re
from collections.abc import Iterator, Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from msgspec import Struct

from sampan.linux import netns, nft, rtnetlink
from sampan.linux.conntrack import raise_limits
from sampan.linux.netlink import Netlink, NetlinkError, ignoring
from sampan.linux.nft import NftError
from sampan.linux.nftwatch import table_handle

from .addresses import Addresses
from .config import NodeConfig
from .interface import PREFIX, PodAddress, interface_name
from .ipv6 import Ipv6

log = logging.getLogger("sampan.network")

# A pod's uid names a file and must be one path component.
_UID = re.compile(r"^(?!\.{1,2}$)[A-Za-z0-9._-]{1,200}$")
# As a pod's `PREFIX`, for the way to another node on this machine (`uplink`).
NODE_PREFIX = "sn"
# As above, for the way to other machines (`overlay`).
OVERLAY_PREFIX = "sx"
# The end on the node has the same hardware address for every pod; 255.255.255.255 is no pod.
HOST_MAC = bytes.fromhex("0a58ffffffff")
# Devices about to be deleted are gathered in this group ("sam" in bytes); groups are numbers that
# nothing but their users gives a meaning.
_DOOMED_GROUP = 0x73616D
# Host ports on 127.0.0.1 need route_localnet; a sender address that is not the pod's is dropped.
HOST_END = {rtnetlink.ROUTE_LOCALNET: 1, rtnetlink.RP_FILTER: 1}
_DEFAULT_MTU = 1500
_MIN_MTU = 1280
# What containerd 2 allows in pods by default: low ports and ping without privileges.
_POD_SYSCTLS = (
    ("net/ipv4/ip_unprivileged_port_start", "0"),
    ("net/ipv4/ping_group_range", "0 2147483647"),
)


class Networks(Struct, frozen=True):
    """Of this node's pods, of all the cluster's pods, and of its services."""

    pods: IPv4Network
    cluster: IPv4Network
    services: IPv4Network | None
    ipv6: Ipv6 | None = None


class Plumbing:
    """One node's bridge, rules and pod namespaces."""

    def __init__(self, config: NodeConfig, cluster: str, networks: Networks) -> None:
        self._network = networks.pods
        self._networks = networks
        self._ipv6 = networks.ipv6
        self.gateway = str(self._network[1])
        self._bridge = bridge_name(cluster)
        self._table = f"sampan-{cluster}.pods"
        self._service_table = f"sampan-{cluster}"
        self._folder = config.run / "netns"
        self._addresses = Addresses(config.data / "addresses", self._network)
        self._netlink: Netlink | None = None
        self._home = -1
        self._mtu = _DEFAULT_MTU
        self._underlay = config.underlay
        self._handles: tuple[int, ...] = ()
        self._routed: set[str] = set()
        self._warned: set[str] = set()

    def open(self) -> None:
        route = self._connect()
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._addresses.read()
        self._mtu = overlaid_mtu(uplink_mtu(route), self._underlay)
        self._write_sysctl("net/ipv4/ip_forward", "1")
        self._make_bridge(route)
        self._apply_rules()
        # The rules have made sure that there is connection tracking.
        raise_limits()

    def heal(self) -> str:
        """Make the table anew when somebody removed it, as `nft flush ruleset` does; its name, or
        "" when it was there."""
        try:
            if self._handles and self._find() != self._handles:
                log.warning("table %s was changed by somebody else; making it anew", self._table)
                self._apply_rules()
                return self._table
        except (NftError, OSError):
            log.exception("table %s cannot be made anew", self._table)
        return ""

    def _apply_rules(self) -> None:
        nft.apply_blocking(self._rules())
        # A table that was removed again at once must not be taken for one that never was.
        self._handles = self._find()

    def _find(self) -> tuple[int, ...]:
        """The kernel's numbers of our tables, -1 for one that is not there."""
        other = table_handle(self._table, "ip6") if self._ipv6 is not None else -1
        return table_handle(self._table) or -1, other or -1

    def _connect(self) -> Netlink:
        if self._netlink is None:
            self._home = netns.open_own()
            self._netlink = Netlink()
        return self._netlink

    def _make_bridge(self, route: Netlink) -> None:
        with ignoring(errno.EEXIST):
            route.request(rtnetlink.new_bridge(self._bridge))
        bridge = route.link(self._bridge)
        if bridge is None:
            raise NetlinkError(errno.ENODEV, f"{self._bridge}: gone as soon as made")
        with ignoring(errno.EAFNOSUPPORT):
            route.request(rtnetlink.quieten(bridge.index))
        route.request(
            rtnetlink.set_up(bridge.index),
            rtnetlink.set_address(bridge.index, self.gateway),
        )
        if self._networks.services is not None:
            services = self._networks.services
            first, bits = str(services.network_address), services.prefixlen
            # Nothing leaves by it: the proxy's rules rewrite or refuse whatever takes this route.
            with ignoring(errno.EEXIST):
                route.request(rtnetlink.new_route(first, bits, bridge.index, self.gateway))
        self.refuse_unused()
        if self._ipv6 is not None:
            self._ipv6.open(route, bridge.index)

    def route_services(self, networks: Sequence[str]) -> None:
        """As the services' own network these, too, and no others that were here before."""
        route = self._connect()
        wanted = {text for text in networks if ":" not in text or self._ipv6 is not None}
        bridge = route.link(self._bridge)
        for text in self._routed - wanted:
            with ignoring(errno.ESRCH):
                route.request(rtnetlink.delete_route(*_parts(text)))
        if bridge is not None:
            for text in wanted - self._routed:
                six = self._ipv6 if ":" in text else None
                source = self.gateway if six is None else six.gateway
                with ignoring(errno.EEXIST):
                    route.request(rtnetlink.new_route(*_parts(text), bridge.index, source))
        self._routed = wanted

    def refuse_unused(self) -> None:
        """What is sent to an address without a pod comes back at once; else it would leave by the
        default route."""
        with ignoring(errno.EEXIST):
            self._connect().request(
                rtnetlink.new_unreachable(
                    str(self._network.network_address), self._network.prefixlen
                )
            )

    @staticmethod
    def check_uid(uid: str) -> None:
        """Raises ValueError for one that cannot name a file."""
        if not _UID.match(uid):
            raise ValueError(f"pod uid {uid!r} cannot name a namespace")

    def prepare_pod(self) -> None:
        """Settings of the pod's network, from inside of it."""
        for name, value in _POD_SYSCTLS:
            self._write_sysctl(name, value)

    def attach(self, uid: str) -> PodAddress:
        self.check_uid(uid)
        route = self._connect()
        path = self._folder / uid
        ip = self._addresses.give(uid)
        name = interface_name(ip)
        namespace = netns.open_pinned(path)
        if namespace is not None and route.link(name) is None:
            # Half made, or its device is gone: what is in it cannot be mended from here.
            os.close(namespace)
            netns.remove(path)
            namespace = None
        fresh = namespace is None
        if namespace is None:
            self._delete_link(name)
            namespace = netns.create(path, self._home)
        try:
            if fresh:
                route.request(
                    rtnetlink.new_veth(
                        rtnetlink.Veth(name, HOST_MAC, "eth0", pod_mac(ip), namespace, self._mtu)
                    )
                )
            self._configure_pod(namespace, ip)
            self._configure_host(route, name, ip)
        except BaseException:
            self._delete_link(name)
            netns.remove(path)
            raise
        finally:
            os.close(namespace)
        return PodAddress(path, ip, "" if self._ipv6 is None else self._ipv6.of(ip))

    def _configure_pod(self, namespace: int, ip: str) -> None:
        with netns.inside(namespace, self._home):
            self.prepare_pod()
            inner = Netlink()
        with inner:
            eth0 = inner.link("eth0")
            if eth0 is None:
                raise NetlinkError(errno.ENODEV, "eth0 is missing in the pod's namespace")
            with ignoring(errno.EAFNOSUPPORT):
                inner.request(rtnetlink.quieten(eth0.index))
            inner.request(
                rtnetlink.set_up(1),
                rtnetlink.set_up(eth0.index),
                rtnetlink.set_address(eth0.index, ip),
                rtnetlink.set_neighbour(eth0.index, self.gateway, HOST_MAC),
                rtnetlink.set_route(self.gateway, 32, eth0.index),
                rtnetlink.set_route("0.0.0.0", 0, eth0.index, self.gateway),
                *(self._ipv6.inside(eth0.index, ip, HOST_MAC) if self._ipv6 is not None else ()),
            )

    def _configure_host(self, route: Netlink, name: str, ip: str) -> None:
        host = route.link(name)
        if host is None:
            raise NetlinkError(errno.ENODEV, f"{name}: gone as soon as made")
        with ignoring(errno.EAFNOSUPPORT):
            route.request(rtnetlink.quieten(host.index))
        route.request(
            rtnetlink.set_ipv4_options(host.index, HOST_END),
            rtnetlink.set_up(host.index),
            rtnetlink.set_neighbour(host.index, ip, pod_mac(ip)),
            rtnetlink.set_route(ip, 32, host.index, source=self.gateway),
            *(self._ipv6.outside(host.index, ip, pod_mac(ip)) if self._ipv6 is not None else ()),
        )

    def detach(self, uid: str) -> None:
        if not _UID.match(uid):
            return
        route = self._connect()
        ip = self._addresses.get(uid)
        if ip:
            # The device goes with its namespace, in the kernel's own time and many at once.
            # Deleting it here would take 20 ms each and hold up every other pod's network.
            with ignoring(errno.ESRCH):
                route.request(rtnetlink.delete_route(ip, 32))
            if self._ipv6 is not None:
                with ignoring(errno.ESRCH):
                    route.request(rtnetlink.delete_route(self._ipv6.of(ip), 128))
        netns.remove(self._folder / uid)
        self._addresses.take_back(uid)

    def retain(self, uids: frozenset[str]) -> None:
        route = self._connect()
        present = {path.name for path in self._folder.iterdir()} | self._addresses.pods.keys()
        for uid in present - uids:
            self.detach(uid)
        used = {interface_name(ip) for ip in self._addresses.pods.values()}
        self._delete_links([name for name in self._own_links(route) if name not in used])

    def purge(self) -> None:
        route = self._connect()
        self._handles = ()
        self._delete_links([*self._own_links(route)])
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                netns.remove(path)
            self._folder.rmdir()
        self._delete_link(self._bridge)
        with ignoring(errno.ESRCH):
            route.request(
                rtnetlink.delete_unreachable(
                    str(self._network.network_address), self._network.prefixlen
                )
            )
        families = ["ip"]
        if self._ipv6 is not None:
            self._ipv6.close(route)
            families.append("ip6")
        tables = (self._table, self._service_table, f"{self._service_table}.policy")
        nft.apply_blocking(
            "".join(nft.remove_table(word, table) for word in families for table in tables)
        )

    def close(self) -> None:
        self._handles = ()
        if self._netlink is not None:
            self._netlink.close()
            os.close(self._home)
            self._netlink = None

    def _own_links(self, route: Netlink) -> Iterator[str]:
        for link in route.links():
            digits = link.name.removeprefix(PREFIX)
            if (
                link.name.startswith(PREFIX)
                and re.fullmatch(r"[0-9a-f]{8}", digits)
                and IPv4Address(int(digits, 16)) in self._network
            ):
                yield link.name

    def _delete_links(self, names: list[str]) -> None:
        """All at once: as a group they cost the kernel as much waiting as one alone."""
        route = self._connect()
        for name in names:
            with ignoring(errno.ENODEV):
                route.request(rtnetlink.set_group(name, _DOOMED_GROUP))
        if names:
            with ignoring(errno.ENODEV):
                route.request(rtnetlink.delete_group(_DOOMED_GROUP))

    def _delete_link(self, name: str) -> None:
        with ignoring(errno.ENODEV):
            self._connect().request(rtnetlink.delete_link(name))

    def _rules(self) -> str:
        """The node's own rules, replaced as a whole.

        Host ports on 127.0.0.1 need devices that route loopback addresses; a pod must not reach
        the node's loopback services by that (CVE-2020-8558), hence the drop before any rewriting.
        """
        table = f"ip {self._table}"
        devices = PREFIX, NODE_PREFIX, OVERLAY_PREFIX
        return nft.remove_table("ip", self._table) + (
            f"add table {table}\n"
            f"add chain {table} guard {{ type filter hook prerouting priority -300; }}\n"
            f'add rule {table} guard iifname "{PREFIX}*" ip daddr 127.0.0.0/8 drop\n'
            f'add rule {table} guard iifname "{NODE_PREFIX}*" ip daddr 127.0.0.0/8 drop\n'
            f'add rule {table} guard iifname "{OVERLAY_PREFIX}*" ip daddr 127.0.0.0/8 drop\n'
            f"add chain {table} leave {{ type nat hook postrouting priority 100; }}\n"
            f"add rule {table} leave ip saddr {self._networks.cluster}"
            f" ip daddr != {self._networks.cluster} masquerade\n"
            + (self._ipv6.rules(self._table, devices) if self._ipv6 is not None else "")
        )

    def _write_sysctl(self, name: str, value: str) -> None:
        path = Path("/proc/sys", name)
        try:
            if path.read_text().split() != value.split():
                path.write_text(value)
        except OSError as error:
            if name not in self._warned:
                self._warned.add(name)
                log.warning("cannot set %s to %s: %s", name, value, error.strerror)


def _parts(network: str) -> tuple[str, int]:
    first, _, bits = network.partition("/")
    return first, int(bits)


def bridge_name(cluster: str) -> str:
    """The cluster's bridge; the kernel allows 15 characters, a cluster's name 16."""
    if len(cluster) <= 12:
        return f"sb-{cluster}"
    return f"sb-{cluster[:5]}-{hashlib.sha256(cluster.encode()).hexdigest()[:6]}"


def pod_mac(ip: str) -> bytes:
    return b"\x0a\x58" + IPv4Address(ip).packed


def overlaid_mtu(mtu: int, underlay: str) -> int:
    """What is left of an MTU by the headers that carry a packet to other machines from the address
    `underlay`: IP's, UDP's and the 32 bytes of WireGuard, which are more than VXLAN's 22. IPv6 goes
    by no device with less than `_MIN_MTU`; then what carries is sent in pieces."""
    if not underlay:
        return mtu
    return max(_MIN_MTU, mtu - (40 if ":" in underlay else 20) - 8 - 32)


def uplink_mtu(route: Netlink) -> int:
    """Pods' packets should fit the way out, or every connection starts with an ICMP error."""
    index = route.default_route_device()
    for link in route.links():
        if link.index == index:
            return max(_MIN_MTU, min(link.mtu, 65535))
    return _DEFAULT_MTU
