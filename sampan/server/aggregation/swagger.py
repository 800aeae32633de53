"""OpenAPI version 2 of this server and its extensions: one document, as kubectl reads it.

What an extension says of paths that are not its own is left out, and definitions that differ from
ours by the same name get another (`_v2`), as upstream's aggregator does it. Memory: the document,
packed, once per media type asked for; extensions are asked again when something changed or after
`KEPT_S`, by whoever asks next. Bounds: `discovery.MAX_DOCUMENT` per extension.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import orjson

from sampan.api.errors import Object

from .. import openapi
from ..exchange import Request, Response
from ..webhooks.target import CallFailed

if TYPE_CHECKING:
    from ..app import Server
    from .aggregator import Extension

log = logging.getLogger("sampan.aggregation")

PATH = "/openapi/v2"
KEPT_S = 60.0
"""Upstream asks its extensions every minute."""
DEFINITION, PARAMETER = "#/definitions/", "#/parameters/"


class Swagger:
    """The merged document of one server."""

    def __init__(self, server: Server) -> None:
        self._server = server
        self._lock = asyncio.Lock()
        self._stamp: tuple[int, int] | None = None
        self._made = 0.0
        self._packed: dict[str, openapi.Document] = {}

    async def answer(self, request: Request, accept: str) -> Response:
        """The document in the form that is asked for. Raises NotAcceptable."""
        media = openapi.media_of(PATH, accept)
        async with self._lock:
            stamp = (self._server.resources.generation, self._server.aggregator.generation)
            now = asyncio.get_running_loop().time()
            if stamp != self._stamp or now - self._made > KEPT_S:
                self._packed.clear()
                self._stamp, self._made = stamp, now
            found = self._packed.get(media)
            if found is None:
                found = openapi.packed_v2(await self._merged(), media)
                self._packed[media] = found
        return openapi.respond(found, request.headers)

    async def _merged(self) -> Object:
        extensions = [item for item in self._server.aggregator.remote.values() if item.available]
        read = await asyncio.gather(*(self._read(item) for item in extensions))
        document = openapi.document_v2(self._server.resources)
        for extension, other in zip(extensions, read, strict=True):
            try:
                merge(document, other, extension.path)
            except (AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
                log.warning("OpenAPI of %s makes no sense: %r", extension.name, error)
        return document

    async def _read(self, extension: Extension) -> Any:
        from .discovery import MAX_DOCUMENT, fetch

        try:
            return orjson.loads(await fetch(self._server, extension, PATH, MAX_DOCUMENT))
        except (CallFailed, orjson.JSONDecodeError) as error:
            log.warning("OpenAPI of %s cannot be read: %s", extension.name, error)
            return {}


def merge(document: Object, other: Any, prefix: str) -> None:
    """Take the paths of `other` below a prefix into a document, with the definitions they need.
    The document is changed only if all of it makes sense; raises what a wrong shape raises."""
    paths = {
        path: item
        for path, item in (other.get("paths") or {}).items()
        if path == prefix or path.startswith(f"{prefix}/")
    }
    given = other.get("definitions") or {}
    names: dict[str, str] = {}
    todo = list(_references(paths, other))
    while todo:
        name = todo.pop()
        if name in names or name not in given:
            continue
        names[name] = _free(name, given[name], document["definitions"])
        todo += _references(given[name], other)
    definitions = {new: _rewritten(given[name], names, other) for name, new in names.items()}
    known = _rewritten(paths, names, other)
    document["definitions"].update(definitions)
    document["paths"].update(known)


def _free(name: str, schema: Any, known: Object) -> str:
    """The name a definition gets: its own, unless that is another's."""
    new, number = name, 1
    while new in known and known[new] != schema:
        number += 1
        new = f"{name}_v{number}"
    return new


def _references(value: Any, other: Object) -> Iterator[str]:
    """The definitions that a part of a document names."""
    if isinstance(value, list):
        for item in value:
            yield from _references(item, other)
    elif isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            if reference.startswith(DEFINITION):
                yield reference.removeprefix(DEFINITION)
            elif reference.startswith(PARAMETER):
                yield from _references(_parameter(reference, other), other)
        for item in value.values():
            yield from _references(item, other)


def _parameter(reference: str, other: Object) -> Any:
    found = other["parameters"][reference.removeprefix(PARAMETER)]
    if "$ref" in found:
        raise ValueError("a parameter that is a reference")
    return found


def _rewritten(value: Any, names: dict[str, str], other: Object) -> Any:
    """A copy with definitions by their new names, and shared parameters in their places."""
    if isinstance(value, list):
        return [_rewritten(item, names, other) for item in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("$ref")
    if isinstance(reference, str):
        if reference.startswith(PARAMETER):
            return _rewritten(_parameter(reference, other), names, other)
        name = reference.removeprefix(DEFINITION)
        return {**value, "$ref": DEFINITION + names.get(name, name)}
    return {key: _rewritten(item, names, other) for key, item in value.items()}
