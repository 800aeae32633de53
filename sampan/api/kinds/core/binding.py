"""Binding: assigns a pod to a node."""

from __future__ import annotations

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    target = obj.get("target") or {}
    kind = target.get("kind")
    if kind and kind != "Node":
        out.append(fields.not_supported("target.kind", kind, ("Node", "<empty>")))
    if not target.get("name"):
        out.append(fields.required("target.name"))
    return out


KIND = Kind(group="", version="v1", kind="Binding", storage="bindings", validate=validate)
