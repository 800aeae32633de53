"""Paths of OpenAPI documents: one resource's operations, from its descriptor.

Operations are named and marked (`operationId`, `x-kubernetes-action`,
`x-kubernetes-group-version-kind`) as upstream's, since clients and kubectl find them by that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from sampan.api.descriptor import Descriptor, Subresource
from sampan.api.errors import Object
from sampan.api.schema import definition_of, definitions

from . import usageschema
from .openapi_schemas import PREFIX

META = "io.k8s.apimachinery.pkg.apis.meta.v1."
WATCH_EVENT = META + "WatchEvent"
STATUS, PATCH, DELETE_OPTIONS = META + "Status", META + "Patch", META + "DeleteOptions"

PATCH_TYPES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
)
BODY_TYPE = {2: "application/json", 3: "*/*"}

_TEXTS = {
    "pretty": "If 'true', then the output is pretty printed.",
    "dryRun": "When present, modifications are not persisted. The valid value is All.",
    "fieldManager": "The name of the actor that makes these changes.",
    "fieldValidation": "What to do with unknown or duplicate fields: Ignore, Warn or Strict.",
    "force": "Take over fields that other managers own. Only for apply patches.",
    "continue": "Where to go on, from a previous list result.",
    "fieldSelector": "Restricts the list of returned objects by their fields; none by default.",
    "labelSelector": "Restricts the list of returned objects by their labels; none by default.",
    "limit": "The maximum number of objects to return for a list call.",
    "resourceVersion": "What resource versions a request may be served from.",
    "resourceVersionMatch": "How resourceVersion is applied to list calls.",
    "sendInitialEvents": "Begin a watch with the state of the collection.",
    "timeoutSeconds": "How long a list or watch call may last.",
    "watch": "Watch for changes to the described resources, as a stream of events.",
    "allowWatchBookmarks": "Ask for watch events of type BOOKMARK.",
    "gracePeriodSeconds": "Seconds before the object is deleted. Zero means at once.",
    "orphanDependents": "Deprecated: use propagationPolicy.",
    "propagationPolicy": "Whether and how dependents are deleted.",
    "ignoreStoreReadErrorWithClusterBreakingPotential": "Delete an object that cannot be read.",
    "name": "name of the object",
    "namespace": "object name and auth scope, such as for teams and projects",
}
_INTEGERS = frozenset(("limit", "timeoutSeconds", "gracePeriodSeconds"))
_BOOLEANS = frozenset((
    "force", "sendInitialEvents", "watch", "allowWatchBookmarks", "orphanDependents",
    "ignoreStoreReadErrorWithClusterBreakingPotential",
))  # fmt: skip

_LISTING = (
    "allowWatchBookmarks", "continue", "fieldSelector", "labelSelector", "limit",
    "resourceVersion", "resourceVersionMatch", "sendInitialEvents", "timeoutSeconds", "watch",
)  # fmt: skip
_WRITING = ("dryRun", "fieldManager", "fieldValidation")
_DELETING = (
    "dryRun", "gracePeriodSeconds", "ignoreStoreReadErrorWithClusterBreakingPotential",
    "orphanDependents", "propagationPolicy",
)  # fmt: skip


class Verb(Struct, frozen=True):
    """One operation of a path: its HTTP method, and what it is called where."""

    method: str
    action: str
    """x-kubernetes-action, and with `prefix` the operationId."""
    prefix: str
    query: tuple[str, ...] = ()
    codes: tuple[int, ...] = (200,)
    body: str = ""
    """"" none, "object" the kind itself, else a definition."""
    result: str = "object"
    """"object", "list" or a definition."""


COLLECTION = {
    "list": Verb("get", "list", "list", _LISTING, result="list"),
    "create": Verb("post", "post", "create", _WRITING, (200, 201, 202), "object"),
    "deletecollection": Verb(
        "delete", "deletecollection", "delete",
        tuple(sorted({*_DELETING, *_LISTING} - {"watch", "allowWatchBookmarks"})),
        body=DELETE_OPTIONS, result=STATUS,
    ),
}  # fmt: skip
ITEM = {
    "get": Verb("get", "get", "read"),
    "update": Verb("put", "put", "replace", _WRITING, (200, 201), "object"),
    "patch": Verb(
        "patch", "patch", "patch", tuple(sorted((*_WRITING, "force"))), (200, 201), PATCH
    ),
    "delete": Verb("delete", "delete", "delete", _DELETING, (200, 202), DELETE_OPTIONS, STATUS),
    "create": Verb("post", "post", "create", _WRITING, (200, 201, 202), "object"),
}
WATCH = Verb("get", "watch", "watch", result=WATCH_EVENT)
WATCH_LIST = Verb("get", "watchlist", "watch", result=WATCH_EVENT)
CONNECT_METHODS = {
    "create": ("post",), "get": ("get",), "update": ("put",), "patch": ("patch",),
    "delete": ("delete",),
}  # fmt: skip


class _Target(Struct, frozen=True):
    """What the operations of a path are about."""

    resource: Descriptor
    kind: str
    group: str
    version: str
    definition: str
    suffix: str
    """Of the operationId: "Status" for a subresource, "ForAllNamespaces"."""
    openapi: int


def paths_of(resource: Descriptor, openapi: int) -> Iterator[tuple[str, Object]]:
    """(path, path item) for everything of a resource, in a document of version 2 or 3."""
    own = _Target(
        resource, resource.kind, resource.group, resource.version, resource.definition, "", openapi
    )
    where = resource.path("{namespace}" if resource.namespaced else "")
    scope = ["namespace"] if resource.namespaced else []
    yield where, _item(own, COLLECTION, resource.verbs, scope)
    if resource.namespaced and "list" in resource.verbs:
        everywhere = _Target(
            resource, resource.kind, resource.group, resource.version, resource.definition,
            "ForAllNamespaces", openapi,
        )  # fmt: skip
        yield resource.path(), _item(everywhere, COLLECTION, ["list"], [])
    item_verbs = [verb for verb in resource.verbs if verb not in COLLECTION]
    if item_verbs:
        yield f"{where}/{{name}}", _item(own, ITEM, item_verbs, ["name", *scope])
    for name, sub in sorted(resource.subresources.items()):
        yield from _subresource(resource, name, sub, f"{where}/{{name}}/{name}", openapi)
    if "watch" in resource.verbs and resource.custom is None:
        # Upstream does not publish them for custom resources, which have them all the same.
        yield from _watches(own, where, scope)


def _watches(own: _Target, where: str, scope: list[str]) -> Iterator[tuple[str, Object]]:
    """The paths of watches before they became a parameter of lists; deprecated, still served."""
    resource = own.resource
    base = resource.path()
    root = base[: -len(resource.plural)]
    inside = where[len(root) :]
    if "list" in resource.verbs:
        yield f"{root}watch/{inside}", _watch(replace(own, suffix="List"), scope)
        if resource.namespaced:
            everywhere = replace(own, suffix="ListForAllNamespaces")
            yield f"{root}watch/{resource.plural}", _watch(everywhere, [])
    if "get" in resource.verbs:
        yield f"{root}watch/{inside}/{{name}}", _watch(own, ["name", *scope])


def _watch(target: _Target, scope: list[str]) -> Object:
    verb = WATCH_LIST if target.suffix else WATCH
    operation = _operation(target, verb)
    what = f"individual changes to a list of {target.kind}. d"
    if not target.suffix:
        what = f"changes to an object of kind {target.kind}. d"
    operation["description"] = f"watch {what}eprecated: use the 'watch' parameter of lists instead."
    shared = [_path_parameter(name, target.openapi) for name in scope]
    queries = [_query(name, target.openapi) for name in (*_LISTING, "pretty")]
    return {"get": operation, "parameters": [*shared, *queries]}


def _subresource(
    resource: Descriptor, name: str, sub: Subresource, where: str, openapi: int
) -> Iterator[tuple[str, Object]]:
    group = sub.group if sub.version else resource.group
    version = sub.version or resource.version
    if sub.kind == resource.kind and (group, version) == (resource.group, resource.version):
        definition = resource.definition
    else:
        definition = definition_of(group, version, sub.kind)
    suffix = name[:1].upper() + name[1:]
    target = _Target(resource, sub.kind, group, version, definition, suffix, openapi)
    scope = ["name", "namespace"] if resource.namespaced else ["name"]
    if not definition:
        yield where, _connections(target, sub.verbs, scope)
        if name == "proxy":
            yield f"{where}/{{path}}", _connections(target, sub.verbs, [*scope, "path"])
        return
    yield where, _item(target, ITEM, sub.verbs, scope)


def _item(target: _Target, table: dict[str, Verb], verbs: Any, scope: list[str]) -> Object:
    item: Object = {
        verb.method: _operation(target, verb) for name, verb in table.items() if name in verbs
    }
    shared = [_path_parameter(name, target.openapi) for name in scope]
    return {**item, "parameters": [*shared, _query("pretty", target.openapi)]}


def _connections(target: _Target, verbs: Any, scope: list[str]) -> Object:
    """Paths that carry a stream (exec, proxy): nothing is said of their bodies."""
    item: Object = {}
    for verb in verbs:
        for method in CONNECT_METHODS.get(verb, ()):
            item[method] = {
                "description": f"connect {method.upper()} requests to {target.suffix.lower()}",
                "operationId": _operation_id(f"connect{{}}{method.capitalize()}", target),
                "tags": [_tag(target.resource)],
                "x-kubernetes-action": "connect",
                "x-kubernetes-group-version-kind": _gvk(target),
                "responses": _responses(target, (200,), ""),
            }
    return {**item, "parameters": [_path_parameter(name, target.openapi) for name in scope]}


def _operation(target: _Target, verb: Verb) -> Object:
    result = {"object": target.definition, "list": f"{target.definition}List"}.get(
        verb.result, verb.result
    )
    if verb.prefix == "delete" and verb.action == "delete" and target.definition in _GIVEN_BACK:
        result = target.definition
    body = target.definition if verb.body == "object" else verb.body
    middle = f"{verb.prefix}{{}}Collection" if verb.action == "deletecollection" else verb.prefix
    operation: Object = {
        "description": f"{verb.prefix} {target.suffix or 'objects'} of kind {target.kind}",
        "operationId": _operation_id(middle if "{}" in middle else f"{middle}{{}}", target),
        "tags": [_tag(target.resource)],
        "x-kubernetes-action": verb.action,
        "x-kubernetes-group-version-kind": _gvk(target),
        "parameters": [_query(name, target.openapi) for name in verb.query],
        "responses": _responses(target, verb.codes, result),
    }
    if target.openapi == 3:
        if body:
            types = _patch_types(target) if verb.method == "patch" else (BODY_TYPE[3],)
            schema = {"schema": _ref(body, 3)}
            operation["requestBody"] = {"content": dict.fromkeys(types, schema)}
            if verb.method != "delete":
                operation["requestBody"]["required"] = True
        return operation
    operation["produces"] = ["application/json", "application/yaml"]
    operation["schemes"] = ["https"]
    operation["consumes"] = list(_patch_types(target)) if verb.method == "patch" else ["*/*"]
    if body:
        parameter: Object = {"name": "body", "in": "body", "schema": _ref(body, 2)}
        if verb.method != "delete":
            parameter["required"] = True
        operation["parameters"].append(parameter)
    return operation


def _patch_types(target: _Target) -> tuple[str, ...]:
    """Custom resources have no strategic merge patch."""
    if target.resource.structure is None:
        return PATCH_TYPES
    return tuple(media for media in PATCH_TYPES if "strategic" not in media)


_GIVEN_BACK = frozenset((
    "io.k8s.api.core.v1.Pod", "io.k8s.api.core.v1.PersistentVolume",
    "io.k8s.api.core.v1.PersistentVolumeClaim", "io.k8s.api.core.v1.PodTemplate",
    "io.k8s.api.core.v1.ResourceQuota", "io.k8s.api.core.v1.Service",
    "io.k8s.api.core.v1.ServiceAccount",
))  # fmt: skip
"""Kinds whose deletion answers with the object (upstream's ReturnDeletedObject)."""


def _responses(target: _Target, codes: tuple[int, ...], result: str) -> Object:
    texts = {200: "OK", 201: "Created", 202: "Accepted"}
    out: Object = {}
    for code in codes:
        answer: Object = {"description": texts[code]}
        if target.openapi == 2:
            answer["schema"] = _ref(result, 2) if result else {"type": "string"}
        else:
            schema = _ref(result, 3) if result else {"type": "string"}
            answer["content"] = {"application/json": {"schema": schema}} if result else {
                "*/*": {"schema": schema}
            }  # fmt: skip
        out[str(code)] = answer
    out["401"] = {"description": "Unauthorized"}
    return out


def _ref(definition: str, openapi: int) -> Object:
    return {"$ref": PREFIX[openapi] + definition}


def _gvk(target: _Target) -> Object:
    return {"group": target.group, "version": target.version, "kind": target.kind}


def _query(name: str, openapi: int) -> Object:
    return _parameter(name, "query", openapi)


def _path_parameter(name: str, openapi: int) -> Object:
    return {**_parameter(name, "path", openapi), "required": True}


def _parameter(name: str, place: str, openapi: int) -> Object:
    kind = "integer" if name in _INTEGERS else "boolean" if name in _BOOLEANS else "string"
    schema: Object = {"type": kind, "uniqueItems": True}
    head = {"name": name, "in": place, "description": _TEXTS.get(name, f"{name} of the request")}
    return head | (schema if openapi == 2 else {"schema": schema})


def _tag(resource: Descriptor) -> str:
    return f"{_camel(resource.group)[:1].lower()}{_camel(resource.group)[1:]}_{resource.version}"


def _camel(group: str) -> str:
    """ "rbac.authorization.k8s.io" -> "RbacAuthorization", "" -> "Core"."""
    base = group.removesuffix(".k8s.io") or "core"
    return "".join(part[:1].upper() + part[1:] for part in base.replace("-", ".").split("."))


def _operation_id(pattern: str, target: _Target) -> str:
    """Upstream's name: verb, group, version, then what: readCoreV1NamespacedPodStatus."""
    resource = target.resource
    where = _camel(resource.group) + resource.version[:1].upper() + resource.version[1:]
    spread = target.suffix.endswith("ForAllNamespaces")
    scope = "Namespaced" if resource.namespaced and not spread else ""
    return pattern.format(where) + scope + resource.kind + target.suffix


def definitions_of(resource: Descriptor) -> list[str]:
    """The definitions its operations speak of."""
    names = [resource.definition, STATUS, PATCH, DELETE_OPTIONS]
    if "watch" in resource.verbs and resource.custom is None:
        names.append(WATCH_EVENT)
    if resource.custom is not None:
        from .custom.publish import references_of

        names += references_of(resource)
        names[0] = ""
    listed = f"{resource.definition}List"
    if listed in definitions() or listed in usageschema.SHAPES:
        names.append(listed)
    for sub in resource.subresources.values():
        group = sub.group if sub.version else resource.group
        names.append(definition_of(group, sub.version or resource.version, sub.kind))
    return [name for name in names if name]
