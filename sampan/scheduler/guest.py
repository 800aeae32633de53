"""A pod as nodes and other pods see it: who it is, what it asks for, how important it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sampan.api.errors import Object
from sampan.api.volumes import claim_name

from .demand import Demand, demand_of
from .relations import Relations, relations_of


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
    claims: tuple[tuple[str, bool], ...] = ()
    """The claims behind its volumes, and whether they are made for it (ephemeral volumes)."""


def guest_of(pod: Object) -> Guest:
    meta, spec = pod["metadata"], pod["spec"]
    return Guest(
        meta.get("uid", ""),
        meta.get("namespace", ""),
        meta.get("name", ""),
        meta.get("labels") or {},
        spec.get("priority") or 0,
        demand_of(pod),
        relations_of(pod),
        "deletionTimestamp" in meta,
        preempts=spec.get("preemptionPolicy") != "Never",
        claims=claims_of(pod) if spec.get("volumes") else (),
    )


def claims_of(pod: Object) -> tuple[tuple[str, bool], ...]:
    named = (
        (claim_name(pod["metadata"]["name"], volume), "ephemeral" in volume)
        for volume in pod["spec"]["volumes"]
    )
    return tuple(item for item in named if item[0])
