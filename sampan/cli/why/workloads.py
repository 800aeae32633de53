"""Deployments, sets and Jobs: what they say of themselves; their pods say the rest. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

from .facts import Facts, Finding, plural, said


class Refusal(NamedTuple):
    """Why pods could not even be created."""

    cause: str
    marks: re.Pattern[str]
    text: str
    fix: str


REFUSALS = (
    Refusal(
        "create/quota",
        re.compile(r"exceeded quota"),
        "the namespace's quota is used up",
        "Raise the ResourceQuota, remove other pods, or ask for less.",
    ),
    Refusal(
        "create/quota-unset",
        re.compile(r"failed quota|must specify"),
        "the quota wants to know requests or limits, and the template has none",
        "Set resources in the template, or a LimitRange with defaults.",
    ),
    Refusal(
        "create/limit-range",
        re.compile(r"(minimum|maximum|max) .* (usage|ratio)", re.I),
        "a LimitRange does not allow such pods",
        "Bring the template's resources within the LimitRange.",
    ),
    Refusal(
        "create/webhook-unreachable",
        re.compile(r"failed calling webhook"),
        "an admission webhook that has to be asked does not answer",
        "Bring back what serves it, or take it out: kubectl get validatingwebhookconfigurations,"
        "mutatingwebhookconfigurations (failurePolicy: Ignore lets pods pass meanwhile).",
    ),
    Refusal(
        "create/webhook",
        re.compile(r"webhook"),
        "an admission webhook refuses them",
        "Do what the webhook asks.",
    ),
    Refusal(
        "create/policy",
        re.compile(r"ValidatingAdmissionPolicy"),
        "an admission policy refuses them",
        "Do what the policy's message asks.",
    ),
    Refusal(
        "create/pod-security",
        re.compile(r"violates PodSecurity"),
        "the namespace's pod security level forbids them",
        "Set the securityContext the message names, or the namespace's level.",
    ),
    Refusal(
        "create/service-account",
        re.compile(r"serviceaccount", re.I),
        "their ServiceAccount does not exist",
        "Create it, or correct serviceAccountName.",
    ),
    Refusal(
        "create/priority-class",
        re.compile(r"PriorityClass", re.I),
        "their PriorityClass does not exist",
        "Create it, or correct priorityClassName.",
    ),
    Refusal(
        "create/namespace",
        re.compile(r"being terminated"),
        "the namespace is being deleted",
        "Use another namespace.",
    ),
    Refusal(
        "create/invalid",
        re.compile(r"is invalid|Invalid value"),
        "the template makes pods that are not valid",
        "Correct what the message names.",
    ),
)


def refused(facts: Facts) -> Iterator[Finding]:
    """Pods could not be created: by the set's condition, or its events."""
    failure = facts.condition("ReplicaFailure")
    event = facts.event("FailedCreate")
    if failure.get("status") != "True" and (event is None or _caught_up(facts)):
        return
    message = failure.get("message") or (event or {}).get("message") or ""
    told = [f"ReplicaFailure: {message}"] if failure else []
    told += [said(event)] if event else []
    for entry in REFUSALS:
        if entry.marks.search(message):
            yield Finding(entry.cause, f"Pods cannot be created: {entry.text}.", told, [entry.fix])
            return
    text = "Jobs cannot be created." if facts.kind == "CronJob" else "Pods cannot be created."
    yield Finding("create/refused", text, told, ["Correct what the message names."])


def _caught_up(facts: Facts) -> bool:
    """Has it made its pods since?"""
    if facts.kind == "Job":
        made = ("active", "succeeded", "failed")
        ended = any(item.get("status") == "True" for item in facts.status.get("conditions") or ())
        return ended or any(facts.status.get(key) for key in made)
    wanted = facts.spec.get("replicas", facts.status.get("desiredNumberScheduled"))
    has = facts.status.get("replicas", facts.status.get("currentNumberScheduled"))
    return (wanted or 0) <= (has or 0)


def progress(facts: Facts) -> Iterator[Finding]:
    found = facts.condition("Progressing")
    if found.get("reason") == "ProgressDeadlineExceeded":
        seconds = facts.spec.get("progressDeadlineSeconds", 600)
        yield Finding(
            "deployment/deadline",
            f"The rollout has made no progress for {seconds} s, and is given up.",
            [f"Progressing: {found.get('message')}"],
            [f"Mend the pods below, or go back: kubectl rollout undo {facts.title}"],
        )


def paused(facts: Facts) -> Iterator[Finding]:
    if facts.kind == "Deployment" and facts.spec.get("paused"):
        yield Finding(
            "deployment/paused",
            "It is paused: changes of its template wait.",
            ["spec.paused: true"],
            [f"kubectl rollout resume {facts.title}"],
        )


def scaled_to_nothing(facts: Facts) -> Iterator[Finding]:
    scales = ("Deployment", "ReplicaSet", "StatefulSet", "ReplicationController")
    if facts.kind in scales and facts.spec.get("replicas") == 0:
        by = [item for item in facts.owners if item["kind"] == "HorizontalPodAutoscaler"]
        yield Finding(
            "scaled-to-zero",
            "It is scaled to 0, so it has no pods.",
            ["spec.replicas: 0", *(f"scaled by {_named(item)}" for item in by)],
            [f"kubectl scale {facts.title} --replicas=1"],
        )


def _readiness(ready: int, wanted: int) -> str:
    return "Its pod is not ready." if wanted == 1 else f"{ready} of {wanted} pods are ready."


