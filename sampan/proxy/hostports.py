"""hostPort of containers into the same table as services. Pure: one pod in, its rules out.

Upstream leaves this to the CNI plugin portmap, whose behaviour this is: a port of every address of
the node (or of `hostIP` alone) leads to the pod, with the client's own address.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import Object

from .destinations import chain_name, destination_rules
from .endpoints import PROTOCOLS, Endpoint, port_number
from .families import IPV4, Family
from .rules import MASQUERADE_MARK, NOTHING, Rules

# Names of services have no colon, so a pod's key is nobody else's.
PREFIX = "pod:"
LOCALHOST = "127.0.0.1"


def has_host_ports(pod: Object) -> bool:
    return next(iter(_ports(pod)), None) is not None


def host_rules_of(pod: Object, family: Family = IPV4) -> Rules:
    """NOTHING for a pod without host ports or address, on the node's own network, or over."""
    spec, status = pod["spec"], pod.get("status") or {}
    found = [status.get("podIP"), *(item.get("ip") for item in status.get("podIPs") or ())]
    address = next(filter(None, map(family.parse, found)), "")
    if not address or spec.get("hostNetwork") or status.get("phase") in ("Succeeded", "Failed"):
        return NOTHING
    meta = pod["metadata"]
    anywhere, somewhere, datagrams = {}, {}, set()
    chains = {}
    for port in _ports(pod):
        protocol = PROTOCOLS.get(port.get("protocol") or "TCP")
        number, inner = port_number(port["hostPort"]), port_number(port.get("containerPort"))
        host = port.get("hostIP") or ""
        # Every address of one family is the other's host ports' affair.
        if protocol is None or number is None or inner is None or (host and not family.parse(host)):
            continue
        # The same port of two addresses of the node may lead to two of the pod's.
        place = f"{meta['namespace']}/{meta['name']}/{protocol}/{number}/{inner}"
        chain = chain_name("host-", place)
        chains[chain] = (
            # Nobody's answer finds 127.0.0.1.
            f"{family.word} saddr {family.loopback} meta mark set meta mark | {MASQUERADE_MARK:#x}",
            *destination_rules(protocol, [Endpoint(address, inner)], family),
        )
        if host in ("", "0.0.0.0", "::"):
            anywhere[f"{protocol} . {number}"] = f"goto {chain}"
            # The kernel routes nothing from ::1 to a pod: that has a listener (`loopback`).
            if family is IPV4:
                somewhere[f"{LOCALHOST} . {protocol} . {number}"] = f"goto {chain}"
        else:
            somewhere[f"{family.parse(host)} . {protocol} . {number}"] = f"goto {chain}"
        if protocol == "udp":
            datagrams.add((address, inner))
    if not chains:
        return NOTHING
    return Rules(somewhere, anywhere, chains, frozenset({address}), frozenset(datagrams))


def _ports(pod: Object) -> Iterable[Object]:
    spec = pod["spec"]
    sidecars = (c for c in spec.get("initContainers") or () if c.get("restartPolicy") == "Always")
    for container in (*(spec.get("containers") or ()), *sidecars):
        for port in container.get("ports") or ():
            if port.get("hostPort"):
                yield port
