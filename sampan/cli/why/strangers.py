"""Objects of any other kind, custom resources too: what their status and events say. Pure but for
`resolve`, which asks discovery what a word names."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from .facts import Facts, Finding, said

GOOD = ("Ready", "Available", "Healthy", "Synced", "Reconciled", "Established", "Programmed")
"""Conditions that are False when something is wrong, by custom."""
BAD = ("Failed", "Degraded", "Stalled", "NamesConflict")
"""Those that are True then."""


class Place(NamedTuple):
    """Where objects of a kind are."""

    root: str
    plural: str
    kind: str
    namespaced: bool


def resolve(ask: Callable[[str], Any], word: str) -> Place | None:
    """What a word of the command line names: a plural, a singular, a kind or a short name, as
    kubectl looks for it. A GET per group until it is found."""
    wanted, _, group = word.lower().partition(".")
    roots = [] if group else ["/api/v1"]
    for item in (ask("/apis") or {}).get("groups") or ():
        if not group or item["name"] == group:
            roots.append(f"/apis/{item['preferredVersion']['groupVersion']}")
    for root in roots:
        for row in (ask(root) or {}).get("resources") or ():
            names = (row["name"], row.get("singularName"), row["kind"].lower())
            if "/" not in row["name"] and wanted in (*names, *(row.get("shortNames") or ())):
                return Place(root, row["name"], row["kind"], row["namespaced"])
    return None


def conditions(facts: Facts) -> Iterator[Finding]:
    """Conditions that by their customary names say that something is wrong."""
    for item in facts.status.get("conditions") or ():
        kind, status = item.get("type", ""), item.get("status")
        if (kind in GOOD and status == "False") or (kind in BAD and status == "True"):
            yield Finding(
                "condition",
                f"Its controller says: {kind} is {status}.",
                [f"{kind}: {item.get('reason', '')}: {item.get('message', '')}"],
                ["Mend what the message names."],
            )


def warned(facts: Facts) -> Iterator[Finding]:
    """The last warning about it."""
    found = next((item for item in reversed(facts.events) if item.get("type") == "Warning"), None)
    if found is not None:
        yield Finding(
            "warning", "Somebody warns of it.", [said(found)], ["Mend what the message names."]
        )


def well(facts: Facts) -> Iterator[Finding]:
    for item in facts.status.get("conditions") or ():
        if item.get("type") in GOOD and item.get("status") == "True":
            yield Finding("running", f"Its controller says: {item['type']}.", broken=False)
            return
