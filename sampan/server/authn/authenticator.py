"""From a connection's certificate and a request's headers to a user.

Tried in upstream's order: client certificate, static token, service-account token. Tokens are
looked up by digest, so how long an answer takes says nothing about how much of a guess was right.
Authorization headers that were good are remembered whole (at most `REMEMBERED`, the oldest are
forgotten first); what they are bound to is checked every time.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from sampan.api.errors import Unauthorized

from ..exchange import User
from .certificate import Malformed, read_subject
from .jwt import BadToken
from .serviceaccount import AUTHENTICATED, EXTRA, ServiceAccountTokens, Verified

if TYPE_CHECKING:
    from ..app import Server

REMEMBERED = 4096
# One entry per client certificate in use; the oldest are read again.
REMEMBERED_CERTIFICATES = 1024
# Browsers cannot set headers on a WebSocket; upstream takes the token as a subprotocol.
WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."


class Authenticator:
    """Tells who is asking."""

    def __init__(self, server: Server) -> None:
        self.tokens = ServiceAccountTokens(server)
        self._static = {
            hashlib.sha256(token.encode()).digest(): _authenticated(user)
            for token, user in server.config.tokens.items()
        }
        self._known: dict[str, User | Verified] = {}
        self._clock = server.clock
        self._certificates: dict[bytes, tuple[User | None, float]] = {}

    def allows_anonymous(self, path: str) -> bool:
        """May one who shows no credentials ask for this path at all?"""
        return True

    def authenticate(self, headers: Mapping[str, str], peer_cert_der: bytes | None) -> User | None:
        """The user, or None when no credentials are shown. Raises Unauthorized for bad ones.

        `peer_cert_der` is a certificate that TLS verified against the cluster's CA.
        """
        if peer_cert_der:
            user = self._from_certificate(peer_cert_der)
            if user is not None:
                return user
        header = headers.get("authorization")
        try:
            if header is None:
                token = _websocket_token(headers)
                return None if token is None else self.check_token(token)[0]
            known = self._known.get(header)
            if known is None:
                return self._first_seen(header)
            if isinstance(known, User):
                return known
            self.tokens.recheck(known)
            return known.user
        except BadToken:
            if header is not None:
                self._known.pop(header, None)
            raise Unauthorized("Unauthorized") from None

    def _first_seen(self, header: str) -> User | None:
        token = _bearer(header)
        if token is None:
            return None
        known = self._check(token, ())[0]
        if len(self._known) >= REMEMBERED:
            self._known.pop(next(iter(self._known)))
        self._known[header] = known
        return known if isinstance(known, User) else known.user

    def check_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """The user a bearer token stands for and the audiences it is good for (those asked for, or
        this server's own). Raises BadToken."""
        known, shared = self._check(token, audiences)
        return (known if isinstance(known, User) else known.user), shared

    def _check(self, token: str, audiences: Sequence[str]) -> tuple[User | Verified, list[str]]:
        user = self._static.get(hashlib.sha256(token.encode()).digest())
        if user is None:
            return self.tokens.check(token, audiences)
        own = self.tokens.audiences
        shared = [item for item in audiences or own if item in own]
        if not shared:
            raise BadToken("token is not for these audiences")
        return user, shared

    def _from_certificate(self, der: bytes) -> User | None:
        known = self._certificates.get(der)
        if known is None:
            known = _read_certificate(der)
            if len(self._certificates) >= REMEMBERED_CERTIFICATES:
                self._certificates.pop(next(iter(self._certificates)))
            self._certificates[der] = known
        user, expires_s = known
        if self._clock.now() > expires_s:
            raise Unauthorized("Unauthorized")
        return user


def _read_certificate(der: bytes) -> tuple[User | None, float]:
    """The user (None without a common name) and when the certificate ends."""
    try:
        subject = read_subject(der)
    except Malformed:
        raise Unauthorized("Unauthorized") from None
    if not subject.common_name:
        return None, subject.expires_s
    digest = hashlib.sha256(der).hexdigest()
    extra = {f"{EXTRA}credential-id": (f"X509SHA256={digest}",)}
    user = User(subject.common_name, subject.organizations, "", extra)
    return _authenticated(user), subject.expires_s


def _authenticated(user: User) -> User:
    if AUTHENTICATED in user.groups:
        return user
    return User(user.name, (*user.groups, AUTHENTICATED), user.uid, user.extra)


def _bearer(header: str) -> str | None:
    """The bearer token of an Authorization header; other schemes are none for us, as upstream."""
    scheme, _, token = header.strip().partition(" ")
    return token.strip() or None if scheme.lower() == "bearer" else None


def _websocket_token(headers: Mapping[str, str]) -> str | None:
    """The token in a WebSocket's subprotocols; "" (which nobody has) when it is garbled."""
    protocols = headers.get("sec-websocket-protocol")
    if protocols and WEBSOCKET_BEARER in protocols:
        for item in protocols.split(","):
            name = item.strip()
            if name.startswith(WEBSOCKET_BEARER):
                return _decode(name.removeprefix(WEBSOCKET_BEARER))
    return None


def _decode(text: str) -> str:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
