"""Who may use the agent's own server, as kubelet with webhook authentication and authorisation.

A client shows a certificate of the cluster's CA, or a bearer token that a TokenReview vouches for;
what it may do is a SubjectAccessReview on a sub-resource of its node (KEP-2862, fine-grained). The
API server's own certificate is not asked about: it is the one that would answer.

Answers are kept for upstream's times, at most `REMEMBERED` of each kind, the oldest go first.
Anybody may send tokens, so at most `ASKING_MAX` questions are under way at once; then 429.
"""

from __future__ import annotations

import hashlib
import logging
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from sampan.aio.clock import Clock
from sampan.api.errors import Object, StatusError
from sampan.api.principals import AUTHENTICATED
from sampan.api.resources import resource
from sampan.client.api import Client

log = logging.getLogger("sampan.node")
K = TypeVar("K")
V = TypeVar("V")

API_SERVER_NAME = "kube-apiserver-kubelet-client"
REMEMBERED = 1024
TOKEN_S, ALLOWED_S, DENIED_S = 120.0, 300.0, 30.0
"""--authentication-token-webhook-cache-ttl, --authorization-webhook-cache-(un)authorized-ttl"""
ASKING_MAX = 64
TOKEN_MAX_BYTES = 16384
VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}
SESSIONS = ("/exec", "/attach", "/portForward", "/run")
"""Commands in pods are never a reader's, though a WebSocket begins with GET."""
PARTS = {
    "/stats": ("stats",),
    "/metrics": ("metrics",),
    "/logs": ("log",),
    # Ours: logs of pods that were deleted.
    "/deletedLogs": ("log",),
    "/checkpoint": ("checkpoint",),
    "/pods": ("pods", "proxy"),
    "/runningpods": ("pods", "proxy"),
    "/healthz": ("healthz", "proxy"),
    "/configz": ("configz", "proxy"),
    "/statusz": ("statusz", "proxy"),
    # Ours. No role grants it: only the API server makes and removes volumes.
    "/volumes": ("volumes",),
}
"""Sub-resources of nodes by path, any one of which lets a client in; others are `proxy`."""


