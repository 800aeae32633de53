"""`authorizer`: asks the server whether somebody may do something (library authz.go).

The server hands in how to ask (`Ask`), which looks into memory only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace

from ...names import label_problems, subdomain_problems
from ..errors import EvaluationError
from ..functions import Functions, method, table
from ..types import BOOL, STRING, Type
from ..values import Opaque

SPACE = "kubernetes.authorization."
AUTHORIZER, PATH_CHECK = Type(f"{SPACE}Authorizer"), Type(f"{SPACE}PathCheck")
GROUP_CHECK, RESOURCE_CHECK = Type(f"{SPACE}GroupCheck"), Type(f"{SPACE}ResourceCheck")
DECISION = Type(f"{SPACE}Decision")


class Question(Struct, frozen=True):
    """May `user` (None: who sent the request) `verb` this?"""

    verb: str
    user: str | None = None
    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    labels: str = ""


NOTHING = Question("")

Ask = Callable[[Question], tuple[bool, str]]
"""Gives (allowed, reason)."""


class _Asking(Opaque):
    __slots__ = ("ask", "question")

    def __init__(self, ask: Ask, question: Question = NOTHING) -> None:
        self.ask, self.question = ask, question

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.question == self.question

    def __hash__(self) -> int:
        return hash(self.question)

    def but(self, cls: Any, **changes: Any) -> Any:
        return cls(self.ask, replace(self.question, **changes))


class Authorizer(_Asking):
    """Where checks begin."""

    __slots__ = ()
    type_name = AUTHORIZER.name


class PathCheck(_Asking):
    """A path to be checked."""

    __slots__ = ()
    type_name = PATH_CHECK.name


class GroupCheck(_Asking):
    """A group whose resources can be named."""

    __slots__ = ()
    type_name = GROUP_CHECK.name


class ResourceCheck(_Asking):
    """A resource to be checked."""

    __slots__ = ()
    type_name = RESOURCE_CHECK.name


class Decision(Opaque):
    """An answer."""

    __slots__ = ("allowed", "reason")
    type_name = DECISION.name

    def __init__(self, allowed: bool, reason: str) -> None:
        self.allowed, self.reason = allowed, reason

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Decision) and (self.allowed, self.reason) == (
            other.allowed,
            other.reason,
        )

    def __hash__(self) -> int:
        return hash((self.allowed, self.reason))


def _path(authorizer: Authorizer, path: str) -> PathCheck:
    if not path.strip():
        raise EvaluationError("path must not be empty")
    found: PathCheck = authorizer.but(PathCheck, path=path)
    return found


def _resource(group: GroupCheck, name: str) -> ResourceCheck:
    if not name.strip():
        raise EvaluationError("resource must not be empty")
    found: ResourceCheck = group.but(ResourceCheck, resource=name)
    return found


def _account(authorizer: Authorizer, namespace: str, name: str) -> Authorizer:
    if subdomain_problems(name):
        raise EvaluationError("Invalid service account name")
    if label_problems(namespace):
        raise EvaluationError("Invalid service account namespace")
    user = f"system:serviceaccount:{namespace}:{name}"
    found: Authorizer = authorizer.but(Authorizer, user=user)
    return found


def _check(asked: _Asking, verb: str) -> Decision:
    return Decision(*asked.ask(replace(asked.question, verb=verb)))


def _counted_elsewhere(args: Sequence[Any], result: Any) -> int:
    return 0  # calls.SPARED


def functions() -> Functions:
    """The declarations."""

    def narrow(field: str) -> Any:
        def change(check: ResourceCheck, value: str) -> Any:
            return check.but(ResourceCheck, **{field: value})

        return method((RESOURCE_CHECK, STRING), RESOURCE_CHECK, change)

    return table(
        ("path", method((AUTHORIZER, STRING), PATH_CHECK, _path)),
        ("group", method((AUTHORIZER, STRING), GROUP_CHECK,
                         lambda authorizer, group: authorizer.but(GroupCheck, group=group))),
        ("serviceAccount", method((AUTHORIZER, STRING, STRING), AUTHORIZER, _account)),
        ("resource", method((GROUP_CHECK, STRING), RESOURCE_CHECK, _resource)),
        ("subresource", narrow("subresource")),
        ("namespace", narrow("namespace")),
        ("name", narrow("name")),
        ("fieldSelector", narrow("fields")),
        ("labelSelector", narrow("labels")),
        ("check", method((PATH_CHECK, STRING), DECISION, _check, _counted_elsewhere)),
        ("check", method((RESOURCE_CHECK, STRING), DECISION, _check, _counted_elsewhere)),
        ("allowed", method((DECISION,), BOOL, lambda decision: decision.allowed)),
        ("reason", method((DECISION,), STRING, lambda decision: decision.reason)),
        ("errored", method((DECISION,), BOOL, lambda decision: False)),
        ("error", method((DECISION,), STRING, lambda decision: "")),
    )  # fmt: skip
