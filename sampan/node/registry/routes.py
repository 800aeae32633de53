"""The paths of the distribution specification, and what each does.

Repository names contain slashes, so paths are matched from their end. Bounds: `MANIFEST_BYTES_MAX`
per manifest, `PAGE_MAX` names per page, `STALL_S` without a byte of a body.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any
from urllib.parse import quote

import orjson
from aiohttp import web

from sampan.runtime.depot.blobs import Rejected, Upload
from sampan.runtime.depot.depot import Depot, check_digest
from sampan.runtime.manifest import DOCUMENT_BYTES_MAX, INDEX_TYPES
from sampan.runtime.reference import is_digest, is_repository, is_tag

MANIFEST_BYTES_MAX = DOCUMENT_BYTES_MAX
PAGE_MAX = 1000
STALL_S = 60.0
_RANGE = re.compile(r"^(?:bytes[ =])?([0-9]{1,15})-([0-9]{1,15})(?:/.*)?\Z")
_OCTETS = "application/octet-stream"

Answer = Awaitable[web.StreamResponse]


class Routes:
    """One registry's. `reads` says whether the request's user may read another repository."""

    def __init__(self, depot: Depot, reads: Callable[[web.Request, str], Awaitable[bool]]) -> None:
        self._depot = depot
        self._reads = reads

    def find(self, method: str, path: str) -> tuple[str, Callable[[web.Request], Answer]]:
        """(repository or the registry's own path, what to do). Raises Rejected."""
        for pattern, methods in self._table:
            found = pattern.match(path)
            if found is None:
                continue
            handler = methods.get(method)
            if handler is None:
                raise Rejected(405, "UNSUPPORTED", "the operation is unsupported")
            parts = found.groups()
            if not parts:
                return path.removeprefix("/v2").strip("/"), handler
            if not is_repository(parts[0]):
                raise Rejected(400, "NAME_INVALID", "invalid repository name")
            return parts[0], partial(_with_parts, handler, parts)
        raise Rejected(404, "NAME_UNKNOWN", "there is nothing at this path")

    @property
    def _table(self) -> Sequence[tuple[re.Pattern[str], dict[str, Callable[..., Answer]]]]:
        read = dict.fromkeys(("GET", "HEAD"))
        return (
            (_BASE, dict.fromkeys(read, self._base)),
            (_CATALOG, dict.fromkeys(read, self._catalog)),
            (_TAGS, dict.fromkeys(read, self._tags)),
            (
                _MANIFEST,
                {
                    **dict.fromkeys(read, self._get_manifest),
                    "PUT": self._put_manifest,
                    "DELETE": self._delete_manifest,
                },
            ),
            (_UPLOADS, {"POST": self._begin}),
            (
                _UPLOAD,
                {
                    "GET": self._progress,
                    "PATCH": self._append,
                    "PUT": self._finish,
                    "DELETE": self._cancel,
                },
            ),
            (_BLOB, {**dict.fromkeys(read, self._get_blob), "DELETE": self._delete_blob}),
            (_REFERRERS, dict.fromkeys(read, self._referrers)),
        )

    async def _base(self, request: web.Request) -> web.Response:
        return _json({})

    async def _catalog(self, request: web.Request) -> web.Response:
        return _page(request, "/v2/_catalog", sorted(self._depot.repositories.all()), {})

    async def _tags(self, request: web.Request, name: str) -> web.Response:
        tags = sorted(self._depot.repositories.find(name).tags)
        return _page(request, f"/v2/{name}/tags/list", tags, {"name": name})

    # Manifests

    async def _get_manifest(self, request: web.Request, name: str, version: str) -> web.Response:
        digest, entry = self._depot.find(name, version)
        headers = {"Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
        if request.headers.get("If-None-Match", "").strip('"') == digest:
            return web.Response(status=304, headers=headers)
        data = await asyncio.to_thread(self._depot.blobs.path(digest).read_bytes)
        headers["Content-Type"] = entry["media_type"]
        return web.Response(body=data, headers=headers)

    async def _put_manifest(self, request: web.Request, name: str, version: str) -> web.Response:
        if not (is_digest(version) or is_tag(version)):
            raise Rejected(400, "MANIFEST_INVALID", "neither a tag nor a digest of sha256")
        data = bytearray()
        async for chunk in _chunks(request):
            data += chunk
            if len(data) > MANIFEST_BYTES_MAX:
                text = f"a manifest has at most {MANIFEST_BYTES_MAX} bytes"
                raise Rejected(413, "MANIFEST_INVALID", text)
        kind = request.content_type if "Content-Type" in request.headers else ""
        digest, subject = await self._depot.put(name, version, kind, bytes(data))
        headers = {"Docker-Content-Digest": digest, "Location": f"/v2/{name}/manifests/{digest}"}
        if subject:
            headers["OCI-Subject"] = subject
        return web.Response(status=201, headers=headers)

    async def _delete_manifest(self, request: web.Request, name: str, version: str) -> web.Response:
        await self._depot.delete(name, version)
        return web.Response(status=202)

    async def _referrers(self, request: web.Request, name: str, digest: str) -> web.Response:
        check_digest(digest)
        kind = request.query.get("artifactType", "")
        found = self._depot.referrers(name, digest, kind)
        body = {"schemaVersion": 2, "mediaType": INDEX_TYPES[0], "manifests": found}
        answer = _json(body, INDEX_TYPES[0])
        if kind:
            answer.headers["OCI-Filters-Applied"] = "artifactType"
        return answer

    # Blobs

    async def _get_blob(self, request: web.Request, name: str, digest: str) -> web.StreamResponse:
        path = self._depot.blob(name, digest)
        headers = {"Docker-Content-Digest": digest, "Content-Type": _OCTETS}
        # Ranges are its business, and bytes go from the file to the socket by the kernel.
        return web.FileResponse(path, headers=headers)

    async def _delete_blob(self, request: web.Request, name: str, digest: str) -> web.Response:
        await self._depot.delete_blob(name, digest)
        return web.Response(status=202)

    async def _begin(self, request: web.Request, name: str) -> web.Response:
        query, source = request.query, request.query.get("from", "")
        if "mount" in query and is_repository(source) and await self._reads(request, source):
            check_digest(query["mount"])
            if await self._depot.mount(name, source, query["mount"]):
                return _made(name, query["mount"])
        upload = self._depot.blobs.begin(name)
        if "digest" in query:
            return await self._complete(request, upload, query["digest"])
        return _accepted(upload)

    async def _progress(self, request: web.Request, name: str, upload_id: str) -> web.Response:
        return _accepted(self._depot.blobs.upload(name, upload_id), 204)

    async def _append(self, request: web.Request, name: str, upload_id: str) -> web.Response:
        upload = self._depot.blobs.upload(name, upload_id)
        _check_range(request, upload)
        await self._depot.blobs.append(upload, _chunks(request))
        return _accepted(upload)

    async def _finish(self, request: web.Request, name: str, upload_id: str) -> web.Response:
        upload = self._depot.blobs.upload(name, upload_id)
        _check_range(request, upload)
        digest = request.query.get("digest", "")
        check_digest(digest)
        return await self._complete(request, upload, digest)

    async def _complete(self, request: web.Request, upload: Upload, digest: str) -> web.Response:
        try:
            check_digest(digest)
            await self._depot.blobs.append(upload, _chunks(request))
            await self._depot.finish(upload, digest)
        except Rejected:
            self._depot.blobs.drop(upload)
            raise
        return _made(upload.repository, digest)

    async def _cancel(self, request: web.Request, name: str, upload_id: str) -> web.Response:
        self._depot.blobs.drop(self._depot.blobs.upload(name, upload_id))
        return web.Response(status=204)


def _with_parts(
    handler: Callable[..., Answer], parts: Sequence[str], request: web.Request
) -> Answer:
    return handler(request, *parts)


_BASE = re.compile(r"^/v2/?\Z")
_CATALOG = re.compile(r"^/v2/_catalog\Z")
_TAGS = re.compile(r"^/v2/(.+)/tags/list\Z")
_MANIFEST = re.compile(r"^/v2/(.+)/manifests/([^/]+)\Z")
_UPLOADS = re.compile(r"^/v2/(.+)/blobs/uploads/?\Z")
_UPLOAD = re.compile(r"^/v2/(.+)/blobs/uploads/([^/]+)\Z")
_BLOB = re.compile(r"^/v2/(.+)/blobs/([^/]+)\Z")
_REFERRERS = re.compile(r"^/v2/(.+)/referrers/([^/]+)\Z")


async def _chunks(request: web.Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises Rejected when it stalls."""
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                chunk = await request.content.readany()
        except TimeoutError:
            raise Rejected(408, "BLOB_UPLOAD_INVALID", "the upload stalled") from None
        if not chunk:
            return
        yield chunk


def _check_range(request: web.Request, upload: Upload) -> None:
    """Chunks come in order; one that says to be elsewhere is refused (416)."""
    told = request.headers.get("Content-Range", "")
    if not told:
        return
    found = _RANGE.match(told)
    if found is None or int(found[1]) != upload.size:
        text = f"the upload has {upload.size} bytes, and Content-Range is {told!r}"
        raise Rejected(416, "BLOB_UPLOAD_INVALID", text)
    length = request.content_length
    if length and int(found[2]) - int(found[1]) + 1 != length:
        raise Rejected(400, "SIZE_INVALID", "Content-Range and Content-Length differ")


def _accepted(upload: Upload, status: int = 202) -> web.Response:
    return web.Response(
        status=status,
        headers={
            "Location": f"/v2/{upload.repository}/blobs/uploads/{upload.id}",
            "Range": f"0-{max(upload.size - 1, 0)}",
            "Docker-Upload-UUID": upload.id,
        },
    )


def _made(name: str, digest: str) -> web.Response:
    headers = {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers=headers)


def _page(
    request: web.Request, path: str, names: Sequence[str], body: dict[str, Any]
) -> web.Response:
    """`n` names after `last`, with a link to the next page."""
    asked, last = request.query.get("n", ""), request.query.get("last", "")
    if asked and not (asked.isascii() and asked.isdigit() and len(asked) < 10):
        raise Rejected(400, "UNSUPPORTED", f"n={asked!r} is no number")
    size = min(int(asked), PAGE_MAX) if asked else PAGE_MAX
    left = [name for name in names if name > last] if last else list(names)
    answer = _json({**body, "tags" if "name" in body else "repositories": left[:size]})
    if 0 < size < len(left):
        following = f"{path}?n={size}&last={quote(left[size - 1], safe='')}"
        answer.headers["Link"] = f'<{following}>; rel="next"'
    return answer


def _json(body: Any, kind: str = "application/json") -> web.Response:
    return web.Response(body=orjson.dumps(body), content_type=kind)
