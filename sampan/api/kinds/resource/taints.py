"""Validation of device taints and of what tolerates them (KEP-5055)."""

from __future__ import annotations

from ... import fields
from ...errors import Cause, Object
from ...names import label_value_problems
from ..formats import check_qualified

EFFECTS = ("NoExecute", "NoSchedule", "None")
OPERATORS = ("Equal", "Exists")


def _check_value(value: str, path: str, out: list[Cause]) -> None:
    out += [fields.invalid(path, value, why) for why in label_value_problems(value)]


def check_taint(taint: Object, path: str, out: list[Cause]) -> None:
    check_qualified(taint.get("key") or "", f"{path}.key", out)
    _check_value(taint.get("value") or "", f"{path}.value", out)
    effect = taint.get("effect") or ""
    if not effect:
        out.append(fields.required(f"{path}.effect"))
    elif effect not in EFFECTS:
        out.append(fields.not_supported(f"{path}.effect", effect, EFFECTS))


def check_toleration(item: Object, path: str, out: list[Cause]) -> None:
    if item.get("key"):
        check_qualified(item["key"], f"{path}.key", out)
    operator, value = item.get("operator") or "", item.get("value") or ""
    if operator == "Exists":
        if value:
            why = "must be empty for operator `Exists`"
            out.append(fields.invalid(f"{path}.value", value, why))
    elif operator == "Equal":
        _check_value(value, f"{path}.value", out)
    elif not operator:
        out.append(fields.required(f"{path}.operator"))
    else:
        out.append(fields.not_supported(f"{path}.operator", operator, OPERATORS))
    effect = item.get("effect") or ""
    if effect and effect not in EFFECTS:
        out.append(fields.not_supported(f"{path}.effect", effect, EFFECTS))
