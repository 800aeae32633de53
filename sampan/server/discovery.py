"""Discovery: what is served, as documents made from the descriptors alone.

Legacy (/api, /apis, /apis/GROUP, /apis/GROUP/VERSION) and aggregated (apidiscovery.k8s.io v2 and
v2beta1). Documents are made when first asked for and kept as bytes until the registry changes.
"""

from __future__ import annotations

import base64
import hashlib
import platform
from collections.abc import Collection, Iterable, Mapping
from weakref import WeakKeyDictionary

import orjson

from sampan.api.descriptor import Descriptor, Subresource
from sampan.api.discovery import rank
from sampan.api.errors import NotAcceptable, Object
from sampan.version import GIT_VERSION, KUBERNETES_VERSION

from .exchange import Response
from .registry import Registry

MAJOR, MINOR, _ = KUBERNETES_VERSION.split(".")

AGGREGATED = ("v2", "v2beta1")
NO_HEADERS: Mapping[str, str] = {}

GROUP_ORDER = (
    "", "apiregistration.k8s.io", "apps", "events.k8s.io", "authentication.k8s.io",
    "authorization.k8s.io", "autoscaling", "batch", "certificates.k8s.io", "networking.k8s.io",
    "policy", "rbac.authorization.k8s.io", "storage.k8s.io", "admissionregistration.k8s.io",
    "apiextensions.k8s.io", "scheduling.k8s.io", "coordination.k8s.io", "node.k8s.io",
    "discovery.k8s.io", "resource.k8s.io", "flowcontrol.apiserver.k8s.io",
)  # fmt: skip
"""Upstream's priorities: kubectl takes the first group that has a resource of the name typed.
Groups of custom resources follow by name."""

STORED_AS = {
    ("events.k8s.io", "v1", "Event"): ("", "v1", "Event"),
    ("autoscaling", "v1", "HorizontalPodAutoscaler"): (
        "autoscaling", "v2", "HorizontalPodAutoscaler",
    ),
}  # fmt: skip
"""Kinds stored as another one; the hash in discovery is of what is stored."""

_cache: WeakKeyDictionary[Registry, tuple[int, dict[str, Response]]] = WeakKeyDictionary()


def answer(
    path: str, accept: str, resources: Registry, headers: Mapping[str, str] = NO_HEADERS
) -> Response | None:
    """The answer for a discovery path (or /version); None when the path is none of them or names
    nothing served. With `headers` a client that has the document already gets 304."""
    path = path.rstrip("/")
    form = _form(accept) if path in ("/api", "/apis") else ""
    generation, made = _cache.get(resources, (-1, {}))
    if generation != resources.generation:
        made = {}
        _cache[resources] = (resources.generation, made)
    found = made.get(path + form)
    if found is None:
        document = _document(path, form, resources)
        if document is None:
            return None
        found = made[path + form] = _response(document, form)
    etag = dict(found.headers)["ETag"]
    if headers.get("if-none-match") == etag:
        return Response(304, b"", content_type=found.content_type, headers=found.headers)
    # The caller may set fields of its response; the cached one stays as it is.
    return Response(200, found.body, None, found.content_type, found.headers)


def _response(document: Object, form: str) -> Response:
    body = orjson.dumps(document)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    media = "application/json"
    if form:
        media = f"application/json;g=apidiscovery.k8s.io;v={form};as=APIGroupDiscoveryList"
    headers = (("ETag", etag), ("Vary", "Accept"))
    return Response(200, body, None, media, headers)


def _form(accept: str) -> str:
    """The first form of the Accept header we have: "" for legacy, else the aggregated version."""
    for clause in accept.split(",") if accept else ["*/*"]:
        media, *params = (part.strip() for part in clause.split(";"))
        if media not in ("application/json", "application/*", "*/*", ""):
            continue
        values = dict(param.split("=", 1) for param in params if "=" in param)
        if values.get("as", "") == "":
            return ""
        if (
            values.get("g") == "apidiscovery.k8s.io"
            and values["as"] == "APIGroupDiscoveryList"
            and values.get("v") in AGGREGATED
        ):
            return values["v"]
    raise NotAcceptable("only the following media types are accepted: application/json")


def _document(path: str, form: str, resources: Registry) -> Object | None:
    if path == "/version":
        return version()
    if path == "/api":
        return aggregated(resources, form, legacy=True) if form else api_versions()
    if path == "/apis":
        return aggregated(resources, form, legacy=False) if form else group_list(resources)
    parts = path.removeprefix("/").split("/")
    if parts[0] == "api" and len(parts) == 2:
        return resource_list(resources, "", parts[1])
    if parts[0] == "apis" and len(parts) == 2:
        return group_document(resources, parts[1])
    if parts[0] == "apis" and len(parts) == 3:
        return resource_list(resources, parts[1], parts[2])
    return None


def version() -> Object:
    """The version.Info of this server."""
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine(), platform.machine())
    return {
        "major": MAJOR,
        "minor": MINOR,
        "emulationMajor": MAJOR,
        "emulationMinor": MINOR,
        "minCompatibilityMajor": MAJOR,
        "minCompatibilityMinor": str(int(MINOR) - 1),
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": platform.python_implementation(),
        "platform": f"linux/{machine}",
    }


def group_rank(group: str) -> tuple[int, str]:
    return (GROUP_ORDER.index(group), "") if group in GROUP_ORDER else (len(GROUP_ORDER), group)


