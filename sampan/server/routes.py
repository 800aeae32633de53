"""What a path and method mean: upstream's RequestInfo (apiserver/pkg/endpoints/request)."""

from __future__ import annotations

from sampan.api.descriptor import Descriptor
from sampan.api.errors import MethodNotAllowed, NotFound

from .exchange import Attributes, Request
from .listoptions import truth
from .registry import Registry

# Sub-resources of a namespace itself: below /api/v1/namespaces/x/ these are no collections in it.
NAMESPACE_SUBRESOURCES = frozenset({"status", "finalize"})

WRITE_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}

SELECTING = frozenset({"list", "watch", "deletecollection"})
"""Verbs of collections, which selectors narrow."""

# Sub-resources that take any method and pass it on, with any path behind them.
CONNECT = frozenset({"exec", "attach", "portforward", "proxy"})

CONNECT_VERBS = {**WRITE_VERBS, "GET": "get", "HEAD": "get"}
"""Any other method has no verb: only who may do everything may use it."""

TRUE = frozenset({"true", "1"})


def unknown_resource() -> NotFound:
    return NotFound("the server could not find the requested resource")


def method_not_allowed() -> MethodNotAllowed:
    return MethodNotAllowed("the server does not allow this method on the requested resource")


def attributes_of(request: Request, registry: Registry) -> Attributes:
    """The attributes of a request. `resource` stays None for a path that names no resource."""
    path = request.path
    parts = path.split("/")
    # The number of parts is asked first: OPTIONS has a path, *, with a single one.
    if len(parts) > 3 and parts[1] == "api":
        found = _resource(request, registry, "", parts[2], parts[3:])
    elif len(parts) > 4 and parts[1] == "apis":
        found = _resource(request, registry, parts[2], parts[3], parts[4:])
    else:
        found = None
    if found is not None:
        return found
    return Attributes(request.user, request.method.lower(), path=path)


def names_resource(path: str) -> bool:
    """Would this path name a resource, if there were such a one?"""
    parts = path.rstrip("/").split("/")
    return (len(parts) > 3 and parts[1] == "api") or (len(parts) > 4 and parts[1] == "apis")


def _resource(
    request: Request, registry: Registry, group: str, version: str, parts: list[str]
) -> Attributes | None:
    if parts[-1] == "":
        parts = parts[:-1]
    watch = len(parts) > 1 and parts[0] == "watch"
    if watch:
        parts = parts[1:]
    if not parts:
        return None
    namespace = ""
    if (
        parts[0] == "namespaces"
        and len(parts) > 2
        and (parts[2] not in NAMESPACE_SUBRESOURCES or len(parts) > 3)
    ):
        namespace = parts[1]
        parts = parts[2:]
    resource = registry.find(group, version, parts[0])
    passed_on = len(parts) > 2 and parts[2] in CONNECT
    if resource is None or "" in (parts[:3] if passed_on else parts):
        return None
    if is_misplaced(resource, namespace):
        return None
    name = parts[1] if len(parts) > 1 else ""
    subresource = parts[2] if len(parts) > 2 else ""
    if len(parts) > 3 and subresource not in CONNECT:
        return None
    if resource.namespaced and not namespace and name:
        # One object of a namespaced kind is only found in its namespace.
        return None
    if resource.plural == "namespaces" and not group and name:
        namespace = name
    verb = CONNECT_VERBS.get(request.method, "") if passed_on else _verb(request, name, watch)
    found = Attributes(request.user, verb, resource, subresource, namespace, name, request.path)
    if request.query and verb in SELECTING:
        # Part of the question an authoriser is asked (KEP-4601).
        found.fields = request.param("fieldSelector")
        found.labels = request.param("labelSelector")
        if not name and verb != "deletecollection":
            found.name = _selected_name(request)
    return found


def is_misplaced(resource: Descriptor, namespace: str) -> bool:
    """A cluster-scoped object is not reachable through a namespace (CVE-2019-11247)."""
    return bool(namespace) and not resource.namespaced


def _verb(request: Request, name: str, watch: bool) -> str:
    method = request.method
    if method in ("GET", "HEAD"):
        if watch:
            return "watch"
        if name:
            return "get"
        values = request.query.get("watch") if request.query else None
        return "watch" if values and truth(values[0]) else "list"
    verb = WRITE_VERBS.get(method)
    if verb is None:
        raise method_not_allowed()
    if verb == "delete" and not name:
        return "deletecollection"
    return verb


def _selected_name(request: Request) -> str:
    """Lists by field selector metadata.name=x are authorised as if they named x."""
    selector = request.param("fieldSelector") if request.query else ""
    if selector.startswith("metadata.name="):
        name = selector.removeprefix("metadata.name=").removeprefix("=")
        if name and "," not in name and "/" not in name:
            return name
    return ""
