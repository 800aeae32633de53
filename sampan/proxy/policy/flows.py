"""Connections that are older than the rules: which of them the rules would not let begin.

The rules look at the first packet of a connection alone. What is open when a policy comes, or when
somebody's labels change, is judged here, once, by the same classes; those that are refused get a
bit in their mark of connection tracking, by which the table drops them, in both directions and for
as long as anybody sends. Forgetting them would not do: an answer on its way would count as a new
connection the other way round. One that is allowed later loses the bit, and goes on.

Pure but for `review`.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from ipaddress import ip_address

from sampan.linux.conntrack import Tracked, set_marks, tracked

from ..families import Family
from .classes import ACCEPT, Class
from .index import DIRECTIONS, State

REFUSED = 0x0800_0000
"""Bit of connection marks; kube-proxy, Calico, Cilium and Tailscale use lower ones."""
_PROTOCOLS = {6: "tcp", 17: "udp", 132: "sctp"}


def tightened(old: State, new: State, quiet: Container[str] = ()) -> bool:
    """May a connection that `old` let begin be refused by `new`? Not one of addresses that are
    `quiet`: of pods that are new, or gone."""
    shrunk = {
        name for name, item in new.classes.items()
        if (before := old.classes.get(name)) is not None and _lost(before, item, quiet)
    }  # fmt: skip
    return any(
        name in shrunk or (old.targets[direction].get(ip) != name and ip not in quiet)
        for direction in DIRECTIONS
        for ip, name in new.targets[direction].items()
    )


def _lost(before: Class, item: Class, quiet: Container[str]) -> bool:
    return any(
        had is not (has := item.pods[name]) and any(ip not in quiet for ip in had - has)
        for name, had in before.pods.items()
    )


def permits(state: State, source: str, target: str, protocol: int, port: int) -> bool:
    """Would a connection be let through?"""
    if source == target:
        return True
    for direction, ip, peer in (("out", source, target), ("in", target, source)):
        name = state.targets[direction].get(ip)
        if name is not None and not _allows(state.classes[name], peer, protocol, port):
            return False
    return True


def _allows(item: Class, peer: str, protocol: int, port: int) -> bool:
    if _is_peer(item, item.name, peer):
        return True
    word = _PROTOCOLS.get(protocol)
    for kind, (low, high), chain in item.segments:
        if kind == word and low <= port <= high:
            return _is_peer(item, chain, peer)
    return False


def _is_peer(item: Class, chain: str, peer: str) -> bool:
    if item.chains[chain] == [ACCEPT] or peer in item.pods.get(f"{chain}-p", ()):
        return True
    blocks = item.blocks.get(f"{chain}-b", ())
    number = int(ip_address(peer)) if blocks else 0
    place = bisect_right(blocks, number, key=lambda block: block[0]) - 1
    return place >= 0 and number <= blocks[place][1]


def judged(
    flows: Iterable[Tracked], state: State, is_own: Callable[[str], bool]
) -> Iterator[tuple[Tracked, bool]]:
    """Connections whose bit is not as it should be, and whether they are refused. Those of the node
    itself (`is_own`) pass no rules."""
    for flow in flows:
        if not flow.source or not flow.target:
            continue
        source, target = (str(ip_address(item)) for item in (flow.source, flow.target))
        refused = not permits(state, source, target, flow.protocol, flow.port)
        if refused != bool(flow.mark & REFUSED):
            if refused and (is_own(source) or is_own(target)):
                continue
            yield flow, refused


def review(state: State, family: Family, others: Iterable[bytes] | None) -> set[bytes]:
    """Give the connections of a family the bits that the rules want. `others` are addresses to look
    at besides those of the rules' pods, None for all; comes back with those of which connections
    have the bit. Blocks. Raises OSError."""
    about: set[bytes] | None = None
    if others is not None:
        targets: Mapping[str, Mapping[str, str]] = state.targets
        about = {ip_address(ip).packed for ips in targets.values() for ip in ips} | {*others}
        if not about:
            return set()
    version = 6 if family.word == "ip6" else 4
    own: dict[str, bool] = {}

    def is_own(ip: str) -> bool:
        if ip not in own:
            own[ip] = _is_here(ip, version)
        return own[ip]

    marked: set[bytes] = set()
    flows = []
    for flow in tracked(version, about):
        flows.append(flow)
        if flow.mark & REFUSED:
            marked |= {flow.source, flow.target}
    found = [*judged(flows, state, is_own)]
    for flow, refused in found:
        if refused:
            marked |= {flow.source, flow.target}
    wanted = ((flow.original, REFUSED if refused else 0) for flow, refused in found)
    set_marks(wanted, REFUSED, version)
    return marked


def _is_here(ip: str, version: int) -> bool:
    """Is it an address of this machine? Only those can be bound."""
    kind = socket.AF_INET6 if version == 6 else socket.AF_INET
    with socket.socket(kind, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.bind((ip, 0))
        except OSError:
            return False
    return True
