"""Fetch manifests and blobs from a registry, by the OCI distribution specification.

Credentials go to the registry itself and to the token server it names in its own answer over TLS;
never to where a redirect leads, and never in clear to another host (CVE-2020-15157). Everything
fetched is checked against its digest and bounded in size. Errors read as containerd's.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ipaddress
import re
import urllib.request
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from yarl import URL

from . import manifest
from .interface import Credentials, ImageDamaged, ImageNotFound, RegistryFailure
from .manifest import DOCUMENT_BYTES_MAX, Blob, Config, Manifest
from .reference import DEFAULT_DOMAIN, Reference

# Layers of one image that are downloaded at a time; upstream's containerd takes three as well.
DOWNLOADS = 4
# A blob beyond this is refused before the first byte.
BLOB_BYTES_MAX = 32 * 1024**3
_TOKEN_BYTES_MAX = 1024 * 1024
_REDIRECTS_MAX = 5
_INDEX_DEPTH_MAX = 3
# A connection that gives no byte for this long is dead.
_STALL_S = 60.0
_CONNECT_S = 30.0
# How often a download starts over when its connection breaks.
_ATTEMPTS = 3
_CHUNK_BYTES = 256 * 1024

_ACCEPT = ", ".join((*manifest.MANIFEST_TYPES, *manifest.INDEX_TYPES))
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class Registry:
    """What is configured for all registries."""

    def __init__(self, insecure: Collection[str] = ()) -> None:
        self._insecure = frozenset(insecure)

    @asynccontextmanager
    async def session(
        self, name: Reference, credentials: Credentials | None
    ) -> AsyncIterator[Session]:
        """One image's conversation with its registry."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_S, sock_read=_STALL_S)
        # Blobs must come as they are stored: their digest is over the compressed bytes.
        headers = {"User-Agent": "sampan", "Accept-Encoding": "identity"}
        async with aiohttp.ClientSession(
            timeout=timeout, headers=headers, auto_decompress=False
        ) as client:
            try:
                yield Session(client, name, credentials, insecure=self._is_insecure(name.domain))
            except (aiohttp.ClientError, OSError, TimeoutError) as error:
                raise RegistryFailure(_failed(name, f"failed to do request: {error}")) from error

    def _is_insecure(self, domain: str) -> bool:
        host = urlsplit(f"//{domain}").hostname or ""
        return domain in self._insecure or host in self._insecure or _is_loopback(host)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Session:
    """Requests for one repository. The token it was given serves all of them."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        name: Reference,
        credentials: Credentials | None,
        *,
        insecure: bool,
    ) -> None:
        self._client = client
        self._name = name
        self._credentials = credentials
        self._insecure = insecure
        host = "registry-1.docker.io" if name.domain == DEFAULT_DOMAIN else name.domain
        self._base = URL(f"{'http' if insecure else 'https'}://{host}")
        self._authorization = ""
        self._downloads = asyncio.Semaphore(DOWNLOADS)

    async def manifest(self, architecture: str) -> tuple[str, Manifest]:
        """The manifest for this machine, and the digest the name stands for."""
        name = self._name
        digest, document = await self._document(name.version)
        if name.digest and digest != name.digest:
            raise ImageDamaged(f"{name}: the registry sent {digest}")
        top = digest
        for _ in range(_INDEX_DEPTH_MAX):
            if not manifest.is_index(document):
                return top, manifest.parse_manifest(document)
            blob = manifest.choose(document, architecture)
            digest, document = await self._document(blob.digest)
            if digest != blob.digest:
                raise ImageDamaged(f"{name}: the registry sent {digest} for {blob.digest}")
        raise ImageDamaged(f"{name}: indexes within indexes")

    async def _document(self, version: str) -> tuple[str, Mapping[str, Any]]:
        path = f"/v2/{self._name.path}/manifests/{version}"
        async with self._request(path, accept=_ACCEPT) as response:
            data = await _read(response, DOCUMENT_BYTES_MAX)
        digest = manifest.digest_of(data)
        told = response.headers.get("Docker-Content-Digest", digest)
        if told != digest:
            raise ImageDamaged(f"{self._name}: the registry sent {digest}, and calls it {told}")
        return digest, manifest.parse_document(data)

    async def config(self, blob: Blob) -> Config:
        async with self._request(self._blob_path(blob)) as response:
            data = await _read(response, DOCUMENT_BYTES_MAX)
        if manifest.digest_of(data) != blob.digest:
            raise ImageDamaged(f"{self._name}: config is not {blob.digest}")
        return manifest.parse_config(data)

    def pairs(self, layers: Sequence[Blob], diff_ids: Sequence[str]) -> Iterable[tuple[Blob, str]]:
        if len(layers) != len(diff_ids):
            raise ImageDamaged(f"{self._name}: {len(layers)} layers, but {len(diff_ids)} diff ids")
        return zip(layers, diff_ids, strict=True)

    async def download(self, blob: Blob, target: Path) -> None:
        """Stream a blob to a file. Raises ImageDamaged when it is not what its digest says."""
        if blob.size > BLOB_BYTES_MAX:
            raise ImageDamaged(f"{self._name}: layer {blob.digest} is larger than allowed")
        async with self._downloads:
            for attempt in range(_ATTEMPTS):
                try:
                    await self._download(blob, target)
                    return
                except (aiohttp.ClientError, TimeoutError):
                    if attempt == _ATTEMPTS - 1:
                        raise

    async def _download(self, blob: Blob, target: Path) -> None:
        hashed = hashlib.sha256()
        size = 0
        async with self._request(self._blob_path(blob)) as response:
            with open(target, "wb") as file:  # noqa: ASYNC230 - writes go to the page cache
                async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
                    size += len(chunk)
                    if size > blob.size:
                        raise ImageDamaged(f"{self._name}: layer {blob.digest} is too large")
                    hashed.update(chunk)
                    file.write(chunk)
        if f"sha256:{hashed.hexdigest()}" != blob.digest or size != blob.size:
            raise ImageDamaged(f"{self._name}: layer is not {blob.digest}")

    def _blob_path(self, blob: Blob) -> str:
        return f"/v2/{self._name.path}/blobs/{blob.digest}"

    @asynccontextmanager
    async def _request(
        self, path: str, *, accept: str = "*/*"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer, after authentication and redirects."""
        url = self._base.with_path(path, encoded=True)
        response = await self._get(url, accept)
        try:
            if response.status == 401:
                await self._authorize(response)
                response.release()
                response = await self._get(url, accept)
            if response.status != 200:
                raise await self._refused(response)
            yield response
        finally:
            response.release()

    async def _get(self, url: URL, accept: str) -> aiohttp.ClientResponse:
        for _ in range(_REDIRECTS_MAX):
            headers = {"Accept": accept}
            if self._authorization and url.origin() == self._base.origin():
                headers["Authorization"] = self._authorization
            response = await self._client.get(
                url,
                headers=headers,
                allow_redirects=False,
                proxy=_proxy(url),
                ssl=not self._insecure,
            )
            if response.status not in (301, 302, 303, 307, 308):
                return response
            target = url.join(URL(response.headers.get("Location", "")))
            response.release()
            if target.scheme != "https" and url.scheme == "https":
                raise RegistryFailure(_failed(self._name, f"refused redirect to {target}"))
            url = target
        raise RegistryFailure(_failed(self._name, "too many redirects"))

    async def _authorize(self, response: aiohttp.ClientResponse) -> None:
        """Answer the registry's challenge, when it was the registry itself that challenged."""
        if response.url.origin() != self._base.origin():
            return
        challenges = response.headers.getall("WWW-Authenticate", [])
        for challenge in challenges:
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                fields = dict(_CHALLENGE.findall(rest))
                self._authorization = f"Bearer {await self._token(fields)}"
                return
            if scheme.lower() == "basic" and self._credentials is not None:
                self._authorization = _basic(self._credentials)
                return

    async def _token(self, fields: Mapping[str, str]) -> str:
        credentials = self._credentials
        if credentials is not None and credentials.token:
            return credentials.token
        realm = URL(fields.get("realm", ""))
        if realm.scheme not in ("http", "https") or not realm.host:
            raise RegistryFailure(_failed(self._name, "failed to authorize: malformed realm"))
        query = {"scope": fields.get("scope") or f"repository:{self._name.path}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        headers = {}
        if credentials is not None and credentials.username and self._may_know(realm):
            headers["Authorization"] = _basic(credentials)
        async with self._client.get(
            realm.update_query(query),
            headers=headers,
            allow_redirects=False,
            proxy=_proxy(realm),
            ssl=not self._insecure,
        ) as response:
            if response.status != 200:
                kind = "oauth" if headers else "anonymous"
                raise RegistryFailure(
                    _failed(
                        self._name,
                        f"failed to authorize: failed to fetch {kind} token: unexpected status "
                        f"from GET request to {response.url}: {response.status} {response.reason}",
                    )
                )
            data = await _read(response, _TOKEN_BYTES_MAX)
        return _token_of(data, self._name)

    def _may_know(self, realm: URL) -> bool:
        """Whether a token server may see the password: the registry's own host, or one the
        registry named over TLS and that is spoken to over TLS."""
        if realm.origin() == self._base.origin():
            return True
        return self._base.scheme == "https" and realm.scheme == "https"

    async def _refused(self, response: aiohttp.ClientResponse) -> Exception:
        name = self._name
        if response.status == 404:
            return ImageNotFound(f'failed to resolve reference "{name}": {name}: not found')
        if response.status in (401, 403):
            message = await _server_message(response)
            return RegistryFailure(
                _failed(
                    name,
                    "pull access denied, repository does not exist or may require "
                    f"authorization: server message: {message}",
                )
            )
        return RegistryFailure(
            _failed(
                name,
                f"unexpected status from GET request to {response.url}: "
                f"{response.status} {response.reason}",
            )
        )


def _failed(name: Reference, why: str) -> str:
    return f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {why}'


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


async def _read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.content.iter_chunked(_CHUNK_BYTES):
        data += chunk
        if len(data) > limit:
            raise ImageDamaged(f"the registry's answer is larger than {limit} bytes")
    return bytes(data)


async def _server_message(response: aiohttp.ClientResponse) -> str:
    """The first error of the registry's own error document."""
    try:
        errors = orjson.loads(await _read(response, _TOKEN_BYTES_MAX))["errors"]
        return f"{errors[0]['code'].lower()}: {errors[0]['message']}"
    except (orjson.JSONDecodeError, ImageDamaged, KeyError, IndexError, TypeError, AttributeError):
        return f"{response.status} {response.reason}"


def _token_of(data: bytes, name: Reference) -> str:
    try:
        document = orjson.loads(data)
        token = document.get("token") or document.get("access_token")
    except (orjson.JSONDecodeError, AttributeError):
        token = None
    # A token is put into a header: anything but plain text could add headers of its own.
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise RegistryFailure(_failed(name, "failed to authorize: malformed token"))
    return token


def _proxy(url: URL) -> str | None:
    """From the environment (HTTPS_PROXY, NO_PROXY), as other tools have it."""
    host = url.host or ""
    if _is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
