"""Tokens of service accounts: issued for TokenRequest, checked at each request.

A token is bound to its service account, and often to a pod or node: it is good only as long as
objects of the same name and uid exist. Signatures of seen tokens are remembered (at most
`REMEMBERED`, the oldest are forgotten first); the objects are looked up every time.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import logging
import math
import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from msgspec import Struct

from sampan.api.errors import Object, StatusError
from sampan.api.principals import AUTHENTICATED
from sampan.api.resources import resource

from ..exchange import User
from .jwt import BadToken, Keys, peek

if TYPE_CHECKING:
    from ..app import Server

log = logging.getLogger("sampan.tokens")

PREFIX = "system:serviceaccount:"
ALL_GROUP = "system:serviceaccounts"
CLAIMS = "kubernetes.io"
# Objects a token may be bound to, by their name in its claims; the first one found decides.
BINDABLE = {"pod": "pods", "secret": "secrets", "node": "nodes"}
EXTRA = "authentication.kubernetes.io/"
KEYS_FOLDER = "service-account-keys"
"""Below the administrator's files: keys that only check."""
LEGACY_ISSUER = "kubernetes/serviceaccount"
LAST_USED = "kubernetes.io/legacy-token-last-used"
INVALID_SINCE = "kubernetes.io/legacy-token-invalid-since"
REMEMBERED = 4096
# Upstream's leeway: clocks of several servers may differ this much.
LEEWAY_S = 60
ASKED_S, EXTENDED_S = 3607, 365 * 24 * 3600
"""A token that is mounted as ServiceAccount's admission asks for it is good for a year: programs
that read it once only are counted instead of locked out (KEP-2799). It ends with its pod."""
# A token stays good this long after its pod's grace period ends, for the pod's last words.
POD_LEEWAY_S = 60


class Bound(NamedTuple):
    """An object a token is bound to."""

    name: str
    uid: str


class Issued(NamedTuple):
    """A new token."""

    token: str
    expires_s: float
    """Seconds since the epoch; when it should be renewed at the latest."""
    id: str


class Verified(Struct, frozen=True):
    """What a good signature says."""

    user: User
    audiences: tuple[str, ...]
    not_before_s: float
    expires_s: float
    namespace: str
    account: Bound
    kind: str
    """What else it is bound to: pod, secret, node or "" (a pod's node only informs)."""
    bound: Bound | None
    warn_after_s: float = 0.0
    """When it should have been renewed; 0.0 for a token that ends then."""
    token: str = ""
    """The token itself, when it is one of the old kind, that lives in a secret."""


def groups_of(namespace: str) -> tuple[str, ...]:
    """The groups every service account of a namespace is in."""
    return (ALL_GROUP, f"{ALL_GROUP}:{namespace}", AUTHENTICATED)


