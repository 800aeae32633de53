"""Service-account tokens for pods, from the TokenRequest API (pkg/kubelet/token)."""

from __future__ import annotations

from sampan.aio.clock import Clock
from sampan.api.errors import Object
from sampan.api.resources import api_resource
from sampan.client.api import Client

from .volumes.source import Token

# Upstream renews at 80 % of the lifetime, and at the latest after a day.
REFRESH_AT = 0.8
REFRESH_MAX_S = 24 * 3600.0


class Tokens:
    def __init__(self, client: Client, clock: Clock) -> None:
        self._client = client
        self._clock = clock

    async def request(self, pod: Object, audience: str, seconds: int) -> Token:
        """A new token bound to the pod. Raises StatusError and OSError."""
        meta, spec = pod["metadata"], pod["spec"]
        answer = await self._client.create(
            api_resource("serviceaccounts"),
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "metadata": {},
                "spec": {
                    "audiences": [audience] if audience else [],
                    "expirationSeconds": seconds,
                    "boundObjectRef": {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        "name": meta["name"],
                        "uid": meta["uid"],
                    },
                },
            },
            meta["namespace"],
            spec.get("serviceAccountName") or "default",
            "token",
        )
        lifetime = min(seconds * REFRESH_AT, REFRESH_MAX_S)
        status = answer["status"]
        refresh_at = self._clock.now() + lifetime
        return Token(status["token"], refresh_at, status.get("expirationTimestamp") or "")
