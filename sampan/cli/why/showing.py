"""Findings as a tree on the terminal, or as JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .facts import Facts, Finding, plural
from .finding import chain_of, findings_of, grouped, parts_of

if TYPE_CHECKING:
    from rich.tree import Tree

GROUPS = 5
"""Most different troubles of a workload's pods that are told."""


def as_data(facts: Facts) -> dict[str, Any]:
    """For programs: the same that the tree says."""
    found = {
        "object": facts.title,
        "findings": [_data(item) for item in findings_of(facts)],
    }
    if facts.obj["metadata"].get("namespace"):
        found["namespace"] = facts.obj["metadata"]["namespace"]
    if facts.owners:
        found["owners"] = chain_of(facts)
    if facts.parts:
        found["parts"] = [
            {"objects": [part.title for part in parts], "findings": [_data(one) for one in seen]}
            for parts, seen in grouped(parts_of(facts))
        ]
    return found


def _data(item: Finding) -> dict[str, Any]:
    return {
        "cause": item.cause,
        "broken": item.broken,
        "text": item.text,
        "evidence": [*item.evidence],
        "fix": [*item.fix],
    }


def tree_of(facts: Facts) -> Tree:
    from rich.markup import escape
    from rich.tree import Tree

    namespace = facts.obj["metadata"].get("namespace", "")
    where = " · ".join(item for item in (namespace, _state(facts)) if item)
    title = f"[bold]{escape(facts.title)}[/]  [dim]{escape(where)}[/]"
    tree = Tree(title, guide_style="dim")
    chain = chain_of(facts)
    if chain:
        tree.add("[dim]made for[/] " + " [dim]←[/] ".join(escape(item) for item in chain))
    for item in findings_of(facts):
        _hang(tree, item)
    groups = grouped(parts_of(facts))
    for parts, found in groups[:GROUPS]:
        names = ", ".join(part.title for part in parts[:2])
        more = f" and {len(parts) - 2} more" if len(parts) > 2 else ""
        branch = tree.add(f"[bold]{escape(names)}{more}[/]")
        for item in found:
            _hang(branch, item)
    if len(groups) > GROUPS:
        tree.add(f"[dim]and {plural(len(groups) - GROUPS, 'other trouble')}[/]")
    return tree


def _hang(tree: Tree, item: Finding) -> None:
    from rich.markup import escape

    mark = "[yellow]![/]" if item.note else "[green]✓[/]"
    mark = "[red]✗[/]" if item.broken else mark
    branch = tree.add(f"{mark} {escape(item.text)}")
    for line in item.evidence:
        branch.add(f"[dim]{escape(line)}[/]")
    for line in item.fix:
        branch.add(f"[cyan]→[/] {escape(line)}")


def _state(facts: Facts) -> str:
    """What `kubectl get` would call its state, where it has one."""
    if facts.obj["metadata"].get("deletionTimestamp"):
        return "Terminating"
    status = facts.status
    if "phase" in status:
        return str(status["phase"])
    for kind in ("Failed", "Complete", "Available"):
        found = facts.condition(kind)
        if found.get("status") == "True":
            return kind
    if facts.kind == "Service":
        return str(facts.spec.get("type", "ClusterIP"))
    wanted = facts.spec.get("replicas")
    return f"{status.get('readyReplicas', 0)}/{wanted} ready" if wanted is not None else ""
