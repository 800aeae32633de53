"""MutatingAdmissionPolicy (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..formats import check_supported
from ..printing import AGE, NAME, age, name
from .expressions import check_expression, check_variables, environment_of
from .policies import check_operations, check_policy, default_policy, param_kind_text

if TYPE_CHECKING:
    from ...cel import Environment

REINVOCATIONS = ("Never", "IfNeeded")
PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_policy(spec, "spec", out)
    check_operations(spec.get("matchConstraints"), "spec.matchConstraints", out)
    base = environment_of(spec)
    full = check_variables(spec.get("variables") or [], base, "spec.variables", out)
    if not spec.get("mutations"):
        why = "mutations must contain at least one item"
        out.append(fields.required("spec.mutations", why))
    for position, item in enumerate(spec.get("mutations") or ()):
        _check_mutation(item, f"spec.mutations[{position}]", full, out)
    check_supported(spec.get("reinvocationPolicy"), REINVOCATIONS, "spec.reinvocationPolicy", out)
    return out


def _check_mutation(item: Object, path: str, full: Environment, out: list[Cause]) -> None:
    kind = item.get("patchType") or ""
    if kind not in PATCHES:
        check_supported(kind, tuple(PATCHES), f"{path}.patchType", out)
        return
    for other, field in PATCHES.items():
        if other != kind and item.get(field) is not None:
            why = f"must not be specified when patchType is {kind}"
            # Upstream shows only that there is one.
            out.append(fields.invalid(f"{path}.{field}", f"{{{field}}}", why))
    field = PATCHES[kind]
    if item.get(field) is None:
        why = f"must be specified when patchType is {kind}"
        out.append(fields.required(f"{path}.{field}", why))
        return
    text = item[field].get("expression") or ""
    if not text.strip():
        out.append(fields.required(f"{path}.{field}.expression"))
        return
    from ...cel.patches import APPLIED, OPERATIONS

    result = OPERATIONS if kind == "JSONPatch" else APPLIED
    check_expression(text, f"{path}.{field}.expression", full, out, (result,))


def cells(obj: Object, now_s: float) -> list[Any]:
    spec = obj.get("spec") or {}
    count = len(spec.get("mutations") or ())
    return [name(obj), count, param_kind_text(spec), age(obj, now_s)]


KIND = Kind(
    group="admissionregistration.k8s.io",
    version="v1",
    kind="MutatingAdmissionPolicy",
    categories=("api-extensions",),
    storage="mutatingadmissionpolicies",
    generation=True,
    default=default_policy,
    validate=validate,
    columns=(
        NAME,
        Column("Mutations", "integer", "The number of its mutations."),
        Column("ParamKind", "string", "The kind that parameterizes it."),
        AGE,
    ),
    cells=cells,
)
