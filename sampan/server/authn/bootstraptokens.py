"""Bootstrap tokens: `ID.SECRET`, kept in a Secret of kube-system until they expire.

As upstream's plugin/pkg/auth/authenticator/token/bootstrap. They let machines join; what they may
do is RBAC's business, by the groups they carry.
"""

from __future__ import annotations

import hmac
import re
from typing import TYPE_CHECKING

from sampan.api.bootstraptokens import NAMESPACE, PREFIX, TYPE, end_of, values_of
from sampan.api.principals import AUTHENTICATED
from sampan.api.resources import resource

from ..exchange import User
from .jwt import BadToken

if TYPE_CHECKING:
    from ..app import Server

TOKEN = re.compile(r"([a-z0-9]{6})\.([a-z0-9]{16})")
USER_PREFIX = "system:bootstrap:"
GROUP = "system:bootstrappers"
EXTRA_GROUP = re.compile(r"system:bootstrappers:[a-z0-9:-]{0,255}[a-z0-9]")


def check_bootstrap_token(server: Server, token: str) -> User | None:
    """The user of a bootstrap token, None if it is no such token. Raises BadToken for one that is
    unknown, over, or not for authentication."""
    match = TOKEN.fullmatch(token)
    if match is None:
        return None
    token_id, secret = match.groups()
    found = server.find_object(resource("secrets"), NAMESPACE, f"{PREFIX}{token_id}")
    values = {} if found is None else values_of(found)
    # Compared even when there is none, so that the time taken tells nothing.
    same = hmac.compare_digest(values.get("token-secret", "").encode(), secret.encode())
    if found is None or not same or values.get("token-id") != token_id:
        raise BadToken("invalid bearer token")
    if found.get("type") != TYPE or found["metadata"].get("deletionTimestamp"):
        raise BadToken("invalid bearer token")
    ends_s = end_of(values.get("expiration"))
    if ends_s is not None and ends_s <= server.clock.now():
        raise BadToken("bootstrap token has expired")
    if values.get("usage-bootstrap-authentication") != "true":
        raise BadToken("bootstrap token is not for authentication")
    extra = [item for item in values.get("auth-extra-groups", "").split(",") if item]
    if not all(EXTRA_GROUP.fullmatch(item) for item in extra):
        raise BadToken("bootstrap token has groups it may not have")
    return User(USER_PREFIX + token_id, (GROUP, *sorted(set(extra)), AUTHENTICATED))
