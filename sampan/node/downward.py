"""The downward API: what a pod may learn about itself. Pure.

Paths of pkg/fieldpath, resources of pkg/api/v1/resource.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import Struct

from sampan.api.errors import Object
from sampan.wire.quantity import milli, whole

SUBSCRIPT = re.compile(r"^metadata\.(labels|annotations)\['([^']*)'\]$")


class UnknownField(Exception):
    """A path that names nothing the downward API knows."""


class Facts(Struct, frozen=True):
    """A pod and what the node knows of it."""

    pod: Object
    ip: str
    host_ip: str
    allocatable: Mapping[str, str]
    """The node's, for limits that are not set."""
    ips: Sequence[str] = ()
    """All of the pod's; `ip` is the first."""
    host_ips: Sequence[str] = ()

    @property
    def namespace(self) -> str:
        namespace: str = self.pod["metadata"]["namespace"]
        return namespace


def field_value(facts: Facts, path: str) -> str:
    """The text a fieldPath stands for. Raises UnknownField."""
    meta, spec = facts.pod["metadata"], facts.pod["spec"]
    match = SUBSCRIPT.match(path)
    if match:
        return str((meta.get(match.group(1)) or {}).get(match.group(2), ""))
    simple: dict[str, str] = {
        "metadata.name": meta["name"],
        "metadata.namespace": facts.namespace,
        "metadata.uid": meta["uid"],
        "spec.nodeName": spec.get("nodeName", ""),
        "spec.serviceAccountName": spec.get("serviceAccountName", ""),
        "status.podIP": facts.ip,
        "status.podIPs": ",".join(facts.ips or [facts.ip]),
        "status.hostIP": facts.host_ip,
        "status.hostIPs": ",".join(facts.host_ips or [facts.host_ip]),
    }
    if path in simple:
        return simple[path]
    if path in ("metadata.labels", "metadata.annotations"):
        return _format_map(meta.get(path.partition(".")[2]) or {})
    raise UnknownField(f"unsupported fieldPath: {path}")


def _format_map(items: Mapping[str, str]) -> str:
    """Lines of key="value" with Go's quoting, sorted."""
    return "\n".join(
        f"{key}={json.dumps(text, ensure_ascii=False)}" for key, text in sorted(items.items())
    )


def resource_value(
    facts: Facts, ref: Mapping[str, Any], container: Mapping[str, Any] | None = None
) -> str:
    """A limit or request in units of the divisor, rounded up; raises UnknownField."""
    wanted = ref.get("containerName")
    if wanted and (container is None or container["name"] != wanted):
        container = next(
            (
                item
                for field in ("containers", "initContainers")
                for item in facts.pod["spec"].get(field) or ()
                if item["name"] == wanted
            ),
            None,
        )
    if container is None:
        raise UnknownField(f"container {wanted} not found")
    kind, _, name = str(ref["resource"]).partition(".")
    if kind not in ("limits", "requests") or not name:
        raise UnknownField(f"Unsupported container resource : {ref['resource']}")
    quantity = ((container.get("resources") or {}).get(kind) or {}).get(name)
    if quantity is None and kind == "limits":
        # Its pod's, where that has one of its own (KEP-2837), or all the node has to give.
        whole_pod = (facts.pod["spec"].get("resources") or {}).get("limits") or {}
        shared = whole_pod.get(name) if name in ("cpu", "memory") else None
        quantity = shared or facts.allocatable.get(name)
    divisor = ref.get("divisor") or "1"
    if str(divisor) == "0":
        divisor = "1"
    measure = milli if name == "cpu" else whole
    amount = measure(quantity) if quantity is not None else 0
    return str(-(-amount // max(measure(divisor), 1)))
