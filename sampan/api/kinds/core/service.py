"""Service."""

from __future__ import annotations

from ...descriptor import Kind, Subresource

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {"proxy": Subresource("ServiceProxyOptions", PROXY_VERBS, version="v1")}

KIND = Kind(
    group="",
    version="v1",
    kind="Service",
    short_names=("svc",),
    categories=("all",),
    storage="services/specs",
    name_rule="label1035",
    generation=False,
    extra_subresources=SUBRESOURCES,
)
