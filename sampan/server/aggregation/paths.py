"""What a request to an extension server is about: upstream's RequestInfo, without knowing the
server's resources. Authorisation, audit and flow control ask by it."""

from __future__ import annotations

from collections.abc import Container
from functools import lru_cache

from sampan.api.descriptor import Descriptor, Kind

from ..exchange import Attributes, Request
from ..routes import WRITE_VERBS

REMEMBERED = 1024
"""Descriptors made up for authorisation; clients choose the names, so there is a bound."""
NAMESPACE_PARTS = frozenset({"status", "finalize"})
WATCHING = ("true", "1")


def group_version(path: str) -> tuple[str, str] | None:
    """("metrics.k8s.io", "v1beta1") of /apis/metrics.k8s.io/v1beta1/...; else None."""
    parts = path.split("/", 4)
    if len(parts) < 4 or parts[1] != "apis" or not parts[2] or not parts[3]:
        return None
    return parts[2], parts[3]


def attributes_of(request: Request, where: tuple[str, str], known: Container[str]) -> Attributes:
    """The attributes of a request below /apis/GROUP/VERSION; `known` are the rows of its
    APIResourceList. A resource that is not among them has no kind."""
    group, version = where
    parts = [part for part in request.path.split("/")[4:] if part]
    if not parts:
        return Attributes(request.user, request.method.lower(), path=request.path)
    watch = len(parts) > 1 and parts[0] == "watch"
    if watch:
        parts = parts[1:]
    namespace = ""
    if parts[0] == "namespaces" and len(parts) > 1:
        namespace = parts[1]
        if len(parts) > 2 and parts[2] not in NAMESPACE_PARTS:
            parts = parts[2:]
    name = parts[1] if len(parts) > 1 else ""
    part = parts[2] if len(parts) > 2 else ""
    kind = parts[0] if (f"{parts[0]}/{part}" if part else parts[0]) in known else ""
    target = _descriptor((group, version, kind), parts[0], bool(namespace))
    verb = _verb(request, name, watch)
    return Attributes(request.user, verb, target, part, namespace, name, request.path)


def _verb(request: Request, name: str, watch: bool) -> str:
    method = request.method
    if method in ("GET", "HEAD"):
        if watch or request.param("watch") in WATCHING:
            return "watch"
        return "get" if name else "list"
    verb = WRITE_VERBS.get(method, method.lower())
    return "deletecollection" if verb == "delete" and not name else verb


@lru_cache(maxsize=REMEMBERED)
def _descriptor(what: tuple[str, str, str], plural: str, namespaced: bool) -> Descriptor:
    group, version, kind = what
    return Descriptor(
        group=group,
        version=version,
        kind=kind,
        plural=plural,
        singular="",
        namespaced=namespaced,
        verbs=(),
        subresources={},
        definition="",
        rules=Kind(group, version, kind),
        storage="",
        has_status=False,
        counts_generation=False,
    )