def versions_of(resources: Iterable[Descriptor]) -> dict[str, list[str]]:
    """Groups in order of priority, each with its versions, best first."""
    found: dict[str, set[str]] = {}
    for item in resources:
        found.setdefault(item.group, set()).add(item.version)
    for group, version in stale_of(resources):
        found.setdefault(group, set()).add(version)
    return {group: sorted(found[group], key=rank) for group in sorted(found, key=group_rank)}


def stale_of(resources: Iterable[Descriptor]) -> Collection[tuple[str, str]]:
    """The group versions that are listed though their server is away."""
    return resources.stale if isinstance(resources, Registry) else ()


# Legacy documents.


def api_versions() -> Object:
    # The address is left out as unknown: no client has used it since 1.2.
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    }


def group_list(resources: Iterable[Descriptor]) -> Object:
    groups = [_group(group, names) for group, names in versions_of(resources).items() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group_document(resources: Iterable[Descriptor], group: str) -> Object | None:
    names = versions_of(resources).get(group)
    if not names or not group:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, names)}


def _group(group: str, names: list[str]) -> Object:
    versions = [{"groupVersion": f"{group}/{name}", "version": name} for name in names]
    return {"name": group, "versions": versions, "preferredVersion": versions[0]}


def resource_list(resources: Iterable[Descriptor], group: str, name: str) -> Object | None:
    """The APIResourceList of a version; None when nothing of it is served."""
    rows: list[Object] = []
    for item in _of(resources, group, name):
        rows.append(_resource(item))
        rows += [_subresource(item, *pair) for pair in sorted(item.subresources.items())]
    if not rows:
        return None
    head: Object = {"kind": "APIResourceList"}
    if group:
        head["apiVersion"] = "v1"
    return {**head, "groupVersion": f"{group}/{name}" if group else name, "resources": rows}


def _of(resources: Iterable[Descriptor], group: str, version: str) -> list[Descriptor]:
    found = [item for item in resources if (item.group, item.version) == (group, version)]
    return sorted(found, key=lambda item: item.plural)


def _resource(item: Descriptor) -> Object:
    row: Object = {
        "name": item.plural,
        "singularName": item.singular,
        "namespaced": item.namespaced,
        "kind": item.kind,
        "verbs": verbs_of(item),
    }
    if item.rules.short_names:
        row["shortNames"] = list(item.rules.short_names)
    if item.rules.categories:
        row["categories"] = list(item.rules.categories)
    if "list" in item.verbs and not item.rules.computed:
        row["storageVersionHash"] = storage_version_hash(item)
    return row


CLOSING = ("delete", "deletecollection", "get", "list", "watch")
"""What is said of a custom resource whose definition is being deleted."""


def verbs_of(item: Descriptor) -> list[str]:
    return list(CLOSING if item.custom is not None and item.custom.terminating else item.verbs)


def storage_version_hash(item: Descriptor) -> str:
    """Eight bytes of the hash of what is stored (apiserver endpoints/discovery)."""
    name = (item.group, item.version, item.kind)
    if item.custom is not None:
        name = (*item.custom.codec.storage.api_version.split("/"), item.kind)
    text = "/".join(STORED_AS.get(name, name))
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()


def _subresource(item: Descriptor, name: str, sub: Subresource) -> Object:
    row: Object = {
        "name": f"{item.plural}/{name}",
        "singularName": "",
        "namespaced": item.namespaced,
    }
    if sub.version and (sub.group, sub.version) != (item.group, item.version):
        row |= {"group": sub.group, "version": sub.version}
    return {**row, "kind": sub.kind, "verbs": list(sub.verbs)}


# Aggregated documents.


def aggregated(resources: Iterable[Descriptor], form: str, *, legacy: bool) -> Object:
    """The APIGroupDiscoveryList of /api (`legacy`: the core group) or of /apis."""
    items = tuple(resources)
    stale = stale_of(resources)
    groups = []
    for group, names in versions_of(resources).items():
        if bool(group) == legacy:
            continue
        metadata = {"name": group, "creationTimestamp": None} if group else {
            "creationTimestamp": None
        }  # fmt: skip
        versions = [
            {
                "version": name,
                "resources": [_discovered(item) for item in _of(items, group, name)],
                "freshness": "Stale" if (group, name) in stale else "Current",
            }
            for name in names
        ]
        groups.append({"metadata": metadata, "versions": versions})
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{form}",
        "metadata": {},
        "items": groups,
    }


def _discovered(item: Descriptor) -> Object:
    row: Object = {
        "resource": item.plural,
        "responseKind": _kind(item.group, item.version, item.kind),
        "scope": "Namespaced" if item.namespaced else "Cluster",
        "singularResource": item.singular,
        "verbs": verbs_of(item),
    }
    if item.rules.short_names:
        row["shortNames"] = list(item.rules.short_names)
    if item.rules.categories:
        row["categories"] = list(item.rules.categories)
    if item.subresources:
        row["subresources"] = [
            {
                "subresource": name,
                "responseKind": _kind(
                    sub.group if sub.version else item.group,
                    sub.version or item.version,
                    sub.kind,
                ),
                "verbs": list(sub.verbs),
            }
            for name, sub in sorted(item.subresources.items())
        ]
    return row


def _kind(group: str, version: str, kind: str) -> Object:
    return {"group": group, "version": version, "kind": kind}
