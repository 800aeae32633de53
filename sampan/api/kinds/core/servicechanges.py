"""What a write of a service may leave out, and what goes with a change of its type.

Pure counterparts of upstream's normalizeClusterIPs, patchAllocatedValues and
dropTypeDependentFields (registry/core/service): the server has chosen addresses and ports, and a
client that writes its own manifest again must neither lose nor have to know them.
"""

from __future__ import annotations

from ...errors import Object

WITH_ADDRESS = frozenset({"ClusterIP", "NodePort", "LoadBalancer"})
WITH_NODE_PORTS = frozenset({"NodePort", "LoadBalancer"})


def is_reached_from_outside(spec: Object) -> bool:
    """Does externalTrafficPolicy mean anything (ExternallyAccessible)?"""
    kind = spec.get("type")
    return kind in WITH_NODE_PORTS or (kind == "ClusterIP" and bool(spec.get("externalIPs")))


def needs_health_port(spec: Object) -> bool:
    return spec.get("type") == "LoadBalancer" and spec.get("externalTrafficPolicy") == "Local"


def join_addresses(spec: Object, before: Object | None) -> None:
    """clusterIP and clusterIPs say the same, where a client knows only one of them."""
    address, addresses = spec.get("clusterIP") or "", spec.get("clusterIPs") or []
    if before is None:
        if address and not addresses:
            spec["clusterIPs"] = [address]
        return
    was, were = before.get("clusterIP") or "", before.get("clusterIPs") or []
    if address == was:
        if were and not addresses:
            spec["clusterIPs"] = list(were)
    elif addresses == were:
        # The one that was changed is meant.
        if address:
            spec["clusterIPs"] = [address]
        else:
            spec.pop("clusterIPs", None)


def keep_allocated(spec: Object, before: Object) -> None:
    """What the server chose before stays when it is left out."""
    kind, was = spec.get("type"), before.get("type")
    if kind in WITH_ADDRESS and was in WITH_ADDRESS:
        if not spec.get("clusterIP") and before.get("clusterIP"):
            spec["clusterIP"] = before["clusterIP"]
        if not spec.get("clusterIPs") and spec.get("clusterIP") == before.get("clusterIP"):
            spec["clusterIPs"] = list(before.get("clusterIPs") or [])
    if kind in WITH_NODE_PORTS and was in WITH_NODE_PORTS:
        _keep_node_ports(spec, before)
    number = before.get("healthCheckNodePort")
    if number and needs_health_port(spec) and needs_health_port(before):
        spec["healthCheckNodePort"] = spec.get("healthCheckNodePort") or number


def _keep_node_ports(spec: Object, before: Object) -> None:
    """Ports are recognised by their names: the number may be what changes."""
    used = node_ports(spec) & node_ports(before)
    known = {
        port.get("name") or "": port.get("nodePort") or 0 for port in before.get("ports") or ()
    }
    for port in spec.get("ports") or ():
        number = known.get(port.get("name") or "", 0)
        if number and not port.get("nodePort") and number not in used:
            port["nodePort"] = number


def node_ports(spec: Object) -> set[int]:
    return {port["nodePort"] for port in spec.get("ports") or () if port.get("nodePort")}


def drop_unused(spec: Object, before: Object) -> None:
    """What has no use for the new type goes, unless the client has just set it: that is refused."""
    kind, was = spec.get("type"), before.get("type")
    dropped: list[str] = []
    if was in WITH_ADDRESS and kind not in WITH_ADDRESS:
        if (spec.get("clusterIPs") or []) == (before.get("clusterIPs") or []):
            spec.pop("clusterIP", None)
            spec.pop("clusterIPs", None)
        dropped += ("ipFamilies", "ipFamilyPolicy")
    had_ports = was in WITH_NODE_PORTS and kind not in WITH_NODE_PORTS
    if had_ports and node_ports(spec) <= node_ports(before):
        for port in spec.get("ports") or ():
            port.pop("nodePort", None)
    if needs_health_port(before) and not needs_health_port(spec):
        dropped.append("healthCheckNodePort")
    if was == "LoadBalancer" and kind != "LoadBalancer":
        dropped += ("allocateLoadBalancerNodePorts", "loadBalancerClass")
    if is_reached_from_outside(before) and not is_reached_from_outside(spec):
        dropped.append("externalTrafficPolicy")
    for name in dropped:
        if spec.get(name) == before.get(name):
            spec.pop(name, None)


def settle(spec: Object, before: Object | None) -> None:
    """All of the above in upstream's order, in place. `before` is None on create."""
    join_addresses(spec, before)
    if before is not None:
        keep_allocated(spec, before)
        drop_unused(spec, before)
