"""Fetch manifests and blobs of an image, by the OCI distribution specification.

A registry's servers (mirrors first, `mirrors.py`) are asked in order until one has it. Everything
fetched is checked against its digest and bounded in size, so a mirror can at worst have nothing.
Errors read as containerd's.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import asynccontextmanager
from pathlib import Path
from typing import IO, Any, TypeVar

import aiohttp

from . import manifest
from .interface import Credentials, ImageDamaged, ImageNotFound, RegistryFailure
from .manifest import DOCUMENT_BYTES_MAX, Blob, Config, Manifest
from .mirrors import PULL, RESOLVE, Endpoint, endpoints
from .reference import Reference
from .room import Room, is_full
from .upstream import CHUNK_BYTES, Server, failure, read

log = logging.getLogger("sampan.runtime.registry")
Answer = TypeVar("Answer")

# Layers of one image that are downloaded at a time; upstream's containerd takes three as well.
DOWNLOADS = 4
# A blob beyond this is refused before the first byte.
BLOB_BYTES_MAX = 32 * 1024**3
_INDEX_DEPTH_MAX = 3
# A connection that gives no byte for this long is dead.
_STALL_S = 60.0
_CONNECT_S = 30.0
# How often a download is gone on with when its connection breaks and nothing came meanwhile.
_ATTEMPTS = 4
_PAUSE_S = 0.5
"""Before the second such attempt; doubled before each further one."""

_ACCEPT = ", ".join((*manifest.MANIFEST_TYPES, *manifest.INDEX_TYPES))


class Registry:
    """What is configured for all registries."""

    def __init__(self, insecure: Collection[str] = (), folders: Sequence[Path] = ()) -> None:
        """`insecure` hosts are spoken to in clear; `folders` have the files of `mirrors.py`."""
        self._insecure = frozenset(insecure)
        self._folders = folders

    @asynccontextmanager
    async def session(
        self,
        name: Reference,
        credentials: Credentials | None,
        found: Sequence[Endpoint] | None = None,
    ) -> AsyncIterator[Session]:
        """One image's conversation with its registry, or with the servers that are given."""
        if found is None:
            found = await asyncio.to_thread(endpoints, name.domain, self._folders, self._insecure)
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
        # Blobs must come as they are stored: their digest is over the compressed bytes.
        headers = {"User-Agent": "sampan", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(
            timeout=timeout, headers=headers, auto_decompress=False
        ) as client:
            yield Session(client, name, credentials, found)


class Session:
    """Requests for one image."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        name: Reference,
        credentials: Credentials | None,
        found: Sequence[Endpoint],
    ) -> None:
        self._name = name
        self._servers = [Server(client, name, credentials, endpoint) for endpoint in found]
        self._downloads = asyncio.Semaphore(DOWNLOADS)

    async def manifest(self, architecture: str) -> tuple[str, Manifest]:
        """The manifest for this machine, and the digest the name stands for."""
        name = self._name
        digest, document = await self._document(name.digest, name.tag)
        top = digest
        for _ in range(_INDEX_DEPTH_MAX):
            if not manifest.is_index(document):
                return top, manifest.parse_manifest(document)
            blob = manifest.choose(document, architecture)
            digest, document = await self._document(blob.digest)
        raise ImageDamaged(f"{name}: indexes within indexes")

    async def _document(self, digest: str, tag: str = "") -> tuple[str, Mapping[str, Any]]:
        """By digest, or by tag when there is none. Raises ImageDamaged when another one came."""

        async def get(server: Server) -> tuple[str, Mapping[str, Any]]:
            async with server.request(f"manifests/{digest or tag}", accept=_ACCEPT) as response:
                data = await read(response, DOCUMENT_BYTES_MAX)
            found = manifest.digest_of(data)
            told = response.headers.get("Docker-Content-Digest", found)
            if told != found:
                raise ImageDamaged(f"{self._name}: the registry sent {found}, and calls it {told}")
            if digest and found != digest:
                raise ImageDamaged(f"{self._name}: the registry sent {found} for {digest}")
            return found, manifest.parse_document(data, response.content_type)

        return await self._ask(PULL if digest else RESOLVE, f"manifests/{digest or tag}", get)

    async def _ask(
        self, wanted: str, path: str, get: Callable[[Server], Awaitable[Answer]]
    ) -> Answer:
        """The answer of the first server that has one for what is at `path`; the error of the
        last."""
        able = [server for server in self._servers if wanted in server.endpoint.capabilities]
        for server in able:
            try:
                return await get(server)
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                if is_full(error):
                    raise
                problem: Exception = self._unreached(server, error, wanted, path)
                problem.__cause__ = error
                if server is not able[-1]:
                    # A mirror that is down is not waited for with every layer.
                    self._servers = [one for one in self._servers if one is not server]
            except (ImageNotFound, ImageDamaged, RegistryFailure) as error:
                problem = error
            if server is able[-1]:
                raise problem
            log.info("%s: %s: %s", self._name, server.host, problem)
        raise failure(self._name, f"no host is configured to {wanted} images")

    def _unreached(
        self, server: Server, error: Exception, wanted: str, path: str
    ) -> RegistryFailure:
        from .troubles import text_of

        # containerd resolves a tag by HEAD.
        verb = "Head" if wanted == RESOLVE else "Get"
        url = f"{server.endpoint.url}/{self._name.path}/{path}"
        return failure(self._name, f"failed to do request: {text_of(error, verb, url)}")

    async def config(self, blob: Blob) -> Config:
        async def get(server: Server) -> Config:
            async with server.request(f"blobs/{blob.digest}") as response:
                data = await read(response, DOCUMENT_BYTES_MAX)
            if manifest.digest_of(data) != blob.digest:
                raise ImageDamaged(f"{self._name}: config is not {blob.digest}")
            return manifest.parse_config(data)

        return await self._ask(PULL, f"blobs/{blob.digest}", get)

    def pairs(self, layers: Sequence[Blob], diff_ids: Sequence[str]) -> Iterable[tuple[Blob, str]]:
        if len(layers) != len(diff_ids):
            raise ImageDamaged(f"{self._name}: {len(layers)} layers, but {len(diff_ids)} diff ids")
        return zip(layers, diff_ids, strict=True)

    async def download(self, blob: Blob, target: Path) -> None:
        """Bring the file to the whole blob, going on with what is in it.

        Raises ImageDamaged when it is not what its digest says; then the file is empty.
        """
        if blob.size > BLOB_BYTES_MAX:
            raise ImageDamaged(f"{self._name}: layer {blob.digest} is larger than allowed")
        async with self._downloads:
            with open(target, "ab") as file:  # noqa: ASYNC230 - writes go to the page cache
                part = _Part(self._name, blob, file)
                await asyncio.to_thread(part.resume, target)
                if not part.whole:
                    await self._ask(PULL, f"blobs/{blob.digest}", part.fetch_from)


class _Part:
    """A blob as far as it is there, with the hash of what is."""

    def __init__(self, name: Reference, blob: Blob, file: IO[bytes]) -> None:
        self._name = name
        self._blob = blob
        self._file = file
        self._room = Room(file.fileno())
        self._hash = hashlib.sha256()
        self._size = 0

    def _restart(self) -> None:
        self._hash = hashlib.sha256()
        self._size = 0
        self._file.truncate(0)

    def resume(self, path: Path) -> None:
        """Hash what an earlier pull has left. For a thread."""
        with open(path, "rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                self._hash.update(chunk)
                self._size += len(chunk)

    @property
    def whole(self) -> bool:
        """Whether all of it is there. What is there and wrong is fetched anew."""
        if self._size < self._blob.size:
            return False
        if self._size == self._blob.size and self._digest == self._blob.digest:
            return True
        self._restart()
        return False

    @property
    def _digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"

    async def fetch_from(self, server: Server) -> None:
        """The rest; a broken connection is taken up again as long as something comes."""
        attempt = 1
        while True:
            before = self._size
            try:
                await self._fetch(server)
                return
            except ImageDamaged:
                self._restart()
                raise
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                self._file.flush()
                attempt = 1 if self._size > before else attempt + 1
                if attempt > _ATTEMPTS or is_full(error):
                    raise
            if attempt > 2:
                await asyncio.sleep(_PAUSE_S * 2 ** (attempt - 3))

    async def _fetch(self, server: Server) -> None:
        async with server.request(f"blobs/{self._blob.digest}", start=self._size) as response:
            if response.status != 206 or not _begins_at(response, self._size):
                self._restart()
            async for chunk in response.content.iter_chunked(CHUNK_BYTES):
                self._size += len(chunk)
                if self._size > self._blob.size:
                    raise ImageDamaged(f"{self._name}: layer {self._blob.digest} is too large")
                self._room.take(len(chunk))
                self._hash.update(chunk)
                self._file.write(chunk)
        self._file.flush()
        if self._digest != self._blob.digest or self._size != self._blob.size:
            raise ImageDamaged(f"{self._name}: layer is not {self._blob.digest}")


def _begins_at(response: aiohttp.ClientResponse, start: int) -> bool:
    """Whether a partial answer is the part that was asked for (RFC 9110, 14.4)."""
    return response.headers.get("Content-Range", "").startswith(f"bytes {start}-")
