"""What apply takes of a configuration at an endpoint that is a part of the object."""

from __future__ import annotations

from typing import Any

from sampan.api.errors import Object

from .fieldsets import FieldSet

CONTAINERS = ("containers", "initContainers")
RESIZED = ("resources", "resizePolicy")


def resized_part(owned: FieldSet, spec: Object) -> tuple[FieldSet, Object]:
    """(what is owned, the spec) of a pod that is applied to /resize: resources and resize policies
    of its containers, and its own resources (upstream's GetResetFieldsFilter). Containers keep
    their names, by which they are merged."""
    own = owned.get("f:spec") or {}
    claimed: FieldSet = {}
    taken: Object = {}
    if "resources" in spec and "f:resources" in own:
        taken["resources"], claimed["f:resources"] = spec["resources"], own["f:resources"]
    for name in CONTAINERS:
        if not isinstance(spec.get(name), list):
            continue
        taken[name] = [_kept(item) for item in spec[name]]
        items = {}
        for key, below in (own.get(f"f:{name}") or {}).items():
            fields = {field: (below or {}).get(f"f:{field}") for field in RESIZED}
            found = {f"f:{field}": value for field, value in fields.items() if value is not None}
            if found:
                items[key] = found
        if items:
            claimed[f"f:{name}"] = items
    return ({"f:spec": claimed} if claimed else {}), taken


def _kept(container: Any) -> Any:
    return {key: container[key] for key in ("name", *RESIZED) if key in container}
