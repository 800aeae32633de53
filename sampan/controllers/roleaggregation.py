"""Cluster roles with an aggregationRule get the rules of all roles that its selectors pick.

A change of any cluster role looks at every aggregating one again: there are few of them, and which
selected a label that is gone is not known otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable

from sampan.api.errors import Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request
from .runtime.selection import selects


class RoleAggregationController(Controller):
    """See the module."""

    name = "ClusterRoleAggregator"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("clusterroles", "rbac.authorization.k8s.io")
        self.roles = self.informer(self.resource)
        self.roles.on_change(self._role_changed)

    def _role_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None and _seen(old) == _seen(new):
            return
        for role in self.roles.list():
            if role.get("aggregationRule"):
                self.add(role)

    async def reconcile(self, request: Request) -> None:
        role = self.roles.get("", request.name)
        if role is None or not role.get("aggregationRule"):
            return
        rules = aggregate(role, self.roles.list())
        if rules != (role.get("rules") or []):
            await self.client.update(self.resource, {**role, "rules": rules})


def _seen(role: Object) -> tuple[object, object, object]:
    """What of a role counts for others."""
    return role["metadata"].get("labels"), role.get("rules"), role.get("aggregationRule")


def aggregate(role: Object, roles: Iterable[Object]) -> list[Object]:
    """The rules `role` should have: each once, in the order of the selectors and of the names."""
    found: list[Object] = []
    ordered = sorted(roles, key=lambda item: str(item["metadata"]["name"]))
    for raw in role["aggregationRule"].get("clusterRoleSelectors") or ():
        for other in ordered:
            meta = other["metadata"]
            if meta["name"] == role["metadata"]["name"]:
                continue
            if selects(raw, meta.get("labels")):
                found += [rule for rule in other.get("rules") or () if rule not in found]
    return found