class ServiceAccountTokens:
    """Issues and checks tokens."""

    def __init__(self, server: Server) -> None:
        self._server = server
        folder = server.config.folder
        keys = folder / KEYS_FOLDER if folder is not None else None
        self.keys = Keys(server.config.service_account_key, keys)
        self._issuer = server.config.issuer
        self._seen: dict[bytes, Verified] = {}
        self.stale, self.valid = 0, 0
        """Uses of tokens whose life was extended: after the time asked for, and before."""
        self._noting: dict[tuple[str, str], asyncio.Task[None]] = {}

    @property
    def audiences(self) -> tuple[str, ...]:
        """The audiences that are this API server."""
        return (self._issuer,)

    def issue(
        self,
        account: Object,
        audiences: Sequence[str],
        lifetime_s: int,
        bound: Mapping[str, Bound] | None = None,
    ) -> Issued:
        """A token for `account`. `bound` names what it is bound to: "pod", "node", "secret"."""
        meta = account["metadata"]
        namespace, name = meta["namespace"], meta["name"]
        now = int(self._server.clock.now())
        private: dict[str, Any] = {"namespace": namespace}
        for kind, target in (bound or {}).items():
            private[kind] = {"name": target.name} | ({"uid": target.uid} if target.uid else {})
        private["serviceaccount"] = {"name": name, "uid": meta["uid"]}
        expires = ends = now + lifetime_s
        wanted = list(audiences) or [self._issuer]
        if lifetime_s == ASKED_S and "pod" in private and set(wanted) <= set(self.audiences):
            private["warnafter"], ends = expires, now + EXTENDED_S
        token_id = str(uuid.uuid4())
        claims = {
            "aud": wanted,
            "exp": ends,
            "iat": now,
            "iss": self._issuer,
            "jti": token_id,
            CLAIMS: private,
            "nbf": now,
            "sub": f"{PREFIX}{namespace}:{name}",
        }
        return Issued(self.keys.sign(claims), expires, token_id)

    def check(self, token: str, audiences: Sequence[str] = ()) -> tuple[Verified, list[str]]:
        """What a token says, and which of `audiences` (default: this server's) it is for.

        Raises BadToken when it is forged, expired, for others, or bound to what is gone.
        """
        digest = hashlib.sha256(token.encode()).digest()
        verified = self._seen.get(digest)
        if verified is None:
            verified = self._verify(token)
            if len(self._seen) >= REMEMBERED:
                self._seen.pop(next(iter(self._seen)))
            self._seen[digest] = verified
        wanted = audiences or self.audiences
        shared = [item for item in wanted if item in verified.audiences]
        if not shared:
            raise BadToken(
                f"token audiences {list(verified.audiences)} is invalid for the target audiences"
                f" {list(wanted)}"
            )
        self.recheck(verified)
        return verified, shared

    def recheck(self, verified: Verified) -> None:
        """Raises BadToken when a token that was good no longer is: its time or what it is bound
        to is gone."""
        now = self._server.clock.now()
        if now > verified.expires_s + LEEWAY_S:
            raise BadToken("service account token has expired")
        if now < verified.not_before_s - LEEWAY_S:
            raise BadToken("service account token is not valid yet")
        self._check_bound(verified, now)
        if verified.warn_after_s:
            if now > verified.warn_after_s:
                self.stale += 1
            else:
                self.valid += 1

    def reload(self) -> None:
        """The files of the keys have changed: what was verified with the old ones is forgotten."""
        self.keys.reload()
        self._seen.clear()

    def is_ours(self, token: str) -> bool:
        """Does a token say that this server has issued it?"""
        try:
            return peek(token).get("iss") in (self._issuer, LEGACY_ISSUER)
        except BadToken:
            return False

    def _verify(self, token: str) -> Verified:
        issuer = peek(token).get("iss")
        if issuer == LEGACY_ISSUER:
            return _read_legacy(self.keys.verify(token), token, self.audiences)
        if issuer != self._issuer:
            raise BadToken("invalid bearer token")
        return _read_claims(self.keys.verify(token))

    def _check_bound(self, verified: Verified, now: float) -> None:
        find = self._server.find_object
        namespace = verified.namespace
        account = find(resource("serviceaccounts"), namespace, verified.account.name)
        if account is None or not _is_alive(account, verified.account.uid, now):
            raise BadToken("service account token has been invalidated")
        bound = verified.bound
        if bound is not None:
            target = resource(BINDABLE[verified.kind])
            found = find(target, namespace if target.namespaced else "", bound.name)
            if found is None or not _is_alive(found, bound.uid, now):
                raise BadToken(f"{verified.kind} bound to the service account token is gone")
            if verified.token:
                self._check_legacy(verified, found, now)

    def _check_legacy(self, verified: Verified, secret: Object, now: float) -> None:
        """A token of the old kind is good while its secret holds it; its use is noted by day."""
        held = (secret.get("data") or {}).get("token", "")
        if held != base64.b64encode(verified.token.encode()).decode():
            raise BadToken("token does not match server's copy")
        labels = secret["metadata"].get("labels") or {}
        if INVALID_SINCE in labels:
            raise BadToken("the token in secret has been marked as invalid")
        today = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%d")
        if labels.get(LAST_USED) != today:
            self._note_use(secret, today)

    def _note_use(self, secret: Object, today: str) -> None:
        """Label the secret, beside the request. At most one such write per secret is under way."""
        meta = secret["metadata"]
        key = (meta["namespace"], meta["name"])
        if key in self._noting:
            return

        def change(stored: Object) -> Object:
            stored["metadata"]["labels"] = {
                **(stored["metadata"].get("labels") or {}),
                LAST_USED: today,
            }
            return stored

        async def note() -> None:
            try:
                await self._server.update_object(resource("secrets"), *key, change)
            except StatusError as error:
                log.info("the use of secret %s/%s is not noted: %s", *key, error.message)
            finally:
                del self._noting[key]

        self._noting[key] = asyncio.get_running_loop().create_task(note())


