"""Services that nobody answers for. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from difflib import SequenceMatcher
from typing import Any

from sampan.api.errors import Object
from sampan.api.meta import has_condition

from .facts import Facts, Finding, labels_of, plural

SHOWN = 3
FORGOTTEN = 0.9
"""How like the labels that are wanted those are that lack some and have the others."""
ALIKE = 0.2
"""How much less like the labels that are wanted another pod's may be than the nearest ones."""


def selected(facts: Facts) -> list[Object]:
    """The pods its selector means."""
    wanted = (facts.spec.get("selector") or {}).items()
    return [pod for pod in facts.others.get("pods", []) if wanted <= labels_of(pod).items()]


def matches_nothing(facts: Facts) -> Iterator[Finding]:
    selector = facts.spec.get("selector")
    if not selector or facts.spec.get("type") == "ExternalName" or selected(facts):
        return
    text = ",".join(f"{key}={value}" for key, value in sorted(selector.items()))
    near = near_misses(selector, facts.others.get("pods", []))
    fix = (
        "Correct spec.selector, or the labels in the pods' template."
        if near
        else "Create pods with these labels, or correct spec.selector."
    )
    yield Finding(
        "service/matches-nothing",
        "Its selector matches no pod.",
        [f"spec.selector: {text}", *near],
        [fix],
    )


def near_misses(selector: Object, pods: list[Object]) -> list[str]:
    """Pods that have some of the labels, or the keys with other values."""
    found: dict[str, int] = {}
    for pod in pods:
        labels = labels_of(pod)
        wrong = [
            f"{key}={labels[key]}"
            for key, value in selector.items()
            if labels.get(key) not in (None, value)
        ]
        missing = [key for key in selector if key not in labels]
        if wrong and len(wrong) + len(missing) <= len(selector):
            text = " and ".join(wrong) + (f", and no label {', '.join(missing)}" if missing else "")
            found[text] = found.get(text, 0) + 1
        elif missing and len(missing) < len(selector):
            text = f"no label {', '.join(missing)}"
            found[text] = found.get(text, 0) + 1
    # The likeliest slip of the pen first.
    asked = " and ".join(f"{key}={value}" for key, value in selector.items())
    alike = {
        text: FORGOTTEN if text.startswith("no ") else SequenceMatcher(None, asked, text).ratio()
        for text in found
    }
    # Beside a slip, whatever is merely another application's tells nothing.
    least = max(alike.values(), default=0.0) - ALIKE
    near = [item for item in found.items() if alike[item[0]] > least]
    ranked = sorted(near, key=lambda item: (-round(alike[item[0]], 1), -item[1]))
    return [f"close: {plural(number, 'pod')} with {text}" for text, number in ranked[:SHOWN]]


def none_ready(facts: Facts) -> Iterator[Finding]:
    pods = selected(facts)
    if not pods or facts.spec.get("publishNotReadyAddresses"):
        return
    ready = [pod for pod in pods if has_condition(pod, "Ready")]
    if ready:
        return
    names = [pod["metadata"]["name"] for pod in pods]
    yield Finding(
        "service/not-ready",
        f"None of its {plural(len(pods), 'pod')} is ready, so connections are refused.",
        [f"pod {name} is not ready" for name in names[:SHOWN]],
        [f"sampan why pod/{names[0]}"],
    )


def ports(facts: Facts) -> Iterator[Finding]:
    """targetPort names a port no container has, or a number none declares."""
    pods = selected(facts)
    if not pods:
        return
    declared = [
        port for pod in pods for item in _containers(pod) for port in item.get("ports") or ()
    ]
    names = sorted({port["name"] for port in declared if port.get("name")})
    numbers = sorted({port["containerPort"] for port in declared})
    for port in facts.spec.get("ports") or ():
        target = port.get("targetPort", port.get("port"))
        if isinstance(target, str) and not target.isdigit() and target not in names:
            yield Finding(
                "service/port-name",
                f"No container has a port named {target}.",
                [
                    f"spec.ports: targetPort {target}",
                    f"the pods' ports: {', '.join(names) or 'without names'}",
                ],
                ["Name the container's port so, or give targetPort a number."],
            )
        elif isinstance(target, int) and numbers and target not in numbers:
            yield Finding(
                "service/port-number",
                f"No container declares port {target}.",
                [
                    f"spec.ports: targetPort {target}",
                    f"the pods declare: {', '.join(map(str, numbers))}",
                ],
                [
                    f"If nothing listens on {target}, set targetPort to the port that the "
                    "program uses; a declaration alone opens nothing."
                ],
            )


def _containers(pod: Object) -> list[Any]:
    return [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]


def no_selector(facts: Facts) -> Iterator[Finding]:
    spec = facts.spec
    if spec.get("type") == "ExternalName":
        yield Finding(
            "service/external", f"It is only a name for {spec.get('externalName')}.", broken=False
        )
    elif not spec.get("selector") and not _addresses(facts):
        yield Finding(
            "service/no-selector",
            "It has no selector, and nobody made endpoints for it.",
            ["spec.selector is empty", "no EndpointSlice with addresses"],
            [
                "Set spec.selector, or create an EndpointSlice with the label "
                f"kubernetes.io/service-name={facts.name}."
            ],
        )


def _addresses(facts: Facts) -> int:
    return sum(len(item.get("endpoints") or ()) for item in facts.others.get("endpointslices", []))


def balancer(facts: Facts) -> Iterator[Finding]:
    status = (facts.status.get("loadBalancer") or {}).get("ingress")
    if facts.spec.get("type") == "LoadBalancer" and not status:
        yield Finding(
            "service/no-address",
            "Nobody has given it an address outside yet.",
            ["status.loadBalancer is empty"],
            [
                f"loadBalancerClass {facts.spec['loadBalancerClass']}: its controller is to run"
                if facts.spec.get("loadBalancerClass")
                else "Its NodePort works meanwhile."
            ],
        )


def answers(facts: Facts) -> Iterator[Finding]:
    pods = selected(facts)
    ready = [pod for pod in pods if has_condition(pod, "Ready")]
    if ready:
        yield Finding(
            "running", f"{len(ready)} of {plural(len(pods), 'pod')} answer for it.", broken=False
        )
