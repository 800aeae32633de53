"""OpenAPI: /openapi/v3 (an index, and a document per group version) and /openapi/v2.

Documents are made when first asked for and kept gzipped until the registry changes; what they
are made from (descriptions, the tree before encoding) is let go at once. Version 2 is served in
protobuf too, for kubectl before 1.29.
"""

from __future__ import annotations

import gzip
import hashlib
import time
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import orjson

from sampan.api.descriptor import Descriptor
from sampan.api.errors import NotAcceptable, Object
from sampan.api.schema import read_descriptions
from sampan.version import GIT_VERSION

from .answer import cacheable
from .discovery import versions_of
from .exchange import Response
from .openapi_paths import definitions_of, paths_of
from .openapi_protobuf import ASKED_AS, MEDIA_TYPE, encode_document
from .openapi_schemas import reachable, schema_of, shape_of
from .registry import Registry

GZIP_LEVEL = 5
"""Twelve to one in a fraction of the time of level 9."""
JSON = "application/json"
JSON_TYPES = frozenset(("application/json", "application/*", "*/*", ""))
YEAR_S = 365 * 86400
"""For how long a document asked for by its hash may be kept: what has another content has another
URL (KEP-2896)."""


class Document(NamedTuple):
    """A document as it is kept: gzipped."""

    packed: bytes
    etag: str
    media: str
    stamp: tuple[Any, ...]
    """What it was made from; a document of another stamp is made anew."""


_cache: WeakKeyDictionary[Registry, dict[str, Document]] = WeakKeyDictionary()


def answer(
    path: str, accept: str, resources: Registry, headers: Mapping[str, str], digest: str = ""
) -> Response | None:
    """The answer for an OpenAPI path; None when the path is none, or of nothing served. `digest`
    is the hash that a document is asked for by: who has a former one is sent to the present."""
    path = path.rstrip("/")
    if not path.startswith("/openapi/"):
        return None
    media = media_of(path, accept)
    made = _cache.setdefault(resources, {})
    stamp = _stamp(path, resources)
    if stamp is None:
        made.pop(path + media, None)
        return None
    found = made.get(path + media)
    if found is None or found.stamp != stamp:
        body = _body(path, media, resources)
        if body is None:
            return None
        group, version = _group_version(path.removeprefix("/openapi/v3/"))
        # The index names this one, so it is what says whether a document is the same.
        tag = _digest(_items(resources, group, version)) if version else ""
        found = made[path + media] = _packed(body, media, stamp, tag)
    if not digest or not path.startswith("/openapi/v3/"):
        return respond(found, headers)
    present = found.etag.strip('"')
    if digest != present:
        where = ("Location", f"{path}?hash={present}")
        return Response(301, b"", content_type=found.media, headers=[where])
    return lasting(respond(found, headers))


def lasting(response: Response) -> Response:
    """The answer, as one that never changes."""
    expires = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(time.time() + YEAR_S))
    response.headers = [("Expires", expires), *response.headers]
    return cacheable(response, "public, immutable")


def _packed(body: bytes, media: str, stamp: tuple[Any, ...], tag: str = "") -> Document:
    etag = f'"{tag or hashlib.sha256(body).hexdigest()[:32].upper()}"'
    return Document(gzip.compress(body, GZIP_LEVEL, mtime=0), etag, media, stamp)


def packed_v2(document: Object, media: str) -> Document:
    """A document of version 2 in a media type."""
    body = encode_document(document) if media == MEDIA_TYPE else orjson.dumps(document)
    return _packed(body, media, ())


def _stamp(path: str, resources: Registry) -> tuple[Any, ...] | None:
    """The resources of a group version, so that it does not matter to its document what becomes
    of others; the registry's generation for what is about all. None: nothing is served there."""
    group, version = _group_version(path.removeprefix("/openapi/v3/"))
    if not version:
        return (resources.generation,)
    found = tuple(_items(resources, group, version))
    return found or None


def _items(resources: Registry, group: str, version: str) -> list[Descriptor]:
    return [item for item in resources if (item.group, item.version) == (group, version)]


def media_of(path: str, accept: str) -> str:
    """The first media type of an Accept header that the path has."""
    for clause in accept.split(","):
        media, *params = (part.strip() for part in clause.split(";"))
        if media in JSON_TYPES and not any(param.startswith("as=") for param in params):
            return JSON
        if media in ASKED_AS and path == "/openapi/v2":
            return MEDIA_TYPE
    raise NotAcceptable("only the following media types are accepted: application/json")


