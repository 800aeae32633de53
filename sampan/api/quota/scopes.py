"""Scopes of a quota: which objects it is about."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..errors import Object


class Requirement(NamedTuple):
    """One scope an object must be in (ScopedResourceSelectorRequirement)."""

    name: str
    operator: str = "Exists"
    values: Sequence[str] = ()

    def holds(self, found: set[str]) -> bool:
        """Do the object's values for this scope meet it?"""
        match self.operator:
            case "Exists":
                return bool(found)
            case "DoesNotExist":
                return not found
            case "In":
                return not found.isdisjoint(self.values)
            case "NotIn":
                return found.isdisjoint(self.values)
        return False

    def __str__(self) -> str:
        """As Go prints the struct."""
        return f"{{{self.name} {self.operator} [{' '.join(self.values)}]}}"


def requirement(raw: Object) -> Requirement:
    return Requirement(
        raw.get("scopeName") or "", raw.get("operator") or "", tuple(raw.get("values") or ())
    )


def requirements_of(quota: Object) -> list[Requirement]:
    """All of them must hold."""
    spec = quota.get("spec") or {}
    terms = (spec.get("scopeSelector") or {}).get("matchExpressions") or ()
    return [*map(Requirement, spec.get("scopes") or ()), *map(requirement, terms)]
