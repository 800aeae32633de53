"""PodDisruptionBudgets that let nobody go, or protect nothing. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object
from sampan.api.meta import has_condition
from sampan.api.selectors import from_label_selector

from .facts import Facts, Finding, is_finished, labels_of, plural

SHOWN = 3


def chosen(budget: Object, pods: list[Object]) -> list[Object]:
    """The pods a budget is about, of those of its namespace."""
    selector = (budget.get("spec") or {}).get("selector")
    if selector is None:
        return []
    matcher = from_label_selector(selector)
    return [pod for pod in pods if matcher.matches(labels_of(pod)) and not is_finished(pod)]


def matches_nothing(facts: Facts) -> Iterator[Finding]:
    if not chosen(facts.obj, facts.others.get("pods", [])):
        yield Finding(
            "pdb/matches-nothing",
            "Its selector matches no pod, so it protects nothing.",
            [f"spec.selector: {facts.spec.get('selector')}"],
            ["Correct spec.selector, or delete it."],
        )


def failed(facts: Facts) -> Iterator[Finding]:
    found = facts.condition("DisruptionAllowed")
    if found.get("reason") == "SyncFailed":
        yield Finding(
            "pdb/failed",
            "How many pods there should be cannot be told, so none may go.",
            [f"DisruptionAllowed: {found.get('message')}"],
            ["Its pods' owners are to be scalable; else use minAvailable with a number."],
        )


def overlapping(facts: Facts) -> Iterator[Finding]:
    """A pod with two budgets can never be evicted: the server refuses."""
    mine = {pod["metadata"]["name"] for pod in chosen(facts.obj, facts.others.get("pods", []))}
    for other in facts.others.get("poddisruptionbudgets", []):
        name = other["metadata"]["name"]
        if name == facts.name:
            continue
        found = chosen(other, facts.others.get("pods", []))
        both = sorted(mine & {pod["metadata"]["name"] for pod in found})
        if both:
            yield Finding(
                "pdb/overlapping",
                f"Budget {name} is about the same pods: those cannot be evicted at all.",
                [f"pod {one} has both" for one in both[:SHOWN]],
                ["Let each pod have one budget: correct a selector, or delete one."],
            )


def shut(facts: Facts) -> Iterator[Finding]:
    status, spec = facts.status, facts.spec
    expected, desired = status.get("expectedPods", 0), status.get("desiredHealthy", 0)
    healthy = status.get("currentHealthy", 0)
    if status.get("disruptionsAllowed") or not expected or list(failed(facts)):
        return
    rule = next(
        (f"spec.{key}: {spec[key]}" for key in ("minAvailable", "maxUnavailable") if key in spec),
        "",
    )
    tally = f"{plural(expected, 'pod')}, {healthy} healthy, {desired} needed"
    pods = chosen(facts.obj, facts.others.get("pods", []))
    if healthy < expected:
        sick = [pod["metadata"]["name"] for pod in pods if not has_condition(pod, "Ready")]
        fix = [f"sampan why pod/{name} -n {facts.obj['metadata']['namespace']}" for name in sick]
        if spec.get("unhealthyPodEvictionPolicy") != "AlwaysAllow":
            fix = [*fix[:1], "unhealthyPodEvictionPolicy: AlwaysAllow lets those go that are not."]
        yield Finding(
            "pdb/unhealthy",
            "No pod may be evicted: others of them are not ready.",
            [tally, rule, *(f"pod {name} is not ready" for name in sick[:SHOWN])],
            fix,
        )
    elif desired >= expected:
        yield Finding(
            "pdb/never-allows",
            "It never lets a pod go: all of them are to be there.",
            [tally, rule],
            ["Run one more replica than needed, or set maxUnavailable: 1 instead."],
        )


def open_(facts: Facts) -> Iterator[Finding]:
    allowed = facts.status.get("disruptionsAllowed") or 0
    yield Finding(
        "running",
        f"{plural(allowed, 'pod')} may be evicted now.",
        [f"status.disruptionsAllowed: {allowed}"],
        broken=False,
    )
