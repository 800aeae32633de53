"""How a further node on this machine hangs on the first one: as a pod does, by a routed veth pair.

    further node   eth0        its gateway address; default via the first node's gateway address
    first node     sn0af40101  route to the whole share; the far end's hardware address is fixed

So nodes reach each other through the machine, which routes, and the outside behind its address.
By the reverse path filter a node cannot send with the address of another's pod.
All calls block for a few milliseconds and change the calling thread's namespace at most in between.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from pathlib import Path

from sampan.linux import netns, rtnetlink
from sampan.linux.namespaces import CLONE_NEWNET, setns
from sampan.linux.netlink import Message, Netlink, NetlinkError, ignoring

from .plumbing import HOST_END, HOST_MAC, NODE_PREFIX, pod_mac, uplink_mtu

DEVICE = "eth0"


def device_name(gateway: str) -> str:
    """The first node's end, named after the far node's address: unique on a machine."""
    return f"{NODE_PREFIX}{int(IPv4Address(gateway)):08x}"


def enter(pin: Path, share: str, first_gateway: str, ipv6: tuple[str, str] = ("", "")) -> None:
    """Move this process into its node's network namespace, made first where there is none.
    `ipv6` are the share and the first node's gateway of that family, where both nodes have it.

    Call it while there is a single thread, in the machine's namespace. What is there already is
    made as it should be. Raises OSError.
    """
    gateway = str(IPv4Network(share)[1])
    home = netns.open_own()
    inner = netns.open_pinned(pin)
    try:
        if inner is None:
            inner = netns.create(pin, home)
        with Netlink() as outside:
            if not _make_pair(outside, inner, gateway):
                # Left by a crash, with the address it had then.
                with netns.inside(inner, home), Netlink() as there:
                    there.request(rtnetlink.delete_link(DEVICE))
                _make_pair(outside, inner, gateway)
            index = _configure_machine(outside, share, first_gateway)
            if ipv6[0]:
                outside.request(*_ipv6_of_machine(index, share, *ipv6))
        setns(inner, CLONE_NEWNET)
        with Netlink() as inside:
            index = _configure_node(inside, gateway, first_gateway)
            if ipv6[0]:
                inside.request(*_ipv6_of_node(index, *ipv6))
    finally:
        os.close(home)
        if inner is not None:
            os.close(inner)


def remove(pin: Path, share: str) -> None:
    """Unpin the namespace and take the devices away; the rest goes with the namespace."""
    netns.remove(pin)
    with Netlink() as outside, ignoring(errno.ENODEV):
        outside.request(rtnetlink.delete_link(device_name(str(IPv4Network(share)[1]))))


def _make_pair(route: Netlink, inner: int, gateway: str) -> bool:
    """False when the namespace has a device of that name, which is another pair's end."""
    name = device_name(gateway)
    pair = rtnetlink.Veth(name, HOST_MAC, DEVICE, pod_mac(gateway), inner, uplink_mtu(route))
    with ignoring(errno.EEXIST):
        route.request(rtnetlink.new_veth(pair))
    return route.link(name) is not None


def _configure_machine(route: Netlink, share: str, first_gateway: str) -> int:
    network = IPv4Network(share)
    gateway = str(network[1])
    name = device_name(gateway)
    device = route.link(name)
    if device is None:
        raise NetlinkError(errno.ENODEV, f"{name}: gone as soon as made")
    with ignoring(errno.EAFNOSUPPORT):
        route.request(rtnetlink.quieten(device.index))
    index = device.index
    first, bits = str(network.network_address), network.prefixlen
    route.request(
        rtnetlink.set_ipv4_options(index, HOST_END),
        # What is masqueraded on its way there gets this address.
        rtnetlink.set_address(index, first_gateway),
        rtnetlink.set_up(index),
        rtnetlink.set_neighbour(index, gateway, pod_mac(gateway)),
        rtnetlink.set_route(gateway, 32, index, source=first_gateway),
        rtnetlink.set_route(first, bits, index, gateway, source=first_gateway),
    )
    return index


def _ipv6_of_machine(index: int, share: str, share6: str, gateway6: str) -> Iterator[Message]:
    """The same of the other family; the first node's own address comes with its bridge, maybe
    later than this."""
    network = IPv6Network(share6)
    far, bits = str(network[1]), network.prefixlen
    yield rtnetlink.set_address(index, gateway6)
    yield rtnetlink.set_neighbour(index, far, pod_mac(str(IPv4Network(share)[1])))
    yield rtnetlink.set_route(far, 128, index, source=gateway6)
    yield rtnetlink.set_route(str(network.network_address), bits, index, far, source=gateway6)


def _ipv6_of_node(index: int, share6: str, gateway6: str) -> Iterator[Message]:
    own = str(IPv6Network(share6)[1])
    yield rtnetlink.set_address(index, own)
    yield rtnetlink.set_neighbour(index, gateway6, HOST_MAC)
    yield rtnetlink.set_route(gateway6, 128, index, source=own)
    yield rtnetlink.set_route("::", 0, index, gateway6, source=own)


def _configure_node(inside: Netlink, gateway: str, first_gateway: str) -> int:
    device = inside.link(DEVICE)
    if device is None:
        raise NetlinkError(errno.ENODEV, f"{DEVICE} is missing in the node's namespace")
    with ignoring(errno.EAFNOSUPPORT):
        inside.request(rtnetlink.quieten(device.index))
    inside.request(
        rtnetlink.set_up(1),
        rtnetlink.set_up(device.index),
        rtnetlink.set_address(device.index, gateway),
        rtnetlink.set_neighbour(device.index, first_gateway, HOST_MAC),
        rtnetlink.set_route(first_gateway, 32, device.index, source=gateway),
        rtnetlink.set_route("0.0.0.0", 0, device.index, first_gateway, source=gateway),
    )
    return device.index