class Refused(Exception):
    """An answer other than success: (status, text)."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status, self.text = status, text


class Visitor(NamedTuple):
    name: str
    groups: tuple[str, ...]
    uid: str = ""
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()


class Visitors:
    """The gate of one node's server."""

    def __init__(self, client: Client, clock: Clock, node: str) -> None:
        self._client = client
        self._clock = clock
        self._node = node
        self._tokens: dict[bytes, tuple[Visitor | None, float]] = {}
        self._rights: dict[tuple[Visitor, tuple[str, ...]], tuple[bool, float]] = {}
        self._asking = 0

    async def admit(
        self, method: str, path: str, certificate: Object, headers: Mapping[str, str]
    ) -> None:
        """Raises Refused: 401 for nobody known, 403 for one who may not, 500 when nobody can say.

        `certificate` is what TLS verified, as `ssl` shows it, {} for none.
        """
        visitor = _of_certificate(certificate, self._clock.now())
        if visitor is not None and visitor.name == API_SERVER_NAME:
            return
        visitor = visitor or await self.identify({}, headers.get("Authorization", ""))
        verb, parts = question(method, path)
        about = f"(user={visitor.name}, verb={verb}, resource=nodes, subresource(s)="
        about += f"[{' '.join(parts)}])"
        try:
            for part in parts:
                asked = {"resource": "nodes", "subresource": part, "verb": verb}
                asked |= {"name": self._node, "version": "v1"}
                if await self.may(visitor, {"resourceAttributes": asked}):
                    return
        except (StatusError, OSError) as error:
            log.error("a review of access failed: %s", error)
            raise Refused(500, f"Authorization error {about}") from None
        raise Refused(403, f"Forbidden {about}")

    async def identify(self, certificate: Object, authorization: str) -> Visitor:
        """Who it is, by a certificate or by the header. Raises Refused: 401 for nobody known."""
        visitor = _of_certificate(certificate, self._clock.now())
        if visitor is None:
            scheme, _, token = authorization.strip().partition(" ")
            visitor = await self.of_token(token) if scheme.lower() == "bearer" else None
        if visitor is None:
            raise Refused(401, "Unauthorized")
        return visitor

    async def of_token(self, token: str) -> Visitor | None:
        token = token.strip()
        if not token or len(token) > TOKEN_MAX_BYTES:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        known = self._tokens.get(digest)
        if known is None or self._clock.now() >= known[1]:
            try:
                status = await self._ask("tokenreviews", "authentication.k8s.io", {"token": token})
            except (StatusError, OSError) as error:
                log.error("a review of a token failed: %s", error)
                raise Refused(401, "Unauthorized") from None
            found = _of_review(status)
            known = (found, self._clock.now() + (TOKEN_S if found else DENIED_S))
            _remember(self._tokens, digest, known)
        return known[0]

    async def may(self, visitor: Visitor, asked: Mapping[str, Mapping[str, str]]) -> bool:
        """`asked` is a review's resourceAttributes or nonResourceAttributes. Raises StatusError,
        OSError, Refused."""
        key = (visitor, tuple(value for part in asked.values() for value in part.values()))
        known = self._rights.get(key)
        if known is None or self._clock.now() >= known[1]:
            spec: Object = {"user": visitor.name, "groups": list(visitor.groups), **asked}
            if visitor.uid:
                spec["uid"] = visitor.uid
            if visitor.extra:
                spec["extra"] = {name: list(values) for name, values in visitor.extra}
            status = await self._ask("subjectaccessreviews", "authorization.k8s.io", spec)
            allowed = status.get("allowed") is True
            known = (allowed, self._clock.now() + (ALLOWED_S if allowed else DENIED_S))
            _remember(self._rights, key, known)
        return known[0]

    async def _ask(self, plural: str, group: str, spec: Object) -> Object:
        """The status of a review."""
        if self._asking >= ASKING_MAX:
            raise Refused(429, "too many clients are being asked about")
        kind = resource(plural, group)
        body = {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": {}, "spec": spec}
        self._asking += 1
        try:
            status: Object = (await self._client.create(kind, body)).get("status") or {}
        finally:
            self._asking -= 1
        return status


def question(method: str, path: str) -> tuple[str, Sequence[str]]:
    """(verb, sub-resources of nodes) that a request needs one of."""
    if _below(path, SESSIONS):
        return "create", ("proxy",)
    found = _below(path, PARTS)
    return VERBS.get(method, ""), PARTS[found] if found else ("proxy",)


def _below(path: str, known: Sequence[str] | Mapping[str, Any]) -> str:
    return next((item for item in known if path == item or path.startswith(f"{item}/")), "")


def _of_certificate(certificate: Object, now_s: float) -> Visitor | None:
    """The user a verified certificate stands for. A connection may outlive its certificate."""
    found: dict[str, list[str]] = {}
    for part in certificate.get("subject") or ():
        for key, value in part:
            found.setdefault(key, []).append(str(value))
    names = found.get("commonName")
    if not names:
        return None
    if now_s > ssl.cert_time_to_seconds(certificate["notAfter"]):
        raise Refused(401, "Unauthorized")
    return Visitor(names[0], (*found.get("organizationName", ()), AUTHENTICATED))


def _of_review(status: Object) -> Visitor | None:
    user = status.get("user") or {}
    if status.get("authenticated") is not True or not user.get("username"):
        return None
    extra = tuple((key, tuple(values)) for key, values in (user.get("extra") or {}).items())
    return Visitor(user["username"], tuple(user.get("groups") or ()), user.get("uid", ""), extra)


def _remember(known: dict[K, V], key: K, value: V) -> None:
    known.pop(key, None)
    if len(known) >= REMEMBERED:
        known.pop(next(iter(known)))
    known[key] = value
