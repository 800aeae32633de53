"""Conditions of the shared form (meta/v1 Condition), as upstream checks them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from .. import fields
from ..errors import Cause, Object
from ..names import regex_problem
from .formats import check_qualified

MAX_REASON, MAX_MESSAGE = 1024, 32 * 1024
STATUSES = ("False", "True", "Unknown")
_FORM = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_REASON = re.compile(_FORM)
_REASON_TEXT = regex_problem(
    "a condition reason must start with alphabetic character, optionally followed by a string of "
    "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'",
    _FORM, "my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB",
)  # fmt: skip


def check_conditions(conditions: Sequence[Object], path: str, out: list[Cause]) -> None:
    seen: set[str] = set()
    for position, condition in enumerate(conditions):
        where, kind = f"{path}[{position}]", condition.get("type") or ""
        if kind in seen:
            out.append(fields.duplicate(f"{where}.type", kind))
        seen.add(kind)
        _check_condition(condition, where, out)


def _check_condition(condition: Object, path: str, out: list[Cause]) -> None:
    check_qualified(condition.get("type") or "", f"{path}.type", out)
    status = condition.get("status") or ""
    if status not in STATUSES:
        out.append(fields.not_supported(f"{path}.status", status, STATUSES))
    observed = condition.get("observedGeneration") or 0
    if observed < 0:
        why = "must be greater than or equal to zero"
        out.append(fields.invalid(f"{path}.observedGeneration", observed, why))
    if not condition.get("lastTransitionTime"):
        out.append(fields.required(f"{path}.lastTransitionTime", "must be set"))
    reason = condition.get("reason") or ""
    if not reason:
        out.append(fields.required(f"{path}.reason", "must be set"))
    elif not _REASON.fullmatch(reason):
        out.append(fields.invalid(f"{path}.reason", reason, _REASON_TEXT))
    for name, most in (("reason", MAX_REASON), ("message", MAX_MESSAGE)):
        if len((condition.get(name) or "").encode()) > most:
            out.append(fields.too_long(f"{path}.{name}", "", most))
