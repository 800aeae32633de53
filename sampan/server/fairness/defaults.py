"""The FlowSchemas and PriorityLevelConfigurations every cluster has (apis/flowcontrol/bootstrap).

The mandatory ones are always brought back to what they should be; the suggested ones as long as
their annotation says so, and they are made again when they are gone, as upstream's ensurer does at
each start. They are written whole, straight to the store: they are the server's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from sampan.api.descriptor import Descriptor
from sampan.api.errors import Object
from sampan.api.meta import new_uid
from sampan.api.principals import EVERYBODY, MASTERS
from sampan.api.resources import resource
from sampan.store.interface import RevisionMismatch
from sampan.wire.json import encode_object

from ..changes import Note

if TYPE_CHECKING:
    from ..app import Server

GROUP: Final = "flowcontrol.apiserver.k8s.io"
AUTOUPDATE: Final = "apf.kubernetes.io/autoupdate-spec"
MANDATORY: Final = frozenset({"exempt", "catch-all"})
USER, NAMESPACE = "ByUser", "ByNamespace"
USUAL = ("get", "create", "update")

# name: (shares, percent it lends, queues, hand). Queues hold 50 requests each.
LEVELS: Final = {
    "system": (30, 33, 64, 6),
    "node-high": (40, 25, 64, 6),
    "leader-election": (10, 0, 16, 4),
    "workload-high": (40, 50, 128, 6),
    "workload-low": (100, 90, 128, 6),
    "global-default": (20, 50, 128, 6),
}
QUEUE_LENGTH = 50


def default_levels() -> Iterator[tuple[str, Object]]:
    """Name and spec of each."""
    yield "exempt", {
        "type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0},
    }  # fmt: skip
    yield "catch-all", {
        "type": "Limited",
        "limited": {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"},
                    "lendablePercent": 0},
    }  # fmt: skip
    for name, (shares, lendable, queues, hand) in LEVELS.items():
        queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": QUEUE_LENGTH}
        yield (
            name,
            {
                "type": "Limited",
                "limited": {
                    "nominalConcurrencyShares": shares,
                    "limitResponse": {"type": "Queue", "queuing": queuing},
                    "lendablePercent": lendable,
                },
            },
        )


def groups(*names: str) -> list[Object]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def users(*names: str) -> list[Object]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


def accounts(*names: str) -> list[Object]:
    return [
        {"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}}
        for name in names
    ]


def rule(
    verbs: tuple[str, ...], group: str, resources: tuple[str, ...], *, cluster: bool = False
) -> Object:
    out: Object = {"verbs": list(verbs), "apiGroups": [group], "resources": list(resources)}
    if cluster:
        out["clusterScope"] = True
    return {**out, "namespaces": ["*"]}


ALL_RESOURCES = rule(("*",), "*", ("*",), cluster=True)
ALL_PATHS: Final = {"verbs": ["*"], "nonResourceURLs": ["*"]}
PROBES: Final = {"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}
LEASES = rule(USUAL, "coordination.k8s.io", ("leases",))


def everything(subjects: list[Object]) -> list[Object]:
    return [
        {
            "subjects": subjects,
            "resourceRules": [ALL_RESOURCES],
            "nonResourceRules": [ALL_PATHS],
        }
    ]


def some(subjects: list[Object], *rules: Object) -> list[Object]:
    return [{"subjects": subjects, "resourceRules": list(rules)}]


MANAGER, SCHEDULER = "system:kube-controller-manager", "system:kube-scheduler"


def default_schemas() -> Iterator[tuple[str, Object]]:
    """Name and spec of each."""
    table: tuple[tuple[str, str, int, str, list[Object]], ...] = (
        ("exempt", "exempt", 1, "", everything(groups(MASTERS))),
        ("probes", "exempt", 2, "",
         [{"subjects": groups(*EVERYBODY), "nonResourceRules": [PROBES]}]),
        ("system-leader-election", "leader-election", 100, USER,
         some(users(MANAGER, SCHEDULER) + accounts("*"), LEASES)),
        ("endpoint-controller", "workload-high", 150, USER,
         some(users(MANAGER)
              + accounts("endpoint-controller", "endpointslicemirroring-controller"),
              rule(USUAL, "", ("endpoints",)))),
        ("workload-leader-election", "leader-election", 200, USER,
         some(accounts("*"), rule(USUAL, "", ("endpoints", "configmaps")), LEASES)),
        ("system-node-high", "node-high", 400, USER,
         some(groups("system:nodes"),
              rule(("*",), "", ("nodes", "nodes/status"), cluster=True),
              rule(("*",), "coordination.k8s.io", ("leases",)))),
        ("system-nodes", "system", 500, USER, everything(groups("system:nodes"))),
        ("kube-controller-manager", "workload-high", 800, NAMESPACE, everything(users(MANAGER))),
        ("kube-scheduler", "workload-high", 800, NAMESPACE, everything(users(SCHEDULER))),
        ("kube-system-service-accounts", "workload-high", 900, NAMESPACE,
         everything(accounts("*"))),
        ("service-accounts", "workload-low", 9000, USER,
         everything(groups("system:serviceaccounts"))),
        ("global-default", "global-default", 9900, USER, everything(groups(*EVERYBODY))),
        ("catch-all", "catch-all", 10000, USER, everything(groups(*EVERYBODY))),
    )  # fmt: skip
    for name, level, precedence, distinguisher, rules in table:
        spec: Object = {
            "priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence,
        }
        if distinguisher:
            spec["distinguisherMethod"] = {"type": distinguisher}
        yield name, {**spec, "rules": rules}


def found_condition(level: str, now: str, *, dangling: bool = False) -> Object:
    """The Dangling condition of a FlowSchema."""
    what = "but there is no such object" if dangling else "and it exists"
    return {
        "type": "Dangling",
        "status": "True" if dangling else "False",
        "lastTransitionTime": now,
        "reason": "NotFound" if dangling else "Found",
        "message": "This FlowSchema references the PriorityLevelConfiguration object named "
        f'"{level}" {what}',
    }


async def ensure(server: Server) -> None:
    """Make what is missing, and set right what may be."""
    levels = resource("prioritylevelconfigurations", GROUP)
    schemas = resource("flowschemas", GROUP)
    now = server.timestamp()
    work = []
    for name, spec in default_levels():
        work.append(_ensure(server, levels, name, spec, {}))
    for name, spec in default_schemas():
        level = spec["priorityLevelConfiguration"]["name"]
        status = {"conditions": [found_condition(level, now)]}
        work.append(_ensure(server, schemas, name, spec, status))
    await asyncio.gather(*work)


async def _ensure(
    server: Server, target: Descriptor, name: str, spec: Object, status: Object
) -> None:
    stored = server.find_object(target, "", name)
    metadata: dict[str, Any] = {
        "name": name,
        "uid": new_uid(),
        "creationTimestamp": server.timestamp(),
        "generation": 1,
        "annotations": {AUTOUPDATE: "true"},
    }
    expected = 0
    if stored is not None:
        kept = (stored["metadata"].get("annotations") or {}).get(AUTOUPDATE)
        if stored["spec"] == spec or (name not in MANDATORY and kept != "true"):
            return
        metadata = {**stored["metadata"]}
        expected = int(metadata.pop("resourceVersion"))
        metadata["generation"] = metadata.get("generation", 0) + 1
        status = stored.get("status") or status
    obj: Object = {
        "kind": target.kind,
        "apiVersion": target.api_version,
        "metadata": metadata,
        "spec": spec,
        "status": status,
    }
    try:
        await server.store.put(
            target.key("", name), encode_object(obj), expected=expected, note=Note(obj, stored)
        )
    except RevisionMismatch:
        # Another server of the same cluster was faster.
        return
