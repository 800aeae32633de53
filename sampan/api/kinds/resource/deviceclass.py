"""DeviceClass (resource.k8s.io/v1)."""

from __future__ import annotations

from ... import fields
from ...descriptor import Kind
from ...errors import Cause, Object
from ..core.podspec.resources import is_extended
from .names import check_config, check_items
from .requests import check_selectors

MAX_CONFIGS = 32


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj.get("spec") or {}
    check_selectors(spec.get("selectors") or [], "spec.selectors", out)
    check_items(spec.get("config"), MAX_CONFIGS, check_config, "spec.config", out)
    resource = spec.get("extendedResourceName")
    if resource is not None and not is_extended(resource):
        why = "must be a valid extended resource name"
        out.append(fields.invalid("spec.extendedResourceName", resource, why))
    return out


KIND = Kind(
    group="resource.k8s.io",
    version="v1",
    kind="DeviceClass",
    storage="deviceclasses",
    generation=True,
    validate=validate,
)
