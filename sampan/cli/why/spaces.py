"""Namespaces that do not go, or have no room left; and whatever finalizers keep. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator

from .facts import Facts, Finding

REMAINING = re.compile(r"(\S+?)\.(\S*) has \d+ resource instances")
SHOWN = 5


def remaining_in(obj: Facts) -> list[tuple[str, str]]:
    """(plural, group) of what a namespace that is being deleted still has, as its status says."""
    message = obj.condition("NamespaceContentRemaining").get("message") or ""
    return [(plural, group) for plural, group in REMAINING.findall(message)]


def by_hand(kind: str, name: str, namespace: str = "") -> str:
    where = f" -n {namespace}" if namespace else ""
    return f'kubectl patch {kind} {name}{where} --type=merge -p \'{{"metadata":{{"finalizers":null}}}}\''  # noqa: E501


def kept(facts: Facts) -> Iterator[Finding]:
    """Anything that is deleted and has finalizers."""
    meta = facts.obj["metadata"]
    finalizers = meta.get("finalizers") or []
    if not meta.get("deletionTimestamp") or not finalizers:
        return
    if finalizers == ["foregroundDeletion"]:
        yield Finding(
            "terminating/foreground",
            "It is deleted, and goes when what it owns has gone.",
            ["metadata.finalizers: foregroundDeletion"],
            ["See what it made: those that stay have finalizers of their own."],
        )
        return
    kind, namespace = facts.kind.lower(), meta.get("namespace", "")
    yield Finding(
        "terminating/finalizers",
        "It is deleted, but finalizers keep it until somebody has done their work.",
        [f"metadata.finalizers: {', '.join(finalizers)}"],
        [
            f"See who owns {finalizers[0]} and why it does not finish.",
            f"By hand, skipping that work: {by_hand(kind, facts.name, namespace)}",
        ],
    )


def emptying(facts: Facts) -> Iterator[Finding]:
    """What a namespace waits for."""
    if not facts.obj["metadata"].get("deletionTimestamp"):
        return
    failed = facts.condition("NamespaceDeletionDiscoveryFailure")
    if failed.get("status") == "True":
        yield Finding(
            "namespace/discovery",
            "It cannot be told what is in it: an API does not answer.",
            [f"{failed.get('reason')}: {failed.get('message')}"],
            [
                "kubectl get apiservices shows which is not available: bring its server back, or "
                "delete the APIService."
            ],
        )
    refused = facts.condition("NamespaceDeletionContentFailure")
    if refused.get("status") == "True":
        yield Finding(
            "namespace/content",
            "What is in it could not be deleted.",
            [f"{refused.get('reason')}: {refused.get('message')}"],
            ["Mend what the message names: often a webhook, or an API that is down."],
        )
    yield from _leftovers(facts)


def _leftovers(facts: Facts) -> Iterator[Finding]:
    held: list[tuple[str, str, list[str]]] = []
    others: list[tuple[str, str, list[str]]] = []
    for plural, items in facts.others.items():
        for item in items:
            meta = item["metadata"]
            names = meta.get("finalizers") or []
            (held if names else others).append((plural, meta["name"], names))
    if held:
        plural, name, names = held[0]
        yield Finding(
            "terminating/finalizers",
            "It is deleted, but what is in it is kept by finalizers.",
            [f"{kind}/{one}: {', '.join(found)}" for kind, one, found in held[:SHOWN]],
            [
                f"See who owns {names[0]} and why it does not finish.",
                f"By hand, skipping that work: {by_hand(plural, name, facts.name)}",
            ],
        )
    elif others:
        yield Finding(
            "namespace/emptying",
            "It is deleted, and goes when what is in it has gone.",
            [f"{kind}/{one}" for kind, one, _ in others[:SHOWN]],
            broken=False,
        )


def used_up(facts: Facts) -> Iterator[Finding]:
    """Quotas with nothing left."""
    for quota in facts.others.get("resourcequotas", []):
        status = quota.get("status") or {}
        hard, used = status.get("hard") or {}, status.get("used") or {}
        full = [name for name in hard if hard[name] == used.get(name) and hard[name] != "0"]
        if full:
            yield Finding(
                "namespace/quota-full",
                f"Its quota {quota['metadata']['name']} is used up.",
                [f"{name}: {used[name]} of {hard[name]}" for name in full[:SHOWN]],
                ["Raise the ResourceQuota, or remove what is not needed."],
                broken=False,
                note=True,
            )


def active(facts: Facts) -> Iterator[Finding]:
    if not facts.obj["metadata"].get("deletionTimestamp"):
        yield Finding("running", "It is active.", broken=False)
    else:
        yield Finding("terminating", "It is being deleted.", broken=False)
