"""ResourceClaimTemplate (resource.k8s.io/v1)."""

from __future__ import annotations

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from .requests import check_requests, default_requests


def default(obj: Object) -> None:
    template = obj.setdefault("spec", {}).get("spec")
    if template is not None:
        default_requests(template)


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    if old is not None:
        if obj["spec"] != (old.get("spec") or {}):
            out.append(fields.immutable("spec", obj["spec"]))
        return out
    check_requests(obj["spec"].get("spec") or {}, "spec.spec", out)
    return out


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="ResourceClaimTemplate",
    storage="resourceclaimtemplates",
    default=default,
    validate=validate,
)
