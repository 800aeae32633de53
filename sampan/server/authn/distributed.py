"""Distributed claims: groups that a token does not hold, but says where to fetch (OpenID Connect
Core 1.0, section 5.6.2), as upstream's claimResolver does for the claim of groups.

The answer is a token, whose issuer may be another; it is checked like the first one. Bounds: one
answer of `MAX_DOCUMENT_BYTES` within `FETCH_S`, and `MAX_ISSUERS` issuers whose keys are kept.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from msgspec import structs

from .configuration import Source
from .jwt import BadToken, peek
from .oidc import FETCH_S, Provider

if TYPE_CHECKING:
    from ..app import Server

NAMES, SOURCES = "_claim_names", "_claim_sources"
MAX_ISSUERS = 16
"""Whoever the configured issuer sends us to; the oldest goes first."""


class Distributed:
    """What the tokens of one configured issuer refer to."""

    def __init__(self, server: Server, home: Provider) -> None:
        self._server = server
        self._home = home
        self._others: dict[str, Provider] = {}

    async def expanded(self, claims: Mapping[str, Any]) -> Mapping[str, Any]:
        """The claims with the one of groups, if it is elsewhere. Raises BadToken."""
        wanted = self._home.issuer.groups.claim
        if not wanted or wanted in claims:
            return claims
        names = claims[NAMES]
        if not isinstance(names, dict):
            raise BadToken("oidc: error parsing distributed claim names: not an object")
        if wanted not in names:
            return claims
        sources, source = claims.get(SOURCES), names[wanted]
        if sources is None:
            raise BadToken("oidc: no claim sources")
        if not isinstance(sources, dict) or not isinstance(source, str):
            raise BadToken("oidc: error parsing distributed claim sources: not an object")
        place = sources.get(source)
        if not isinstance(place, dict):
            raise BadToken(
                f"id token _claim_names contained a source {source} missing in _claims_sources"
            )
        url = place.get("endpoint")
        if not url:
            # An aggregated claim, which is passed over.
            return claims
        found = await self._fetch(str(url), str(place.get("access_token") or ""))
        if wanted not in found:
            raise BadToken(
                f'oidc: jwt returned by distributed claim endpoint "{url}" did not contain claim:'
                f" {wanted}"
            )
        return {**claims, wanted: found[wanted]}

    async def _fetch(self, url: str, access: str) -> Mapping[str, Any]:
        headers = (("Authorization", f"Bearer {access}"),) if access else ()
        try:
            async with asyncio.timeout(FETCH_S):
                token = (await self._home.get(url, headers)).decode().strip()
                claims, _ = await self._provider(str(peek(token).get("iss"))).verify(token)
        except TimeoutError:
            raise BadToken(f"oidc: {url}: timed out") from None
        except UnicodeDecodeError:
            raise BadToken(f"oidc: {url}: the answer is no token") from None
        return claims

    def _provider(self, url: str) -> Provider:
        home = self._home.issuer
        if url == home.url:
            return self._home
        found = self._others.get(url)
        if found is None:
            if len(self._others) >= MAX_ISSUERS:
                del self._others[next(iter(self._others))]
            # Only its signature and frame count: what its claims mean is the first issuer's.
            other = structs.replace(
                home, url=url, discovery_url="", groups=Source(), uid=Source(), extra=(),
                claim_rules=(), user_rules=(),
            )  # fmt: skip
            found = self._others[url] = Provider(self._server, other)
        return found
