"""Pods that have no node: which filters failed where, and what would help. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator
from typing import NamedTuple

from sampan.api.errors import Object

from .facts import Facts, Finding, plural, said

SHOWN_NODES = 5
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


def no_node(facts: Facts) -> Iterator[Finding]:
    """The scheduler has looked, and no node fits."""
    said = facts.condition("PodScheduled")
    if facts.spec.get("nodeName") or said.get("reason") != "Unschedulable":
        return
    message = said.get("message") or ""
    if not facts.nodes and not message.startswith("0/"):
        yield Finding(
            "unschedulable/no-nodes",
            "There are no nodes.",
            [message],
            ["Start an agent: sampan up, or sampan agent on another machine."],
        )
        return
    reasons = reasons_of(message)
    if facts.judged:
        reasons = Counter(reason for found in facts.judged.values() for reason in found)
    known: set[str] = set()
    # Nodes that the pod does not mean say least, where there are others.
    unmeant = [entry for entry in FILTERS if entry.cause == UNMEANT]
    for entry in [*(entry for entry in FILTERS if entry.cause != UNMEANT), *unmeant]:
        mine = [reason for reason in reasons if entry.marks.search(reason) and reason not in known]
        if mine:
            known |= {*mine}
            where = list(_where(facts, mine)) or [
                f"{reasons[item]} node(s): {item}" if reasons[item] else item for item in mine
            ]
            alone = entry.cause != UNMEANT or known == {*mine}
            yield Finding(
                entry.cause,
                f"It has no node: {entry.text}." if alone else "It does not mean other nodes.",
                where,
                list(dict.fromkeys(entry.fix(facts, item) for item in mine)) if alone else [],
            )
    if not known:
        yield Finding("unschedulable/other", "It has no node.", [message])
    if facts.status.get("nominatedNodeName"):
        yield Finding(
            "unschedulable/nominated",
            "Others are leaving for it.",
            [f"status.nominatedNodeName: {facts.status['nominatedNodeName']}"],
            broken=False,
        )


def reasons_of(message: str) -> Counter[str]:
    """How many nodes said what, from "0/3 nodes are available: 1 Insufficient cpu, 2 ..."."""
    text = message.partition(": ")[2].partition(" preemption: ")[0]
    text = text.removesuffix(" no new claims to deallocate,").rstrip(". ")
    found: Counter[str] = Counter()
    for part in re.split(r", (?=\d+ )", text):
        number, _, reason = part.partition(" ")
        if number.isdigit():
            found[reason] += int(number)
        elif part:
            # What holds for all nodes has no number.
            found[part] += 0
    return found


def _where(facts: Facts, reasons: list[str]) -> Iterator[str]:
    """What failed on which nodes; those of which the same is to be said together."""
    rows: dict[str, list[str]] = {}
    for node, found in facts.judged.items():
        mine = [_detail(facts, node, item) for item in found if item in reasons]
        if mine:
            rows.setdefault(", ".join(mine), []).append(node)
    for text, names in list(rows.items())[:SHOWN_NODES]:
        more = len(names) - SHOWN_NODES
        listed = ", ".join(names[:SHOWN_NODES]) + (f" and {more} more" if more > 0 else "")
        yield f"{listed}: {text}"
    left = sum(len(names) for names in list(rows.values())[SHOWN_NODES:])
    if left:
        yield f"and {plural(left, 'node')} more"


def _detail(facts: Facts, name: str, reason: str) -> str:
    """The reason, with what the node has instead."""
    node = next((item for item in facts.nodes if item["metadata"]["name"] == name), {})
    free = facts.free.get(name, {})
    what = "pods" if reason == "Too many pods" else reason.removeprefix("Insufficient ")
    if what in free:
        return f"{reason} ({free[what]} free)"
    if "untolerated taint" in reason:
        return f"{reason} ({', '.join(taints_of(node))})"
    return reason


def taints_of(node: Object) -> list[str]:
    """As kubectl taint writes them."""
    return [
        f"{item['key']}{'=' if item.get('value') else ''}{item.get('value') or ''}:{item['effect']}"
        for item in (node.get("spec") or {}).get("taints") or ()
        if item["effect"] != "PreferNoSchedule"
    ]


def gated(facts: Facts) -> Iterator[Finding]:
    gates = [item["name"] for item in facts.spec.get("schedulingGates") or ()]
    if gates:
        yield Finding(
            "scheduling-gated",
            "It is held back by scheduling gates.",
            [f"spec.schedulingGates: {', '.join(gates)}"],
            [f"Whoever set {gates[0]} is to remove it; the scheduler does not look until then."],
        )


def unscheduled(facts: Facts) -> Iterator[Finding]:
    """Nobody has looked at it."""
    spec = facts.spec
    if spec.get("nodeName") or spec.get("schedulingGates") or facts.condition("PodScheduled"):
        return
    name = spec.get("schedulerName") or "default-scheduler"
    if name != "default-scheduler":
        yield Finding(
            "no-scheduler",
            f"No scheduler named {name} has looked at it.",
            [f"spec.schedulerName: {name}", "no PodScheduled condition"],
            [
                f"Start the scheduler {name}, add a profile of that name to scheduler.yaml, "
                "or leave schedulerName out."
            ],
        )
    elif event := facts.event("FailedResourceClaimCreation"):
        yield Finding(
            "devices/claim",
            "A claim for devices cannot be made for it, so the scheduler does not look at it.",
            [said(event)],
            ["Create the ResourceClaimTemplate it names, or correct spec.resourceClaims."],
        )
    elif facts.status.get("phase") == "Pending" and not facts.events:
        yield Finding("not-scheduled-yet", "The scheduler has not come to it yet.", broken=False)
