"""From a connection's certificate and a request's headers to a user.

Tried in upstream's order: a front proxy's word, client certificate, static token, service-account
token, bootstrap token, then what takes a question to somebody else: OIDC, webhook. Tokens are
looked up by digest, so how long an answer takes says nothing about how much of a guess was right.
Authorization headers that were good are remembered whole (at most `REMEMBERED`, the oldest are
forgotten first); what they are bound to is checked every time. Tokens a webhook refused are
remembered too, as many.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Unauthorized
from sampan.api.principals import AUTHENTICATED
from sampan.wire.certificate import Malformed, read_subject

from ..exchange import User
from . import configuration, frontproxy, tokenfile
from .bootstraptokens import check_bootstrap_token
from .jwt import BadToken, Judged
from .serviceaccount import EXTRA, ServiceAccountTokens, Verified

if TYPE_CHECKING:
    from ..app import Server
    from .remote import Remote

REMEMBERED = 4096
# One entry per client certificate in use; the oldest are read again.
REMEMBERED_CERTIFICATES = 1024
# Browsers cannot set headers on a WebSocket; upstream takes the token as a subprotocol.
WEBSOCKET_BEARER = "base64url.bearer.authorization.k8s.io."
WEBHOOK = "authentication-webhook.kubeconfig"

Found = tuple[Any, list[str]]
"""(User, Verified or Judged; the audiences it is good for)"""


class Authenticator:
    """Tells who is asking."""

    def __init__(self, server: Server) -> None:
        self.accepted, self.refused = 0, 0
        """Requests from outside whose user was known (or nobody, which is allowed), or was not."""
        self.tokens = ServiceAccountTokens(server)
        self._server = server
        self._known: dict[str, User | Verified | Judged] = {}
        self._clock = server.clock
        self._certificates: dict[bytes, tuple[User | None, float]] = {}
        self._static: dict[bytes, User] = {}
        self._remote: Remote | None = None
        self._front_proxies: frozenset[bytes] = frozenset()
        self._anonymous = configuration.Anonymous()
        self.load()

    def load(self) -> None:
        """Read the administrator's files, now or when they have changed. Raises ValueError for one
        that is no good, and then nothing has changed."""
        config = self._server.config
        folder = config.folder
        tokens = dict(config.tokens)
        settings = configuration.Authentication()
        remote = None
        if folder is not None:
            tokens |= tokenfile.read_tokens(folder / tokenfile.NAME)
            settings = configuration.read(folder / configuration.NAME, config.issuer)
            webhook = folder / WEBHOOK
            if settings.issuers or webhook.exists():
                # Imported only where somebody else is asked.
                from .remote import Remote

                remote = Remote(
                    self._server, settings.issuers, webhook if webhook.exists() else None
                )
        front_proxies = frontproxy.read_authority(config.front_proxy_ca)
        self._static = {
            hashlib.sha256(token.encode()).digest(): _authenticated(user)
            for token, user in tokens.items()
        }
        self._remote = remote
        self._front_proxies = front_proxies
        self._anonymous = settings.anonymous
        self.tokens.reload()
        self._known.clear()

    def allows_anonymous(self, path: str) -> bool:
        """May one who shows no credentials ask for this path at all?"""
        return self._anonymous.allows(path)

    def authenticate(
        self, headers: Mapping[str, str], peer_cert_der: bytes | None
    ) -> User | Coroutine[Any, Any, User | None] | None:
        """The user, or None when no credentials are shown; to be awaited when somebody else has to
        be asked. Raises Unauthorized for bad credentials.

        `peer_cert_der` is a certificate that TLS verified, as `certificate_of` gives it.
        """
        proxied = False
        if peer_cert_der:
            proxied = isinstance(peer_cert_der, frontproxy.ProxyCertificate)
            if proxied:
                user = self._from_proxy(peer_cert_der, headers)
            else:
                user = self._from_certificate(peer_cert_der)
            if user is not None:
                return user
        header = headers.get("authorization")
        token = None
        try:
            if header is None:
                token = _websocket_token(headers)
            else:
                known = self._known.get(header)
                if known is not None and self._is_good(known):
                    return known if isinstance(known, User) else known.user
                token = _bearer(header)
            if token is None:
                if proxied:
                    # It stands for nobody, and certainly not for who shows nothing.
                    raise BadToken("the front proxy names no user")
                return None
            found = self._check(token, ())
        except BadToken:
            self._forget(header)
            raise Unauthorized("Unauthorized") from None
        if isinstance(found, Coroutine):
            return self._ask(header, found)
        return self._remember(header, found[0])

    async def _ask(self, header: str | None, pending: Coroutine[Any, Any, Found]) -> User:
        try:
            found = await pending
        except BadToken:
            self._forget(header)
            raise Unauthorized("Unauthorized") from None
        return self._remember(header, found[0])

    def _is_good(self, known: User | Verified | Judged) -> bool:
        """Is what was remembered still so? Raises BadToken for a token that is over."""
        if isinstance(known, User):
            return True
        if isinstance(known, Verified):
            self.tokens.recheck(known)
            return True
        return self._clock.now() < known.until_s

    def _remember(self, header: str | None, known: User | Verified | Judged) -> User:
        if header is not None:
            self._known.pop(header, None)
            if len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[header] = known
        return known if isinstance(known, User) else known.user

    def _forget(self, header: str | None) -> None:
        if header is not None:
            self._known.pop(header, None)

    async def check_token(
        self, token: str, audiences: Sequence[str] = ()
    ) -> tuple[User, list[str]]:
        """The user a bearer token stands for and the audiences it is good for (those asked for, or
        this server's own). Raises BadToken."""
        found = self._check(token, audiences)
        known, shared = await found if isinstance(found, Coroutine) else found
        return (known if isinstance(known, User) else known.user), shared

    def _check(self, token: str, audiences: Sequence[str]) -> Found | Coroutine[Any, Any, Found]:
        user = self._static.get(hashlib.sha256(token.encode()).digest())
        if user is not None:
            return user, self.shared_audiences(audiences)
        if self.tokens.is_ours(token):
            return self.tokens.check(token, audiences)
        user = check_bootstrap_token(self._server, token)
        if user is not None:
            # Its secret is looked at each time: it may be gone, or changed.
            return Judged(user, 0.0), self.shared_audiences(audiences)
        if self._remote is None:
            raise BadToken("invalid bearer token")
        return self._remote.check(token, audiences)

    def shared_audiences(self, audiences: Sequence[str]) -> list[str]:
        """Those of `audiences` that are this server; all of its own if none are asked for. Raises
        BadToken if there are none."""
        own = self.tokens.audiences
        shared = [item for item in audiences or own if item in own]
        if not shared:
            raise BadToken("token is not for these audiences")
        return shared

    def certificate_of(self, link: Any) -> bytes | None:
        """The client certificate of a TLS connection, for `authenticate`."""
        return frontproxy.certificate_of(link, self._front_proxies)

    def _from_proxy(self, der: bytes, headers: Mapping[str, str]) -> User | None:
        """The user a front proxy names; None for one that may not, or names nobody."""
        try:
            subject = read_subject(der)
        except Malformed:
            return None
        known = subject.common_name in frontproxy.ALLOWED
        if not known or self._clock.now() > subject.expires_s:
            return None
        return frontproxy.user_of(headers)

    def _from_certificate(self, der: bytes) -> User | None:
        known = self._certificates.get(der)
        if known is None:
            known = _read_certificate(der)
            if len(self._certificates) >= REMEMBERED_CERTIFICATES:
                self._certificates.pop(next(iter(self._certificates)))
            self._certificates[der] = known
        user, expires_s = known
        left_s = expires_s - self._clock.now()
        if left_s < 0:
            raise Unauthorized("Unauthorized")
        self._server.metrics.lifetimes.add(left_s)
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
    user = User(subject.common_name, subject.organizations, subject.uid, extra)
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
