"""What a job's podFailurePolicy says of a failed pod, and when its successPolicy is met. Pure.

KEP-3329 (pod failure policy), KEP-3850 (per index), KEP-3998 (success policy).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sampan.api.errors import Object

from . import job_indexes as indexes


class Verdict(NamedTuple):
    """Of a policy on a failed pod."""

    message: str = ""
    """Why the whole job fails; "" if it does not."""
    counts: bool = True
    """Against the back-off limits."""
    action: str = ""
    """Of the rule that matched; "" if none did."""


def judge(job: Object, pod: Object) -> Verdict:
    """The first rule that matches decides; a failure that none matches counts."""
    policy = job["spec"].get("podFailurePolicy") or {}
    for position, rule in enumerate(policy.get("rules") or ()):
        why = _match(rule, pod)
        if why:
            action = rule["action"]
            message = f"{why} matching {action} rule at index {position}"
            return Verdict(message if action == "FailJob" else "", action != "Ignore", action)
    return Verdict()


def _match(rule: Object, pod: Object) -> str:
    """How a rule matches, in upstream's words; "" if it does not."""
    meta, status = pod["metadata"], pod.get("status") or {}
    name = f"{meta['namespace']}/{meta['name']}"
    codes = rule.get("onExitCodes")
    if codes is not None:
        for kind in ("containerStatuses", "initContainerStatuses"):
            found = _container(status.get(kind) or (), codes)
            if found is not None:
                code = found["state"]["terminated"]["exitCode"]
                return f"Container {found['name']} for pod {name} failed with exit code {code}"
        return ""
    patterns = {(item["type"], item.get("status")) for item in rule.get("onPodConditions") or ()}
    for condition in status.get("conditions") or ():
        if (condition["type"], condition.get("status")) in patterns:
            return f"Pod {name} has condition {condition['type']}"
    return ""


def _container(statuses: Iterable[Object], codes: Object) -> Object | None:
    """The first that ended with an exit code of the rule; 0 never matches."""
    only, values = codes.get("containerName"), codes.get("values") or ()
    for status in statuses:
        ended = (status.get("state") or {}).get("terminated")
        code = (ended or {}).get("exitCode") or 0
        if not code or (only is not None and only != status["name"]):
            continue
        if (code in values) == (codes["operator"] == "In"):
            return status
    return None


def success(job: Object, succeeded: indexes.Intervals) -> str:
    """Which rule of the successPolicy is met, as a message; "" if none is."""
    spec = job["spec"]
    policy = spec.get("successPolicy")
    if not policy or not succeeded:
        return ""
    for position, rule in enumerate(policy.get("rules") or ()):
        count = rule.get("succeededCount")
        if rule.get("succeededIndexes") is not None:
            wanted = indexes.parse(rule["succeededIndexes"], spec["completions"])
            if not wanted:
                continue
            found = indexes.shared(wanted, succeeded)
            met = found == indexes.total(wanted) or (count is not None and found >= count)
        else:
            met = count is not None and indexes.total(succeeded) >= count
        if met:
            return f"Matched rules at index {position}"
    return ""
