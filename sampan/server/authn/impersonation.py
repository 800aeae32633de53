"""Acting as somebody else: the Impersonate-* headers, each part authorised by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from sampan.api.errors import BadRequest, Forbidden, forbidden
from sampan.api.fields import quote

from ..exchange import User
from .serviceaccount import AUTHENTICATED, PREFIX, groups_of

if TYPE_CHECKING:
    from ..app import Server

USER, GROUP, UID = "impersonate-user", "impersonate-group", "impersonate-uid"
EXTRA = "impersonate-extra-"
AUTHENTICATION = "authentication.k8s.io"
ANONYMOUS = "system:anonymous"
UNAUTHENTICATED = "system:unauthenticated"


class _Part(NamedTuple):
    """One thing a user must be allowed to impersonate."""

    group: str
    plural: str
    subresource: str
    namespace: str
    name: str


def impersonate(server: Server, user: User, headers: Mapping[str, str]) -> User:
    """The user the request is to be done as: `user` without such headers.

    Repeated Impersonate-Group headers arrive joined by commas. Raises Forbidden, or BadRequest for
    a group, uid or extra without a user.
    """
    if USER not in headers:
        for header in headers:
            if header in (GROUP, UID) or header.startswith(EXTRA):
                raise BadRequest("requested impersonation without impersonating a user name")
        return user
    name = headers[USER]
    groups = _split(headers.get(GROUP, ""))
    extra = {
        unquote(header.removeprefix(EXTRA)): _split(value)
        for header, value in headers.items()
        if header.startswith(EXTRA)
    }
    target = User(name, groups, headers.get(UID, ""), extra)
    for part in _parts(target):
        _require(server, user, part)
    return User(name, _full_groups(target), target.uid, extra)


def _parts(target: User) -> Iterator[_Part]:
    account = _service_account(target.name)
    if account:
        yield _Part("", "serviceaccounts", "", *account)
    else:
        yield _Part("", "users", "", "", target.name)
    for group in target.groups:
        yield _Part("", "groups", "", "", group)
    if target.uid:
        yield _Part(AUTHENTICATION, "uids", "", "", target.uid)
    for key, values in target.extra.items():
        for value in values:
            yield _Part(AUTHENTICATION, "userextras", key, "", value)


def _require(server: Server, user: User, part: _Part) -> None:
    target = (part.group, part.plural, part.subresource)
    allowed, reason = server.authorizer.allows(
        user, "impersonate", target, part.namespace, part.name
    )
    if not allowed:
        raise _refusal(user, part, reason)


def _refusal(user: User, part: _Part, reason: str) -> Forbidden:
    plural = f"{part.plural}/{part.subresource}" if part.subresource else part.plural
    where = (
        f"in the namespace {quote(part.namespace)}" if part.namespace else "at the cluster scope"
    )
    why = (
        f"User {quote(user.name)} cannot impersonate resource {quote(plural)} in API group"
        f" {quote(part.group)} {where}"
    )
    return forbidden(part.group, part.plural, part.name, f"{why}: {reason}" if reason else why)


def _service_account(name: str) -> tuple[str, str] | None:
    if not name.startswith(PREFIX):
        return None
    namespace, _, account = name.removeprefix(PREFIX).partition(":")
    return (namespace, account) if namespace and account and ":" not in account else None


def _full_groups(target: User) -> tuple[str, ...]:
    """The groups asked for, those of a service account by default, and whether known at all."""
    groups = tuple(target.groups)
    account = _service_account(target.name)
    if not groups and account:
        groups = groups_of(account[0])
    if target.name == ANONYMOUS:
        return groups if UNAUTHENTICATED in groups else (*groups, UNAUTHENTICATED)
    if AUTHENTICATED in groups or UNAUTHENTICATED in groups:
        return groups
    return (*groups, AUTHENTICATED)


def _split(value: str) -> tuple[str, ...]:
    return tuple(part for item in value.split(",") if (part := item.strip()))
