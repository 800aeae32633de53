"""Tokens that a webhook judges: a TokenReview, POSTed to the server of a kubeconfig file.

As upstream's --authentication-token-webhook-config-file. Answers are remembered by `remote`, good
and bad ones, for `REMEMBER_S`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Object
from sampan.api.principals import AUTHENTICATED

from ..exchange import User
from ..webhooks.files import target_of_kubeconfig
from .jwt import BadToken, Judged

if TYPE_CHECKING:
    from ..app import Server

REMEMBER_S = 120.0
TIMEOUT_S = 30.0
API_VERSION = "authentication.k8s.io/v1"


class TokenWebhook:
    def __init__(self, server: Server, path: Path) -> None:
        """Raises ValueError for a file that does not say where to call."""
        self._server = server
        self._target = target_of_kubeconfig(path)

    async def check(self, token: str, audiences: Sequence[str]) -> tuple[Judged, list[str]]:
        """The user and the audiences the webhook gives. Raises BadToken, also when it cannot be
        asked: nobody is let in then."""
        from ..webhooks.retrying import ask_again
        from ..webhooks.target import CallFailed

        spec: Object = {"token": token, "audiences": list(audiences)}
        body = {"apiVersion": API_VERSION, "kind": "TokenReview", "metadata": {}, "spec": spec}
        try:
            ask = partial(
                self._server.webhooks.post_json, self._target, body, TIMEOUT_S, tell_timeout=False
            )
            answer = await ask_again(ask, self._server.clock)
        except CallFailed as error:
            raise BadToken(f"the webhook cannot be asked: {error.message}") from None
        status = answer.get("status")
        if not isinstance(status, dict) or status.get("authenticated") is not True:
            error_text = status.get("error") if isinstance(status, dict) else ""
            raise BadToken(str(error_text or "invalid bearer token"))
        given = _texts(status.get("audiences"))
        shared = [item for item in audiences if not given or item in given]
        if audiences and not shared:
            raise BadToken("the webhook gives no audience that was asked for")
        return Judged(_user(status), self._server.clock.now() + REMEMBER_S), shared


def _user(status: Object) -> User:
    info = status.get("user")
    if not isinstance(info, dict) or not isinstance(info.get("username"), str):
        raise BadToken("the webhook gives no user")
    given, more = info.get("groups") or [], info.get("extra") or {}
    if not isinstance(given, list) or not isinstance(more, dict):
        raise BadToken("the webhook gives no user")
    groups = tuple(map(str, given))
    extra = {str(key): _texts(values) for key, values in more.items()}
    if AUTHENTICATED not in groups:
        groups = (*groups, AUTHENTICATED)
    return User(info["username"], groups, str(info.get("uid") or ""), extra)


def _texts(value: Any) -> tuple[str, ...]:
    """A list of texts; what is none counts as empty."""
    return tuple(map(str, value)) if isinstance(value, list) else ()
