"""Bootstrap tokens: the expired ones go, the others sign the ConfigMap kube-public/cluster-info.

As upstream's bootstrap-signer and token-cleaner, in one: both live on the same few Secrets. Who
joins reads cluster-info without credentials and believes it by the signature that only somebody
with the token could have made (a detached JWS, RFC 7515 appendix F). The server makes cluster-info
when it first starts (server/bootstrap.py); without it nothing is signed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Mapping

from sampan.api.bootstraptokens import NAMESPACE, PREFIX, TYPE, end_of, values_of
from sampan.api.errors import NotFound, Object
from sampan.api.resources import resource

from .runtime.controller import Context, Controller
from .runtime.queue import Request, Requeue

PUBLIC, INFO, CONFIG = "kube-public", "cluster-info", "kubeconfig"
SIGNATURE = "jws-kubeconfig-"


class BootstrapTokenController(Controller):
    """See the module. Any change looks at all tokens: there are few."""

    name = "bootstrap_signer_queue"

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.maps = resource("configmaps")
        self.secrets = self.informer(resource("secrets"), fields=f"type={TYPE}")
        self.infos = self.informer(self.maps)
        self.secrets.on_change(self._token_changed)
        self.infos.on_change(self._map_changed)

    def _token_changed(self, old: Object | None, new: Object | None) -> None:
        self.queue.add(Request(PUBLIC, INFO))

    def _map_changed(self, old: Object | None, new: Object | None) -> None:
        meta = (new or old or {})["metadata"]
        if meta["name"] == INFO and meta["namespace"] == PUBLIC:
            self.queue.add(Request(PUBLIC, INFO))

    async def reconcile(self, request: Request) -> Requeue | None:
        now = self.clock.now()
        next_s = None
        keys = {}
        for secret in self.secrets.list():
            meta = secret["metadata"]
            if meta["namespace"] != NAMESPACE or not meta["name"].startswith(PREFIX):
                continue
            values = values_of(secret)
            ends_s = end_of(values.get("expiration"))
            if ends_s is not None and ends_s <= now:
                await self._delete(meta)
                continue
            if ends_s is not None:
                next_s = min(ends_s, next_s or ends_s)
            token_id = meta["name"].removeprefix(PREFIX)
            signs = values.get("usage-bootstrap-signing") == "true"
            if signs and values.get("token-secret") and values.get("token-id") == token_id:
                keys[token_id] = values["token-secret"]
        await self._sign(keys)
        return None if next_s is None else Requeue(next_s - now)

    async def _delete(self, meta: Object) -> None:
        options = {"preconditions": {"uid": meta["uid"]}}
        try:
            await self.client.delete(self.secrets.resource, meta["name"], NAMESPACE, options)
        except NotFound:
            return

    async def _sign(self, keys: Mapping[str, str]) -> None:
        info = self.infos.get(PUBLIC, INFO)
        if info is None or CONFIG not in (info.get("data") or {}):
            return
        data = {
            name: value for name, value in info["data"].items() if not name.startswith(SIGNATURE)
        }
        for token_id, secret in sorted(keys.items()):
            data[f"{SIGNATURE}{token_id}"] = sign_detached(data[CONFIG], token_id, secret)
        if data != info["data"]:
            await self.client.update(self.maps, {**info, "data": data})


def sign_detached(content: str, token_id: str, secret: str) -> str:
    """HS256 over `content`, which is left out of the result."""
    header = _url(f'{{"alg":"HS256","kid":"{token_id}"}}'.encode())
    signed = f"{header}.{_url(content.encode())}".encode()
    return f"{header}..{_url(hmac.new(secret.encode(), signed, hashlib.sha256).digest())}"


def _url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
