"""From a request that came in to its answer: who asks, as whom, and then `Server.begin`.

Most answers need no waiting; a token that only somebody else can judge (OIDC, a webhook) does, and
then so does the answer. Never raises: every error is an answer.
"""

from __future__ import annotations

from collections.abc import Coroutine
from functools import partial
from typing import TYPE_CHECKING, Any

from sampan.api.errors import Unauthorized

from .authn import impersonate
from .authz.questions import Undecided, settle
from .exchange import ANONYMOUS, Answer, Request, User
from .routes import attributes_of

if TYPE_CHECKING:
    from .app import Server


def receive(
    server: Server, request: Request, certificate: bytes | None
) -> Answer | Coroutine[Any, Any, Answer]:
    """Answer a request from outside. `certificate` is the client's, which TLS has verified."""
    try:
        found = server.authn.authenticate(request.headers, certificate)
        if isinstance(found, Coroutine):
            return _receive_later(server, request, found)
        return _received(server, request, found)
    except Exception as error:
        return _refuse(server, request, error)


def _refuse(server: Server, request: Request, error: Exception) -> Answer:
    if isinstance(error, Unauthorized):
        server.authn.refused += 1
    return server.refuse(request, error)


async def _receive_later(
    server: Server, request: Request, pending: Coroutine[Any, Any, User | None]
) -> Answer:
    try:
        answer = _received(server, request, await pending)
    except Exception as error:
        return _refuse(server, request, error)
    return await answer if isinstance(answer, Coroutine) else answer


def _received(
    server: Server, request: Request, user: User | None
) -> Answer | Coroutine[Any, Any, Answer]:
    if user is None:
        if not server.authn.allows_anonymous(request.path):
            raise Unauthorized("Unauthorized")
        user = ANONYMOUS
    server.authn.accepted += 1
    request.user = user
    if any(name.startswith("impersonate-") for name in request.headers):
        try:
            _act(server, request, user)
        except Undecided as undecided:
            return _act_later(server, request, user, undecided)
    return server.begin(request)


def _act(server: Server, request: Request, user: User) -> None:
    """Make the request somebody else's, as its headers ask. Raises StatusError, and Undecided."""
    asked = attributes_of(request, server.resources)
    acting = impersonate(server, user, request.headers, asked)
    if acting.user is not user:
        request.impersonator, request.constraint = user, acting.constraint
        request.user = acting.user


async def _act_later(server: Server, request: Request, user: User, undecided: Undecided) -> Answer:
    try:
        await settle(partial(_act, server, request, user), undecided)
    except Exception as error:
        return server.refuse(request, error)
    answer = server.begin(request)
    return await answer if isinstance(answer, Coroutine) else answer
