"""ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ..formats import check_qualified
from ..printing import AGE, NAME, age, name
from .expressions import check_expression, check_variables, environment_of, quiet_environment
from .policies import check_policy, default_policy, param_kind_text

if TYPE_CHECKING:
    from ...cel import Environment

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
MAX_ANNOTATIONS = 20
"""Audit annotations of a policy, as upstream."""
MAX_EXPRESSION_BYTES = 5 << 10
"""Of an annotation's value: what it gives may be twice as long."""
_BREAKS = re.compile(r"[\n\r]")


def default(obj: Object) -> None:
    default_policy(obj)
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_policy(spec, "spec", out)
    base = environment_of(spec)
    full = check_variables(spec.get("variables") or [], base, "spec.variables", out)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must contain at least one item"
        out += [fields.required("spec.validations", why)]
        out += [fields.required("spec.auditAnnotations", why)]
    quiet = quiet_environment(spec, full)
    for position, item in enumerate(spec.get("validations") or ()):
        _check_validation(item, f"spec.validations[{position}]", (full, quiet), out)
    annotations = spec.get("auditAnnotations") or []
    if len(annotations) > MAX_ANNOTATIONS:
        why = f"must not have more than {MAX_ANNOTATIONS} auditAnnotations"
        out.append(fields.invalid("spec.auditAnnotations", annotations, why))
    seen: set[str] = set()
    for position, item in enumerate(annotations):
        path = f"spec.auditAnnotations[{position}]"
        _check_annotation(item, path, (obj["metadata"].get("name") or "", full), out)
        if item.get("key") in seen:
            out.append(fields.duplicate(f"{path}.key", item["key"]))
        seen.add(item.get("key") or "")
    return out


def _check_validation(
    item: Object, path: str, environments: tuple[Environment, Environment], out: list[Cause]
) -> None:
    full, quiet = environments
    expression, own = item.get("expression") or "", item.get("messageExpression") or ""
    if not expression.strip():
        out.append(fields.required(f"{path}.expression", "expression is not specified"))
    else:
        check_expression(expression, f"{path}.expression", full, out)
    message = item.get("message") or ""
    if own and not own.strip():
        why = "must be non-empty if specified"
        out.append(fields.invalid(f"{path}.messageExpression", own, why))
    elif own:
        from ...cel.admission import TEXT

        check_expression(own, f"{path}.messageExpression", quiet, out, TEXT)
    if message and not message.strip():
        why = "message must be non-empty if specified"
        out.append(fields.invalid(f"{path}.message", message, why))
    elif _BREAKS.search(message.strip()):
        # That an expression of several lines has a message is asked of nobody, as upstream.
        why = "message must not contain line breaks"
        out.append(fields.invalid(f"{path}.message", message, why))
    if item.get("reason") is not None and item["reason"] not in REASONS:
        out.append(fields.not_supported(f"{path}.reason", item["reason"], REASONS))


def _check_annotation(
    item: Object, path: str, known: tuple[str, Environment], out: list[Cause]
) -> None:
    own_name, full = known
    key, expression = item.get("key") or "", item.get("valueExpression") or ""
    check_qualified(f"{own_name}/{key}", f"{path}.key", out)
    where = f"{path}.valueExpression"
    if not expression.strip():
        out.append(fields.required(where, "valueExpression is not specified"))
        return
    if len(expression.strip().encode()) > MAX_EXPRESSION_BYTES:
        why = f"must not exceed {MAX_EXPRESSION_BYTES} bytes in length"
        out.append(fields.required(where, why))
        return
    from ...cel.admission import TEXT_OR_NULL

    check_expression(expression, where, full, out, TEXT_OR_NULL)


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    count = len(spec.get("validations") or ())
    return [name(obj), count, param_kind_text(spec), age(obj, now_s)]


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="ValidatingAdmissionPolicy",
    categories=("api-extensions",),
    storage="validatingadmissionpolicies",
    generation=True,
    default=default,
    validate=validate,
    columns=(
        NAME,
        Column("Validations", "integer", "The number of its validation rules."),
        Column("ParamKind", "string", "The kind that parameterizes it."),
        AGE,
    ),
    cells=cells,
    status_keeps=STATUS_ALONE,
)