def behind(facts: Facts) -> Iterator[Finding]:
    """Its controller has not seen the last change."""
    seen, now = (
        facts.status.get("observedGeneration", 0),
        facts.obj["metadata"].get("generation", 0),
    )
    if facts.kind in ("Deployment", "StatefulSet", "DaemonSet", "ReplicaSet") and seen < now:
        yield Finding(
            "unobserved",
            "Its controller has not looked at the last change yet.",
            [f"generation {now}, observed {seen}"],
            broken=False,
        )


def counts(facts: Facts) -> Iterator[Finding]:
    """How many pods are as they should be."""
    if facts.kind not in ("Deployment", "StatefulSet", "ReplicaSet", "ReplicationController"):
        return
    wanted, ready = facts.spec.get("replicas", 1), facts.status.get("readyReplicas", 0)
    updated = facts.status.get("updatedReplicas", ready)
    if wanted == 0:
        return
    if ready >= wanted and updated >= wanted:
        yield Finding("running", f"All of its {plural(wanted, 'pod')} are ready.", broken=False)
    elif ready >= wanted:
        yield Finding(
            "rolling",
            f"A rollout is under way: {updated} of {plural(wanted, 'pod')} "
            "are of the new template.",
            broken=False,
        )
    else:
        yield Finding(
            "not-ready",
            _readiness(ready, wanted),
            [f"spec.replicas: {wanted}, status.readyReplicas: {ready}"],
        )


def ordered(facts: Facts) -> Iterator[Finding]:
    """A StatefulSet makes one pod after the other."""
    if facts.kind != "StatefulSet" or facts.spec.get("podManagementPolicy") == "Parallel":
        return
    wanted, there = facts.spec.get("replicas", 1), len(facts.parts)
    stuck = [item for item in facts.parts if item.condition("Ready").get("status") != "True"]
    if stuck and there < wanted:
        first = min(stuck, key=lambda item: (len(item.name), item.name))
        yield Finding(
            "statefulset/order",
            f"It goes on when {first.name} is ready.",
            [
                f"{there} of {plural(wanted, 'pod')} made, in order",
                "podManagementPolicy: OrderedReady",
            ],
            [f"Mend {first.name} (below); podManagementPolicy: Parallel does not wait."],
        )


def eligible(facts: Facts) -> Iterator[Finding]:
    """A DaemonSet that has nowhere to go."""
    if facts.kind != "DaemonSet":
        return
    wanted, ready = (
        facts.status.get("desiredNumberScheduled", 0),
        facts.status.get("numberReady", 0),
    )
    if not wanted:
        selector = ((facts.spec.get("template") or {}).get("spec") or {}).get("nodeSelector")
        yield Finding(
            "daemonset/no-nodes",
            "No node is meant by it.",
            [f"nodeSelector: {selector}"] if selector else ["status.desiredNumberScheduled: 0"],
            ["Label nodes so, or tolerate their taints."],
        )
    elif ready < wanted:
        yield Finding("not-ready", _readiness(ready, wanted))
    else:
        yield Finding("running", f"All of its {plural(wanted, 'pod')} are ready.", broken=False)


JOB_ENDS = {
    "BackoffLimitExceeded": (
        "job/back-off",
        "Its pods failed more often than it may try.",
        "Mend what fails (the pods below), and create the Job anew; or raise backoffLimit.",
    ),
    "DeadlineExceeded": (
        "job/deadline",
        "It ran longer than it may.",
        "Raise activeDeadlineSeconds.",
    ),
    "PodFailurePolicy": (
        "job/pod-failure-policy",
        "A pod ended in a way its podFailurePolicy counts as final.",
        "Mend what fails, or the policy.",
    ),
    "FailedIndexes": (
        "job/indexes",
        "Some of its indexes have failed.",
        "See status.failedIndexes.",
    ),
    "MaxFailedIndexesExceeded": (
        "job/indexes",
        "More of its indexes failed than may.",
        "See status.failedIndexes.",
    ),
}


def job(facts: Facts) -> Iterator[Finding]:
    if facts.kind != "Job":
        return
    failed, done = facts.condition("Failed"), facts.condition("Complete")
    status, spec = facts.status, facts.spec
    tally = (
        f"{status.get('succeeded', 0)} of {spec.get('completions', 1)} done, "
        f"{status.get('failed', 0)} failed, backoffLimit {spec.get('backoffLimit', 6)}"
    )
    if failed.get("status") == "True":
        reason = failed.get("reason", "")
        cause, text, fix = JOB_ENDS.get(reason, ("job/failed", "It has failed.", ""))
        yield Finding(
            cause, text, [f"Failed: {reason}: {failed.get('message')}", tally], [fix] if fix else []
        )
    elif done.get("status") == "True":
        yield Finding("completed", "It is done.", [tally], broken=False)
    elif spec.get("suspend"):
        yield Finding(
            "job/suspended",
            "It is suspended.",
            ["spec.suspend: true"],
            [f'kubectl patch {facts.title} --type=merge -p \'{{"spec":{{"suspend":false}}}}\''],
        )
    elif status.get("failed"):
        yield Finding(
            "job/retrying", "Pods of it have failed; it tries again, later each time.", [tally]
        )
    else:
        yield Finding("job/running", "It is at work.", [tally], broken=False)


def _named(obj: dict[str, dict[str, str]]) -> str:
    return f"{obj['kind']} {obj['metadata']['name']}"
