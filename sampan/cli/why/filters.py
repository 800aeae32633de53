"""What the scheduler's reasons mean, and what would help: a row for each of its filters. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from sampan.api.errors import Object

from .facts import Facts, taint_text

HOSTNAME = "kubernetes.io/hostname"
UNMEANT = "unschedulable/node-labels"


class Filter(NamedTuple):
    """What a reason of the scheduler's means."""

    cause: str
    marks: re.Pattern[str]
    text: str
    fix: Callable[[Facts, str], str]


def _room(facts: Facts, reason: str) -> str:
    what = reason.rpartition(" ")[2]
    if what == "pods":
        return "Every pod takes one of a node's places: add a node, or remove pods."
    asked = _asked(facts, what)
    return f"Ask for less {what} ({asked}), remove pods, or add a node with that much free."


def _asked(facts: Facts, what: str) -> str:
    parts = []
    for container in facts.spec.get("containers") or ():
        value = ((container.get("resources") or {}).get("requests") or {}).get(what)
        if value:
            parts.append(f"container {container['name']} requests {value}")
    return ", ".join(parts) or "the pod's requests"


def _taint(facts: Facts, reason: str) -> str:
    found = re.search(r"\{(.+?)\}", reason)
    refusing = [
        item
        for node in facts.nodes
        if any("untolerated taint" in why for why in facts.judged.get(node["metadata"]["name"], ()))
        for item in taints_of(node)
    ]
    taint = found[1] if found else next(iter(refusing), "its taint")
    if "not-ready" in taint or "unreachable" in taint:
        return "The node's agent is not heard of: see the node (kubectl describe node)."
    return f"Add a toleration of {taint} to the pod, or take the taint off the node."


def _labels(facts: Facts, reason: str) -> str:
    spec = facts.spec
    if spec.get("nodeSelector"):
        pairs = " ".join(f"{key}={value}" for key, value in spec["nodeSelector"].items())
        host = spec["nodeSelector"].get(HOSTNAME)
        if host:
            return f"No other node than {host} will do: {HOSTNAME} in spec.nodeSelector says so."
        return f"Label a node: kubectl label node NAME {pairs}; or change spec.nodeSelector."
    return "Label a node as spec.affinity.nodeAffinity wants it, or loosen that."


def _spread(facts: Facts, reason: str) -> str:
    if "missing required label" in reason:
        keys = [item["topologyKey"] for item in facts.spec.get("topologySpreadConstraints") or ()]
        return f"Label the nodes ({', '.join(keys)}), or correct topologyKey: they lack the label."
    return "Raise maxSkew, use ScheduleAnyway, or add room where there are few pods."


def _claims(facts: Facts, reason: str) -> str:
    missing = re.search(r'persistentvolumeclaim "(\S+)" not found', reason)
    if missing:
        return f"Create the claim {missing[1]} in this namespace, or correct spec.volumes."
    names = [
        item["persistentVolumeClaim"]["claimName"]
        for item in facts.spec.get("volumes") or ()
        if item.get("persistentVolumeClaim")
    ]
    where = f"-n {facts.obj['metadata']['namespace']}"
    return "See: " + " or ".join(f"sampan why pvc/{name} {where}" for name in names or ["NAME"])


def _always(text: str) -> Callable[[Facts, str], str]:
    return lambda facts, reason: text


FILTERS = (
    Filter(
        "unschedulable/resources",
        re.compile(r"^Insufficient |^Too many pods"),
        "no node has enough room",
        _room,
    ),
    Filter(
        "unschedulable/taints",
        re.compile(r"untolerated taint"),
        "nodes are tainted against it",
        _taint,
    ),
    Filter(
        "unschedulable/cordoned",
        re.compile(r"were unschedulable"),
        "nodes are cordoned",
        _always("kubectl uncordon NODE lets pods go there again."),
    ),
    Filter(
        "unschedulable/node-labels",
        re.compile(r"didn't match Pod's node affinity|scheduler-enforced node affinity"),
        "no node has the labels it wants",
        _labels,
    ),
    Filter(
        "unschedulable/node-name",
        re.compile(r"didn't match the requested node name"),
        "it asks for a node by name that is another",
        _always("Change spec.nodeName."),
    ),
    Filter(
        "unschedulable/ports",
        re.compile(r"didn't have free ports"),
        "its hostPort is taken on the nodes",
        _always("Drop hostPort (a Service needs none), or have fewer replicas than nodes."),
    ),
    Filter(
        "unschedulable/anti-affinity",
        re.compile(r"anti-affinity"),
        "pods keep each other away",
        _always("Have fewer replicas than domains, add nodes, or make the rule preferred."),
    ),
    Filter(
        "unschedulable/affinity",
        re.compile(r"pod affinity rules"),
        "the pods it wants to be near are nowhere it could go",
        _always("See that pods with those labels run, or make the rule preferred."),
    ),
    Filter(
        "unschedulable/spread",
        re.compile(r"topology spread constraints"),
        "it would make the pods uneven",
        _spread,
    ),
    Filter(
        "unschedulable/volume-node",
        re.compile(r"volume node affinity conflict|volume\(s\)|available volume zone"),
        "its volumes are elsewhere",
        _always(
            "Let it run where its volumes are, or have the claim bound anew "
            "(WaitForFirstConsumer binds where the pod can run)."
        ),
    ),
    Filter(
        "unschedulable/volume-limit",
        re.compile(r"exceed max volume count"),
        "nodes have as many volumes attached as they can",
        _always("Add a node."),
    ),
    Filter(
        "unschedulable/claim-in-use",
        re.compile(r"ReadWriteOncePod access mode already in-use"),
        "another pod has its claim, which is for one pod alone",
        _always("It is scheduled when that pod has ended; or let the claim be ReadWriteOnce."),
    ),
    Filter(
        "unschedulable/claim",
        re.compile(r"unbound immediate PersistentVolumeClaims|persistentvolumeclaim|pvc"),
        "its claims are not bound",
        _claims,
    ),
    Filter(
        "unschedulable/devices",
        re.compile(r"(?i)resourceclaim|allocate all claims|device class|cluster.s devices"),
        "its device claims cannot be had",
        _always("kubectl get resourceclaims,resourceslices shows what is asked and offered."),
    ),
)


def taints_of(node: Object) -> list[str]:
    """Those that keep pods away, as kubectl taint writes them."""
    return [
        taint_text(item)
        for item in (node.get("spec") or {}).get("taints") or ()
        if item["effect"] != "PreferNoSchedule"
    ]
