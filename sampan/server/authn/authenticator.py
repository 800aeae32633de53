"""From a connection's certificate and a request's headers to a user.

Tried in upstream's order: client certificate, static token, service-account token. Tokens are
looked up by digest, so how long an answer takes says nothing about how much of a guess was right.
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
from .serviceaccount import AUTHENTICATED, EXTRA, ServiceAccountTokens

if TYPE_CHECKING:
    from ..app import Server

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
        self._clock = server.clock
        self._certificates: dict[bytes, tuple[User | None, float]] = {}

    def authenticate(self, headers: Mapping[str, str], peer_cert_der: bytes | None) -> User | None:
        """The user, or None when no credentials are shown. Raises Unauthorized for bad ones.

        `peer_cert_der` is a certificate that TLS verified against the cluster's CA.
        """
        if peer_cert_der:
            user = self._from_certificate(peer_cert_der)
            if user is not None:
                return user
        token = _bearer(headers)
        if token is None:
            return None
        try:
            return self.check_token(token)[0]
        except BadToken:
            raise Unauthorized("Unauthorized") from None

    def check_token(self, token: str, audiences: Sequence[str] = ()) -> tuple[User, list[str]]:
        """The user a bearer token stands for and the audiences it is good for (those asked for, or
        this server's own). Raises BadToken."""
        user = self._static.get(hashlib.sha256(token.encode()).digest())
        if user is not None:
            own = self.tokens.audiences
            shared = [item for item in audiences or own if item in own]
            if not shared:
                raise BadToken("token is not for these audiences")
            return user, shared
        if not self.tokens.is_ours(token):
            raise BadToken("invalid bearer token")
        return self.tokens.check(token, audiences)

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


def _bearer(headers: Mapping[str, str]) -> str | None:
    """The bearer token of a request; "" (which nobody has) when the header is garbled."""
    header = headers.get("authorization")
    if header:
        scheme, _, token = header.strip().partition(" ")
        # Other schemes are no credentials for us, as upstream has it.
        return token.strip() if scheme.lower() == "bearer" and token.strip() else None
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
