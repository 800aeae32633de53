"""Who may use the cluster's registry: the cluster's own users, by its own rights.

A client shows any bearer token of the cluster as a password (the user's name beside it means
nothing), as a bearer token, or a certificate of the cluster's CA. What it may do are
rights to paths, as RBAC's `nonResourceURLs` give them: `get` reads, `put` pushes and `delete`
deletes /v2/REPOSITORY. The cluster's nodes read everything, for their pods' images.
"""

from __future__ import annotations

import base64
import binascii
import logging

from sampan.api.errors import Object, StatusError
from sampan.runtime.depot.blobs import Rejected

from ..visitors import Refused, Visitor, Visitors

log = logging.getLogger("sampan.node.registry")

NODES = "system:nodes"
VERBS = {"GET": "get", "HEAD": "get", "POST": "put", "PATCH": "put", "PUT": "put"}
VERBS["DELETE"] = "delete"


class Gate:
    def __init__(self, visitors: Visitors) -> None:
        self._visitors = visitors

    async def identify(self, certificate: Object, authorization: str) -> Visitor:
        """Raises Rejected."""
        scheme, _, value = authorization.strip().partition(" ")
        if scheme.lower() == "basic":
            authorization = f"Bearer {_password(value)}"
        try:
            return await self._visitors.identify(certificate, authorization)
        except Refused as refused:
            if refused.status == 429:
                raise Rejected(429, "TOOMANYREQUESTS", refused.text) from refused
            raise Rejected(401, "UNAUTHORIZED", "authentication required") from refused

    async def admit(self, visitor: Visitor, method: str, what: str) -> None:
        """`what` is a repository or one of the registry's own paths. Raises Rejected."""
        if not await self.may(visitor, VERBS.get(method, ""), what):
            text = f'user "{visitor.name}" may not {VERBS.get(method, method)} /v2/{what}'
            raise Rejected(403, "DENIED", f"requested access to the resource is denied: {text}")

    async def may(self, visitor: Visitor, verb: str, what: str) -> bool:
        """Raises Rejected when nobody can say."""
        if verb == "get" and NODES in visitor.groups:
            return True
        asked = {"nonResourceAttributes": {"path": f"/v2/{what}", "verb": verb}}
        try:
            return await self._visitors.may(visitor, asked)
        except Refused as refused:
            raise Rejected(refused.status, "TOOMANYREQUESTS", refused.text) from refused
        except (StatusError, OSError) as error:
            log.error("a review of access failed: %s", error)
            raise Rejected(503, "UNKNOWN", "the API server cannot be asked") from error


def _password(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).decode().partition(":")[2]
    except (binascii.Error, UnicodeDecodeError):
        return ""
