"""NodePorts: a host port can be had once per address and protocol."""

from __future__ import annotations

from sampan.scheduler.demand import Demand, Port
from sampan.scheduler.nodes import NodeState

ANY = "0.0.0.0"


def reasons(demand: Demand, node: NodeState) -> list[str]:
    if demand.ports and node.ports and any(taken(port, node) for port in demand.ports):
        return ["node(s) didn't have free ports for the requested pod ports"]
    return []


def taken(port: Port, node: NodeState) -> bool:
    """The wildcard address collides with every address."""
    address, protocol, number = port
    if address != ANY:
        return port in node.ports or (ANY, protocol, number) in node.ports
    return any(other[1:] == (protocol, number) for other in node.ports)
