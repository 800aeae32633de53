"""Which UDP flows a change leaves behind. Pure.

Two kinds must be forgotten: flows to an endpoint that is gone, and flows to a service's address
that began while nothing was behind it, and would pass the rules by for as long as they go on.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.linux.conntrack import Flow

from .rules import Rules


def stale_flows(old: Rules, new: Rules, version: int = 4) -> set[Flow]:
    """What connection tracking must forget once `new` has replaced `old`, of one family."""
    if not (old.datagrams or new.datagrams):
        return set()
    gone = {
        Flow(ip, port, answered=True, version=version) for ip, port in old.datagrams - new.datagrams
    }
    return gone | {flow._replace(version=version) for flow in _awakened(old, new)}


def _awakened(old: Rules, new: Rules) -> Iterator[Flow]:
    for key, verdict in new.services.items():
        address, protocol, port = key.split(" . ")
        if protocol == "udp" and leads(verdict) and not _served(old, key):
            yield Flow(address, int(port), answered=False)
    for key, behind in new.plain.items():
        address, protocol, port = key.split(" . ")
        if protocol == "udp" and behind and not _served(old, key):
            yield Flow(address, int(port), answered=False)
    for key, verdict in new.nodeports.items():
        protocol, port = key.split(" . ")
        if protocol == "udp" and leads(verdict) and not leads(old.nodeports.get(key)):
            yield Flow("", int(port), answered=False)


def _served(rules: Rules, key: str) -> bool:
    return bool(rules.plain.get(key)) or leads(rules.services.get(key))


def leads(verdict: str | None) -> bool:
    """Whether a verdict leads to endpoints."""
    return verdict is not None and verdict not in ("goto refuse", "drop")
