"""ValidatingAdmissionPolicy (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from typing import Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..printing import AGE, NAME, age, name
from .policies import check_policy, default_policy, param_kind_text


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
    for position, item in enumerate(spec.get("validations") or ()):
        path = f"spec.validations[{position}]"
        if not (item.get("expression") or "").strip():
            out.append(fields.required(f"{path}.expression", "expression is not specified"))
        if "\n" in (item.get("message") or ""):
            why = "message must not contain line breaks"
            out.append(fields.invalid(f"{path}.message", item["message"], why))
    return out


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
)
