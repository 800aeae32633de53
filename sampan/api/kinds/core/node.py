"""Node."""

from __future__ import annotations

from ...descriptor import Kind, Subresource

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {"proxy": Subresource("NodeProxyOptions", PROXY_VERBS, version="v1")}

KIND = Kind(
    group="",
    version="v1",
    kind="Node",
    short_names=("no",),
    storage="minions",
    generation=False,
    extra_subresources=SUBRESOURCES,
)
