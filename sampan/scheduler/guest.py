"""A pod as nodes and other pods see it: who it is, what it asks for, how important it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object
from sampan.api.volumes import claim_name

from .demand import Demand, demand_of
from .relations import Constraint, Relations, relations_of

if TYPE_CHECKING:
    from .nodes import NodeState
    from .profile import Profile


@dataclass(slots=True)
class Guest:
    """One pod. What templates repeat (`demand`, `relations`, `labels`) is shared."""

    uid: str
    namespace: str
    name: str
    labels: Mapping[str, str]
    priority: int
    demand: Demand
    relations: Relations
    leaving: bool = False
    """Being deleted: topology spread no longer counts it."""
    nominated: str = ""
    """The node others leave for it (status.nominatedNodeName); set by `Nodes.nominate` alone."""
    preempts: bool = True
    """preemptionPolicy is not Never."""
    profile: Profile = field(default=None, compare=False)  # type: ignore[assignment]
    """Who decides for it; for placed pods nobody asks."""
    soft: tuple[Constraint, ...] = field(default=(), compare=False)
    """Its soft spread constraints, or its profile's defaults."""
    claims: tuple[tuple[str, bool], ...] = ()
    """The claims behind its volumes, and whether they are made for it (ephemeral volumes)."""
    devices: tuple[str, ...] = ()
    """Its device claims; "" for one that is still to be made from its template."""

    extended: tuple[str, ...] = ()
    """Extended resources it asks for, which devices may stand behind."""
    special: tuple[tuple[str, str, Object], ...] = ()
    """(container, resource, request) of those that do."""
    shunned: frozenset[str] = frozenset()
    """Extended resources that its node may not have by itself: devices stand for them."""

    @property
    def has_devices(self) -> bool:
        return bool(self.devices or self.special)

    @property
    def is_alone(self) -> bool:
        """Has it claims? They are its own, so that nothing is shared with pods that are like it."""
        return bool(self.claims or self.devices or self.extended)


def guest_of(pod: Object, profile: Profile | None = None) -> Guest:
    """`profile` decides for it; None for the default one."""
    from .profile import DEFAULT

    chosen = profile or DEFAULT
    demand, relations = demand_of(pod), relations_of(pod)
    if chosen.own:
        demand = told_all(demand, pod)
    meta, spec = pod["metadata"], pod["spec"]
    return Guest(
        meta.get("uid", ""),
        meta.get("namespace", ""),
        meta.get("name", ""),
        meta.get("labels") or {},
        spec.get("priority") or 0,
        demand,
        relations,
        "deletionTimestamp" in meta,
        profile=chosen,
        soft=relations.soft,
        preempts=spec.get("preemptionPolicy") != "Never",
        claims=claims_of(pod) if spec.get("volumes") else (),
        devices=devices_of(pod) if spec.get("resourceClaims") else (),
    )


TOPOLOGY = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")
"""What the API server's PodTopologyLabels gives a pod of its node's labels when it is bound."""
LABELLED = 1024
"""Sets of labels of bound pods that are shared."""


def labelled(guest: Guest, node: NodeState) -> Guest:
    """The pod as it will be once it is bound to the node."""
    where = [(key, node.labels[key]) for key in TOPOLOGY if key in node.labels]
    if not where or all(guest.labels.get(key) == value for key, value in where):
        return guest
    return replace(guest, labels=_with(tuple(guest.labels.items()), tuple(where)))


@lru_cache(maxsize=LABELLED)
def _with(labels: tuple[tuple[str, str], ...], more: tuple[tuple[str, str], ...]) -> dict[str, str]:
    return {**dict(labels), **dict(more)}


def told_all(demand: Demand, pod: Object) -> Demand:
    """With the pod itself, for plugins that may read all of it but its names: what they can read
    is part of the shape."""
    meta = pod["metadata"]
    text = [meta.get("labels"), meta.get("annotations"), pod["spec"], meta.get("namespace")]
    shape = demand.shape + orjson.dumps(text, option=orjson.OPT_SORT_KEYS)
    return replace(demand, pod=pod, shape=shape)


def devices_of(pod: Object) -> tuple[str, ...]:
    """The names of the pod's ResourceClaims; one that needs none is left out."""
    made = {
        item["name"]: item.get("resourceClaimName")
        for item in (pod.get("status") or {}).get("resourceClaimStatuses") or ()
    }
    out = []
    for item in pod["spec"]["resourceClaims"]:
        name = item.get("resourceClaimName")
        if name is None:
            name = made.get(item["name"], "")
        if name is not None:
            out.append(name)
    return tuple(out)


def awaits_claims(pod: Object) -> bool:
    """Is a claim of it still to be made from its template? Until then nobody looks at the pod
    (PreEnqueue of DynamicResources)."""
    return bool(pod["spec"].get("resourceClaims")) and "" in devices_of(pod)


def claims_of(pod: Object) -> tuple[tuple[str, bool], ...]:
    named = (
        (claim_name(pod["metadata"]["name"], volume), "ephemeral" in volume)
        for volume in pod["spec"]["volumes"]
    )
    return tuple(item for item in named if item[0])


def same(old: Object, new: Object) -> bool:
    """Do two versions of a pod look the same to scheduling?"""
    before, after = old["metadata"], new["metadata"]
    return (
        old["spec"] == new["spec"]
        and (not new["spec"].get("resourceClaims") or _made(old) == _made(new))
        and before.get("labels") == after.get("labels")
        and ("deletionTimestamp" in before) == ("deletionTimestamp" in after)
    )


def _made(pod: Object) -> Any:
    """The claims that were made for it."""
    return (pod.get("status") or {}).get("resourceClaimStatuses")
