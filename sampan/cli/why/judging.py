"""Which node fails which filter: the scheduler's own definition, asked about one pod. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sampan.api.errors import Object
from sampan.scheduler.extended import containers_of, is_extended, without
from sampan.scheduler.guest import guest_of
from sampan.scheduler.nodes import Nodes, NodeState
from sampan.scheduler.verdict import prepare, verdicts_of
from sampan.wire.quantity import milli_text, whole_text

from .facts import is_finished


class Judged(NamedTuple):
    """Of the nodes that do not fit."""

    reasons: dict[str, list[str]]
    free: dict[str, dict[str, str]]
    """By node and resource, of what is short: "500m of 2"."""


def judge(
    pod: Object, nodes: Iterable[Object], pods: Iterable[Object], namespaces: Iterable[Object]
) -> Judged:
    """As the default profile has it; nodes that fit are left out. What depends on volumes is not
    asked here: the scheduler's message tells it."""
    known = Nodes()
    for item in namespaces:
        known.set_namespace(item["metadata"]["name"], item["metadata"].get("labels") or {})
    for node in nodes:
        known.set_node(node)
    for other in pods:
        home = other["spec"].get("nodeName")
        if home and not is_finished(other):
            known.place(guest_of(other), home)
    asked = _asked_of_nodes(pod)
    guest = guest_of({**asked, "spec": {k: v for k, v in asked["spec"].items() if k != "volumes"}})
    verdicts = verdicts_of(guest, known, prepare(guest, known))
    reasons = {name: list(item.reasons) for name, item in sorted(verdicts.items())}
    free = {name: _free(known.by_name[name], found) for name, found in reasons.items()}
    return Judged(reasons, free)


def _asked_of_nodes(pod: Object) -> Object:
    """Without extended resources that the scheduler seeks among devices: of those it does not say
    that nodes lack them."""
    listed = (pod.get("status") or {}).get("conditions") or ()
    said = " ".join(item.get("message") or "" for item in listed if item["type"] == "PodScheduled")
    names = {
        name
        for item in containers_of(pod)
        for name in (item.get("resources") or {}).get("requests") or ()
        if is_extended(name) and f"Insufficient {name}" not in said
    }
    return without(pod, dict.fromkeys(names, "devices"))


def _free(node: NodeState, reasons: Iterable[str]) -> dict[str, str]:
    out = {}
    for reason in reasons:
        name = "pods" if reason == "Too many pods" else reason.removeprefix("Insufficient ")
        if name == reason:
            continue
        has = node.allocatable.get(name, 0)
        used = len(node.pods) if name == "pods" else node.used.get(name, 0)
        told = milli_text if name == "cpu" else whole_text
        out[name] = f"{told(max(0, has - used))} of {told(has)}"
    return out
