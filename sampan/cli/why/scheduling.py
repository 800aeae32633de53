"""Pods that have no node: which filters failed where, and who has not looked. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator

from .facts import Facts, Finding, plural, said
from .filters import FILTERS, UNMEANT, taints_of

SHOWN_NODES = 5


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
            alone = entry.cause != UNMEANT or known == {*mine}
            yield Finding(
                entry.cause,
                f"It has no node: {entry.text}." if alone else "It does not mean other nodes.",
                _told(facts, reasons, mine),
                list(dict.fromkeys(entry.fix(facts, item) for item in mine)) if alone else [],
            )
    if strange := [reason for reason in reasons if reason not in known]:
        yield Finding(
            "unschedulable/other",
            "It has no node: an extender or a plugin has something against nodes.",
            _told(facts, reasons, strange),
            ["Ask those whom scheduler.yaml names: these words are theirs."],
        )
    elif not known:
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


def _told(facts: Facts, reasons: Counter[str], mine: list[str]) -> list[str]:
    return list(_where(facts, mine)) or [
        f"{reasons[item]} node(s): {item}" if reasons[item] else item for item in mine
    ]


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


def gated(facts: Facts) -> Iterator[Finding]:
    gates = [item["name"] for item in facts.spec.get("schedulingGates") or ()]
    if gates:
        yield Finding(
            "scheduling-gated",
            "It is held back by scheduling gates.",
            [f"spec.schedulingGates: {', '.join(gates)}"],
            [f"Whoever set {gates[0]} is to remove it; the scheduler does not look until then."],
        )


def undecided(facts: Facts) -> Iterator[Finding]:
    """The scheduler, or an extender that it asked, could not do its work."""
    said = facts.condition("PodScheduled")
    if facts.spec.get("nodeName") or said.get("reason") != "SchedulerError":
        return
    yield Finding(
        "scheduler-error",
        "The scheduler could not decide about it; it is tried again.",
        [f"PodScheduled: SchedulerError: {said.get('message')}"],
        [
            "Where scheduler.yaml names extenders, bring the one that fails back, or mark it "
            "ignorable; else see: sampan logs control"
        ],
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
