"""The API's errors: one exception class per Status reason, as in k8s.io/apimachinery api/errors.

Any layer raises them; the server turns them into HTTP in one place (`status_object`), and the
client turns a received Status back into the same exception (`from_status`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

from msgspec import Struct, field

Object = dict[str, Any]


class Cause(Struct, frozen=True):
    """One field error. `text` is upstream's wording after the path, e.g. "Required value"."""

    path: str
    text: str
    reason: str = "FieldValueInvalid"

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class Details(Struct):
    """Status.details: what the error is about."""

    name: str = ""
    group: str = ""
    kind: str = ""
    uid: str = ""
    causes: Sequence[Cause] = field(default_factory=tuple)
    retry_after_s: int = 0


class StatusError(Exception):
    """An answer other than success. Subclasses fix `code` and `reason`."""

    code: ClassVar[int] = 500
    reason: ClassVar[str] = "InternalError"

    def __init__(self, message: str, details: Details | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details
        self.warnings: Sequence[str] = ()
        """What was to be said besides; it goes into the headers of the answer."""

    def status_object(self) -> Object:
        """The Status body clients parse."""
        body: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
        }
        if self.reason:
            body["reason"] = self.reason
        if self.details is not None:
            body["details"] = _details_object(self.details)
        body["code"] = self.code
        return body


def _details_object(details: Details) -> Object:
    out: Object = {}
    for key, value in (
        ("name", details.name),
        ("group", details.group),
        ("kind", details.kind),
        ("uid", details.uid),
        ("retryAfterSeconds", details.retry_after_s),
    ):
        if value:
            out[key] = value
    if details.causes:
        out["causes"] = [
            {"reason": cause.reason, "message": cause.text, "field": cause.path}
            for cause in details.causes
        ]
    return out


class BadRequest(StatusError):
    code, reason = 400, "BadRequest"


class Unauthorized(StatusError):
    code, reason = 401, "Unauthorized"


class Forbidden(StatusError):
    code, reason = 403, "Forbidden"


class NotFound(StatusError):
    code, reason = 404, "NotFound"


class MethodNotAllowed(StatusError):
    code, reason = 405, "MethodNotAllowed"


class NotAcceptable(StatusError):
    code, reason = 406, "NotAcceptable"


class AlreadyExists(StatusError):
    code, reason = 409, "AlreadyExists"


class Conflict(StatusError):
    code, reason = 409, "Conflict"


class Gone(StatusError):
    code, reason = 410, "Gone"


class Expired(StatusError):
    """A resource version that is compacted away; watchers list again."""

    code, reason = 410, "Expired"


class RequestEntityTooLarge(StatusError):
    code, reason = 413, "RequestEntityTooLarge"


class UnsupportedMediaType(StatusError):
    code, reason = 415, "UnsupportedMediaType"


class Invalid(StatusError):
    code, reason = 422, "Invalid"


class TooManyRequests(StatusError):
    code, reason = 429, "TooManyRequests"


class InternalError(StatusError):
    code, reason = 500, "InternalError"


class ServiceUnavailable(StatusError):
    code, reason = 503, "ServiceUnavailable"


class Timeout(StatusError):
    code, reason = 504, "Timeout"


REASONS: dict[str, type[StatusError]] = {
    cls.reason: cls
    for cls in (
        BadRequest, Unauthorized, Forbidden, NotFound, MethodNotAllowed, NotAcceptable,
        AlreadyExists, Conflict, Gone, Expired, RequestEntityTooLarge, UnsupportedMediaType,
        Invalid, TooManyRequests, InternalError, ServiceUnavailable, Timeout,
    )
}  # fmt: skip


def not_found(group: str, plural: str, name: str) -> NotFound:
    return NotFound(
        f'{qualified(group, plural)} "{name}" not found', Details(name, group=group, kind=plural)
    )


def already_exists(group: str, plural: str, name: str) -> AlreadyExists:
    return AlreadyExists(
        f'{qualified(group, plural)} "{name}" already exists',
        Details(name, group=group, kind=plural),
    )


def conflict(group: str, plural: str, name: str, why: str) -> Conflict:
    return Conflict(
        f'Operation cannot be fulfilled on {qualified(group, plural)} "{name}": {why}',
        Details(name, group=group, kind=plural),
    )


def aggregate(problems: Iterable[object]) -> str:
    """Several problems as one text (apimachinery util/errors NewAggregate): one is bare, more are
    in brackets, each is said once; "" for none."""
    texts = list(dict.fromkeys(map(str, problems)))
    if not texts:
        return ""
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"


def invalid(group: str, kind: str, name: str, causes: Sequence[Cause]) -> Invalid:
    """422 with upstream's message."""
    return Invalid(
        f'{qualified(group, kind)} "{name}" is invalid: {aggregate(causes)}',
        Details(name, group=group, kind=kind, causes=causes),
    )


def forbidden(group: str, plural: str, name: str, why: str) -> Forbidden:
    subject = f'{qualified(group, plural)} "{name}"' if name else qualified(group, plural)
    return Forbidden(f"{subject} is forbidden: {why}", Details(name, group=group, kind=plural))


def is_namespace_terminating(error: StatusError) -> bool:
    """Was it refused because its namespace is going? Then every other creation is, too."""
    causes = error.details.causes if error.details is not None else ()
    return any(cause.reason == "NamespaceTerminating" for cause in causes)


def qualified(group: str, plural: str) -> str:
    return f"{plural}.{group}" if group else plural


def from_status(body: Object) -> StatusError:
    """The exception a received Status stands for; one of unknown reason goes by its code."""
    cls = REASONS.get(body.get("reason", ""))
    code = body.get("code", 500)
    if cls is None:
        cls = next((item for item in REASONS.values() if item.code == code), InternalError)
    raw = body.get("details") or {}
    details = Details(
        name=raw.get("name", ""),
        group=raw.get("group", ""),
        kind=raw.get("kind", ""),
        uid=raw.get("uid", ""),
        causes=tuple(
            Cause(item.get("field", ""), item.get("message", ""), item.get("reason", ""))
            for item in raw.get("causes") or ()
        ),
        retry_after_s=raw.get("retryAfterSeconds", 0),
    )
    return cls(body.get("message", ""), details)
