"""Tokens that others judge: the issuers of OIDC, then a webhook. What they said is remembered by
digest for a while, so that a client that polls does not make us poll; at most `REMEMBERED`, the
oldest are forgotten first.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .configuration import Issuer
from .jwt import BadToken, Judged
from .oidc import Providers
from .webhook import REMEMBER_S, TokenWebhook

if TYPE_CHECKING:
    from ..app import Server

REMEMBERED = 4096
OIDC_S = 10.0
"""How long a token of OIDC is taken as judged, as upstream's cache of tokens."""

Answer = tuple[Judged, list[str]]


class Remote:
    def __init__(self, server: Server, issuers: Sequence[Issuer], webhook: Path | None) -> None:
        """Raises ValueError for settings that are no good."""
        self._server = server
        self._providers = Providers(server, issuers)
        self._webhook = TokenWebhook(server, webhook) if webhook is not None else None
        self._seen: dict[bytes, tuple[Answer | str, float]] = {}

    async def check(self, token: str, audiences: Sequence[str]) -> Answer:
        """Who a token is, and for which audiences. Raises BadToken."""
        digest = hashlib.sha256("\0".join((token, *audiences)).encode()).digest()
        known = self._seen.get(digest)
        now = self._server.clock.now()
        if known is None or now >= known[1]:
            known = await self._judge(token, audiences)
            self._seen.pop(digest, None)
            if len(self._seen) >= REMEMBERED:
                self._seen.pop(next(iter(self._seen)))
            self._seen[digest] = known
        answer, _ = known
        if isinstance(answer, str):
            raise BadToken(answer)
        return answer

    async def _judge(self, token: str, audiences: Sequence[str]) -> tuple[Answer | str, float]:
        now = self._server.clock.now()
        provider = self._providers.find(token)
        why = "invalid bearer token"
        if provider is not None:
            try:
                judged = await provider.check(token)
                shared = self._server.authn.shared_audiences(audiences)
            except BadToken as error:
                why = str(error)
            else:
                until_s = min(judged.until_s, now + OIDC_S)
                return (Judged(judged.user, until_s), shared), until_s
        if self._webhook is not None:
            own = self._server.authn.tokens.audiences
            try:
                answer = await self._webhook.check(token, audiences or own)
            except BadToken as error:
                return str(error), self._server.clock.now() + REMEMBER_S
            return answer, answer[0].until_s
        return why, now + OIDC_S
