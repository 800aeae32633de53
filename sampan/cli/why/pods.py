"""Pods as a whole: ended, evicted, leaving, on a node that is silent. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object

from . import spaces
from .containers import containers_of, wrote
from .facts import Facts, Finding, plural, said, seconds_since

DISRUPTIONS = {
    "PreemptionByScheduler": (
        "a more important pod needed its place",
        "Give it a higher priorityClassName, or add room.",
    ),
    "EvictionByEvictionAPI": (
        "somebody drained its node or evicted it",
        "Its owner makes another one elsewhere.",
    ),
    "DeletionByTaintManager": (
        "its node was tainted NoExecute and it does not tolerate that",
        "Add a toleration with tolerationSeconds if it is to stay longer.",
    ),
    "DeletionByDeviceTaintManager": (
        "a device of it was tainted NoExecute and its claim does not tolerate that",
        "Ask whose driver it is what is the matter with the device, or tolerate the taint.",
    ),
    "DeletionByPodGC": ("its node is gone", "Its owner makes another one elsewhere."),
    "TerminationByKubelet": (
        "the node ended it, to save itself",
        "Set requests to what it needs, or free the node.",
    ),
}


def leaving(facts: Facts) -> Iterator[Finding]:
    """Deleted, and still there."""
    meta = facts.obj["metadata"]
    stamp = meta.get("deletionTimestamp")
    if not stamp:
        return
    if meta.get("finalizers"):
        yield from spaces.kept(facts)
    elif node_trouble(facts):
        yield Finding(
            "terminating/node",
            "It is deleted, but its node is silent and cannot say that it has ended.",
            [node_trouble(facts)],
            ["Bring the node back, or delete it; then the pod goes too."],
        )
    else:
        grace = meta.get("deletionGracePeriodSeconds") or 0
        past = seconds_since(stamp, facts.now_s)
        late = past > 0
        text = "It is ending" + (", and should have ended already." if late else ".")
        yield Finding(
            "terminating/grace",
            text,
            [f"deletionTimestamp: {stamp}, grace: {grace} s"],
            ["The program ignores SIGTERM: handle it, or lower terminationGracePeriodSeconds."]
            if late or grace > 60
            else [],
            broken=late,
        )


def node_trouble(facts: Facts) -> str:
    """Why the pod's node is of no use, "" if it is."""
    name = facts.spec.get("nodeName")
    if not name:
        return ""
    node = next((item for item in facts.nodes if item["metadata"]["name"] == name), None)
    if node is None:
        return f"node {name} does not exist" if facts.nodes else ""
    listed = (node.get("status") or {}).get("conditions") or ()
    ready: Object = next((item for item in listed if item["type"] == "Ready"), {})
    if ready.get("status") == "True":
        return ""
    return f"node {name}: Ready is {ready.get('status', 'unknown')}: {ready.get('message', '')}"


def silent_node(facts: Facts) -> Iterator[Finding]:
    trouble = node_trouble(facts)
    name = facts.spec.get("nodeName")
    if trouble.endswith("does not exist") and not facts.status.get("startTime"):
        yield Finding(
            "node/none",
            f"It is bound to node {name}, which does not exist.",
            [f"spec.nodeName: {name}"],
            ["Leave spec.nodeName out: the scheduler finds a node; or correct it."],
        )
    elif trouble and "deletionTimestamp" not in facts.obj["metadata"]:
        yield Finding(
            "node/not-ready",
            "Its node is not heard of.",
            [trouble],
            ["See the node's agent (sampan status, sampan logs node)."],
        )


def disrupted(facts: Facts) -> Iterator[Finding]:
    mark = facts.condition("DisruptionTarget")
    if mark.get("status") == "True":
        text, fix = DISRUPTIONS.get(mark.get("reason", ""), ("it was in the way", ""))
        yield Finding(
            "disrupted",
            f"It was sent away: {text}.",
            [f"DisruptionTarget: {mark.get('reason')}: {mark.get('message', '')}"],
            [fix] if fix else [],
        )


def ended(facts: Facts) -> Iterator[Finding]:
    phase, reason = facts.status.get("phase"), facts.status.get("reason") or ""
    if phase == "Succeeded":
        yield Finding(
            "completed", "It has done its work: every container ended with 0.", broken=False
        )
    if phase != "Failed" or facts.condition("DisruptionTarget"):
        return
    message = facts.status.get("message") or ""
    if reason == "Evicted":
        yield Finding(
            "evicted",
            "The node evicted it because it ran short.",
            [message],
            ["Set requests and limits to what it needs, or free the node."],
        )
    elif reason == "DeadlineExceeded":
        yield Finding(
            "deadline",
            "It ran longer than it may.",
            [f"spec.activeDeadlineSeconds: {facts.spec.get('activeDeadlineSeconds')}"],
            ["Raise activeDeadlineSeconds, or make it faster."],
        )
    elif reason:
        yield Finding(
            "refused",
            "The node did not take it.",
            [f"{reason}: {message}"],
            ["Its owner makes another one; see what the node says."],
        )
    else:
        failed = [item for item in containers_of(facts) if item.ended.get("exitCode")]
        yield Finding(
            "failed",
            "It has failed, and its restartPolicy lets it be.",
            [
                line
                for item in failed
                for line in (
                    f"{item.word}: exit code {item.ended['exitCode']}",
                    *wrote(facts, item),
                )
            ],
            [
                f"kubectl logs -n {facts.obj['metadata']['namespace']} {facts.name} -c {item.name}"
                for item in failed[:1]
            ],
        )


def well(facts: Facts) -> Iterator[Finding]:
    """Running and ready: then that is the answer."""
    ready = facts.condition("Ready")
    if ready.get("status") == "True" and "deletionTimestamp" not in facts.obj["metadata"]:
        restarts = sum(item.status.get("restartCount") or 0 for item in containers_of(facts))
        yield Finding(
            "running",
            "It runs and is ready.",
            [f"{plural(restarts, 'restart')} so far"] if restarts else [],
            broken=False,
        )


def starting(facts: Facts) -> Iterator[Finding]:
    waiting = [
        item
        for item in containers_of(facts)
        if item.waiting.get("reason") in ("ContainerCreating", "PodInitializing")
    ]
    last = facts.event("Pulling", "Scheduled")
    if waiting and facts.spec.get("nodeName"):
        yield Finding(
            "starting",
            f"Node {facts.spec['nodeName']} is making it.",
            [said(last)] if last else [],
            broken=False,
        )