def respond(document: Document, headers: Mapping[str, str]) -> Response:
    """The answer: 304 for who has it, gzipped for who takes that."""
    base = [("ETag", document.etag), ("Vary", "Accept, Accept-Encoding")]
    if headers.get("if-none-match", "") == document.etag:
        return Response(304, b"", content_type=document.media, headers=base)
    if "gzip" in headers.get("accept-encoding", ""):
        base.append(("Content-Encoding", "gzip"))
        return Response(200, document.packed, content_type=document.media, headers=base)
    body = gzip.decompress(document.packed)
    return Response(200, body, content_type=document.media, headers=base)


def _body(path: str, media: str, resources: Registry) -> bytes | None:
    if path == "/openapi/v2":
        document = document_v2(resources)
        return encode_document(document) if media == MEDIA_TYPE else orjson.dumps(document)
    if path == "/openapi/v3":
        return orjson.dumps(index(resources))
    group, version = _group_version(path.removeprefix("/openapi/v3/"))
    if not version:
        return None
    found = _items(resources, group, version)
    return orjson.dumps(document_v3(found)) if found else None


def _group_version(where: str) -> tuple[str, str]:
    """ "api/v1" -> ("", "v1"), "apis/apps/v1" -> ("apps", "v1"); ("", "") for anything else."""
    parts = where.split("/")
    if len(parts) == 2 and parts[0] == "api":
        return "", parts[1]
    if len(parts) == 3 and parts[0] == "apis":
        return parts[1], parts[2]
    return "", ""


def index(resources: Registry) -> Object:
    """Where each group version's document is; the hash in the URL changes with its content, so
    that clients may keep what they have."""
    paths = {}
    for group, versions in versions_of(resources).items():
        for version in versions:
            where = f"apis/{group}/{version}" if group else f"api/{version}"
            items = _items(resources, group, version)
            paths[where] = {"serverRelativeURL": f"/openapi/v3/{where}?hash={_digest(items)}"}
    return {"paths": paths}


def _digest(items: list[Descriptor]) -> str:
    """A hash of what a document is made from, which is quicker to have than the document."""
    digest = hashlib.sha256(GIT_VERSION.encode())
    for item in sorted(items, key=lambda item: item.plural):
        subs = sorted((name, sub.kind, sub.verbs) for name, sub in item.subresources.items())
        shape = shape_of(item.definition)
        row = [item.plural, item.kind, item.namespaced, item.verbs, item.definition, subs, shape]
        if item.custom is not None:
            row += [digest_of_custom(item), item.custom.list_kind]
        digest.update(orjson.dumps(row))
    return digest.hexdigest()[:32].upper()


def document_v3(items: list[Descriptor]) -> Object:
    """The document of one group version."""
    texts = read_descriptions()
    names = reachable(name for item in items for name in definitions_of(item))
    return {
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": {path: item for resource in items for path, item in paths_of(resource, 3)},
        "components": {
            "schemas": {name: schema_of(name, texts, 3) for name in names}
            | _custom_schemas(items, 3),
            "securitySchemes": {"BearerToken": _BEARER},
        },
        "security": [{"BearerToken": []}],
    }


def document_v2(resources: Registry) -> Object:
    """The one document of everything served."""
    texts = read_descriptions()
    names = reachable(name for item in resources for name in definitions_of(item))
    return {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": GIT_VERSION},
        "paths": {path: item for resource in resources for path, item in paths_of(resource, 2)},
        "definitions": {name: schema_of(name, texts, 2) for name in names}
        | _custom_schemas(resources, 2),
        "securityDefinitions": {"BearerToken": _BEARER},
        "security": [{"BearerToken": []}],
    }


def _custom_schemas(items: Iterable[Descriptor], openapi: int) -> Object:
    customs = [item for item in items if item.custom is not None]
    if not customs:
        return {}
    from .custom.publish import schemas_of

    return {name: schema for item in customs for name, schema in schemas_of(item, openapi)}


def digest_of_custom(item: Descriptor) -> str:
    from .custom.publish import digest_of

    return digest_of(item)


_BEARER = {
    "description": "Bearer Token authentication",
    "type": "apiKey",
    "name": "authorization",
    "in": "header",
}
