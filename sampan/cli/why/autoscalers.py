"""HorizontalPodAutoscalers that do not scale. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .facts import Facts, Finding

MISSING_REQUEST = re.compile(r"missing request for (\S+) in container (\S+) of Pod (\S+)")
CUSTOM = {
    "FailedGetPodsMetric": "custom.metrics.k8s.io",
    "FailedGetObjectMetric": "custom.metrics.k8s.io",
    "FailedGetExternalMetric": "external.metrics.k8s.io",
}


def target_of(facts: Facts) -> str:
    found = facts.spec.get("scaleTargetRef") or {}
    return f"{str(found.get('kind', '')).lower()}/{found.get('name')}"


def told(facts: Facts, kind: str) -> str:
    found = facts.condition(kind)
    return f"{kind}: {found.get('reason')}: {found.get('message')}"


def unable(facts: Facts) -> Iterator[Finding]:
    """What it is to scale cannot be read or written."""
    found = facts.condition("AbleToScale")
    if found.get("status") != "False":
        return
    if found.get("reason") == "FailedGetScale":
        yield Finding(
            "hpa/no-target",
            f"What it is to scale, {target_of(facts)}, cannot be found or scaled.",
            [told(facts, "AbleToScale")],
            ["Create it, or correct spec.scaleTargetRef (apiVersion, kind and name)."],
        )
    else:
        yield Finding("hpa/unable", "It cannot scale its target.", [told(facts, "AbleToScale")])


def inactive(facts: Facts) -> Iterator[Finding]:
    """How many pods there should be cannot be computed."""
    found = facts.condition("ScalingActive")
    if found.get("status") != "False":
        return
    reason, message = found.get("reason", ""), found.get("message") or ""
    target, evidence = target_of(facts), [told(facts, "ScalingActive")]
    missing = MISSING_REQUEST.search(message)
    if reason == "ScalingDisabled":
        yield Finding(
            "hpa/disabled",
            "Its target is scaled to 0 by hand, and it leaves that alone.",
            evidence,
            [f"kubectl scale {target} --replicas=1"],
        )
    elif reason in ("AmbiguousSelector", "InvalidSelector"):
        yield Finding(
            "hpa/selector",
            "It cannot tell which pods are its own.",
            evidence,
            ["One autoscaler for each set of pods: delete the other, or correct its target."],
        )
    elif missing:
        resource, container, _ = missing.groups()
        yield Finding(
            "hpa/no-request",
            f"A share of {resource} cannot be computed: the pods do not request any.",
            evidence,
            [f"Set resources.requests.{resource} of container {container} in {target}'s template."],
        )
    elif reason in CUSTOM:
        yield Finding(
            "hpa/no-metrics-server",
            f"Nobody answers for the metric it asks of {CUSTOM[reason]}.",
            evidence,
            [f"Install what serves {CUSTOM[reason]} (an adapter), or correct the metric's name."],
        )
    else:
        yield Finding(
            "hpa/no-metrics",
            "There are no measurements of its pods.",
            evidence,
            [
                f"sampan why {target}: pods that are not ready are not measured; one that is "
                "ready has figures after half a minute (kubectl top pods)."
            ],
        )


def limited(facts: Facts) -> Iterator[Finding]:
    found = facts.condition("ScalingLimited")
    if found.get("status") == "True" and found.get("reason") == "TooManyReplicas":
        yield Finding(
            "hpa/at-maximum",
            f"It would have more pods, but may have {facts.spec.get('maxReplicas')} at most.",
            [told(facts, "ScalingLimited")],
            ["Raise spec.maxReplicas, if the nodes have room."],
        )


def steady(facts: Facts) -> Iterator[Finding]:
    status = facts.status
    if facts.condition("ScalingActive").get("status") == "True":
        yield Finding(
            "running",
            f"It keeps {target_of(facts)} at {status.get('desiredReplicas', 0)} replicas.",
            [told(facts, "ScalingActive")],
            broken=False,
        )
    elif not status.get("conditions"):
        yield Finding("hpa/new", "It has not been looked at yet.", broken=False)
