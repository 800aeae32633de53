"""One server of images: requests with authentication and redirects.

Credentials go to the registry itself and to the token server it names in its own answer over TLS;
never to a mirror, never to where a redirect leads, and never in clear to another host
(CVE-2020-15157). What an administrator wrote as a header goes to its own host alone.
"""

from __future__ import annotations

import base64
import re
import ssl
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import aiohttp
import orjson
from yarl import URL

from .interface import Credentials, ImageDamaged, ImageNotFound, RegistryFailure
from .mirrors import Endpoint, is_loopback
from .reference import Reference

_TOKEN_BYTES_MAX = 1024 * 1024
_REDIRECTS_MAX = 5
CHUNK_BYTES = 256 * 1024
CLIENT_ID = "sampan"
_CHALLENGE = re.compile(r'([a-zA-Z_]+)="([^"]*)"')


class Server:
    """Requests for one repository to one server. The token it was given serves all of them."""

    def __init__(
        self,
        client: aiohttp.ClientSession,
        name: Reference,
        credentials: Credentials | None,
        endpoint: Endpoint,
    ) -> None:
        self.endpoint = endpoint
        self._client = client
        self._name = name
        self._credentials = credentials if endpoint.is_registry else None
        self._base = URL(endpoint.url)
        self._ssl: ssl.SSLContext | bool | None = None
        self._authorization = ""

    @property
    def host(self) -> str:
        return self._base.authority

    @asynccontextmanager
    async def request(
        self, path: str, *, accept: str = "*/*", start: int = 0
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A successful answer to GET of what lies below the repository, from byte `start` where
        the server can do that (206). Raises ImageNotFound, RegistryFailure, aiohttp's errors."""
        url = URL(f"{self.endpoint.url}/{self._name.path}/{path}", encoded=True)
        if not self.endpoint.is_registry:
            # What a mirror of several registries needs to know, as containerd tells it.
            url = url.update_query(ns=self._name.domain)
        response = await self._get(url, accept, start)
        try:
            if response.status == 401 and await self._authorize(response):
                response.release()
                response = await self._get(url, accept, start)
            if response.status not in (200, 206):
                raise await self._refused(response)
            yield response
        finally:
            response.release()

    async def _get(self, url: URL, accept: str, start: int) -> aiohttp.ClientResponse:
        for _ in range(_REDIRECTS_MAX):
            headers = {"Accept": accept}
            if start:
                headers["Range"] = f"bytes={start}-"
            if url.origin() == self._base.origin():
                headers.update(self.endpoint.headers)
                if self._authorization:
                    headers["Authorization"] = self._authorization
            response = await self._client.get(
                url, headers=headers, allow_redirects=False, proxy=_proxy(url), ssl=self._tls(url)
            )
            if response.status not in (301, 302, 303, 307, 308):
                return response
            response.release()
            try:
                target = url.join(URL(response.headers.get("Location", "")))
            except ValueError as error:
                raise self.failed(f"malformed redirect: {error}") from error
            if target.scheme != "https" and url.scheme == "https":
                raise self.failed(f"refused redirect to {target}")
            url = target
        raise self.failed("too many redirects")

    def _tls(self, url: URL) -> ssl.SSLContext | bool:
        """How the certificate of where we go is looked at: what was configured is for the server
        itself, others have to be known to the machine."""
        if url.origin() != self._base.origin():
            return True
        if self._ssl is None:
            self._ssl = self._context()
        return self._ssl

    def _context(self) -> ssl.SSLContext | bool:
        endpoint = self.endpoint
        if not endpoint.authorities and not endpoint.client:
            return endpoint.verify
        context = ssl.create_default_context()
        try:
            for path in endpoint.authorities:
                context.load_verify_locations(path)
            for certificate, key in endpoint.client:
                context.load_cert_chain(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise self.failed(f"certificates for {self.host}: {error}") from error
        if not endpoint.verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    async def _authorize(self, response: aiohttp.ClientResponse) -> bool:
        """Answer the registry's challenge, when it was the registry itself that challenged."""
        if response.url.origin() != self._base.origin():
            return False
        for challenge in response.headers.getall("WWW-Authenticate", []):
            scheme, _, rest = challenge.partition(" ")
            if scheme.lower() == "bearer":
                fields = {name.lower(): value for name, value in _CHALLENGE.findall(rest)}
                self._authorization = f"Bearer {await self._token(fields)}"
                return True
            if scheme.lower() == "basic" and self._credentials is not None:
                self._authorization = _basic(self._credentials)
                return True
        return False

    async def _token(self, fields: Mapping[str, str]) -> str:
        credentials = self._credentials
        if credentials is not None and credentials.token:
            return credentials.token
        try:
            realm = URL(fields.get("realm", ""))
        except ValueError as error:
            raise self.failed("failed to authorize: malformed realm") from error
        if realm.scheme not in ("http", "https") or not realm.host:
            raise self.failed("failed to authorize: malformed realm")
        query = {"scope": fields.get("scope") or f"repository:{self._name.path}:pull"}
        if "service" in fields:
            query["service"] = fields["service"]
        known = credentials is not None and self._may_know(realm)
        if known and credentials is not None and credentials.identity_token:
            return await self._refreshed(realm, query, credentials.identity_token)
        headers = {}
        if known and credentials is not None and credentials.username:
            headers["Authorization"] = _basic(credentials)
        async with self._client.get(
            realm.update_query(query),
            headers=headers,
            allow_redirects=False,
            proxy=_proxy(realm),
            ssl=self._tls(realm),
        ) as response:
            return await self._token_of(response, "oauth" if headers else "anonymous")

    async def _refreshed(self, realm: URL, query: Mapping[str, str], token: str) -> str:
        """By the token that `docker login` was given in place of the password (OAuth 2)."""
        form = {**query, "client_id": CLIENT_ID, "grant_type": "refresh_token"}
        async with self._client.post(
            realm,
            data={**form, "refresh_token": token},
            allow_redirects=False,
            proxy=_proxy(realm),
            ssl=self._tls(realm),
        ) as response:
            return await self._token_of(response, "oauth")

    async def _token_of(self, response: aiohttp.ClientResponse, kind: str) -> str:
        if response.status != 200:
            raise self.failed(
                f"failed to authorize: failed to fetch {kind} token: unexpected status from "
                f"{response.method} request to {response.url}: "
                f"{response.status} {response.reason}"
            )
        try:
            document = orjson.loads(await read(response, _TOKEN_BYTES_MAX))
            token = document.get("token") or document.get("access_token")
        except (orjson.JSONDecodeError, AttributeError):
            token = None
        # A token is put into a header: anything but plain text could add headers of its own.
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise self.failed("failed to authorize: malformed token")
        return token

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
            return self.failed(
                "pull access denied, repository does not exist or may require "
                f"authorization: server message: {message}",
            )
        return self.failed(
            f"unexpected status from GET request to {response.url}: "
            f"{response.status} {response.reason}",
        )

    def failed(self, why: str) -> RegistryFailure:
        return failure(self._name, why)


def failure(name: Reference, why: str) -> RegistryFailure:
    """In containerd's words."""
    return RegistryFailure(
        f'failed to pull and unpack image "{name}": failed to resolve reference "{name}": {why}'
    )


async def read(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The whole body. Raises ImageDamaged when it is longer."""
    data = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        data += chunk
        if len(data) > limit:
            raise ImageDamaged(f"the registry's answer is larger than {limit} bytes")
    return bytes(data)


def _basic(credentials: Credentials) -> str:
    pair = f"{credentials.username}:{credentials.password}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


async def _server_message(response: aiohttp.ClientResponse) -> str:
    """The first error of the registry's own error document."""
    try:
        errors = orjson.loads(await read(response, _TOKEN_BYTES_MAX))["errors"]
        return f"{errors[0]['code'].lower()}: {errors[0]['message']}"
    except (orjson.JSONDecodeError, ImageDamaged, KeyError, IndexError, TypeError, AttributeError):
        return f"{response.status} {response.reason}"


def _proxy(url: URL) -> str | None:
    """From the environment (HTTPS_PROXY, NO_PROXY), as other tools have it."""
    host = url.host or ""
    if is_loopback(host) or urllib.request.proxy_bypass(host):
        return None
    return urllib.request.getproxies().get(url.scheme)
