"""How fast the nodes of a zone lose their pods when they are not ready (upstream's node lifecycle
controller: --node-eviction-rate and what goes with it).

A zone in which one node after another fails is evicted at a node per ten seconds. Where most of a
zone is not ready, the fault is likely the zone's, or the way to it, and the pods would find no
better place: a large zone is evicted a tenth as fast, a small one not at all. Where no node of any
zone is ready, the fault is likely the control plane's own, and nothing is evicted.
"""

from __future__ import annotations

from sampan.api.errors import Object

from .node_plan import ready_status

EVICTIONS_PER_S = 0.1
"""--node-eviction-rate."""
SECONDARY_PER_S = 0.01
"""--secondary-node-eviction-rate, of disrupted zones that are large."""
LARGE = 50
"""--large-cluster-size-threshold: more nodes than this are a large zone."""
UNHEALTHY_SHARE = 0.55
"""--unhealthy-zone-threshold."""
# Fewer are not a disruption of the zone, whatever its size.
FEW = 2

NORMAL, PARTIAL, FULL = "Normal", "PartialDisruption", "FullDisruption"
REGION, ZONE = "topology.kubernetes.io/region", "topology.kubernetes.io/zone"
METRICS = "node_collector"


def zone_of(node: Object) -> str:
    """Its region and zone, as upstream's GetZoneKey; "" for a node without."""
    labels = node["metadata"].get("labels") or {}
    region, zone = labels.get(REGION, ""), labels.get(ZONE, "")
    return f"{region}:\x00:{zone}" if region or zone else ""


def state_of(ready: int, total: int) -> str:
    """The state of a zone with so many nodes ready."""
    unready = total - ready
    if unready and not ready:
        return FULL
    if unready > FEW and unready / total >= UNHEALTHY_SHARE:
        return PARTIAL
    return NORMAL


def rate_per_s(state: str, total: int) -> float:
    """Nodes whose pods are evicted."""
    if state != PARTIAL:
        return EVICTIONS_PER_S
    return SECONDARY_PER_S if total > LARGE else 0.0


class _Zone:
    __slots__ = ("evicted", "free_s", "nodes", "ready")

    def __init__(self) -> None:
        self.nodes: set[str] = set()
        self.ready: set[str] = set()
        self.free_s = 0.0
        """When the next node may be evicted."""
        self.evicted = 0

    @property
    def state(self) -> str:
        return state_of(len(self.ready), len(self.nodes))


class Zones:
    """All nodes by their zones. Bound: one entry per node and zone; a zone goes with its last."""

    def __init__(self) -> None:
        self._zones: dict[str, _Zone] = {}
        self._where: dict[str, str] = {}
        self._ready = 0

    def note(self, name: str, node: Object | None) -> set[str]:
        """Take in a node as it is now; None if it is gone. Gives the nodes for which the pace may
        be another: those of a zone whose state has changed, or all."""
        before = self.is_lost
        changed = self._leave(name, for_zone=zone_of(node) if node is not None else None)
        if node is not None:
            changed |= self._enter(name, node)
        return {*self._where} if self.is_lost != before else changed

    def _leave(self, name: str, *, for_zone: str | None) -> set[str]:
        key = self._where.get(name)
        if key is None or key == for_zone:
            return set()
        zone, state = self._zones[key], self._zones[key].state
        del self._where[name]
        zone.nodes.discard(name)
        self._ready -= name in zone.ready
        zone.ready.discard(name)
        if not zone.nodes:
            del self._zones[key]
            return set()
        return {*zone.nodes} if zone.state != state else set()

    def _enter(self, name: str, node: Object) -> set[str]:
        key, ready = zone_of(node), ready_status(node) == "True"
        zone = self._zones.setdefault(key, _Zone())
        state = zone.state
        self._where[name] = key
        zone.nodes.add(name)
        self._ready += ready - (name in zone.ready)
        (zone.ready.add if ready else zone.ready.discard)(name)
        return {*zone.nodes} if zone.state != state else set()

    @property
    def is_lost(self) -> bool:
        """No node at all is ready."""
        return not self._ready

    def wait_s(self, name: str, now_s: float) -> float | None:
        """0 if the node may be evicted now, else how long until then; None if not at all, until
        the state of its zone is another."""
        zone = self._zones[self._where[name]]
        if self.is_lost or not rate_per_s(zone.state, len(zone.nodes)):
            return None
        return max(0.0, zone.free_s - now_s)

    def evicted(self, name: str, now_s: float) -> None:
        """The node is being evicted: the next of its zone waits."""
        zone = self._zones[self._where[name]]
        zone.evicted += 1
        zone.free_s = now_s + 1 / rate_per_s(zone.state, len(zone.nodes))

    def spared(self, name: str) -> None:
        """It was not evicted after all."""
        zone = self._zones.get(self._where.get(name, "-"))
        if zone is not None:
            zone.evicted -= 1
            zone.free_s = 0.0

    def exposition(self) -> str:
        """Prometheus text, under upstream's names."""
        lines = []
        for name, kind in (
            ("zone_size", "gauge"),
            ("zone_health", "gauge"),
            ("unhealthy_nodes_in_zone", "gauge"),
            ("evictions_total", "counter"),
        ):
            lines.append(f"# TYPE {METRICS}_{name} {kind}")
            for key, zone in self._zones.items():
                unready = len(zone.nodes) - len(zone.ready)
                value: float = {
                    "zone_size": len(zone.nodes),
                    "zone_health": 100 * len(zone.ready) / len(zone.nodes),
                    "unhealthy_nodes_in_zone": unready,
                    "evictions_total": zone.evicted,
                }[name]
                lines.append(f'{METRICS}_{name}{{zone="{key}"}} {value:g}')
        return "\n".join([*lines, ""])
