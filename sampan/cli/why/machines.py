"""Nodes that are not ready, cordoned, tainted or full. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from .budgets import chosen
from .facts import Facts, Finding, plural, taint_text

SHOWN = 5
PRESSURES = {
    "MemoryPressure": "memory",
    "DiskPressure": "disk space",
    "PIDPressure": "process numbers",
}


def silent(facts: Facts) -> Iterator[Finding]:
    ready = facts.condition("Ready")
    if ready.get("status") != "True":
        lost = ready.get("status") == "Unknown"
        yield Finding(
            "node/not-ready",
            "It has not been heard of." if lost else "It says that it is not ready.",
            [
                f"Ready: {ready.get('status', 'not said')}: {ready.get('reason')}: "
                f"{ready.get('message')}",
                *(
                    [f"since {ready['lastTransitionTime']}"]
                    if ready.get("lastTransitionTime")
                    else []
                ),
            ],
            [
                "See that its machine runs and reaches the server: sampan status; sampan logs node"
                if lost
                else "Mend what the message names."
            ],
        )


def pressed(facts: Facts) -> Iterator[Finding]:
    for kind, word in PRESSURES.items():
        found = facts.condition(kind)
        if found.get("status") == "True":
            yield Finding(
                "node/pressure",
                f"It is short of {word}: it takes no new pods and ends some that it has.",
                [f"{kind}: {found.get('reason')}: {found.get('message')}"],
                [f"Free {word} on it, or give pods requests so that fewer come."],
            )


def cordoned(facts: Facts) -> Iterator[Finding]:
    """New pods do not go there; those that are there may be held by budgets."""
    if not facts.spec.get("unschedulable"):
        return
    yield Finding(
        "node/cordoned",
        "It is cordoned: no new pods go there.",
        ["spec.unschedulable: true"],
        [f"kubectl uncordon {facts.name}"],
    )
    held = []
    for budget in facts.others.get("poddisruptionbudgets", []):
        meta, status = budget["metadata"], budget.get("status") or {}
        near = [
            pod
            for pod in facts.others.get("pods", [])
            if pod["metadata"]["namespace"] == meta["namespace"]
        ]
        if not status.get("disruptionsAllowed"):
            held += [(pod["metadata"], meta["name"]) for pod in chosen(budget, near)]
    if held:
        meta, name = held[0]
        yield Finding(
            "node/drain-blocked",
            f"{plural(len(held), 'pod')} of it may not be evicted now.",
            [f"{one['namespace']}/{one['name']}: budget {by}" for one, by in held[:SHOWN]],
            [f"sampan why pdb/{name} -n {meta['namespace']}"],
        )


def tainted(facts: Facts) -> Iterator[Finding]:
    told = [
        taint_text(item)
        for item in facts.spec.get("taints") or ()
        if not item["key"].startswith("node.kubernetes.io/")
    ]
    if told:
        yield Finding(
            "note/tainted",
            "It is tainted: only pods that tolerate that go there.",
            told,
            [f"kubectl taint node {facts.name} {item}-" for item in told[:1]],
            broken=False,
            note=True,
        )


def ready(facts: Facts) -> Iterator[Finding]:
    if facts.condition("Ready").get("status") == "True":
        pods = len(facts.others.get("pods", []))
        most = (facts.status.get("allocatable") or {}).get("pods", "?")
        text = f"It is ready, with {plural(pods, 'pod')} of at most {most}."
        yield Finding("running", text, broken=False)
