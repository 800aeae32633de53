"""The messages of rtnetlink(7) that pod networks need, as values for `netlink.Netlink.request`."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from .netlink import NESTED, Message, attribute

# linux/netlink.h
_REPLACE, _EXCLUDE, _CREATE = 0x100, 0x200, 0x400
# linux/rtnetlink.h
_NEWLINK, _DELLINK = 16, 17
_NEWADDR = 20
_NEWROUTE, _DELROUTE = 24, 25
_NEWNEIGH, _DELNEIGH = 28, 29
_TABLE_MAIN = 254
_AF_BRIDGE = 7
_PROTOCOL_STATIC = 4
_SCOPE_GLOBAL, _SCOPE_LINK, _SCOPE_ANY = 0, 253, 255
_UNICAST, _UNREACHABLE = 1, 7
_REACH_PERMANENT = 0x80
_ADDRESS_NO_DAD, _ADDRESS_PERMANENT = 0x02, 0x80
_IFF_UP = 0x1
# linux/if_link.h
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINKINFO = 1, 3, 4, 18
_IFLA_AF_SPEC, _IFLA_GROUP, _IFLA_NET_NS_FD = 26, 27, 28
_INFO_KIND, _INFO_DATA = 1, 2
_VETH_PEER = 1
_INET_CONF, _INET6_ADDR_GEN_MODE = 1, 8
_ADDR_GEN_NONE = 1
# linux/if_link.h and linux/neighbour.h, for VXLAN
_VXLAN_ID, _VXLAN_LOCAL, _VXLAN_LEARNING, _VXLAN_PORT, _VXLAN_LOCAL6 = 1, 4, 7, 15, 17
_NEIGHBOUR_SELF, _NEIGHBOUR_NO_ARP = 0x02, 0x40
# linux/ip.h: options for `set_ipv4_options`.
RP_FILTER, ROUTE_LOCALNET = 8, 26

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBi")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEIGHBOUR = struct.Struct("=BxxxiHBB")
_INT = struct.Struct("=i")


class Veth(Struct, frozen=True):
    """A pair of devices: one here, its peer in the namespace open as `peer_namespace`."""

    name: str
    mac: bytes
    peer_name: str
    peer_mac: bytes
    peer_namespace: int
    mtu: int


class Vxlan(Struct, frozen=True):
    """A device of an overlay: packets to others of its number go out by UDP from `local`."""

    name: str
    mac: bytes
    number: int
    local: str
    port: int
    mtu: int


def _nest(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def _text(kind: int, text: str) -> bytes:
    return attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return attribute(kind, _INT.pack(number))


def _family(address: str) -> int:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def _ip(kind: int, address: str) -> bytes:
    return attribute(kind, socket.inet_pton(_family(address), address))


# No IPv6 link-local address: it would cost multicast chatter per pod, and nothing uses it.
_QUIET_IPV6 = _nest(socket.AF_INET6, attribute(_INET6_ADDR_GEN_MODE, bytes([_ADDR_GEN_NONE])))


def new_bridge(name: str) -> Message:
    """A bridge, down. EEXIST when there is a device of that name."""
    payload = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, name)
        + _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "bridge"))
    )
    return Message(_NEWLINK, _CREATE | _EXCLUDE, payload)


def new_veth(veth: Veth) -> Message:
    """Both ends, down; the peer is born in its namespace."""
    peer = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, veth.peer_name)
        + attribute(_IFLA_ADDRESS, veth.peer_mac)
        + _number(_IFLA_MTU, veth.mtu)
        + _number(_IFLA_NET_NS_FD, veth.peer_namespace)
    )
    data = _nest(_INFO_DATA, attribute(_VETH_PEER, peer))
    payload = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, veth.name)
        + attribute(_IFLA_ADDRESS, veth.mac)
        + _number(_IFLA_MTU, veth.mtu)
        + _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "veth"), data)
    )
    return Message(_NEWLINK, _CREATE | _EXCLUDE, payload)


def new_vxlan(vxlan: Vxlan) -> Message:
    """Down, and it learns nothing from packets: who is behind which address is told it by
    `set_forwarding`. EEXIST when there is a device of that name."""
    data = _nest(
        _INFO_DATA,
        _number(_VXLAN_ID, vxlan.number),
        _ip(_VXLAN_LOCAL6 if ":" in vxlan.local else _VXLAN_LOCAL, vxlan.local),
        attribute(_VXLAN_LEARNING, b"\0"),
        attribute(_VXLAN_PORT, struct.pack(">H", vxlan.port)),
    )
    payload = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, vxlan.name)
        + attribute(_IFLA_ADDRESS, vxlan.mac)
        + _number(_IFLA_MTU, vxlan.mtu)
        + _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "vxlan"), data)
    )
    return Message(_NEWLINK, _CREATE | _EXCLUDE, payload)


def new_wireguard(name: str) -> Message:
    """Down. EEXIST when there is a device of that name, EOPNOTSUPP where the kernel has none of
    the kind."""
    payload = (
        _LINK.pack(0, 0, 0, 0, 0)
        + _text(_IFLA_IFNAME, name)
        + _nest(_IFLA_LINKINFO, _text(_INFO_KIND, "wireguard"))
    )
    return Message(_NEWLINK, _CREATE | _EXCLUDE, payload)


def set_mtu(index: int, mtu: int) -> Message:
    return Message(_NEWLINK, 0, _LINK.pack(0, 0, index, 0, 0) + _number(_IFLA_MTU, mtu))


def quieten(index: int) -> Message:
    """No IPv6 address of its own on the device. EAFNOSUPPORT where the kernel has no IPv6."""
    payload = _LINK.pack(0, 0, index, 0, 0) + _nest(_IFLA_AF_SPEC, _QUIET_IPV6)
    return Message(_NEWLINK, 0, payload)


def set_ipv4_options(index: int, options: Mapping[int, int]) -> Message:
    """Set net.ipv4.conf.DEVICE.* by their numbers, without a write to /proc each."""
    conf = _nest(_INET_CONF, *(_number(option, value) for option, value in options.items()))
    payload = _LINK.pack(0, 0, index, 0, 0) + _nest(_IFLA_AF_SPEC, _nest(socket.AF_INET, conf))
    return Message(_NEWLINK, 0, payload)


def set_up(index: int) -> Message:
    return Message(_NEWLINK, 0, _LINK.pack(0, 0, index, _IFF_UP, _IFF_UP))


def delete_link(name: str) -> Message:
    """The peer of a veth goes too. ENODEV when there is none."""
    return Message(_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name))


def set_group(name: str, group: int) -> Message:
    """Put a device into a group. ENODEV when there is none of that name."""
    payload = _LINK.pack(0, 0, 0, 0, 0) + _text(_IFLA_IFNAME, name) + _number(_IFLA_GROUP, group)
    return Message(_NEWLINK, 0, payload)


def delete_group(group: int) -> Message:
    """Delete every device of a group, in one go. ENODEV when it has none."""
    return Message(_DELLINK, 0, _LINK.pack(0, 0, 0, 0, 0) + _number(_IFLA_GROUP, group))


def set_address(index: int, address: str, bits: int = 0) -> Message:
    """Put an address on the device, alone unless `bits` says otherwise; the same again is fine."""
    bits = bits or (128 if ":" in address else 32)
    payload = (
        _ADDRESS.pack(
            _family(address), bits, _ADDRESS_NO_DAD | _ADDRESS_PERMANENT, _SCOPE_GLOBAL, index
        )
        + _ip(2, address)
        + _ip(1, address)
    )
    return Message(_NEWADDR, _CREATE | _REPLACE, payload)


def set_route(
    destination: str, bits: int, index: int, gateway: str = "", source: str = ""
) -> Message:
    """Route a network out of a device, directly or through a gateway; `source` is the address
    that sockets of this namespace get when they bind to none."""
    payload = _ROUTE.pack(
        _family(destination), bits, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC,
        _SCOPE_GLOBAL if gateway else _SCOPE_LINK, _UNICAST, 0,
    ) + _number(4, index)  # fmt: skip
    if bits:
        payload += _ip(1, destination)
    if gateway:
        payload += _ip(5, gateway)
    if source:
        payload += _ip(7, source)
    return Message(_NEWROUTE, _CREATE | _REPLACE, payload)


def new_route(destination: str, bits: int, index: int, source: str) -> Message:
    """As `set_route`, unless the network has a route already: EEXIST."""
    return replace(set_route(destination, bits, index, source=source), flags=_CREATE | _EXCLUDE)


def delete_route(destination: str, bits: int) -> Message:
    """ESRCH when there is none."""
    payload = _ROUTE.pack(
        _family(destination), bits, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC, _SCOPE_LINK, _UNICAST, 0
    ) + _ip(1, destination)
    return Message(_DELROUTE, 0, payload)


def delete_any_route(destination: str, bits: int, index: int) -> Message:
    """Out of a device, whatever else the route says. ESRCH when there is none."""
    payload = _ROUTE.pack(_family(destination), bits, 0, 0, _TABLE_MAIN, 0, _SCOPE_ANY, 0, 0)
    return Message(_DELROUTE, 0, payload + _ip(1, destination) + _number(4, index))


def _refusal(destination: str, bits: int) -> bytes:
    head = _ROUTE.pack(
        _family(destination), bits, 0, 0, _TABLE_MAIN, _PROTOCOL_STATIC,
        _SCOPE_GLOBAL, _UNREACHABLE, 0,
    )  # fmt: skip
    return head + _ip(1, destination)


def new_unreachable(destination: str, bits: int) -> Message:
    """Answer "host unreachable" for a network, unless a longer route says better. EEXIST when the
    network has a route already."""
    return Message(_NEWROUTE, _CREATE | _EXCLUDE, _refusal(destination, bits))


def delete_unreachable(destination: str, bits: int) -> Message:
    """ESRCH when there is none."""
    return Message(_DELROUTE, 0, _refusal(destination, bits))


def set_neighbour(index: int, address: str, mac: bytes) -> Message:
    """A permanent ARP or NDP entry: nothing is asked on the wire, or could be answered falsely."""
    payload = (
        _NEIGHBOUR.pack(_family(address), index, _REACH_PERMANENT, 0, 0)
        + _ip(1, address)
        + attribute(2, mac)
    )
    return Message(_NEWNEIGH, _CREATE | _REPLACE, payload)


def _forwarding(index: int, mac: bytes, host: str) -> bytes:
    state = _REACH_PERMANENT | _NEIGHBOUR_NO_ARP
    head = _NEIGHBOUR.pack(_AF_BRIDGE, index, state, _NEIGHBOUR_SELF, 0)
    return head + attribute(2, mac) + _ip(1, host)


def set_forwarding(index: int, mac: bytes, host: str) -> Message:
    """On a VXLAN device: frames for `mac` go to the machine `host`."""
    return Message(_NEWNEIGH, _CREATE | _REPLACE, _forwarding(index, mac, host))


def delete_forwarding(index: int, mac: bytes, host: str) -> Message:
    """ENOENT when there is none."""
    return Message(_DELNEIGH, 0, _forwarding(index, mac, host))


def delete_neighbour(index: int, address: str) -> Message:
    """ENOENT when there is none."""
    head = _NEIGHBOUR.pack(_family(address), index, 0, 0, 0)
    return Message(_DELNEIGH, 0, head + _ip(1, address))
