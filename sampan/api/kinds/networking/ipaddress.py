"""IPAddress (networking.k8s.io/v1): an address the cluster has handed out."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ...names import path_problems
from ..addresses import canonical_problems
from ..formats import check_subdomain
from ..printing import AGE, NAME, NONE, age, name


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    own_name = obj["metadata"].get("name") or ""
    out += [fields.invalid("metadata.name", own_name, why) for why in canonical_problems(own_name)]
    parent = (obj.get("spec") or {}).get("parentRef")
    if parent is None:
        out.append(fields.required("spec.parentRef"))
    else:
        for field in ("resource", "name"):
            if not parent.get(field):
                out.append(fields.required(f"spec.parentRef.{field}"))
        if parent.get("group"):
            check_subdomain(parent["group"], "spec.parentRef.group", out)
        for field in ("resource", "name", "namespace"):
            text = parent.get(field) or ""
            for why in path_problems(text) if text else ():
                out.append(fields.invalid(f"spec.parentRef.{field}", text, why))
    if old is not None:
        before = (old.get("spec") or {}).get("parentRef")
        out += fields.unchanged("spec.parentRef", parent, before)
    return out


def cells(obj: Object, now_s: float) -> list[Any]:
    parent, text = (obj.get("spec") or {}).get("parentRef"), NONE
    if parent:
        group = parent.get("group")
        resource = parent.get("resource", "")
        parts = [f"{resource}.{group}" if group else resource]
        parts += [parent["namespace"]] if parent.get("namespace") else []
        text = "/".join([*parts, parent.get("name", "")])
    return [name(obj), text, age(obj, now_s)]


KIND = Kind(
    group="networking.k8s.io",
    version="v1",
    kind="IPAddress",
    short_names=("ip",),
    storage="ipaddresses",
    name_rule="path",
    validate=validate,
    columns=(NAME, Column("ParentRef", "string", "Whose address it is."), AGE),
    cells=cells,
)
