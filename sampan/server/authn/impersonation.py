"""Acting as somebody else: the Impersonate-* headers, each part authorised by itself.

Two ways, tried in upstream's order (KEP-5284): constrained modes, which take a right to be somebody
(`impersonate:MODE`) and a right to do this very thing as somebody (`impersonate-on:MODE:VERB`), and
the old one (`impersonate`), which takes the first alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote

from msgspec.structs import replace

from sampan.api.errors import BadRequest, Forbidden, StatusError, forbidden
from sampan.api.fields import quote
from sampan.api.principals import ANONYMOUS, AUTHENTICATED, MASTERS, UNAUTHENTICATED

from ..exchange import Attributes, User
from .serviceaccount import PREFIX, groups_of

if TYPE_CHECKING:
    from ..app import Server

USER, GROUP, UID = "impersonate-user", "impersonate-group", "impersonate-uid"
EXTRA = "impersonate-extra-"
AUTHENTICATION = "authentication.k8s.io"
NODES = "system:nodes"
NODE_PREFIX = "system:node:"
NODE_NAME = "authentication.kubernetes.io/node-name"
NODE_KEYS = "authentication.kubernetes.io/associated-node-keys"
SUBDOMAIN = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
LEGACY = "impersonate"


class _Part(NamedTuple):
    """One thing a user must be allowed to impersonate."""

    group: str
    plural: str
    subresource: str
    namespace: str
    name: str


class Impersonated(NamedTuple):
    user: User
    constraint: str
    """The constrained verb that allowed it, "" for the old way."""


def impersonate(
    server: Server, user: User, headers: Mapping[str, str], asked: Attributes | None = None
) -> Impersonated:
    """The user the request is to be done as: `user` without such headers. `asked` is what is to be
    done, for the constrained modes.

    Repeated Impersonate-Group headers arrive joined by commas. Raises Forbidden, or BadRequest for
    a group, uid or extra without a user.
    """
    target = _target(headers)
    if target is None:
        return Impersonated(user, "")
    first: StatusError | None = None
    for mode, applies in MODES if asked is not None else ():
        if not applies(user, target):
            continue
        try:
            return _constrained(server, _asker(mode, user), target, mode, asked)
        except Forbidden as error:
            first = first or error
    try:
        for part in _parts(target, ""):
            _require(server, user, LEGACY, part)
    except Forbidden as error:
        raise first or error from None
    return Impersonated(replace(target, groups=_full_groups(target)), "")


def _target(headers: Mapping[str, str]) -> User | None:
    """Who is named by the headers, None if nobody is."""
    name = headers.get(USER, "")
    if not name:
        for header in headers:
            if header in (GROUP, UID) or header.startswith(EXTRA):
                raise BadRequest("requested impersonation without impersonating a user name")
        return None
    extra = {
        unquote(header.removeprefix(EXTRA)).lower(): _split(value)
        for header, value in headers.items()
        if header.startswith(EXTRA)
    }
    return User(name, _split(headers.get(GROUP, "")), headers.get(UID, ""), extra)


# Constrained modes.


def _constrained(
    server: Server, user: User, target: User, mode: str, asked: Attributes | None
) -> Impersonated:
    """Raises Forbidden unless `user` may do what is asked, as `target`, by this mode."""
    assert asked is not None
    verb = f"impersonate:{mode}"
    doing = replace(asked, user=user, verb=f"impersonate-on:{mode}:{asked.verb}")
    server.authorize(doing)
    _check_groups(user, target, verb)
    _check_extra(user, target, verb)
    for part in _parts(target, AUTHENTICATION):
        # A service may be allowed its own node, which is not known when the role is written.
        star = mode == "associated-node" and part.plural == "nodes"
        _require(server, user, verb, part._replace(name="*") if star else part)
    groups = target.groups
    if _node(target.name):
        groups = (NODES,)
    full = _full_groups(replace(target, groups=groups))
    return Impersonated(replace(target, groups=full), verb)


def _asker(mode: str, user: User) -> User:
    """A service on its own node is judged without the values that tell its pods apart."""
    if mode != "associated-node":
        return user
    return replace(user, extra={NODE_KEYS: tuple(sorted(user.extra))})


def _check_groups(user: User, target: User, verb: str) -> None:
    for group, why in ((MASTERS, f"the {MASTERS} group"), ("", "the empty string group")):
        if group in target.groups:
            part = _Part(AUTHENTICATION, "groups", "", "", group)
            raise _refusal(user, verb, part, f"impersonating {why} is not allowed")


def _check_extra(user: User, target: User, verb: str) -> None:
    for key, values in target.extra.items():
        if not key or not values:
            what = "the empty string key" if not key else "empty values"
            part = _Part(AUTHENTICATION, "userextras", "", "", "")
            raise _refusal(user, verb, part, f"impersonating {what} in extra is not allowed")
        domain, slash, path = key.partition("/")
        if not slash or not path or not SUBDOMAIN.fullmatch(domain):
            part = _Part(AUTHENTICATION, "userextras", "", "", "")
            why = f"impersonating an invalid key in extra is not allowed: {quote(key)}"
            raise _refusal(user, verb, part, why)


def _node(name: str) -> str:
    """The node a user name stands for, "" for none."""
    node = name.removeprefix(NODE_PREFIX)
    return node if node != name and len(node) <= 253 and SUBDOMAIN.fullmatch(node) else ""


def _is_bare(target: User) -> bool:
    return not target.groups and not target.uid and not target.extra


def _is_own_node(user: User, target: User) -> bool:
    node = _node(target.name)
    own = user.extra.get(NODE_NAME, ())
    bound = bool(_service_account(user.name)) and [*own] == [node]
    return bool(node) and bound and _is_bare(target)


def _is_node(user: User, target: User) -> bool:
    return bool(_node(target.name)) and _is_bare(target)


def _is_account(user: User, target: User) -> bool:
    return bool(_service_account(target.name)) and _is_bare(target)


def _is_person(user: User, target: User) -> bool:
    return not _node(target.name) and not _service_account(target.name)


MODES: tuple[tuple[str, Callable[[User, User], bool]], ...] = (
    ("associated-node", _is_own_node),
    ("arbitrary-node", _is_node),
    ("serviceaccount", _is_account),
    ("user-info", _is_person),
)
"""Each mode and whether it is for this (user, target)."""


# What is asked of the authoriser.


def _parts(target: User, group: str) -> Iterator[_Part]:
    """`group` is that of users and groups: constrained modes have their own."""
    account = _service_account(target.name)
    node = _node(target.name) if group else ""
    if node:
        yield _Part(group, "nodes", "", "", node)
    elif account:
        yield _Part(group, "serviceaccounts", "", *account)
    else:
        yield _Part(group, "users", "", "", target.name)
    if target.uid:
        yield _Part(AUTHENTICATION, "uids", "", "", target.uid)
    for name in target.groups:
        yield _Part(group, "groups", "", "", name)
    for key, values in target.extra.items():
        for value in values:
            yield _Part(AUTHENTICATION, "userextras", key, "", value)


def _require(server: Server, user: User, verb: str, part: _Part) -> None:
    target = (part.group, part.plural, part.subresource)
    allowed, reason = server.authorizer.allows(user, verb, target, part.namespace, part.name)
    if not allowed:
        raise _refusal(user, verb, part, reason)


def _refusal(user: User, verb: str, part: _Part, reason: str) -> Forbidden:
    plural = f"{part.plural}/{part.subresource}" if part.subresource else part.plural
    where = (
        f"in the namespace {quote(part.namespace)}" if part.namespace else "at the cluster scope"
    )
    why = (
        f"User {quote(user.name)} cannot {verb} resource {quote(plural)} in API group"
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
