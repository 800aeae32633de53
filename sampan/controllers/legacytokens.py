"""Secrets of type kubernetes.io/service-account-token are given a token that does not expire.

As upstream's token controller: who makes such a Secret names a service account in an annotation,
and finds token, CA and namespace in it. One whose account is gone, or is another of that name, is
deleted with it. Does nothing without a key (`Options.token_key`).
"""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

TYPE = "kubernetes.io/service-account-token"
ACCOUNT_NAME = "kubernetes.io/service-account.name"
ACCOUNT_UID = "kubernetes.io/service-account.uid"
ISSUER = "kubernetes/serviceaccount"
CLAIM = "kubernetes/serviceaccount"
GONE_S = 10.0
"""How long an account may be missing before its secrets go: it may only just be on its way."""


class LegacyTokenController(Controller):
    """See the module."""

    name = "serviceaccount_tokens_secret"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.resource = resource("secrets")
        if context.options.token_key is None:
            return
        self.secrets = self.informer(self.resource, fields=f"type={TYPE}")
        self.accounts = self.informer(resource("serviceaccounts"))
        self.secrets.on_change(self.add_changed)
        self.accounts.on_change(self._account_changed)
        self._signing: tuple[Any, str, str] | None = None

    def _account_changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is not None:
            return
        meta = (new or old or {})["metadata"]
        for secret in self.secrets.list():
            home = secret["metadata"]
            wanted = (home.get("annotations") or {}).get(ACCOUNT_NAME)
            if home["namespace"] == meta["namespace"] and wanted == meta["name"]:
                self.add(secret)

    async def reconcile(self, request: Request) -> Requeue | None:
        secret = self.secrets.get(request.namespace, request.name)
        if secret is None or secret["metadata"].get("deletionTimestamp"):
            return None
        annotations = secret["metadata"].get("annotations") or {}
        account = self.accounts.get(request.namespace, annotations.get(ACCOUNT_NAME, ""))
        uid = annotations.get(ACCOUNT_UID)
        if account is None or (uid and uid != account["metadata"]["uid"]):
            return await self._remove(secret)
        wanted = self._filled(secret, account)
        if wanted != secret:
            await self.client.update(self.resource, wanted)
        return None

    async def _remove(self, secret: Object) -> Requeue | None:
        meta = secret["metadata"]
        from sampan.api.times import parse_time

        left_s = parse_time(meta["creationTimestamp"]) + GONE_S - self.clock.now()
        if left_s > 0:
            return Requeue(left_s)
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.resource, meta["name"], meta["namespace"], options)
        except NotFound:
            pass
        return None

    def _filled(self, secret: Object, account: Object) -> Object:
        """The secret with all it should have; what is there stays."""
        meta, owner = secret["metadata"], account["metadata"]
        data = dict(secret.get("data") or {})
        if not data.get("token"):
            data["token"] = _encode(self._token(meta["name"], owner))
        data["ca.crt"] = _encode(self.context.options.root_ca)
        data["namespace"] = _encode(meta["namespace"])
        annotations = {**meta["annotations"], ACCOUNT_UID: owner["uid"]}
        return {**secret, "data": data, "metadata": {**meta, "annotations": annotations}}

    def _token(self, secret: str, account: Object) -> str:
        import jwt

        key, kid, algorithm = self._signer()
        claims = {
            "iss": ISSUER,
            f"{CLAIM}/namespace": account["namespace"],
            f"{CLAIM}/secret.name": secret,
            f"{CLAIM}/service-account.name": account["name"],
            f"{CLAIM}/service-account.uid": account["uid"],
            "sub": f"system:serviceaccount:{account['namespace']}:{account['name']}",
        }
        return jwt.encode(claims, key, algorithm, {"kid": kid, "typ": None})

    def _signer(self) -> tuple[Any, str, str]:
        """The key, its id and its algorithm; read when the first token is made."""
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

        if self._signing is None:
            path = self.context.options.token_key
            assert path is not None
            key = serialization.load_pem_private_key(path.read_bytes(), None)
            der = key.public_key().public_bytes(
                serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
            )
            digest = base64.urlsafe_b64encode(hashlib.sha256(der).digest())
            algorithm = "RS256" if isinstance(key, RSAPrivateKey) else "ES256"
            self._signing = key, digest.rstrip(b"=").decode(), algorithm
        return self._signing


def _encode(text: str) -> str:
    return base64.b64encode(text.encode()).decode()
