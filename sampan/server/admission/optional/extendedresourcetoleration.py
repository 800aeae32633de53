"""ExtendedResourceToleration: who asks for an extended resource tolerates the taint of its name, so
that nodes with rare devices can be kept for those who use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sampan.api.kinds.core.podspec.resources import is_extended

from ...exchange import Write
from ..configuration import Settings
from ..plugin import Plugin

if TYPE_CHECKING:
    from ...app import Server


def mutate(server: Server, write: Write) -> None:
    spec = write.obj.setdefault("spec", {})
    names = {
        name
        for field in ("containers", "initContainers")
        for container in spec.get(field) or ()
        for name in (container.get("resources") or {}).get("requests") or ()
        if is_extended(name)
    }
    have = spec.get("tolerations") or []
    wanted = [{"key": name, "operator": "Exists", "effect": "NoSchedule"} for name in sorted(names)]
    added = [item for item in wanted if item not in have]
    if added:
        spec["tolerations"] = [*have, *added]


def make(settings: Settings) -> Plugin:
    """It has no configuration."""
    return Plugin(settings.name, {("", "pods"): ("CREATE", "UPDATE")}, mutate)
