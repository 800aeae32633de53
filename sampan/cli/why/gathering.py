"""Fetching what may have to do with an object: plain GETs, a handful of them. Nothing is changed.

Bounds: nodes are judged one by one in clusters of up to `JUDGED_NODES`; in larger ones the
scheduler's own message has to do. At most `PARTS` pods of a workload are looked at closely.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from urllib.parse import quote

from sampan.api.errors import Object

from .containers import containers_of
from .facts import Facts
from .strangers import Place
from .surroundings import SURROUNDINGS, Ask, about
from .surroundings import items as _items

JUDGED_NODES = 300
PARTS = 200
OWNERS = 5
"""Longest chain of owners that is followed."""

LOGS = 3
"""Pods of which the last lines of a log are read."""
LOG_QUERY = "tailLines=3&limitBytes=2000"

GROUPS = {
    "pods": "/api/v1",
    "persistentvolumeclaims": "/api/v1",
    "services": "/api/v1",
    "replicationcontrollers": "/api/v1",
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "statefulsets": "/apis/apps/v1",
    "daemonsets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "cronjobs": "/apis/batch/v1",
    "horizontalpodautoscalers": "/apis/autoscaling/v2",
    "poddisruptionbudgets": "/apis/policy/v1",
    "ingresses": "/apis/networking.k8s.io/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "nodes": "/api/v1",
    "namespaces": "/api/v1",
}
CLUSTER = ("nodes", "namespaces")
"""Kinds that are in no namespace; their events are in `default`."""
WORKLOADS = (
    "deployments", "replicasets", "statefulsets", "daemonsets", "replicationcontrollers", "jobs",
)  # fmt: skip
NAMES = {
    "po": "pods",
    "pod": "pods",
    "deploy": "deployments",
    "deployment": "deployments",
    "rs": "replicasets",
    "replicaset": "replicasets",
    "sts": "statefulsets",
    "statefulset": "statefulsets",
    "ds": "daemonsets",
    "daemonset": "daemonsets",
    "job": "jobs",
    "pvc": "persistentvolumeclaims",
    "persistentvolumeclaim": "persistentvolumeclaims",
    "svc": "services",
    "service": "services",
    "rc": "replicationcontrollers",
    "replicationcontroller": "replicationcontrollers",
    "cj": "cronjobs",
    "cronjob": "cronjobs",
    "hpa": "horizontalpodautoscalers",
    "horizontalpodautoscaler": "horizontalpodautoscalers",
    "pdb": "poddisruptionbudgets",
    "poddisruptionbudget": "poddisruptionbudgets",
    "ing": "ingresses",
    "ingress": "ingresses",
    "netpol": "networkpolicies",
    "networkpolicy": "networkpolicies",
    "no": "nodes",
    "node": "nodes",
    "ns": "namespaces",
    "namespace": "namespaces",
}
KINDS = {
    "pods": "Pod",
    "persistentvolumeclaims": "PersistentVolumeClaim",
    "services": "Service",
    "replicationcontrollers": "ReplicationController",
    "deployments": "Deployment",
    "replicasets": "ReplicaSet",
    "statefulsets": "StatefulSet",
    "daemonsets": "DaemonSet",
    "jobs": "Job",
    "cronjobs": "CronJob",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "ingresses": "Ingress",
    "networkpolicies": "NetworkPolicy",
    "nodes": "Node",
    "namespaces": "Namespace",
}
PLURALS = {kind: plural for plural, kind in KINDS.items()}
SCALED = ("deployments", "replicasets", "statefulsets", "replicationcontrollers")


def gather(ask: Ask, plural: str, namespace: str, name: str, now_s: float) -> Facts | None:
    """All facts of one object; None when it does not exist."""
    obj = ask(f"{_collection(plural, namespace)}/{quote(name, safe='')}")
    if obj is None:
        return None
    facts = _base(obj, KINDS[plural], now_s)
    home = "default" if plural in CLUSTER else quote(namespace, safe="")
    events = _items(ask, f"/api/v1/namespaces/{home}/events")
    facts.events = about(events, facts)
    facts.owners = _owners(ask, facts.obj, namespace)
    if plural == "pods":
        _nodes(ask, [facts])
        _logs(ask, [facts])
    elif plural in WORKLOADS:
        facts.parts = _parts(ask, facts, events, namespace)
    if plural in SURROUNDINGS:
        SURROUNDINGS[plural](ask, facts, quote(namespace, safe=""))
    return facts


def gather_any(ask: Ask, place: Place, namespace: str, name: str, now_s: float) -> Facts | None:
    """The same of a kind that nothing is known of: the object and its events."""
    home = quote(namespace, safe="") if place.namespaced else "default"
    inside = f"namespaces/{home}/" if place.namespaced else ""
    obj = ask(f"{place.root}/{inside}{place.plural}/{quote(name, safe='')}")
    if obj is None:
        return None
    facts = _base(obj, place.kind, now_s)
    facts.events = about(_items(ask, f"/api/v1/namespaces/{home}/events"), facts)
    return facts


def _base(obj: Object, kind: str, now_s: float) -> Facts:
    return Facts({**obj, "kind": kind}, now_s=now_s)


def _collection(plural: str, namespace: str) -> str:
    if plural in CLUSTER:
        return f"{GROUPS[plural]}/{plural}"
    return f"{GROUPS[plural]}/namespaces/{quote(namespace, safe='')}/{plural}"


def _owners(ask: Ask, obj: Object, namespace: str) -> list[Object]:
    """The chain of controllers, and the autoscaler of the last of them."""
    out: list[Object] = []
    last = obj
    while len(out) < OWNERS:
        listed = last["metadata"].get("ownerReferences") or ()
        owner = next((item for item in listed if item.get("controller")), None)
        if owner is None:
            break
        kind, name = owner["kind"], owner["name"]
        found = None
        if kind in PLURALS:
            found = ask(f"{_collection(PLURALS[kind], namespace)}/{quote(name, safe='')}")
        out.append({"metadata": {"name": name}, **(found or {}), "kind": kind})
        if found is None:
            break
        last = out[-1]
    top = {"kind": last.get("kind"), "name": last["metadata"]["name"]}
    if PLURALS.get(top["kind"] or "") in SCALED:
        path = f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers"
        for item in _items(ask, path):
            target = item["spec"].get("scaleTargetRef") or {}
            if {key: target.get(key) for key in top} == top:
                out.append({**item, "kind": "HorizontalPodAutoscaler"})
    return out


def _parts(ask: Ask, facts: Facts, events: list[Object], namespace: str) -> list[Facts]:
    """The newest set of a Deployment, and pods."""
    uids = {facts.obj["metadata"]["uid"]}
    parts = []
    if facts.kind == "Deployment":
        sets = _owned(_items(ask, _collection("replicasets", namespace)), uids)
        uids = {item["metadata"]["uid"] for item in sets}
        if sets:
            newest = max(sets, key=_revision)
            parts.append(_base(newest, "ReplicaSet", facts.now_s))
    pods = _owned(_items(ask, _collection("pods", namespace)), uids)
    parts += [_base(pod, "Pod", facts.now_s) for pod in pods[:PARTS]]
    for part in parts:
        part.events = about(events, part)
    _nodes(ask, [part for part in parts if part.kind == "Pod"])
    _logs(ask, [part for part in parts if part.kind == "Pod"])
    return parts


def _revision(obj: Object) -> int:
    notes = obj["metadata"].get("annotations") or {}
    return int(notes.get("deployment.kubernetes.io/revision") or 0)


def _owned(objects: Iterable[Object], uids: set[str]) -> list[Object]:
    return [
        item
        for item in objects
        if any(
            ref.get("controller") and ref["uid"] in uids
            for ref in item["metadata"].get("ownerReferences") or ()
        )
    ]


def _nodes(ask: Ask, pods: list[Facts]) -> None:
    """The nodes, and what each has against pods that have none."""
    if not pods:
        return
    nodes = _items(ask, "/api/v1/nodes")
    for facts in pods:
        facts.nodes = nodes
    waiting = [
        facts
        for facts in pods
        if not facts.spec.get("nodeName")
        and facts.condition("PodScheduled").get("reason") == "Unschedulable"
    ]
    if not waiting or len(nodes) > JUDGED_NODES:
        return
    from .judging import judge

    placed, namespaces = _items(ask, "/api/v1/pods"), _items(ask, "/api/v1/namespaces")
    for facts in waiting:
        judged = judge(facts.obj, nodes, placed, namespaces)
        # A node that would do now is no answer: then what the scheduler said last counts.
        if len(judged.reasons) == len(nodes):
            facts.judged, facts.free = judged


def _logs(ask: Ask, pods: list[Facts]) -> None:
    """What containers wrote before they failed."""
    failed = [
        (facts, item)
        for facts in pods
        for item in containers_of(facts)
        if item.ended.get("exitCode")
    ]
    for facts, item in failed[:LOGS]:
        meta = facts.obj["metadata"]
        path = f"{_collection('pods', meta['namespace'])}/{quote(facts.name, safe='')}/log"
        # A container that waits for its next run shows the one before by itself.
        previous = "&previous=true" if item.running else ""
        found = ask(f"{path}?container={quote(item.name)}&{LOG_QUERY}{previous}")
        if found is not None:
            # A line of JSON comes decoded.
            facts.logs[item.name] = found if isinstance(found, str) else json.dumps(found)
