"""DeviceClass (resource.k8s.io/v1)."""

from __future__ import annotations

from ...descriptor import Kind
from ...errors import Cause, Object
from .requests import check_selectors


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    check_selectors((obj.get("spec") or {}).get("selectors") or [], "spec.selectors", out)
    return out


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="DeviceClass",
    storage="deviceclasses",
    generation=True,
    validate=validate,
)