def _is_alive(obj: Object, uid: str, now: float) -> bool:
    meta = obj["metadata"]
    if uid and meta.get("uid") != uid:
        return False
    deleted = meta.get("deletionTimestamp")
    return not deleted or now < datetime.fromisoformat(deleted).timestamp() + POD_LEEWAY_S


def _read_claims(claims: Mapping[str, Any]) -> Verified:
    """Verified claims as a user. Raises BadToken when they lack what every token of ours says."""
    try:
        private = claims[CLAIMS]
        namespace = str(private["namespace"])
        account = _bound(private["serviceaccount"])
        bound = {kind: _bound(private[kind]) for kind in BINDABLE if kind in private}
        audience = claims["aud"]
        audiences = (audience,) if isinstance(audience, str) else tuple(map(str, audience))
        name = f"{PREFIX}{namespace}:{account.name}"
        expires, not_before = float(claims["exp"]), float(claims["nbf"])
        token_id = str(claims["jti"])
        warn_after = float(private.get("warnafter") or 0)
    except (KeyError, TypeError, ValueError) as error:
        raise BadToken("token claims are incomplete") from error
    if claims.get("sub") != name:
        raise BadToken("token subject does not match its service account")
    extra = {f"{EXTRA}credential-id": (f"JTI={token_id}",)}
    for kind in ("pod", "node"):
        if kind in bound:
            extra[f"{EXTRA}{kind}-name"] = (bound[kind].name,)
            if bound[kind].uid:
                extra[f"{EXTRA}{kind}-uid"] = (bound[kind].uid,)
    kind = next(iter(bound), "")
    return Verified(
        user=User(name, groups_of(namespace), account.uid, extra),
        audiences=audiences,
        not_before_s=not_before,
        expires_s=expires,
        namespace=namespace,
        account=account,
        kind=kind,
        bound=bound.get(kind),
        warn_after_s=warn_after,
    )


def _read_legacy(claims: Mapping[str, Any], token: str, audiences: Sequence[str]) -> Verified:
    """A token that does not expire, from a secret of type kubernetes.io/service-account-token."""
    try:
        namespace = str(claims[f"{LEGACY_ISSUER}/namespace"])
        name = str(claims[f"{LEGACY_ISSUER}/service-account.name"])
        uid = str(claims[f"{LEGACY_ISSUER}/service-account.uid"])
        secret = str(claims[f"{LEGACY_ISSUER}/secret.name"])
    except KeyError as error:
        raise BadToken("token claims are incomplete") from error
    user = f"{PREFIX}{namespace}:{name}"
    if claims.get("sub") != user or not uid:
        raise BadToken("token subject does not match its service account")
    return Verified(
        user=User(user, groups_of(namespace), uid),
        audiences=tuple(audiences),
        not_before_s=0.0,
        expires_s=math.inf,
        namespace=namespace,
        account=Bound(name, uid),
        kind="secret",
        bound=Bound(secret, ""),
        token=token,
    )


def _bound(raw: Mapping[str, Any]) -> Bound:
    return Bound(str(raw["name"]), str(raw.get("uid") or ""))
