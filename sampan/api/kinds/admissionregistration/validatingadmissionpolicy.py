"""ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import fields
from ...descriptor import STATUS_ALONE, Column, Kind
from ...errors import Cause, Object
from ...names import label_key_problems
from ..printing import AGE, NAME, age, name
from .expressions import check_expression, check_variables, environment_of, quiet_environment
from .policies import check_policy, default_policy, param_kind_text

if TYPE_CHECKING:
    from ...cel import Environment

REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge", "Unauthorized")
MAX_ANNOTATIONS = 20
"""Audit annotations of a policy, as upstream."""


def default(obj: Object) -> None:
    default_policy(obj)
    obj.setdefault("status", {})


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_policy(spec, "spec", out)
    if not spec.get("validations") and not spec.get("auditAnnotations"):
        why = "validations or auditAnnotations must contain at least one item"
        out += [fields.required("spec.validations", why)]
        out += [fields.required("spec.auditAnnotations", why)]
    base = environment_of(spec)
    full = check_variables(spec.get("variables") or [], base, "spec.variables", out)
    quiet = quiet_environment(spec, full)
    for position, item in enumerate(spec.get("validations") or ()):
        _check_validation(item, f"spec.validations[{position}]", (full, quiet), out)
    annotations = spec.get("auditAnnotations") or []
    if len(annotations) > MAX_ANNOTATIONS:
        out.append(fields.too_many("spec.auditAnnotations", len(annotations), MAX_ANNOTATIONS))
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
    elif "\n" in message.strip():
        why = "message must not contain line breaks"
        out.append(fields.invalid(f"{path}.message", message, why))
    elif "\n" in expression.strip() and not message and not own.strip():
        why = "message must be specified if expression contains line breaks"
        out.append(fields.required(f"{path}.message", why))
    if item.get("reason") is not None and item["reason"] not in REASONS:
        out.append(fields.not_supported(f"{path}.reason", item["reason"], REASONS))


def _check_annotation(
    item: Object, path: str, known: tuple[str, Environment], out: list[Cause]
) -> None:
    own_name, full = known
    key, expression = item.get("key") or "", item.get("valueExpression") or ""
    if not key:
        out.append(fields.required(f"{path}.key", "key is not specified"))
    else:
        where = f"{path}.key"
        for why in label_key_problems(f"{own_name}/{key}" if own_name else key):
            out.append(fields.invalid(where, key, why))
    if not expression.strip():
        why = "valueExpression is not specified"
        out.append(fields.required(f"{path}.valueExpression", why))
        return
    from ...cel.admission import TEXT_OR_NULL

    check_expression(expression, f"{path}.valueExpression", full, out, TEXT_OR_NULL)


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
