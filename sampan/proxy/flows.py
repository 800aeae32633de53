"""Which UDP flows a change leaves behind. Pure.

Two kinds must be forgotten: flows to an endpoint that is gone, and flows to a service's address
that began while nothing was behind it, and would pass the rules by for as long as they go on.
"""

from __future__ import annotations

from collections.abc import Iterator

from sampan.linux.conntrack import Flow

from .rules import Rules


def stale_flows(old: Rules, new: Rules) -> set[Flow]:
    """What connection tracking must forget once `new` has replaced `old`."""
    if not (old.datagrams or new.datagrams):
        return set()
    gone = {Flow(ip, port, answered=True) for ip, port in old.datagrams - new.datagrams}
    return gone | {*_awakened(old, new)}


def _awakened(old: Rules, new: Rules) -> Iterator[Flow]:
    for key, verdict in new.services.items():
        address, protocol, port = key.split(" . ")
        if protocol == "udp" and _leads(verdict) and not _leads(old.services.get(key)):
            yield Flow(address, int(port), answered=False)
    for key, verdict in new.nodeports.items():
        protocol, port = key.split(" . ")
        if protocol == "udp" and _leads(verdict) and not _leads(old.nodeports.get(key)):
            yield Flow("", int(port), answered=False)


def _leads(verdict: str | None) -> bool:
    """Whether a verdict leads to endpoints."""
    return verdict is not None and verdict not in ("goto refuse", "drop")
