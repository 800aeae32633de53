"""Network policies: whom they keep from whom. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from sampan.api.errors import Object
from sampan.api.selectors import from_label_selector

from .facts import Facts, Finding, labels_of, plural
from .services import selected

SHOWN = 4
WAYS = (
    ("Ingress", "ingress", "from", "may connect to it"),
    ("Egress", "egress", "to", "it may connect to"),
)


def pods_of(policy: Object, pods: list[Object]) -> list[Object]:
    matcher = from_label_selector(policy["spec"].get("podSelector") or {})
    return [pod for pod in pods if matcher.matches(labels_of(pod))]


def isolated(facts: Facts) -> Iterator[Finding]:
    """Policies choose a pod, or pods of a service: what they do not name is dropped."""
    if facts.kind == "Pod" and facts.condition("Ready").get("status") != "True":
        return  # it has other troubles
    mine = [facts.obj] if facts.kind == "Pod" else selected(facts)[:1]
    policies = [item for item in facts.others.get("networkpolicies", []) if pods_of(item, mine)]
    whose = "its pods" if facts.kind == "Service" else "it"
    for kind, field, side, text in WAYS:
        if kind == "Egress" and facts.kind == "Service":
            continue
        found = [item for item in policies if kind in types_of(item)]
        if not found:
            continue
        named = ", ".join(item["metadata"]["name"] for item in found)
        nobody = not any(item["spec"].get(field) for item in found)
        yield Finding(
            f"note/{field}-policy",
            f"Network policy {named} says who {text.replace('it', whose, 1)}: "
            + ("nobody." if nobody else "whom it does not name is dropped."),
            [
                f"{item['metadata']['name']}: {line}"
                for item in found
                for line in rules_of(item, field, side)[:SHOWN]
            ],
            [f"Add a rule to {found[0]['metadata']['name']}, if others are to be let through."],
            broken=False,
            note=True,
        )


def types_of(policy: Object) -> list[str]:
    spec = policy["spec"]
    return spec.get("policyTypes") or ["Ingress", *(["Egress"] if spec.get("egress") else [])]


def rules_of(policy: Object, field: str, side: str) -> list[str]:
    """Each rule in words: "from pods app=web, port 80"."""
    out = []
    for rule in policy["spec"].get(field) or ():
        peers = [_peer(item) for item in rule.get(side) or ()] or ["everybody"]
        ports = [
            f"{item.get('port', 'any port')}{'/' + item['protocol'] if 'protocol' in item else ''}"
            for item in rule.get("ports") or ()
        ]
        on = f", port {' or '.join(ports)}" if ports else ""
        out.append(f"{side} {' or '.join(peers)}{on}")
    return out or [f"{side} nobody"]


def _peer(item: Object) -> str:
    if item.get("ipBlock"):
        block = item["ipBlock"]
        but = f" but {', '.join(block['except'])}" if block.get("except") else ""
        return f"{block['cidr']}{but}"
    words = []
    if "podSelector" in item:
        words.append(f"pods {_labels(item['podSelector'])}")
    if "namespaceSelector" in item:
        words.append(f"namespaces {_labels(item['namespaceSelector'])}")
    return " of ".join(words)


def _labels(selector: Object) -> str:
    words = [f"{key}={value}" for key, value in (selector.get("matchLabels") or {}).items()]
    for item in selector.get("matchExpressions") or ():
        values = f" ({', '.join(item['values'])})" if item.get("values") else ""
        words.append(f"{item['key']} {item['operator']}{values}")
    return ",".join(words) or "of any labels"


def meant(facts: Facts) -> Iterator[Finding]:
    """A policy by itself."""
    found = pods_of(facts.obj, facts.others.get("pods", []))
    if not found:
        yield Finding(
            "networkpolicy/matches-nothing",
            "It selects no pod, so it does nothing.",
            [f"spec.podSelector: {_labels(facts.spec.get('podSelector') or {})}"],
            ["Correct spec.podSelector, or the pods' labels."],
        )
        return
    lines = [
        f"{kind}: {line}"
        for kind, field, side, _ in WAYS
        if kind in types_of(facts.obj)
        for line in rules_of(facts.obj, field, side)
    ]
    text = f"It holds for {plural(len(found), 'pod')}; what no policy names for them is dropped."
    yield Finding("running", text, lines, broken=False)
