"""What an authoriser is asked, what it says, and what happens while somebody else is asked.

Deciding looks into memory only. Where the administrator has named a webhook and its answer is not
known yet, the decision raises `Undecided`; `settle` then gets the answer and does the work again
from its start. That may be any moment before something is written: authorisation comes first, and
admission's questions before the store, so that doing it again does nothing twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextvars import ContextVar
from enum import Enum
from typing import Any, NamedTuple

from sampan.api.errors import InternalError, Object, StatusError
from sampan.api.fieldselectors import parse_fields
from sampan.api.requirements import EQUALS, EXISTS, IN, NOT_EXISTS, NOT_IN
from sampan.api.selectors import parse_labels

from ..exchange import User

ROUNDS_MAX = 64
"""Questions to webhooks that one request may lead to."""


class Verdict(Enum):
    """What one authoriser says; NO_OPINION leaves it to the next."""

    ALLOW, DENY, NO_OPINION = range(3)


class Said(NamedTuple):
    """The word of one authoriser, or of all."""

    verdict: Verdict
    reason: str = ""
    error: str = ""
    """Why somebody could not be asked."""

    @property
    def allowed(self) -> bool:
        return self.verdict is Verdict.ALLOW


class Asked(NamedTuple):
    """A question: about a resource, or about `path` when that is set."""

    user: User
    verb: str
    group: str = ""
    plural: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    labels: str = ""
    version: str = ""
    path: str = ""

    def spec(self) -> Object:
        """As the spec of a SubjectAccessReview, with every plain field."""
        user = self.user
        spec: Object = {
            "user": user.name,
            "groups": list(user.groups),
            "uid": user.uid,
            "extra": {key: list(values) for key, values in user.extra.items()},
        }
        if self.path:
            spec["nonResourceAttributes"] = {"path": self.path, "verb": self.verb}
            return spec
        target: Object = {
            "namespace": self.namespace,
            "verb": self.verb,
            "group": self.group,
            "version": self.version,
            "resource": self.plural,
            "subresource": self.subresource,
            "name": self.name,
        }
        if self.fields and (found := _field_requirements(self.fields)):
            target["fieldSelector"] = {"requirements": found}
        if self.labels and (found := _label_requirements(self.labels)):
            target["labelSelector"] = {"requirements": found}
        spec["resourceAttributes"] = target
        return spec


def _field_requirements(text: str) -> list[Object]:
    """Equality as sets of one, as upstream's converter has it (KEP-4601)."""
    try:
        terms = parse_fields(text).terms
    except StatusError:
        # The request will be refused for it; until then it is about everything.
        return []
    return [
        {
            "key": term.field,
            "operator": "In" if term.operator == EQUALS else "NotIn",
            "values": [term.value],
        }
        for term in terms
    ]


_OPERATORS = {IN: "In", EQUALS: "In", "==": "In", NOT_IN: "NotIn", "!=": "NotIn"}
_OPERATORS |= {EXISTS: "Exists", NOT_EXISTS: "DoesNotExist"}


def _label_requirements(text: str) -> list[Object]:
    """Comparisons of numbers cannot be said and are left out, which makes the question wider."""
    try:
        terms = parse_labels(text).requirements
    except StatusError:
        return []
    return [
        {"key": item.key, "operator": _OPERATORS[item.operator]}
        | ({"values": list(item.values)} if item.values else {})
        for item in terms
        if item.operator in _OPERATORS
    ]


class Undecided(Exception):
    """Somebody has to be asked first."""

    def __init__(self, key: tuple[str, bytes], ask: Callable[[], Awaitable[Said]]) -> None:
        super().__init__("a webhook has to be asked")
        self.key = key
        self.ask = ask


HELD: ContextVar[dict[tuple[str, bytes], Said] | None] = ContextVar("held", default=None)
"""What webhooks have said about the request that is being answered: it holds until its end, even
if the webhook's memory has lost it."""


async def settle(run: Callable[[], Any], pending: Coroutine[Any, Any, Any] | Undecided) -> Any:
    """The outcome of `run` (a value, or a coroutine of one), which was begun as `pending`, once
    every webhook it depends on was asked. Raises what `run` raises."""
    held = dict(HELD.get() or {})
    token = HELD.set(held)
    try:
        for _ in range(ROUNDS_MAX):
            try:
                if isinstance(pending, Undecided):
                    raise pending
                return await pending
            except Undecided as undecided:
                held[undecided.key] = await undecided.ask()
            try:
                again = run()
            except Undecided as undecided:
                pending = undecided
            else:
                if not isinstance(again, Coroutine):
                    return again
                pending = again
        if not isinstance(pending, Undecided):
            pending.close()
        raise InternalError("Internal error occurred: the request depends on too many decisions")
    finally:
        HELD.reset(token)
