"""MutatingAdmissionPolicy (admissionregistration.k8s.io/v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ... import fields
from ...descriptor import Column, Kind
from ...errors import Cause, Object
from ..printing import AGE, NAME, age, name
from .expressions import check_expression, check_variables, environment_of
from .policies import check_policy, default_policy, param_kind_text

if TYPE_CHECKING:
    from ...cel import Environment

PATCHES = {"ApplyConfiguration": "applyConfiguration", "JSONPatch": "jsonPatch"}


def validate(obj: Object, old: Object | None) -> list[Cause]:
    out: list[Cause] = []
    spec = obj["spec"]
    if old is not None and spec == old.get("spec"):
        return out
    check_policy(spec, "spec", out)
    if not spec.get("mutations"):
        why = "mutations must contain at least one item"
        out.append(fields.required("spec.mutations", why))
    base = environment_of(spec)
    full = check_variables(spec.get("variables") or [], base, "spec.variables", out)
    for position, item in enumerate(spec.get("mutations") or ()):
        path = f"spec.mutations[{position}]"
        kind = item.get("patchType") or ""
        if not kind:
            out.append(fields.required(f"{path}.patchType"))
        elif kind not in PATCHES:
            out.append(fields.not_supported(f"{path}.patchType", kind, tuple(PATCHES)))
        elif not ((item.get(PATCHES[kind]) or {}).get("expression") or "").strip():
            out.append(fields.required(f"{path}.{PATCHES[kind]}.expression"))
        else:
            _check_patch(kind, item[PATCHES[kind]]["expression"], path, full, out)
    policy = spec.get("reinvocationPolicy")
    if policy not in ("IfNeeded", "Never"):
        path = "spec.reinvocationPolicy"
        out.append(fields.not_supported(path, policy or "", ("Never", "IfNeeded")))
    return out


def _check_patch(kind: str, text: str, path: str, full: Environment, out: list[Cause]) -> None:
    from ...cel.patches import APPLIED, OPERATIONS

    result = OPERATIONS if kind == "JSONPatch" else APPLIED
    check_expression(text, f"{path}.{PATCHES[kind]}.expression", full, out, (result,))


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
