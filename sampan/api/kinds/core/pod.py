"""Pod."""

from __future__ import annotations

from ...descriptor import Kind, Subresource

PROXY_VERBS = ("create", "delete", "get", "patch", "update")
SUBRESOURCES = {
    "attach": Subresource("PodAttachOptions", ("create", "get"), version="v1"),
    "exec": Subresource("PodExecOptions", ("create", "get"), version="v1"),
    "portforward": Subresource("PodPortForwardOptions", ("create", "get"), version="v1"),
    "proxy": Subresource("PodProxyOptions", PROXY_VERBS, version="v1"),
}

KIND = Kind(
    group="",
    version="v1",
    kind="Pod",
    short_names=("po",),
    categories=("all",),
    storage="pods",
    extra_subresources=SUBRESOURCES,
)
