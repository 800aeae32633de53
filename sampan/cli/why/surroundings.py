"""What to fetch beside an object, by its kind: a GET or a few each; nothing is changed.

Bounds: of a namespace that does not go, `REMAINING` kinds are listed; of a CronJob, `RUNS` Jobs are
looked at.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote

from sampan.api.errors import Object

from .facts import Facts
from .spaces import remaining_in

REMAINING = 6
RUNS = 3

Ask = Callable[[str], Any]
"""Path in, decoded answer out; None for what is not there (404). A log is a text."""


def items(ask: Ask, path: str) -> list[Object]:
    """What a collection holds; nothing if there is none."""
    found: list[Object] = (ask(path) or {}).get("items") or []
    return found


def about(events: Iterable[Object], facts: Facts) -> list[Object]:
    """The object's own events, the oldest first."""
    uid = facts.obj["metadata"].get("uid")
    mine = [item for item in events if (item.get("involvedObject") or {}).get("uid") == uid]
    return sorted(mine, key=lambda item: item.get("lastTimestamp") or item.get("eventTime") or "")


def of_pod(ask: Ask, facts: Facts, namespace: str) -> None:
    path = f"/apis/networking.k8s.io/v1/namespaces/{namespace}/networkpolicies"
    facts.others["networkpolicies"] = items(ask, path)


def of_service(ask: Ask, facts: Facts, namespace: str) -> None:
    of_pod(ask, facts, namespace)
    facts.others["pods"] = items(ask, f"/api/v1/namespaces/{namespace}/pods")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    label = quote(f"kubernetes.io/service-name={facts.name}")
    facts.others["endpointslices"] = items(ask, f"{slices}?labelSelector={label}")


def of_claim(ask: Ask, facts: Facts, namespace: str) -> None:
    facts.others["pods"] = items(ask, f"/api/v1/namespaces/{namespace}/pods")
    facts.others["storageclasses"] = items(ask, "/apis/storage.k8s.io/v1/storageclasses")
    facts.others["persistentvolumes"] = items(ask, "/api/v1/persistentvolumes")


def of_ingress(ask: Ask, facts: Facts, namespace: str) -> None:
    net, core = "/apis/networking.k8s.io/v1", f"/api/v1/namespaces/{namespace}"
    facts.others["ingressclasses"] = items(ask, f"{net}/ingressclasses")
    facts.others["services"] = items(ask, f"{core}/services")
    slices = f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices"
    facts.others["endpointslices"] = items(ask, slices)
    names = {item["secretName"] for item in facts.spec.get("tls") or () if item.get("secretName")}
    found = (ask(f"{core}/secrets/{quote(name, safe='')}") for name in sorted(names))
    facts.others["secrets"] = [item for item in found if item is not None]


def of_budget(ask: Ask, facts: Facts, namespace: str) -> None:
    facts.others["pods"] = items(ask, f"/api/v1/namespaces/{namespace}/pods")
    path = f"/apis/policy/v1/namespaces/{namespace}/poddisruptionbudgets"
    facts.others["poddisruptionbudgets"] = items(ask, path)


def of_policy(ask: Ask, facts: Facts, namespace: str) -> None:
    facts.others["pods"] = items(ask, f"/api/v1/namespaces/{namespace}/pods")


def of_node(ask: Ask, facts: Facts, _namespace: str) -> None:
    chosen = quote(f"spec.nodeName={facts.name},status.phase!=Succeeded,status.phase!=Failed")
    facts.others["pods"] = items(ask, f"/api/v1/pods?fieldSelector={chosen}")
    facts.others["poddisruptionbudgets"] = items(ask, "/apis/policy/v1/poddisruptionbudgets")


def of_namespace(ask: Ask, facts: Facts, _namespace: str) -> None:
    where = f"namespaces/{quote(facts.name, safe='')}"
    if not facts.obj["metadata"].get("deletionTimestamp"):
        facts.others["resourcequotas"] = items(ask, f"/api/v1/{where}/resourcequotas")
        return
    for plural, group in remaining_in(facts)[:REMAINING]:
        root = "/api/v1"
        if group:
            known = ask(f"/apis/{group}") or {}
            version = (known.get("preferredVersion") or {}).get("groupVersion")
            if not version:
                continue
            root = f"/apis/{version}"
        facts.others[f"{plural}.{group}" if group else plural] = items(
            ask, f"{root}/{where}/{plural}"
        )


def of_schedule(ask: Ask, facts: Facts, namespace: str) -> None:
    uid = facts.obj["metadata"]["uid"]
    jobs = [
        item
        for item in items(ask, f"/apis/batch/v1/namespaces/{namespace}/jobs")
        if any(ref["uid"] == uid for ref in item["metadata"].get("ownerReferences") or ())
    ]
    jobs.sort(key=lambda item: item["metadata"].get("creationTimestamp") or "")
    facts.parts = [Facts({**job, "kind": "Job"}, now_s=facts.now_s) for job in jobs[-RUNS:]]
    events = items(ask, f"/api/v1/namespaces/{namespace}/events") if jobs else []
    for part in facts.parts:
        part.events = about(events, part)


SURROUNDINGS: dict[str, Callable[[Ask, Facts, str], None]] = {
    "pods": of_pod,
    "services": of_service,
    "persistentvolumeclaims": of_claim,
    "ingresses": of_ingress,
    "poddisruptionbudgets": of_budget,
    "networkpolicies": of_policy,
    "nodes": of_node,
    "namespaces": of_namespace,
    "cronjobs": of_schedule,
}
