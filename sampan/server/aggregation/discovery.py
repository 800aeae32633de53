"""Discovery and OpenAPI of this server and its extensions as one.

An extension's resources become descriptors like any other, so the documents are made by the same
code; a group version whose server is away stays listed, marked as stale. OpenAPI documents of
extensions are theirs, asked for when a client asks.
"""

from __future__ import annotations

import asyncio
import hashlib
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.descriptor import Descriptor, Kind, Subresource
from sampan.api.errors import Object, ServiceUnavailable
from sampan.api.principals import MASTERS

from .. import openapi
from ..exchange import Request, Response, User
from ..registry import Registry
from ..webhooks.target import CallFailed
from .aggregator import USER_AGENT, Extension
from .trust import identity_headers

if TYPE_CHECKING:
    from ..app import Server

FETCH_S = 5.0
MAX_DOCUMENT = 32 << 20
"""Bytes of an extension's OpenAPI document; Kubernetes' own whole is a tenth of that."""
MAX_INDEX = 1 << 20
READER = User("system:aggregator", (MASTERS,))
INDEX = "/openapi/v3"


def merged(server: Server) -> Registry:
    """Everything served, extensions' resources among it; for documents alone."""
    extensions = server.aggregator.remote
    everything = Registry(
        item for item in server.resources if (item.group, item.version) not in extensions
    )
    for extension in extensions.values():
        for descriptor in descriptors_of(extension):
            everything.add(descriptor)
    everything.stale = frozenset(
        key
        for key, extension in extensions.items()
        if not extension.available or not extension.resources
    )
    return everything


def descriptors_of(extension: Extension) -> list[Descriptor]:
    """The resources of an APIResourceList; its subresources are rows of their own there."""
    parts: dict[str, dict[str, Subresource]] = {}
    for row in extension.resources:
        plural, _, part = row["name"].partition("/")
        if part:
            parts.setdefault(plural, {})[part] = Subresource(
                row["kind"], _texts(row["verbs"]), row.get("group") or "", row.get("version") or ""
            )
    return [
        _descriptor(extension, row, parts.get(row["name"], {}))
        for row in extension.resources
        if "/" not in row["name"]
    ]


def _descriptor(extension: Extension, row: Object, parts: dict[str, Subresource]) -> Descriptor:
    kind = Kind(
        extension.group,
        extension.version,
        row["kind"],
        short_names=_texts(row.get("shortNames")),
        categories=_texts(row.get("categories")),
    )
    return Descriptor(
        group=extension.group,
        version=extension.version,
        kind=row["kind"],
        plural=row["name"],
        singular=str(row.get("singularName") or row["kind"].lower()),
        namespaced=row.get("namespaced") is True,
        verbs=_texts(row["verbs"]),
        subresources=parts,
        definition="",
        rules=kind,
        storage="",
        has_status="status" in parts,
        counts_generation=False,
    )


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        return ()
    return tuple(sorted(item for item in value if isinstance(item, str)))


# OpenAPI.


async def answer_openapi(server: Server, request: Request, accept: str) -> Response | None:
    """/openapi/v2, /openapi/v3 and its documents of extensions; None for those of this server."""
    path = request.path.rstrip("/")
    if path == "/openapi/v2":
        return await server.aggregator.swagger.answer(request, accept)
    if path == INDEX:
        return await _index(server, request)
    parts = path.removeprefix(INDEX + "/").split("/")
    if len(parts) != 3 or parts[0] != "apis":
        return None
    extension = server.aggregator.remote.get((parts[1], parts[2]))
    if extension is None:
        return None
    try:
        body = await fetch(server, extension, f"{INDEX}{extension.path}", MAX_DOCUMENT)
    except CallFailed as error:
        raise ServiceUnavailable(f"error trying to reach service: {error.message}") from None
    return Response(200, body)


async def _index(server: Server, request: Request) -> Response:
    document = openapi.index(server.resources)
    known = list(server.aggregator.remote.values())
    found = await asyncio.gather(*(_entry(server, extension) for extension in known))
    for extension, entry in zip(known, found, strict=True):
        document["paths"].pop(extension.path[1:], None)
        if entry:
            document["paths"][extension.path[1:]] = {"serverRelativeURL": entry}
    body = orjson.dumps(document)
    etag = f'"{hashlib.sha256(body).hexdigest()[:32].upper()}"'
    headers = [("ETag", etag), ("Vary", "Accept, Accept-Encoding")]
    if request.headers.get("if-none-match") == etag:
        return Response(304, b"", headers=headers)
    return Response(200, body, headers=headers)


async def _entry(server: Server, extension: Extension) -> str:
    """The URL of an extension's document as its own index has it; "" when it has none."""
    if not extension.available:
        return ""
    try:
        index = orjson.loads(await fetch(server, extension, INDEX, MAX_INDEX))
        url = index["paths"][extension.path[1:]]["serverRelativeURL"]
    except (CallFailed, orjson.JSONDecodeError, KeyError, TypeError):
        return ""
    # Only the hash is taken: the place is ours to say.
    digest = str(url).partition("hash=")[2].partition("&")[0]
    where = f"{INDEX}{extension.path}"
    return f"{where}?hash={digest}" if digest.isalnum() else where


async def fetch(server: Server, extension: Extension, path: str, limit: int) -> bytes:
    """What an extension answers to a path. Raises CallFailed."""
    target = extension.target
    if target is None or not extension.available:
        raise CallFailed("the server is not available")
    headers = [*identity_headers(READER), ("Accept", "application/json"), USER_AGENT]
    try:
        async with asyncio.timeout(FETCH_S):
            connection = await server.webhooks.open(
                target, "GET", f"{target.url}{path}", headers, b""
            )
            try:
                body = await connection.read(limit)
            except BaseException:
                connection.abort()
                raise
    except TimeoutError:
        raise CallFailed("context deadline exceeded") from None
    server.webhooks.keep(target, connection)
    if connection.status != 200:
        raise CallFailed(f"the server answered {connection.status}")
    return body
