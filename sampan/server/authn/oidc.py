"""OpenID Connect: tokens that another issuer signed, checked with the keys it publishes.

Keys are fetched when the first token of an issuer comes, and again when one names a key that is not
known, at most once in `REFETCH_S`; requests that need them meanwhile share the fetch. Bounds:
`MAX_DOCUMENT_BYTES` a document, `MAX_KEYS` keys an issuer, `FETCH_S` a fetch.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import orjson

from .claims import Claims
from .configuration import Issuer
from .jwt import BadToken, Judged, peek, peek_header

if TYPE_CHECKING:
    from ..app import Server
    from .distributed import Distributed

log = logging.getLogger("sampan.oidc")

MAX_DOCUMENT_BYTES = 1 << 20
MAX_KEYS = 64
FETCH_S = 10.0
REFETCH_S = 10.0
Headers = Sequence[tuple[str, str]]
LEEWAY_S = 0.0
"""As upstream: an issuer's tokens have no grace."""
ALGORITHMS = (
    "RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512", "EdDSA",
)  # fmt: skip


class Provider:
    """One issuer."""

    def __init__(self, server: Server, issuer: Issuer) -> None:
        """Raises BadDocument for expressions that are no good."""
        self.issuer = issuer
        self._server = server
        self._claims = Claims(issuer)
        self._keys: dict[str, Any] = {}
        self._fetched_s = -REFETCH_S
        self._fetching: asyncio.Task[None] | None = None
        self._distributed: Distributed | None = None

    async def check(self, token: str) -> Judged:
        """What a token of this issuer says. Raises BadToken."""
        claims, until_s = await self.verify(token)
        if "_claim_names" in claims:
            # Imported only where some are elsewhere.
            from .distributed import Distributed

            if self._distributed is None:
                self._distributed = Distributed(self._server, self)
            claims = await self._distributed.expanded(claims)
        return Judged(self._claims.user_of(claims), until_s)

    async def verify(self, token: str) -> tuple[Mapping[str, Any], float]:
        """The claims of a token that this issuer has signed for us, and when it ends. Raises
        BadToken."""
        import jwt

        header = peek_header(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise BadToken(f"oidc: verify token: unsupported signing algorithm {algorithm!r}")
        key = await self._key(str(header.get("kid") or ""))
        try:
            claims = orjson.loads(jwt.PyJWS().decode(token, key, [algorithm]))
        except (jwt.PyJWTError, ValueError, TypeError):
            # Among them a key that is not of the algorithm that the token names.
            raise BadToken("oidc: verify token: failed to verify id token signature") from None
        if not isinstance(claims, dict):
            raise BadToken("oidc: malformed payload")
        return claims, self._check_frame(claims)

    def _check_frame(self, claims: Mapping[str, Any]) -> float:
        """Issuer, audience and times; gives when the token ends."""
        if claims.get("iss") != self.issuer.url:
            raise BadToken("oidc: verify token: id token issued by a different provider")
        audience = claims.get("aud")
        held = [audience] if isinstance(audience, str) else audience
        if not isinstance(held, list) or not set(map(str, held)) & set(self.issuer.audiences):
            raise BadToken(
                f"oidc: verify token: expected audience in {list(self.issuer.audiences)} got {held}"
            )
        try:
            expires = float(claims["exp"])
            begins = float(claims.get("nbf") or 0)
        except (KeyError, TypeError, ValueError):
            raise BadToken("oidc: malformed times in the token") from None
        now = self._server.clock.now()
        if not now < expires + LEEWAY_S:
            raise BadToken("oidc: verify token: token is expired")
        if begins > now + 300:
            # go-oidc's grace for clocks that are behind the issuer's.
            raise BadToken("oidc: verify token: token is not valid yet")
        return expires

    async def _key(self, kid: str) -> Any:
        for _ in range(2):
            found = self._keys.get(kid)
            if found is None and not kid and len(self._keys) == 1:
                found = next(iter(self._keys.values()))
            if found is not None:
                return found
            if self._server.clock.monotonic() - self._fetched_s < REFETCH_S:
                break
            await self._fetch_once()
        raise BadToken("oidc: verify token: no key of the issuer fits")

    async def _fetch_once(self) -> None:
        """Fetch the keys; whoever comes meanwhile waits for the same fetch."""
        if self._fetching is None:
            self._fetching = asyncio.get_running_loop().create_task(self._fetch())
            self._fetching.add_done_callback(self._fetched)
        await asyncio.shield(self._fetching)

    def _fetched(self, task: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetch(self) -> None:
        self._fetched_s = self._server.clock.monotonic()
        try:
            async with asyncio.timeout(FETCH_S):
                document = await self._document(self.issuer.document)
                if document.get("issuer") != self.issuer.url:
                    raise BadToken("oidc: the issuer's document is another issuer's")
                keys = await self._document(str(document.get("jwks_uri")))
        except (BadToken, TimeoutError) as error:
            log.error("oidc: keys of %s: %s", self.issuer.url, error or "timed out")
            return
        self._keys = dict(_read_keys(keys.get("keys")))

    async def _document(self, url: str) -> Mapping[str, Any]:
        try:
            found = orjson.loads(await self.get(url))
        except orjson.JSONDecodeError as error:
            raise BadToken(f"oidc: {url}: {error}") from None
        if not isinstance(found, dict):
            raise BadToken(f"oidc: {url}: answered no object")
        return found

    async def get(self, url: str, headers: Headers = ()) -> bytes:
        """What an address under the issuer's CA answers. Raises BadToken."""
        from ..webhooks.target import CallFailed, Target

        if not url.startswith("https://"):
            raise BadToken(f"oidc: not an https address: {url}")
        target = Target(url, ca=self.issuer.ca)
        caller = self._server.webhooks
        try:
            connection = await caller.open(target, "GET", url, headers, b"")
            try:
                body = await connection.read(MAX_DOCUMENT_BYTES)
            except BaseException:
                connection.abort()
                raise
            status = connection.status
            caller.keep(target, connection)
        except CallFailed as error:
            raise BadToken(f"oidc: {url}: {error}") from None
        if status != 200:
            raise BadToken(f"oidc: {url}: answered {status}")
        return body


def _read_keys(raw: Any) -> Sequence[tuple[str, Any]]:
    """The keys of a JWKS that can check signatures, by their id."""
    import jwt

    found = []
    for item in raw[:MAX_KEYS] if isinstance(raw, list) else ():
        if not isinstance(item, dict) or item.get("use", "sig") != "sig":
            continue
        if item.get("kty") not in ("RSA", "EC", "OKP"):
            # Above all no symmetric keys: everybody can read this document.
            continue
        try:
            found.append((str(item.get("kid") or ""), jwt.PyJWK(item).key))
        except (jwt.PyJWTError, ValueError) as error:
            log.info("oidc: a key is passed over: %s", error)
    return found


class Providers:
    """All configured issuers, by the `iss` of their tokens."""

    def __init__(self, server: Server, issuers: Sequence[Issuer]) -> None:
        self._by_url = {issuer.url: Provider(server, issuer) for issuer in issuers}

    def find(self, token: str) -> Provider | None:
        """Whose token it claims to be."""
        try:
            return self._by_url.get(str(peek(token).get("iss")))
        except BadToken:
            return None
